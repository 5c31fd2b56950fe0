//! Progress → conditions: the one writer of status.
//!
//! Looks through pipelines when a reconcile has decided and after every round of questions. Writes on a change of a
//! condition, else about every 10 s a pipeline, and never if nothing a person would notice changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evp_api::pipeline::EventPipeline;
use evp_api::status::EventPipelineStatus;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::build::names;
use crate::clock::{SharedClock, within};
use crate::events;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::progress::{PERIOD, Reports};
use crate::rollout;
use crate::status::pods::{PodView, pipeline_uid};
use crate::status::{self, Facts, Judged, Verdict};

/// At most one write in two rounds of questions while no condition changes; a little less, or a round that comes early would
/// make it three.
const QUIET: Duration = Duration::from_millis(9_500);
/// A status or event that is not written by then is tried again at the next look.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Writes at a time.
const CONCURRENCY: usize = 8;

/// A pipeline as it is watched: one that this version cannot read does not stop the others.
pub type Watched = DeserializeGuard<EventPipeline>;

/// What the last reconcile of each pipeline decided, by UID. Clones share it.
#[derive(Clone, Default)]
pub struct Verdicts {
    known: Arc<Mutex<HashMap<String, Judged>>>,
    fresh: Arc<Mutex<HashSet<String>>>,
    told: Arc<Notify>,
}

impl Verdicts {
    /// Keeps a decision and has it published.
    pub fn put(&self, uid: &str, judged: Judged) {
        lock(&self.known).insert(uid.to_owned(), judged);
        lock(&self.fresh).insert(uid.to_owned());
        self.told.notify_one();
    }

    /// The last decision.
    pub fn get(&self, uid: &str) -> Option<Judged> {
        lock(&self.known).get(uid).cloned()
    }

    fn take_fresh(&self) -> HashSet<String> {
        std::mem::take(&mut *lock(&self.fresh))
    }

    fn keep(&self, uids: &HashSet<String>) {
        lock(&self.known).retain(|uid, _| uids.contains(uid));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer of status.
pub struct Publisher {
    /// The API server.
    pub client: Client,
    /// Where Events go.
    pub recorder: Recorder,
    /// All pipelines.
    pub pipelines: Store<Watched>,
    /// Their Deployments.
    pub deployments: Store<Deployment>,
    /// Their pods.
    pub pods: Store<Pod>,
    /// What reconciles decided.
    pub verdicts: Verdicts,
    /// What workers answered.
    pub reports: Reports,
    /// Told after each round of questions.
    pub round: Arc<Notify>,
    /// Time.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
    /// The canary.
    pub health: Health,
}

/// What this process last wrote, and when. A watch may still show what was there before.
struct Written {
    status: EventPipelineStatus,
    at: Duration,
}

struct Write {
    pipeline: Arc<Watched>,
    uid: String,
    before: EventPipelineStatus,
    after: EventPipelineStatus,
}

impl Publisher {
    /// Runs until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut written = HashMap::new();
        // Until workers were asked once, every one of them would be told to be silent.
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.round.notified() => {}
            () = self.clock.sleep(2 * PERIOD) => {}
        }
        self.look(true, &mut written).await;
        loop {
            let all = tokio::select! {
                () = stop.cancelled() => return,
                () = self.verdicts.told.notified() => false,
                () = self.round.notified() => true,
                () = self.clock.sleep(2 * PERIOD) => true,
            };
            self.look(all, &mut written).await;
        }
    }

    /// Looks at the pipelines that were just judged, or at all.
    async fn look(&self, all: bool, written: &mut HashMap<String, Written>) {
        let fresh = self.verdicts.take_fresh();
        let pipelines = self.pipelines.state();
        let pods = self.pods_by_pipeline();
        let mut alive = HashSet::new();
        let mut writes = Vec::new();
        for pipeline in &pipelines {
            let uid = pipeline.uid().unwrap_or_default();
            if all || fresh.contains(&uid) {
                let none = Vec::new();
                let pods = pods.get(&uid).unwrap_or(&none);
                writes.extend(self.due(pipeline, &uid, pods, written.get(&uid)));
            }
            alive.insert(uid);
        }
        if all {
            self.verdicts.keep(&alive);
            written.retain(|uid, _| alive.contains(uid));
            self.metrics.knows(pipelines.len());
            self.health.published(pipelines.len());
        }
        let mut results = futures::stream::iter(writes)
            .map(|write| self.write(write))
            .buffer_unordered(CONCURRENCY);
        while let Some(done) = results.next().await {
            written.extend(done);
        }
    }

    fn pods_by_pipeline(&self) -> HashMap<String, Vec<PodView>> {
        let mut by_pipeline: HashMap<String, Vec<PodView>> = HashMap::new();
        for pod in self.pods.state() {
            if let Some(uid) = pipeline_uid(&pod) {
                by_pipeline
                    .entry(uid.clone())
                    .or_default()
                    .push(PodView::of(&pod));
            }
        }
        by_pipeline
    }

