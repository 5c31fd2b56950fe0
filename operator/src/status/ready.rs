//! Ready: is data moving and being committed under this generation? And if not, what keeps it.

use evp_api::progress::{Halt, Progress};
use evp_api::reason;
use evp_api::status::condition;
use k8s_openapi::api::apps::v1::Deployment;

use super::conditions::{Finding, finding, previous};
use super::{Facts, Verdict, figures};
use crate::change::Class;
use crate::rollout::{self, Hold};

/// Is data moving and being committed under this generation?
pub(super) fn ready(facts: &Facts<'_>) -> Finding {
    match &facts.judged.verdict {
        Verdict::Applied => working(facts),
        Verdict::Suspended => suspended(facts),
        Verdict::Waiting => finding(
            "False",
            reason::OLD_CHILDREN_LEAVING,
            "objects of a deleted pipeline of this name are still being deleted",
        ),
        Verdict::ChildRefused(message) => finding("False", reason::CHILD_REFUSED, message),
        Verdict::Held(Hold::NameTaken(message)) => finding("False", reason::NAME_TAKEN, message),
        Verdict::Held(Hold::NotAccepted(_)) => {
            let message = format!(
                "generation {} is not accepted; {}",
                facts.judged.generation,
                goes_on(facts)
            );
            finding("False", reason::SPEC_NOT_ACCEPTED, message)
        }
        Verdict::Held(Hold::StateIncompatible(changes)) => {
            let told: Vec<_> = changes.iter().map(ToString::to_string).collect();
            let way_out = if changes.iter().any(|change| change.class == Class::Never) {
                "give the changed source a new name and raise `resetNonce`, or the pipeline a new name, checkpoint path and tables"
            } else {
                "raise `resetNonce` to let the changed steps begin anew"
            };
            let message = format!(
                "{} would destroy state; revert it, or {way_out}; {}",
                told.join(", "),
                goes_on(facts)
            );
            finding("False", reason::STATE_INCOMPATIBLE, message)
        }
    }
}

/// What the pods of an earlier generation do meanwhile.
fn goes_on(facts: &Facts<'_>) -> String {
    let running = facts.deployment.filter(|d| rollout::replicas(d) > 0);
    let Some(generation) = running.and_then(rollout::generation) else {
        return "no pods run".to_owned();
    };
    match facts.report().map(|report| &report.progress) {
        Some(Progress {
            reason: None,
            ready: true,
            ..
        }) => format!("generation {generation} keeps committing"),
        Some(Progress {
            reason: Some(halt), ..
        }) => {
            format!(
                "generation {generation} is stopped: {}: {}",
                halt.reason, halt.message
            )
        }
        _ => format!("generation {generation} keeps its pods"),
    }
}

fn suspended(facts: &Facts<'_>) -> Finding {
    if let Some(pending) = facts
        .report()
        .and_then(|report| figures::pending(&report.progress))
    {
        let message = format!("suspended, state is kept; {pending}; applied first on resume");
        return finding("False", reason::SUSPENDED, message);
    }
    // Pods and their reports are gone after a while; what the last one said stays.
    let kept = previous(facts, condition::READY)
        .filter(|p| p.reason == reason::SUSPENDED && facts.report().is_none());
    let message = kept.map_or_else(
        || "suspended, state is kept; set spec.suspend to false to resume".to_owned(),
        |before| before.message.clone(),
    );
    finding("False", reason::SUSPENDED, message)
}

/// The children stand for this generation; how are its pods?
fn working(facts: &Facts<'_>) -> Finding {
    let Some(deployment) = facts
        .deployment
        .filter(|d| rollout::generation(d) == Some(facts.judged.generation))
    else {
        return finding(
            "False",
            reason::ROLLING_OUT,
            "the Deployment is being written",
        );
    };
    if let Some(report) = facts.current_report() {
        return reported(facts, report);
    }
    let troubled = facts
        .current_pods()
        .find_map(|pod| Some((&pod.name, pod.trouble.as_ref()?)));
    if let Some((name, trouble)) = troubled {
        return finding(
            "False",
            reason::WORKERS_NOT_READY,
            format!("pod {name}: {trouble}"),
        );
    }
    if let Some(message) = replica_failure(deployment) {
        return finding(
            "False",
            reason::WORKERS_NOT_READY,
            format!("no pod can be made: {message}"),
        );
    }
    let silent = facts.current_pods().find(|pod| pod.ready);
    let answered_before = |uid: &str| facts.reports.iter().any(|report| report.pod_uid == uid);
    if let Some(pod) = silent.filter(|pod| answered_before(&pod.uid)) {
        let message = format!(
            "pod {} no longer answers at /progress; its logs say why",
            pod.name
        );
        return finding("False", reason::WORKER_SILENT, message);
    }
    if facts.current_pods().next().is_none() && facts.pods.iter().any(|pod| pod.leaving) {
        return finding(
            "False",
            reason::ROLLING_OUT,
            "the old pod finishes its epoch and ends",
        );
    }
    finding("False", reason::WORKERS_STARTING, "the pod is starting")
}

fn reported(facts: &Facts<'_>, report: &Progress) -> Finding {
    if let Some(Halt {
        reason, message, ..
    }) = &report.reason
    {
        return finding("False", reason, message);
    }
    if !report.ready || !facts.current_pods().any(|pod| pod.ready) {
        return finding(
            "False",
            reason::WORKERS_STARTING,
            "the worker opens its checkpoint, sources and sinks",
        );
    }
    if !has_arrived(report) {
        let message = format!(
            "no epoch is decided yet under generation {}",
            facts.judged.generation
        );
        return finding("False", reason::FIRST_EPOCH_PENDING, message);
    }
    finding(
        "True",
        reason::COMMITTING,
        "records are read and epochs are decided",
    )
}

/// The newest epoch was decided under the plan that the reporting pod was given.
pub(super) fn has_arrived(report: &Progress) -> bool {
    !report.plan_digest.is_empty() && report.plan_of_newest_epoch == report.plan_digest
}

fn replica_failure(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    failure.message.clone()
}
