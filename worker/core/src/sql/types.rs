//! SQL types are those of a pipeline (semantics 36), however `DataFusion` would read them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::planner::TypePlanner;
use datafusion_expr::{Expr, ExprSchemable};
use sqlparser::ast::DataType as SqlType;

/// Instants: microseconds, UTC.
pub(crate) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// `TIMESTAMP` is an instant; a text without a zone is read as UTC.
#[derive(Debug)]
pub(super) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let is_instant = matches!(sql_type, SqlType::Timestamp(..) | SqlType::Datetime(_));
        Ok(is_instant.then(|| Arc::new(Field::new("", instant(), true))))
    }
}

/// The expression as a column of a pipeline: functions give narrower, wider and zoneless kinds of the same types.
pub(crate) fn canonical(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let given = expr.get_type(schema)?;
    let wanted = column_type(&given);
    if wanted == given {
        Ok(expr)
    } else {
        expr.cast_to(&wanted, schema)
    }
}

/// The type in which a column of that type is carried. Types without one stay: sinks refuse them.
fn column_type(given: &DataType) -> DataType {
    let member = |f: &FieldRef| {
        Arc::new(
            f.as_ref()
                .clone()
                .with_data_type(column_type(f.data_type())),
        )
    };
    match given {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(..) => instant(),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, values) => column_type(values),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(member(item)),
        DataType::Struct(members) => DataType::Struct(members.iter().map(member).collect()),
        other => other.clone(),
    }
}
