//! Pure: what was decided, what runs and what the workers report → the resource's status.
//!
//! Owns the words users see. `lastTransitionTime` moves only when a status flips; no message holds a number that moves by
//! itself, so that a pipeline on which nothing happens is not written.

mod conditions;
pub mod figures;
pub mod pods;
mod ready;

use std::time::Duration;

use evp_api::pipeline::{EventPipelineSpec, Objectives};
use evp_api::plan::{Plan, parse_duration};
use evp_api::progress::Progress;
use evp_api::status::{EventPipelineStatus, WorkersStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use crate::build::names;
use crate::rollout::{self, Hold};
use pods::PodView;

/// A report older than this says nothing about now.
pub const REPORT_LIFETIME: Duration = Duration::from_secs(20);
/// How long a generation may take to its first epoch.
pub const PROGRESS_DEADLINE: Duration = Duration::from_mins(10);

/// What came of a reconcile.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The generation it speaks of.
    pub generation: i64,
    /// The decision.
    pub verdict: Verdict,
    /// How far committed event time may be behind; `None`: not known.
    pub freshness: Option<Duration>,
}

/// The decision of a reconcile, carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The children stand for this generation.
    Applied,
    /// They do, without pods.
    Suspended,
    /// Children of a deleted namesake are still leaving.
    Waiting,
    /// Nothing was changed.
    Held(Hold),
    /// The API server refused a child; the message says which and why.
    ChildRefused(String),
}

impl Verdict {
    /// Of children that were applied.
    pub fn applied(suspended: bool) -> Self {
        if suspended {
            Self::Suspended
        } else {
            Self::Applied
        }
    }
}

/// The last answer of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// UID of the pod.
    pub pod_uid: String,
    /// What it said.
    pub progress: Progress,
    /// Time since it was received.
    pub age: Duration,
}

/// All that a status follows from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Name of the pipeline.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Its spec.
    pub spec: &'a EventPipelineSpec,
    /// The status last written.
    pub previous: &'a EventPipelineStatus,
    /// What came of its last reconcile.
    pub judged: &'a Judged,
    /// Its Deployment.
    pub deployment: Option<&'a Deployment>,
    /// Its pods.
    pub pods: &'a [PodView],
    /// The last answer of each pod.
    pub reports: &'a [Report],
    /// Wall-clock time.
    pub now: Timestamp,
}

/// The status that follows.
pub fn next(facts: &Facts<'_>) -> EventPipelineStatus {
    let report = facts.report().map(|report| &report.progress);
    let mut status = figures::of(facts, report);
    status.observed_generation = Some(facts.judged.generation);
    status.workers = Some(workers(facts));
    status.conditions = conditions::of(facts, &status);
    status.summary = Some(figures::summary(facts, report, &status.conditions));
    status
}

/// How far committed event time may be behind: the objective, else 3 × (delay + interval) of the slowest source.
pub fn objective(objectives: &Objectives, plan: Option<&Plan>) -> Option<Duration> {
    if let Some(asked) = objectives
        .freshness
        .as_deref()
        .and_then(|text| parse_duration(text).ok())
    {
        return Some(asked);
    }
    let plan = plan?;
    let delays = plan
        .sources
        .iter()
        .filter_map(|s| s.watermark.as_ref())
        .map(|w| w.delay);
    Some((delays.max().unwrap_or_default() + plan.checkpoint.interval) * 3)
}

/// An instant as status holds it: RFC 3339, whole seconds, UTC.
pub fn rfc3339(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

fn workers(facts: &Facts<'_>) -> WorkersStatus {
    let selector = names::pod_selector(facts.name, facts.uid);
    let terms: Vec<_> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let deployment = facts.deployment;
    WorkersStatus {
        replicas: deployment.map_or(0, rollout::replicas),
        ready: deployment
            .and_then(|d| d.status.as_ref()?.ready_replicas)
            .unwrap_or(0),
        selector: terms.join(","),
    }
}

impl<'a> Facts<'a> {
    /// The name of the `ConfigMap` that the Deployment's pods are to read.
    fn config_map(&self) -> Option<String> {
        Some(rollout::rolled(self.deployment?)?.config_map)
    }

    /// Pods of the Deployment's newest template, as far as its `ConfigMap` tells.
    fn current_pods(&self) -> impl Iterator<Item = &'a PodView> {
        let wanted = self.config_map();
        let pods = self.pods.iter().filter(|pod| !pod.leaving);
        pods.filter(move |pod| wanted.is_some() && pod.config_map == wanted)
    }

    /// The youngest believable report; of a current pod before that of any other.
    fn report(&self) -> Option<&'a Report> {
        let current = |report: &Report| self.current_pods().any(|pod| pod.uid == report.pod_uid);
        let fresh = self
            .reports
            .iter()
            .filter(|report| report.age < REPORT_LIFETIME);
        fresh.min_by_key(|report| (!current(report), report.age))
    }

    /// The believable report of a current pod.
    fn current_report(&self) -> Option<&'a Progress> {
        let report = self.report()?;
        self.current_pods()
            .any(|pod| pod.uid == report.pod_uid)
            .then_some(&report.progress)
    }
}

#[cfg(test)]
mod tests;
