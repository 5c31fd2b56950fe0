//! Planned expressions to executable ones. `now()` is the epoch's time (semantics 37), and arithmetic that overflows is an
//! error and no other number (semantics 38).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, Operator};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};

use crate::position::Micros;

/// Functions that give the epoch's time.
const CLOCKS: [&str; 3] = ["now", "current_date", "current_time"];

pub(super) fn is_clock(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if CLOCKS.contains(&f.func.name()))
}

/// Whether an expression depends on the epoch's time.
pub fn reads_now(expr: &Expr) -> bool {
    expr.exists(|e| Ok(is_clock(e))).unwrap_or(true)
}

pub(super) fn simplifier(schema: &DFSchema, now: Option<Micros>) -> ExprSimplifier {
    let now = now.and_then(|now| DateTime::<Utc>::from_timestamp_micros(now.0));
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone()));
    ExprSimplifier::new(context.with_query_execution_start_time(now).build())
}

/// Makes an expression executable; `now` is the epoch's time.
pub fn compile(
    expr: &Expr,
    columns: &SchemaRef,
    now: Micros,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let schema = DFSchema::try_from(columns.clone())?;
    literally(
        &simplifier(&schema, Some(now)).simplify(expr.clone())?,
        &schema,
    )
}

/// Executable as it stands, with checked arithmetic.
pub(super) fn literally(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let properties = ExecutionProps::new();
    let context = PhysicalPlanningContext::default();
    let unchecked = create_physical_expr(expr, schema, &properties, &context)?;
    let checked = unchecked.transform_up(|part| {
        let checked = if let Some(binary) = part.downcast_ref::<BinaryExpr>() {
            binary.clone().with_fail_on_overflow(true)
        } else if let Some(negative) = part.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(schema.as_arrow())?;
            if !data_type.is_integer() {
                return Ok(Transformed::no(part));
            }
            let zero: Arc<dyn PhysicalExpr> =
                Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
            BinaryExpr::new(zero, Operator::Minus, Arc::clone(negative.arg()))
                .with_fail_on_overflow(true)
        } else {
            return Ok(Transformed::no(part));
        };
        Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>))
    });
    Ok(checked?.data)
}
