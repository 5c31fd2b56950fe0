//! Names in a text: columns of the node above, and `_meta.part`, which is a column of that very name.

use std::ops::ControlFlow;

use datafusion_expr::Expr;
use evp_api::plan::{Code, Violation};
use sqlparser::ast::{
    ExcludeSelectItem, Expr as Ast, Ident, WildcardAdditionalOptions, visit_expressions_mut,
};

use super::place::{self, Place};
use super::{Column, Scope, Text};

/// The name under which what a source knows of a record beside its bytes can be read.
const META: &str = "_meta";

/// Whether a column is a part of `_meta`, or claims to be.
pub(crate) fn is_meta(name: &str) -> bool {
    name.strip_prefix(META)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The part that an identifier names, if it names one of `_meta`.
pub(super) fn meta_part(ast: &Ast) -> Option<&str> {
    match ast {
        Ast::CompoundIdentifier(parts) => match parts.as_slice() {
            [first, part, ..] if first.value == META => Some(&part.value),
            _ => None,
        },
        _ => None,
    }
}

/// Turns `_meta.part` into the column of that name and finds names that are no columns.
pub(super) fn resolve(ast: &mut Ast, scope: &Scope, text: Text<'_>) -> Vec<Violation> {
    let mut faults = Vec::new();
    let is_column = |name: &str| scope.columns.column_with_name(name).is_some();
    let point = |fault: Violation, ident: &Ident| match Place(text.sql).of_span(ident.span) {
        Some((start, end)) => fault.span(start, end),
        None => fault,
    };
    let _: ControlFlow<()> = visit_expressions_mut(ast, |ast| {
        let replaced = match &*ast {
            Ast::Identifier(ident) if !is_column(&ident.value) => {
                faults.push(point(unknown(&ident.value, scope, text), ident));
                None
            }
            Ast::CompoundIdentifier(parts) => match parts.as_slice() {
                [first, part] if first.value == META => {
                    let name = format!("{META}.{}", part.value);
                    if !is_column(&name) {
                        faults.push(point(unknown(&name, scope, text), first));
                    }
                    Some(Ast::Identifier(Ident {
                        value: name,
                        quote_style: Some('"'),
                        span: first.span,
                    }))
                }
                [first, ..] if !is_column(&first.value) => {
                    faults.push(point(unknown(&first.value, scope, text), first));
                    None
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(replaced) = replaced {
            *ast = replaced;
        }
        ControlFlow::Continue(())
    });
    faults.dedup();
    faults
}

/// `*`, with what EXCLUDE leaves out; `_meta` stands for all its members.
pub(super) fn all_columns(
    options: &WildcardAdditionalOptions,
    scope: &Scope,
    text: Text<'_>,
) -> Result<Vec<Column>, Violation> {
    let bare = |name: &dyn ToString| name.to_string().trim_matches('"').to_owned();
    let excluded: Vec<String> = match &options.opt_exclude {
        None => Vec::new(),
        Some(ExcludeSelectItem::Single(name)) => vec![bare(name)],
        Some(ExcludeSelectItem::Multiple(names)) => names.iter().map(|name| bare(name)).collect(),
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
        let hidden = is_meta(field.name()) && excluded.iter().any(|name| name == META);
        !hidden && !excluded.contains(field.name())
    });
    let column = |name: &String| Expr::Column(datafusion_common::Column::new_unqualified(name));
    Ok(kept
        .map(|field| Column {
            name: field.name().clone(),
            expr: column(field.name()),
            place: None,
        })
        .collect())
}

/// A name that is no column, with what there is and what was meant.
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
