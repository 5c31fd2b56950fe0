//! SQL texts to expressions over the columns of one node. Names keep their case; nothing is looked up elsewhere.
//!
//! `_meta.timestamp` and its like are columns of that very name, so that a text may name them as members of `_meta`.

mod place;
mod provider;

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, Volatility};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{
    ExcludeSelectItem, Expr as Ast, Ident, SelectItem, WildcardAdditionalOptions,
    visit_expressions_mut,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;
use evp_api::plan::{Code, Violation};

use crate::decode::MetaColumns;
use crate::position::Micros;
use place::Place;
use provider::Functions;

/// The name under which what a source knows of a record beside its bytes can be read.
const META: &str = "_meta";

/// Columns that a text may name, and who provides them.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Name of the source or step above.
    pub node: String,
    /// Its columns.
    pub columns: SchemaRef,
}

/// One column of a SELECT list.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its value.
    pub expr: Expr,
}

/// A text of the manifest, with what is needed to point into it.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The SQL.
    pub sql: &'a str,
    /// Its field, such as `spec.steps[0].query.select`.
    pub path: &'a str,
}

impl Text<'_> {
    fn fault(&self, code: Code, message: impl Into<String>) -> Violation {
        Violation::new(code, self.path, message)
    }

    fn syntax(&self, error: &ParserError) -> Violation {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
            ParserError::RecursionLimitExceeded => "is nested too deeply".to_owned(),
        };
        let fault = self.fault(Code::SqlSyntax, text.clone());
        match place::of_message(self.sql, &text) {
            Some((start, end)) => fault.span(start, end),
            None => fault,
        }
    }

    fn planning(&self, error: &DataFusionError) -> Violation {
        self.fault(Code::SqlPlan, place::first_line(&error.strip_backtrace()))
    }
}

/// Which `_meta` columns a text names. A text that cannot be parsed names none.
pub fn meta_columns(text: &str) -> MetaColumns {
    let mut named = MetaColumns::default();
    let Ok(mut items) = parse_items(text) else {
        return named;
    };
    let _: ControlFlow<()> = visit_expressions_mut(&mut items, |ast| {
        if let Ast::CompoundIdentifier(parts) = ast
            && let [first, part, ..] = parts.as_slice()
            && first.value == META
        {
            named.insert(&part.value);
        }
        ControlFlow::Continue(())
    });
    named
}

/// Plans a SELECT list.
pub fn select(text: Text<'_>, scope: &Scope) -> Result<Vec<Column>, Vec<Violation>> {
    let items = parse_items(text.sql).map_err(|e| vec![text.syntax(&e)])?;
    let (mut columns, mut faults) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            SelectItem::Wildcard(options) => match all_columns(&options, scope, text) {
                Ok(all) => columns.extend(all),
                Err(fault) => faults.push(fault),
            },
            SelectItem::UnnamedExpr(ast) => {
                let name = unnamed(&ast);
                plan(ast, scope, text).map_or_else(
                    |f| faults.extend(f),
                    |expr| columns.push(Column { name, expr }),
                );
            }
            SelectItem::ExprWithAlias { expr: ast, alias } => {
                let name = alias.value;
                plan(ast, scope, text).map_or_else(
                    |f| faults.extend(f),
                    |expr| columns.push(Column { name, expr }),
                );
            }
            other => faults.push(text.fault(
                Code::SqlSyntax,
                format!("`{other}` is not supported in a SELECT list"),
            )),
        }
    }
    for (i, column) in columns.iter().enumerate() {
        if columns[..i].iter().any(|c| c.name == column.name) {
            let fault = text.fault(
                Code::DuplicateColumn,
                format!("two columns are named `{}`", column.name),
            );
            faults.push(fault.help("give one of them another name with AS"));
        }
    }
    if faults.is_empty() {
        Ok(columns)
    } else {
        Err(faults)
    }
}

