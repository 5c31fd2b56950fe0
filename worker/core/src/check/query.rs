//! A query: both texts planned over the columns above.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::DFSchema;
use datafusion_expr::ExprSchemable;
use evp_api::plan::{Code, Violation};

use super::QueryPlanned;
use crate::sql::{self, Column, Scope, Text};
use crate::step::query::Query;

/// The texts of a query and where they stand.
pub(super) struct Asked<'a> {
    pub(super) select: Option<&'a str>,
    pub(super) filter: Option<&'a str>,
    pub(super) path: &'a str,
}

impl Asked<'_> {
    pub(super) fn plan(&self, scope: &Scope) -> Result<QueryPlanned, Vec<Violation>> {
        let (select_path, where_path) = (
            format!("{}.select", self.path),
            format!("{}.where", self.path),
        );
        let selected = self.select.map(|sql| {
            columns(
                Text {
                    sql,
                    path: &select_path,
                },
                scope,
            )
        });
        let filter = self.filter.map(|sql| {
            condition(
                Text {
                    sql,
                    path: &where_path,
                },
                scope,
            )
        });
        let (selected, filter) = match (selected.transpose(), filter.transpose()) {
            (Ok(selected), Ok(filter)) => (selected, filter),
            (selected, filter) => {
                let faults = selected.err().into_iter().chain(filter.err());
                return Err(faults.flatten().collect());
            }
        };
        let (select, output) = match selected {
            None => (None, scope.columns.clone()),
            Some(columns) => {
                let (exprs, fields): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
                (Some(exprs), Arc::new(Schema::new(fields)))
            }
        };
        let planned = QueryPlanned {
            input: scope.columns.clone(),
            output,
            select,
            filter,
        };
        Query::new(planned.clone()).map_err(|e| {
            vec![Violation::new(
                Code::SqlPlan,
                self.path,
                e.strip_backtrace(),
            )]
        })?;
        Ok(planned)
    }
}

fn columns(
    text: Text<'_>,
    scope: &Scope,
) -> Result<Vec<(datafusion_expr::Expr, Field)>, Vec<Violation>> {
    let (mut columns, mut faults) = (Vec::new(), Vec::new());
    for column in sql::select(text, scope)? {
        match output(column, text, scope) {
            Ok(output) => columns.push(output),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        Ok(columns)
    } else {
        Err(faults)
    }
}

/// A condition over single rows.
pub(super) fn condition(
    text: Text<'_>,
    scope: &Scope,
) -> Result<datafusion_expr::Expr, Vec<Violation>> {
    let filter = sql::condition(text, scope)?;
    if sql::has_aggregate(&filter) {
        Err(vec![over_rows(text.path)])
    } else {
        Ok(filter)
    }
}

/// A column as it comes out: of a type that a pipeline carries.
fn output(
    column: Column,
    text: Text<'_>,
    scope: &Scope,
) -> Result<(datafusion_expr::Expr, Field), Violation> {
    let pointed = |mut fault: Violation| {
        fault.span = column.place;
        fault
    };
    if sql::has_aggregate(&column.expr) {
        return Err(pointed(over_rows(text.path)));
    }
    let typed = DFSchema::try_from(scope.columns.clone()).and_then(|schema| {
        let expr = sql::canonical(column.expr, &schema)?;
        let field = Field::new(
            &column.name,
            expr.get_type(&schema)?,
            expr.nullable(&schema)?,
        );
        Ok((expr, field))
    });
    match typed {
        Ok((_, field)) if field.data_type() == &DataType::Null => {
            let fault = Violation::new(
                Code::SqlPlan,
                text.path,
                format!("`{}` has no type", column.name),
            );
            Err(pointed(fault.help("give it one: CAST(NULL AS …)")))
        }
        Ok(output) => Ok(output),
        Err(e) => Err(pointed(Violation::new(
            Code::SqlPlan,
            text.path,
            e.strip_backtrace(),
        ))),
    }
}

fn over_rows(path: &str) -> Violation {
    Violation::new(
        Code::SqlFunction,
        path,
        "an aggregate has no meaning over single rows",
    )
    .help("use an `aggregate` step")
}
