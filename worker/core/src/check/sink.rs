//! What each sink writes, and whether it can.

mod postgres;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use evp_api::plan::{Code, KafkaSinkPlan, Mode, NodeName, Plan, SinkKind, SinkPlan, Violation};

use super::{Steps, passes};
use crate::sql::{instant, is_meta};

/// Characters that a Delta column name must not hold without column mapping (Delta protocol, Column Mapping).
const BAD_NAME: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// Columns of every sink: those of its node without `_meta`.
pub(super) fn check(
    plan: &Plan,
    columns: &BTreeMap<NodeName, SchemaRef>,
    steps: &Steps,
    faults: &mut Vec<Violation>,
) -> BTreeMap<NodeName, SchemaRef> {
    let mut sinks = BTreeMap::new();
    for (index, sink) in plan.sinks.iter().enumerate() {
        let Some(above) = columns.get(&sink.from) else {
            continue;
        };
        let written = without_meta(above);
        let path = format!("spec.sinks[{index}]");
        let inherits = sink.mode == Mode::Update && plan.aggregate_above(&sink.from);
        if inherits {
            let changed = |key: &&String| !passes(plan, steps, &sink.from, key);
            let changed = sink.keys.iter().filter(changed);
            faults.extend(changed.map(|key| key_changed(sink, key, &path)));
        }
        let from = format!("{path}.from");
        match &sink.kind {
            SinkKind::Delta(delta) => {
                faults.extend(delta_refuses(sink, &written, &from));
                let partitions = (&*delta.partition_by, &*format!("{path}.delta.partitionBy"));
                faults.extend(partitions_refused(partitions, &written));
            }
            SinkKind::Parquet(files) => {
                faults.extend(unstored(sink, &written, "Parquet files", &from));
                let partitions = (
                    &*files.partition_by,
                    &*format!("{path}.parquet.partitionBy"),
                );
                faults.extend(partitions_refused(partitions, &written));
            }
            SinkKind::Kafka(kafka) => {
                faults.extend(types_refused(sink, &written, &from));
                let computed = plan.aggregate_above(&sink.from);
                let of_window = computed && passes_key(plan, steps, sink, kafka);
                let place = KeyPlace {
                    computed,
                    of_window,
                    path: &format!("{path}.kafka.keyColumn"),
                };
                faults.extend(key_refused(kafka, sink, &written, &place));
            }
            SinkKind::Postgres(table) => {
                faults.extend(postgres::refuses((sink, !inherits), table, &written, &path));
            }
            SinkKind::Stdout => {}
        }
        sinks.insert(sink.name.clone(), written);
    }
    sinks
}

fn without_meta(columns: &SchemaRef) -> SchemaRef {
    let kept = columns.fields().iter().filter(|f| !is_meta(f.name()));
    Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
}

/// A changed key would upsert and delete other rows than those of its group (semantics 18).
fn key_changed(sink: &SinkPlan, key: &str, path: &str) -> Violation {
    let message = format!(
        "`{}` must pass the key `{key}` unchanged for `mode: Update`",
        sink.from
    );
    Violation::new(Code::KeysChanged, format!("{path}.from"), message)
        .help(format!("select `{key}` as it is"))
}

/// Columns whose types the files of `what` cannot hold.
fn unstored(sink: &SinkPlan, columns: &SchemaRef, what: &str, path: &str) -> Vec<Violation> {
    let fields = columns.fields().iter();
    let refused = |field: &FieldRef| {
        let (name, from, found) = (field.name(), &sink.from, field.data_type());
        let message = format!("`{name}` of `{from}` is {found}, which {what} cannot hold");
        let help = format!("CAST `{name}` to another type in a query step");
        Violation::new(Code::ColumnType, path, message).help(help)
    };
    let fields = fields.filter(|field| !is_stored(field.data_type()));
    fields.map(refused).collect()
}

fn delta_refuses(sink: &SinkPlan, columns: &SchemaRef, path: &str) -> Vec<Violation> {
    let mut faults = unstored(sink, columns, "a Delta table", path);
    let fields = columns.fields();
    for (i, field) in fields.iter().enumerate() {
        let name = field.name();
        let fault = |code, message: String| Violation::new(code, path, message);
        let help = format!("give `{name}` another name with AS in a query step");
        if name.is_empty() || has_bad_name(field) {
            let message = format!(
                "`{name}` of `{}` has a character that a Delta table's columns cannot have in their names",
                sink.from
            );
            faults.push(fault(Code::ColumnType, message).help(help.clone()));
        }
        let same = |other: &&FieldRef| other.name().to_lowercase() == name.to_lowercase();
        if let Some(other) = fields[..i].iter().find(same) {
            let message = format!(
                "`{}` and `{name}` of `{}` differ only in case, which a Delta table does not tell apart",
                other.name(),
                sink.from
            );
            faults.push(fault(Code::DuplicateColumn, message).help(help));
        }
    }
    faults
}

