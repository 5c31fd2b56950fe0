//! What a PostgreSQL table cannot have: types, names, keys and indexes.

use arrow::datatypes::{Field, SchemaRef};
use evp_api::plan::{Code, PostgresPlan, SinkPlan, Violation};

use super::{is_stored, unknown};

/// Longest name that the server keeps whole. Bytes.
const MAX_NAME: usize = 63;

/// Columns that every table has already (PostgreSQL, System Columns).
const SYSTEM: &[&str] = &["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// `path`: the sink's. An aggregate's own keys are judged by whether they pass.
pub(super) fn refuses(
    (sink, own_keys): (&SinkPlan, bool),
    table: &PostgresPlan,
    columns: &SchemaRef,
    path: &str,
) -> Vec<Violation> {
    let from = format!("{path}.from");
    let fields = columns.fields().iter();
    let mut faults: Vec<_> = fields
        .flat_map(|field| column_refused(sink, field, &from))
        .collect();
    let keys = sink.keys.iter().enumerate().filter(|_| own_keys);
    faults.extend(
        keys.filter_map(|(i, key)| search_refused(key, columns, format!("{path}.keys[{i}]"))),
    );
    for (i, index) in table.create_table.iter().flatten().enumerate() {
        let at = |j| format!("{path}.postgres.createTable.indexes[{i}][{j}]");
        let named = index.iter().enumerate();
        faults.extend(named.filter_map(|(j, column)| search_refused(column, columns, at(j))));
    }
    faults
}

fn column_refused(sink: &SinkPlan, field: &Field, path: &str) -> Vec<Violation> {
    let (name, mut faults) = (field.name(), Vec::new());
    if !is_stored(field.data_type()) {
        let message = format!(
            "`{name}` of `{}` is {}, which a PostgreSQL table cannot hold",
            sink.from,
            field.data_type()
        );
        let help = format!("CAST `{name}` to another type in a query step");
        faults.push(Violation::new(Code::ColumnType, path, message).help(help));
    }
    let fits = (1..=MAX_NAME).contains(&name.len()) && !SYSTEM.contains(&name.as_str());
    if !fits || name.contains('\0') {
        let message = format!(
            "`{name}` of `{}` cannot be a column's name in PostgreSQL: it has 1 to {MAX_NAME} bytes and is none of {}",
            sink.from,
            SYSTEM.join(", ")
        );
        let help = format!("give `{name}` another name with AS in a query step");
        faults.push(Violation::new(Code::ColumnType, path, message).help(help));
    }
    faults
}

/// A column by which rows are found must be written, and be of a type that has an order.
fn search_refused(name: &str, columns: &SchemaRef, path: String) -> Option<Violation> {
    let Some((_, field)) = columns.column_with_name(name) else {
        return Some(unknown(name, columns, path));
    };
    let message = format!(
        "`{name}` is {}, by which rows are not found",
        field.data_type()
    );
    let is_nested = field.data_type().is_nested();
    is_nested.then(|| Violation::new(Code::ColumnType, path, message))
}