/// Plans a condition: it must be boolean.
pub fn condition(text: Text<'_>, scope: &Scope) -> Result<Expr, Vec<Violation>> {
    let mut parser = Parser::new(&GenericDialect {})
        .try_with_sql(text.sql)
        .map_err(|e| vec![text.syntax(&e)])?;
    let ast = parser
        .parse_expr()
        .and_then(|ast| end(&mut parser).map(|()| ast));
    let expr = plan(ast.map_err(|e| vec![text.syntax(&e)])?, scope, text)?;
    let schema = df_schema(scope).map_err(|e| vec![text.planning(&e)])?;
    match datafusion_expr::ExprSchemable::get_type(&expr, &schema) {
        Ok(arrow::datatypes::DataType::Boolean) => Ok(expr),
        Ok(other) => Err(vec![text.fault(
            Code::SqlPlan,
            format!("the condition must be boolean, not {other}"),
        )]),
        Err(e) => Err(vec![text.planning(&e)]),
    }
}

fn parse_items(sql: &str) -> Result<Vec<SelectItem>, ParserError> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(sql)?;
    let items = parser.parse_projection()?;
    end(&mut parser)?;
    Ok(items)
}

fn end(parser: &mut Parser<'_>) -> Result<(), ParserError> {
    let token = parser.peek_token();
    match token.token {
        Token::EOF => Ok(()),
        other => Err(ParserError::ParserError(format!(
            "`{other}` is left over after the text{}",
            token.span.start
        ))),
    }
}

