//! Rules: each check planned over the columns above, as a `where` would be.

use evp_api::plan::{Code, RulePlan, Violation};

use super::query::condition;
use super::{RulePlanned, ValidatePlanned};
use crate::sql::{Scope, Text};
use crate::step::validate::Validate;

/// Plans the rules that stand at `path`; all findings at once.
pub(super) fn plan(
    rules: &[RulePlan],
    path: &str,
    scope: &Scope,
) -> Result<ValidatePlanned, Vec<Violation>> {
    let (mut planned, mut faults) = (Vec::new(), Vec::new());
    for (i, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{i}].check");
        let text = Text {
            sql: &rule.check,
            path: &path,
        };
        match condition(text, scope) {
            Ok(check) => planned.push(RulePlanned {
                name: rule.name.clone(),
                message: rule.message.clone(),
                check,
            }),
            Err(more) => faults.extend(more),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let planned = ValidatePlanned {
        columns: scope.columns.clone(),
        rules: planned,
    };
    Validate::new(planned.clone())
        .map_err(|e| vec![Violation::new(Code::SqlPlan, path, e.strip_backtrace())])?;
    Ok(planned)
}