    /// The write that a pipeline needs now, if any.
    fn due(
        &self,
        pipeline: &Arc<Watched>,
        uid: &str,
        pods: &[PodView],
        written: Option<&Written>,
    ) -> Option<Write> {
        let read = pipeline.0.as_ref().ok()?;
        let judged = self.verdicts.get(uid)?;
        if Some(judged.generation) != read.metadata.generation
            || read.metadata.deletion_timestamp.is_some()
        {
            return None;
        }
        let before = match written {
            Some(written) => written.status.clone(),
            None => read.status.clone().unwrap_or_default(),
        };
        let name = read.name_any();
        let child =
            ObjectRef::new(&names::child_name(&name)).within(&read.namespace().unwrap_or_default());
        let deployment = self
            .deployments
            .get(&child)
            .filter(|d| rollout::is_controlled_by(uid, d));
        if is_behind(&judged, deployment.as_deref()) {
            return None;
        }
        let elapsed = self.clock.elapsed();
        let after = status::next(&Facts {
            name: &name,
            uid,
            spec: &read.spec,
            previous: &before,
            judged: &judged,
            deployment: deployment.as_deref(),
            pods,
            reports: &self.reports.of(uid, elapsed),
            now: self.clock.now(),
        });
        let quiet = written.map(|written| elapsed.saturating_sub(written.at));
        worth_writing(&before, &after, quiet).then(|| Write {
            pipeline: Arc::clone(pipeline),
            uid: uid.to_owned(),
            before,
            after,
        })
    }

    /// `Some` when it was written.
    async fn write(&self, write: Write) -> Option<(String, Written)> {
        let meta = write.pipeline.meta();
        let name = meta.name.clone().unwrap_or_default();
        let namespace = meta.namespace.clone().unwrap_or_default();
        let api: Api<EventPipeline> = Api::namespaced(self.client.clone(), &namespace);
        // The UID keeps it from a namesake that came meanwhile.
        let patch = json!({
            "apiVersion": EventPipeline::api_version(&()),
            "kind": EventPipeline::kind(&()),
            "metadata": {"name": name, "namespace": namespace, "uid": write.uid},
            "status": write.after,
        });
        self.metrics.wrote("apply", "EventPipeline/status");
        let params = PatchParams::apply(names::MANAGER).force();
        let patch = Patch::Apply(&patch);
        let patched = api.patch_status(&name, &params, &patch);
        match within(&self.clock, WRITE_DEADLINE, patched).await {
            Some(Ok(_)) => {}
            Some(Err(kube::Error::Api(status)))
                if status.is_not_found() || status.is_conflict() =>
            {
                return None;
            }
            Some(Err(error)) => {
                tracing::warn!(pipeline = name, namespace, error = %&error as &dyn std::error::Error, "cannot write status");
                return None;
            }
            None => {
                tracing::warn!(pipeline = name, namespace, "writing status took too long");
                return None;
            }
        }
        self.tell(&write).await;
        let at = self.clock.elapsed();
        Some((
            write.uid,
            Written {
                status: write.after,
                at,
            },
        ))
    }

    /// Events are told as well as may be: one that is lost is still in the conditions.
    async fn tell(&self, write: &Write) {
        let Ok(pipeline) = &write.pipeline.0 else {
            return;
        };
        let regarding = pipeline.object_ref(&());
        for told in events::of(&write.before, &write.after) {
            self.metrics.wrote("create", "Event");
            let event = told.into();
            let published = self.recorder.publish(&event, &regarding);
            match within(&self.clock, WRITE_DEADLINE, published).await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(%error, "an Event was not taken"),
                None => tracing::debug!("an Event took too long"),
            }
        }
    }
}

/// What was applied is not seen yet: the pods would be taken for those of the generation before. The sight of it brings the next
/// reconcile, and so the next look.
fn is_behind(judged: &Judged, deployment: Option<&Deployment>) -> bool {
    let seen = deployment.and_then(rollout::generation);
    matches!(judged.verdict, Verdict::Applied) && seen.is_some_and(|seen| seen < judged.generation)
}

/// `quiet`: time since the last write; `None`: this process wrote none.
pub fn worth_writing(
    before: &EventPipelineStatus,
    after: &EventPipelineStatus,
    quiet: Option<Duration>,
) -> bool {
    if before == after {
        return false;
    }
    let words = |status: &EventPipelineStatus| -> Vec<_> {
        let word = |c: &evp_api::status::Condition| {
            (
                c.kind.clone(),
                c.status.clone(),
                c.reason.clone(),
                c.observed_generation,
            )
        };
        status.conditions.iter().map(word).collect()
    };
    words(before) != words(after)
        || before.observed_generation != after.observed_generation
        || quiet.is_none_or(|quiet| quiet >= QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(lag: i64, generation: i64) -> EventPipelineStatus {
        EventPipelineStatus {
            lag_records: Some(lag),
            observed_generation: Some(generation),
            ..EventPipelineStatus::default()
        }
    }

    #[track_caller]
    fn check(
        before: &EventPipelineStatus,
        after: &EventPipelineStatus,
        quiet: Option<u64>,
        wanted: bool,
    ) {
        assert_eq!(
            worth_writing(before, after, quiet.map(Duration::from_secs)),
            wanted
        );
    }

    #[test]
    fn nothing_new_is_never_written() {
        check(&status(1, 1), &status(1, 1), None, false);
        check(&status(1, 1), &status(1, 1), Some(1000), false);
    }

    #[test]
    fn numbers_wait_their_turn() {
        check(&status(1, 1), &status(2, 1), Some(9), false);
        check(&status(1, 1), &status(2, 1), Some(10), true);
        check(&status(1, 1), &status(2, 1), None, true);
    }

    #[test]
    fn a_new_generation_is_written_at_once() {
        check(&status(1, 1), &status(1, 2), Some(0), true);
    }
}