fn unnamed(ast: &Ast) -> String {
    match ast {
        Ast::Identifier(ident) => ident.value.clone(),
        Ast::CompoundIdentifier(parts) => parts.last().map(|p| p.value.clone()).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// `*`, with what EXCLUDE leaves out; `_meta` stands for all its members.
fn all_columns(
    options: &WildcardAdditionalOptions,
    scope: &Scope,
    text: Text<'_>,
) -> Result<Vec<Column>, Violation> {
    let excluded: Vec<String> = match &options.opt_exclude {
        None => Vec::new(),
        Some(ExcludeSelectItem::Single(name)) => vec![bare(&name.to_string())],
        Some(ExcludeSelectItem::Multiple(names)) => {
            names.iter().map(|name| bare(&name.to_string())).collect()
        }
    };
    let others = options.opt_ilike.is_some()
        || options.opt_except.is_some()
        || options.opt_replace.is_some()
        || options.opt_rename.is_some();
    if others {
        return Err(text.fault(Code::SqlSyntax, "`*` takes only EXCLUDE (column, …)"));
    }
    for name in &excluded {
        if name != META && scope.columns.column_with_name(name).is_none() {
            return Err(unknown(name, scope, text));
        }
    }
    let kept = scope.columns.fields().iter().filter(|field| {
        let hidden = field.name().starts_with("_meta.") && excluded.iter().any(|name| name == META);
        !hidden && !excluded.contains(field.name())
    });
    let column = |name: &String| Expr::Column(datafusion_common::Column::new_unqualified(name));
    Ok(kept
        .map(|field| Column {
            name: field.name().clone(),
            expr: column(field.name()),
        })
        .collect())
}

fn bare(name: &str) -> String {
    name.trim_matches('"').to_owned()
}

fn unknown(name: &str, scope: &Scope, text: Text<'_>) -> Violation {
    let visible = || scope.columns.fields().iter().map(|f| f.name().as_str());
    let listed = visible().collect::<Vec<_>>().join(", ");
    let fault = text.fault(Code::UnknownColumn, format!("no column named `{name}`"));
    let fault = match place::of_word(text.sql, name) {
        Some((start, end)) => fault.span(start, end),
        None => fault,
    };
    fault
        .note(format!("`{}` has: {listed}", scope.node))
        .did_you_mean(name, visible())
}

/// Plans one expression: names resolved, types coerced, only functions that decide alike on every run.
fn plan(mut ast: Ast, scope: &Scope, text: Text<'_>) -> Result<Expr, Vec<Violation>> {
    let faults = resolve(&mut ast, scope, text);
    if !faults.is_empty() {
        return Err(faults);
    }
    let schema = df_schema(scope).map_err(|e| vec![text.planning(&e)])?;
    let functions = Functions::all();
    let options = ParserOptions::default()
        .with_enable_ident_normalization(false)
        .with_collect_spans(true);
    let planned = SqlToRel::new_with_options(functions, options)
        .sql_to_expr(ast, &schema, &mut PlannerContext::new())
        .and_then(|expr| simplifier(&schema, None).coerce(expr, &schema))
        .map_err(|e| vec![text.planning(&e)])?;
    refuse_functions(&planned, text).map_err(|fault| vec![fault])?;
    Ok(planned)
}

/// Turns `_meta.part` into the column of that name and finds names that are no columns.
fn resolve(ast: &mut Ast, scope: &Scope, text: Text<'_>) -> Vec<Violation> {
    let mut faults = Vec::new();
    let is_column = |name: &str| scope.columns.column_with_name(name).is_some();
    let _: ControlFlow<()> = visit_expressions_mut(ast, |ast| {
        match ast {
            Ast::Identifier(ident) if !is_column(&ident.value) => {
                faults.push(pointed(
                    unknown(&ident.value, scope, text),
                    ident,
                    Place(text.sql),
                ));
            }
            Ast::CompoundIdentifier(parts) => {
                let [first, rest @ ..] = parts.as_slice() else {
                    return ControlFlow::Continue(());
                };
                if first.value == META && rest.len() == 1 {
                    let name = format!("{META}.{}", rest[0].value);
                    if is_column(&name) {
                        *ast = Ast::Identifier(Ident::with_quote('"', name));
                    } else {
                        faults.push(pointed(unknown(&name, scope, text), first, Place(text.sql)));
                    }
                } else if !is_column(&first.value) {
                    faults.push(pointed(
                        unknown(&first.value, scope, text),
                        first,
                        Place(text.sql),
                    ));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    faults
}

fn pointed(fault: Violation, ident: &Ident, place: Place<'_>) -> Violation {
    match place.of_span(ident.span) {
        Some((start, end)) => fault.span(start, end),
        None => fault,
    }
}

/// Random functions would decide differently on a replay (semantics 37); subqueries and windows have no meaning here.
fn refuse_functions(expr: &Expr, text: Text<'_>) -> Result<(), Violation> {
    let mut refused = None;
    let visited = expr.apply(|e| {
        match e {
            Expr::ScalarFunction(f) if f.func.signature().volatility == Volatility::Volatile => {
                refused = Some(format!(
                    "`{}` is random: a replay would decide differently",
                    f.func.name()
                ));
            }
            Expr::WindowFunction(_) => {
                refused = Some("window functions have no meaning here".into())
            }
            Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_) => {
                refused = Some("subqueries have no meaning here".into());
            }
            _ => {}
        }
        Ok(if refused.is_some() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    visited.map_err(|e| text.planning(&e))?;
    refused.map_or(
        Ok(()),
        |message| Err(text.fault(Code::SqlFunction, message)),
    )
}

/// Whether an expression holds an aggregate.
pub fn has_aggregate(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_))))
        .unwrap_or(true)
}

/// Whether an expression depends on the epoch's time (semantics 37).
pub fn reads_now(expr: &Expr) -> bool {
    const CLOCKS: [&str; 3] = ["now", "current_date", "current_time"];
    expr.exists(|e| Ok(matches!(e, Expr::ScalarFunction(f) if CLOCKS.contains(&f.func.name()))))
        .unwrap_or(true)
}

fn simplifier(schema: &DFSchema, now: Option<Micros>) -> ExprSimplifier {
    let now = now.and_then(|now| DateTime::<Utc>::from_timestamp_micros(now.0));
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone()));
    ExprSimplifier::new(context.with_query_execution_start_time(now).build())
}

fn df_schema(scope: &Scope) -> Result<DFSchema, DataFusionError> {
    DFSchema::try_from(scope.columns.clone())
}

/// Makes an expression executable; `now` is the epoch's time.
pub fn compile(
    expr: &Expr,
    columns: &SchemaRef,
    now: Micros,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let schema = DFSchema::try_from(columns.clone())?;
    let simple = simplifier(&schema, Some(now)).simplify(expr.clone())?;
    create_physical_expr(
        &simple,
        &schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
}

#[cfg(test)]
mod tests;