/// Columns that have no form in JSON.
fn types_refused(sink: &SinkPlan, columns: &SchemaRef, path: &str) -> Vec<Violation> {
    let odd = columns
        .fields()
        .iter()
        .filter(|f| !is_json_type(f.data_type()));
    let fault = |field: &FieldRef| {
        let name = field.name();
        let message = format!(
            "`{name}` of `{}` is {}, which is not written as JSON",
            sink.from,
            field.data_type()
        );
        Violation::new(Code::ColumnType, path, message)
            .help(format!("CAST `{name}` to another type in a query step"))
    };
    odd.map(fault).collect()
}

/// What a Delta table can hold is what the sources' JSON can say.
fn is_json_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..)) || is_stored(data_type)
}

/// Where a record's key comes from.
struct KeyPlace<'a> {
    /// Rows are windows: no record stands behind one.
    computed: bool,
    /// The column comes unchanged out of the aggregate.
    of_window: bool,
    path: &'a str,
}

fn passes_key(plan: &Plan, steps: &Steps, sink: &SinkPlan, kafka: &KafkaSinkPlan) -> bool {
    let key = kafka.key_column.as_deref();
    key.is_some_and(|key| passes(plan, steps, &sink.from, key))
}

fn key_refused(
    kafka: &KafkaSinkPlan,
    sink: &SinkPlan,
    columns: &SchemaRef,
    place: &KeyPlace<'_>,
) -> Option<Violation> {
    let key = kafka.key_column.as_ref()?;
    let fault = |code, message: String| Violation::new(code, place.path, message);
    let Some((_, field)) = columns.column_with_name(key) else {
        let names = columns.fields().iter().map(|f| f.name().as_str());
        let listed = names.clone().collect::<Vec<_>>().join(", ");
        let missing = fault(Code::UnknownColumn, format!("no column named `{key}`"));
        let missing = missing.note(format!("the sink writes: {listed}"));
        return Some(missing.did_you_mean(key, names));
    };
    let data_type = field.data_type();
    let floats = matches!(data_type, DataType::Float32 | DataType::Float64);
    if data_type.is_nested() || data_type == &DataType::Binary || floats {
        let message = format!("`{key}` is {data_type}, which has no one text that could be a key");
        return Some(fault(Code::ColumnType, message).help("CAST it in a query step"));
    }
    if place.computed && field.is_nullable() {
        let message = format!(
            "`{key}` of a window may be null, and no record stands behind a window that could become a dead letter"
        );
        let help = format!(
            "select coalesce({key}, 'none') under another name in a query step, and name that one"
        );
        return Some(fault(Code::ColumnType, message).help(help));
    }
    let is_part = |key: &String| sink.keys.contains(key) || key == "window_end";
    (sink.mode == Mode::Update && place.of_window && !is_part(key)).then(|| {
        let message = format!(
            "`{key}` changes with its window, so the changes of one window would lose their order"
        );
        fault(Code::Misplaced, message).help(format!("name one of: {}", sink.keys.join(", ")))
    })
}

/// A name of the field or of a member of it.
fn has_bad_name(field: &FieldRef) -> bool {
    let inside = match field.data_type() {
        DataType::Struct(members) => members.iter().any(has_bad_name),
        DataType::List(item) => has_bad_name(item),
        _ => false,
    };
    inside || field.name().contains(BAD_NAME)
}

/// Types that tables have a type for.
fn is_stored(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_stored(item.data_type()),
        DataType::Struct(members) => members.iter().all(|m| is_stored(m.data_type())),
        DataType::Map(entries, _) => is_stored(entries.data_type()),
        DataType::Decimal128(_, scale) => *scale >= 0,
        DataType::Utf8
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Boolean
        | DataType::Binary
        | DataType::Date32 => true,
        other => other == &instant(),
    }
}

/// A column that is named and not written.
fn unknown(name: &str, columns: &SchemaRef, path: String) -> Violation {
    let names = columns.fields().iter().map(|f| f.name().as_str());
    let missing = Violation::new(
        Code::UnknownColumn,
        path,
        format!("no column named `{name}`"),
    );
    let listed = names.clone().collect::<Vec<_>>().join(", ");
    let missing = missing.note(format!("the sink writes: {listed}"));
    missing.did_you_mean(name, names)
}

fn partitions_refused(
    (partition_by, path): (&[String], &str),
    columns: &SchemaRef,
) -> Vec<Violation> {
    let mut faults = Vec::new();
    for (i, name) in partition_by.iter().enumerate() {
        let fault = |code, message| Violation::new(code, format!("{path}[{i}]"), message);
        match columns.column_with_name(name) {
            None => faults.push(unknown(name, columns, format!("{path}[{i}]"))),
            Some((_, field))
                if field.data_type().is_nested() || field.data_type() == &DataType::Binary =>
            {
                let message = format!(
                    "`{name}` is {}, by which a table cannot be partitioned",
                    field.data_type()
                );
                faults.push(fault(Code::ColumnType, message));
            }
            Some(_) => {}
        }
    }
    if !partition_by.is_empty() && partition_by.len() == columns.fields().len() {
        let message = "a table needs a column that is not a partition column";
        faults.push(Violation::new(Code::OutOfRange, path, message));
    }
    faults
}
