//! What a text may not hold: what would decide differently on a replay, guess, or outgrow the stack.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatchOptions;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result};
use datafusion_expr::{Expr, ExprSchemable, Volatility};
use sqlparser::ast::{Expr as Ast, Visit, Visitor};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::compile;

/// Longest text; bytes. It bounds how deep a parsed text can be before [`is_deep`] has seen it.
pub(super) const LONGEST: usize = 16 * 1024;

/// Most words that begin a type of types. The parser does not bound how deep types lie in one another.
const MOST_TYPES: usize = 16;

/// Most brackets that follow another one: `INT[][]` is a type of types too, and `map['a']['b']` is not.
const MOST_BRACKETS: usize = 256;

/// How deep expressions may lie in one another; `a AND b AND c` is two deep.
const DEEPEST: usize = 128;

/// Whether types may lie too deep in one another to be parsed.
pub(super) fn has_deep_types(tokens: &[Token]) -> bool {
    let nests = |token: &&Token| {
        let Token::Word(word) = token else {
            return false;
        };
        matches!(
            word.keyword,
            Keyword::ARRAY
                | Keyword::LOWCARDINALITY
                | Keyword::MAP
                | Keyword::NESTED
                | Keyword::NULLABLE
                | Keyword::SETOF
                | Keyword::STRUCT
                | Keyword::TABLE
                | Keyword::TUPLE
                | Keyword::UNION
        )
    };
    let dense = tokens.iter().filter(|t| !matches!(t, Token::Whitespace(_)));
    let pairs = dense.clone().zip(dense.skip(1));
    let brackets = pairs.filter(|pair| matches!(pair, (Token::RBracket, Token::LBracket)));
    tokens.iter().filter(nests).count() > MOST_TYPES || brackets.count() > MOST_BRACKETS
}

/// Whether expressions lie too deep in one another to be planned, shown and evaluated on a thread's usual stack.
pub(super) fn is_deep(ast: &impl Visit) -> bool {
    struct Depth(usize);
    impl Visitor for Depth {
        type Break = ();
        fn pre_visit_expr(&mut self, _: &Ast) -> ControlFlow<()> {
            self.0 += 1;
            if self.0 > DEEPEST {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
        fn post_visit_expr(&mut self, _: &Ast) -> ControlFlow<()> {
            self.0 -= 1;
            ControlFlow::Continue(())
        }
    }
    ast.visit(&mut Depth(0)).is_break()
}

/// What is wrong with an expression beside its types.
pub(super) fn refusal(expr: &Expr, schema: &DFSchema) -> Result<Option<String>> {
    let mut refused = None;
    expr.apply(|e| {
        refused = one(e, schema)?;
        Ok(if refused.is_some() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    Ok(match refused {
        None => constant_fault(expr, schema)?,
        some => some,
    })
}

fn one(expr: &Expr, schema: &DFSchema) -> Result<Option<String>> {
    Ok(match expr {
        Expr::ScalarFunction(f) if f.func.signature().volatility == Volatility::Volatile => {
            Some(format!(
                "`{}` is random: a replay would decide differently",
                f.func.name()
            ))
        }
        Expr::WindowFunction(_) => Some("window functions have no meaning here".into()),
        Expr::ScalarSubquery(_)
        | Expr::InSubquery(_)
        | Expr::Exists(_)
        | Expr::SetComparison(_) => Some("subqueries have no meaning here".into()),
        Expr::Placeholder(_) => Some("there are no parameters to fill placeholders with".into()),
        Expr::Cast(cast) if cast.field.data_type().is_temporal() => {
            let from = cast.expr.get_type(schema)?;
            let guesses = from.is_numeric() && !cast.field.data_type().is_numeric();
            guesses.then(|| {
                "a number is not a time without its unit: use to_timestamp_seconds, to_timestamp_millis or \
                 to_timestamp_micros"
                    .into()
            })
        }
        _ => None,
    })
}

/// A part without columns that cannot be computed would fail every row.
fn constant_fault(expr: &Expr, schema: &DFSchema) -> Result<Option<String>> {
    let mut fault = None;
    expr.apply(|e| {
        let varies = e.exists(|part| {
            Ok(matches!(part, Expr::Column(_) | Expr::AggregateFunction(_))
                || compile::is_clock(part))
        })?;
        #[expect(deprecated, reason = "the planner still gives a wildcard for count(*)")]
        let plain = matches!(e, Expr::Literal(..) | Expr::Wildcard { .. });
        if varies || plain {
            return Ok(TreeNodeRecursion::Continue);
        }
        if let Err(error) = value(e, schema)
            && let DataFusionError::ArrowError(why, _) = error.find_root()
        {
            fault = Some(format!("`{e}` cannot be computed: {why}"));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Jump)
    })?;
    Ok(fault)
}

fn value(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let one = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one)?;
    compile::literally(expr, schema)?
        .evaluate(&batch)
        .map(|_| ())
}
