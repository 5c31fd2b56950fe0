//! A column of the table, and whether it takes values as they are.

use arrow::datatypes::{DataType, Field};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::super::connect::{Failure, failed};

/// A column of the table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// As it is written.
    pub(super) name: String,
    /// As the server formats it, such as `numeric(10,2)`.
    pub(super) sql_type: String,
    /// It takes no nulls.
    pub(super) not_null: bool,
    /// Its values are the server's alone.
    pub(super) generated: bool,
    /// Whoever inserts must give it a value.
    pub(super) needed: bool,
}

/// Columns of a table.
pub(super) async fn columns(work: &Transaction<'_>, table: u32) -> Result<Vec<Column>, Failure> {
    let asked = "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, \
        attgenerated <> '' OR attidentity = 'a', attnotnull AND NOT atthasdef AND attidentity = '' \
        FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped";
    let found = work.query_typed(asked, &[(&table, Type::OID)]).await;
    let found = found.map_err(failed("the table's columns cannot be looked at"))?;
    let column = |row: &tokio_postgres::Row| Column {
        name: row.get(0),
        sql_type: row.get(1),
        not_null: row.get(2),
        generated: row.get(3),
        needed: row.get(4),
    };
    Ok(found.iter().map(column).collect())
}

/// Whether a column of this type holds every value, or refuses it, and changes none.
pub(super) fn holds(sql_type: &str, field: &Field) -> bool {
    let (name, numbers) = match sql_type.split_once('(') {
        None => (sql_type, Vec::new()),
        Some((name, rest)) => {
            let inside = rest.split(')').next().unwrap_or_default();
            (
                name,
                inside
                    .split(',')
                    .filter_map(|n| n.trim().parse::<i64>().ok())
                    .collect(),
            )
        }
    };
    match field.data_type() {
        DataType::Utf8 => matches!(name, "text" | "character varying"),
        DataType::Int32 => matches!(name, "integer" | "bigint") || sql_type == "numeric",
        DataType::Int64 => name == "bigint" || sql_type == "numeric",
        DataType::Float32 => matches!(name, "real" | "double precision"),
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => {
            matches!(name, "jsonb" | "json")
        }
        // Digits after the point would be rounded away silently; those before it are refused by the server.
        DataType::Decimal128(_, scale) => {
            name == "numeric"
                && numbers
                    .get(1)
                    .is_none_or(|there| *there >= i64::from(*scale))
                && numbers.len() != 1
        }
        other => super::sql_type(other).is_some_and(|wanted| wanted == sql_type),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_would_change_a_value_does_not_hold_it() {
        let check = |sql_type: &str, data_type: &DataType, held: bool| {
            let field = Field::new("c", data_type.clone(), true);
            assert_eq!(holds(sql_type, &field), held, "{sql_type} {data_type}");
        };
        check("character varying(10)", &DataType::Utf8, true);
        check("character(10)", &DataType::Utf8, false);
        check("bigint", &DataType::Int32, true);
        check("integer", &DataType::Int64, false);
        check("real", &DataType::Float64, false);
        check("numeric", &DataType::Decimal128(10, 2), true);
        check("numeric(8,2)", &DataType::Decimal128(10, 2), true);
        check("numeric(12,1)", &DataType::Decimal128(10, 2), false);
        let instant =
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        check("timestamp with time zone", &instant, true);
        check("timestamp(3) with time zone", &instant, false);
        check("timestamp without time zone", &instant, false);
    }
}
