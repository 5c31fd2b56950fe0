//! Columns that a manifest names outside of SQL.

use evp_api::plan::{Code, Violation};

use crate::sql::{Scope, is_meta};

/// Index of a column by which rows can be told apart; the finding has no path yet. `told`: what is done with the rows, such as
/// "grouped".
pub(super) fn by_name(name: &str, scope: &Scope, told: &str) -> Result<usize, Violation> {
    let names = || {
        let all = scope.columns.fields().iter().map(|f| f.name().as_str());
        all.filter(|n| !is_meta(n))
    };
    if is_meta(name) {
        let message = format!("rows are not {told} by `{name}`");
        let part = name.rsplit('.').next().unwrap_or(name);
        let fault = Violation::new(Code::UnknownColumn, "", message);
        return Err(fault.help(format!("give it a name in a query: {name} AS {part}")));
    }
    match scope.columns.column_with_name(name) {
        Some((index, field)) if !field.data_type().is_nested() => Ok(index),
        Some((_, field)) => {
            let message = format!(
                "`{name}` is {}, by which rows cannot be {told}",
                field.data_type()
            );
            Err(Violation::new(Code::ColumnType, "", message))
        }
        None => {
            let listed = names().collect::<Vec<_>>().join(", ");
            Err(
                Violation::new(Code::UnknownColumn, "", format!("no column named `{name}`"))
                    .note(format!("`{}` has: {listed}", scope.node))
                    .did_you_mean(name, names()),
            )
        }
    }
}

/// Index of the event time in a node's columns. A query that changed it would make rows late that are not, or rows count that
/// are; `passes`: none did. `whose`: such as "source `orders`".
pub(super) fn event_time(
    (name, whose): (&str, &str),
    passes: bool,
    scope: &Scope,
    path: &str,
) -> Result<usize, Violation> {
    let found = scope.columns.index_of(name).ok().filter(|_| passes);
    found.ok_or_else(|| {
        let message = format!(
            "`{}` must pass `{name}`, the event time of {whose}, unchanged",
            scope.node
        );
        Violation::new(Code::UnknownColumn, format!("{path}.from"), message)
            .help(format!("select `{name}` in `{}`", scope.node))
    })
}
