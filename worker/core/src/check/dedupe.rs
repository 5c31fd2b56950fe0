//! A `dedupe`: its event time and its keys over the columns above.

use evp_api::plan::{DedupePlan, Violation};

use super::{DedupePlanned, column};
use crate::sql::Scope;

/// Plans the step at `path`, such as `spec.steps[1]`; all findings at once.
pub(super) fn plan(
    dedupe: &DedupePlan,
    event_time: Result<usize, Violation>,
    path: &str,
    scope: &Scope,
) -> Result<DedupePlanned, Vec<Violation>> {
    let mut faults = Vec::new();
    let event_time = event_time.map_err(|fault| faults.push(fault));
    let mut keys = Vec::new();
    for (i, name) in dedupe.keys.iter().enumerate() {
        match column::by_name(name, scope, "told apart") {
            Ok(index) => keys.push(index),
            Err(mut fault) => {
                fault.path = format!("{path}.dedupe.keys[{i}]");
                faults.push(fault);
            }
        }
    }
    match event_time {
        Ok(event_time) if faults.is_empty() => Ok(DedupePlanned {
            plan: dedupe.clone(),
            columns: scope.columns.clone(),
            event_time,
            keys,
        }),
        _ => Err(faults),
    }
}
