//! SQL texts to expressions over the columns of one node. Names keep their case; nothing is looked up elsewhere.
//!
//! `_meta.timestamp` and its like are columns of that very name, so that a text may name them as members of `_meta`.
//! Whatever a text means must not depend on which features of `DataFusion` another crate of the build turns on.

mod compile;
mod judge;
mod names;
mod place;
mod provider;
mod types;

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use evp_api::plan::{Code, Violation};
use sqlparser::ast::{Expr as Ast, SelectItem, Spanned, Visit, visit_expressions_mut};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::decode::MetaColumns;
use place::Place;
use provider::Functions;

pub use compile::{compile, reads_now};
pub(crate) use names::is_meta;
pub(crate) use types::{canonical, instant};

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
    /// Where it stands: byte range of the text. `None`: it came from `*`.
    pub place: Option<(usize, usize)>,
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
        let message = place::first_line(&error.strip_backtrace());
        let message = message
            .strip_prefix("Error during planning: ")
            .unwrap_or(&message);
        let fault = self.fault(Code::SqlPlan, message);
        match message.strip_prefix("Invalid function '") {
            Some(rest) => self.function(rest.trim_end_matches(['.', '\'']), fault),
            None => fault,
        }
    }

    /// A function that is not there: pointed at, with the nearest one that is.
    fn function(&self, name: &str, fault: Violation) -> Violation {
        let fault = fault.did_you_mean(name, Functions::all().names());
        match place::of_word(self.sql, name) {
            Some((start, end)) => fault.span(start, end),
            None => fault,
        }
    }
}

/// Points at a whole expression where nothing nearer is known.
fn within(mut fault: Violation, place: Option<(usize, usize)>) -> Violation {
    fault.span = fault.span.or(place);
    fault
}

/// Which `_meta` columns a text names. A text that cannot be parsed names none.
pub fn meta_columns(text: &str) -> MetaColumns {
    let mut named = MetaColumns::default();
    let Ok(mut items) = parse_items(text) else {
        return named;
    };
    let _: ControlFlow<()> = visit_expressions_mut(&mut items, |ast| {
        if let Some(part) = names::meta_part(ast) {
            named.insert(part);
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
        let (ast, name) = match item {
            SelectItem::Wildcard(options) => {
                match names::all_columns(&options, scope, text) {
                    Ok(all) => columns.extend(all),
                    Err(fault) => faults.push(fault),
                }
                continue;
            }
            SelectItem::UnnamedExpr(ast) => {
                let name = unnamed(&ast);
                (ast, name)
            }
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.value),
            other => {
                let message = format!("`{other}` is not supported in a SELECT list");
                faults.push(text.fault(Code::SqlSyntax, message));
                continue;
            }
        };
        let place = Place(text.sql).of_span(ast.span());
        match plan(ast, scope, text) {
            Ok(expr) => columns.push(Column { name, expr, place }),
            Err(more) => faults.extend(more),
        }
    }
    names_differ(&columns, text, &mut faults);
    if faults.is_empty() {
        Ok(columns)
    } else {
        Err(faults)
    }
}

fn names_differ(columns: &[Column], text: Text<'_>, faults: &mut Vec<Violation>) {
    for (i, column) in columns.iter().enumerate() {
        let name = &column.name;
        if columns[..i].iter().any(|c| &c.name == name) {
            let fault = text.fault(
                Code::DuplicateColumn,
                format!("two columns are named `{name}`"),
            );
            let fault = fault.help("give one of them another name with AS");
            faults.push(within(fault, column.place));
        }
        let is_itself = matches!(&column.expr, Expr::Column(c) if &c.name == name);
        if is_meta(name) && !is_itself {
            let message = format!("`{name}` is kept for what every source adds");
            faults.push(within(
                text.fault(Code::DuplicateColumn, message),
                column.place,
            ));
        }
    }
}

/// Plans a condition: it must be boolean.
pub fn condition(text: Text<'_>, scope: &Scope) -> Result<Expr, Vec<Violation>> {
    let ast = parse_condition(text.sql).map_err(|e| vec![text.syntax(&e)])?;
    let place = Place(text.sql).of_span(ast.span());
    let expr = plan(ast, scope, text)?;
    let schema = df_schema(scope).map_err(|e| vec![text.planning(&e)])?;
    match expr.get_type(&schema) {
        Ok(DataType::Boolean) => Ok(expr),
        Ok(other) => {
            let message = format!("the condition must be boolean, not {other}");
            Err(vec![within(text.fault(Code::SqlPlan, message), place)])
        }
        Err(e) => Err(vec![text.planning(&e)]),
    }
}

fn parse_items(sql: &str) -> Result<Vec<SelectItem>, ParserError> {
    let mut parser = parser(sql)?;
    let items = parser.parse_projection()?;
    end(&mut parser)?;
    shallow(items)
}

fn parse_condition(sql: &str) -> Result<Ast, ParserError> {
    let mut parser = parser(sql)?;
    let ast = parser.parse_expr()?;
    end(&mut parser)?;
    shallow(ast)
}

fn parser(sql: &str) -> Result<Parser<'_>, ParserError> {
    if sql.len() > judge::LONGEST {
        return Err(ParserError::ParserError("is longer than 16 KiB".into()));
    }
    let dialect = &GenericDialect {};
    if judge::has_deep_types(&Tokenizer::new(dialect, sql).tokenize()?) {
        return Err(ParserError::RecursionLimitExceeded);
    }
    Parser::new(dialect).try_with_sql(sql)
}

fn shallow<T: Visit>(parsed: T) -> Result<T, ParserError> {
    if judge::is_deep(&parsed) {
        Err(ParserError::RecursionLimitExceeded)
    } else {
        Ok(parsed)
    }
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

/// Plans one expression: names resolved, types coerced, only what decides alike on every run.
fn plan(mut ast: Ast, scope: &Scope, text: Text<'_>) -> Result<Expr, Vec<Violation>> {
    let place = Place(text.sql).of_span(ast.span());
    let fault = |fault| vec![within(fault, place)];
    let faults = names::resolve(&mut ast, scope, text);
    if !faults.is_empty() {
        return Err(faults);
    }
    let planned = df_schema(scope).and_then(|schema| {
        let expr = to_expr(ast, &schema)?;
        let refusal = judge::refusal(&expr, &schema)?;
        Ok((expr, refusal))
    });
    match planned {
        Ok((expr, None)) => Ok(expr),
        Ok((_, Some(message))) => Err(fault(text.fault(Code::SqlFunction, message))),
        Err(e) => Err(fault(text.planning(&e))),
    }
}

fn to_expr(ast: Ast, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let options = ParserOptions::default()
        .with_enable_ident_normalization(false)
        .with_map_string_types_to_utf8view(false)
        .with_collect_spans(true);
    let planner = SqlToRel::new_with_options(Functions::all(), options);
    let expr = planner.sql_to_expr(ast, schema, &mut PlannerContext::new())?;
    let expr = expr.transform_up(|e| {
        let is_now = matches!(&e, Expr::ScalarFunction(f) if f.func.name() == "now");
        if is_now {
            Ok(Transformed::yes(e.cast_to(&instant(), schema)?))
        } else {
            Ok(Transformed::no(e))
        }
    })?;
    compile::simplifier(schema, None).coerce(expr.data, schema)
}

/// Whether an expression holds an aggregate.
pub fn has_aggregate(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_))))
        .unwrap_or(true)
}

fn df_schema(scope: &Scope) -> Result<DFSchema, DataFusionError> {
    DFSchema::try_from(scope.columns.clone())
}

#[cfg(test)]
mod tests;
