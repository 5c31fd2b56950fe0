//! Spec → children, for one pipeline: fetch → check → rollout → build → apply → status.
//!
//! Never calls a worker and keeps nothing between calls: what was decided goes to [`crate::publish`], which writes status.

use std::time::Duration;

use evp_api::pipeline::EventPipeline;
use evp_api::plan::Plan;
use evp_core::check::{CheckedPlan, check};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;

use crate::apply::{self, Writer};
use crate::build::{self, Blueprint, Owner, Rolled, config_map};
use crate::clock::SharedClock;
use crate::fetch;
use crate::metrics::Metrics;
use crate::publish::Verdicts;
use crate::rollout::{self, Action, Hold, Observed};
use crate::settings::WorkerDefaults;
use crate::status::{Judged, Verdict, objective};

/// What every reconcile works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Time.
    pub clock: SharedClock,
    /// What pods get that their pipeline does not say.
    pub defaults: WorkerDefaults,
    /// Where decisions go.
    pub verdicts: Verdicts,
    /// Counters.
    pub metrics: Metrics,
}

/// A reconcile that came to no decision; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("cannot fetch")]
    Fetch(#[from] fetch::Error),
    /// Writing failed.
    #[error("cannot apply")]
    Apply(#[from] apply::Error),
    /// It took longer than it may.
    #[error("not done within {0:?}")]
    Deadline(Duration),
}

impl Error {
    /// The word for what failed, as a metric's label.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch",
            Self::Apply(_) => "apply",
            Self::Deadline(_) => "deadline",
        }
    }
}

/// When to look again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Again {
    /// Something is about to change that nobody tells us of.
    Soon,
    /// A person is to change something that nobody tells us of.
    InAWhile,
    /// The safety net.
    Later,
}

/// Brings one pipeline's children to what its spec says.
pub async fn reconcile(pipeline: &EventPipeline, context: &Context) -> Result<Again, Error> {
    let mut owner = owner(pipeline);
    let (observed, namespace_uid) = fetch(&context.client, &owner).await?;
    owner.namespace_uid = namespace_uid;
    let checked = check(&pipeline.spec);
    let action = rollout::next(&owner, checked.as_ref().map(|_| &pipeline.spec), &observed);
    let verdict = execute(pipeline, &owner, &observed, &action, context).await?;
    let again = match verdict {
        Verdict::Waiting => Again::Soon,
        Verdict::ChildRefused(_) | Verdict::Held(Hold::NameTaken(_)) => Again::InAWhile,
        _ => Again::Later,
    };
    context.verdicts.put(
        &owner.uid,
        judged(pipeline, &observed, checked.ok(), verdict),
    );
    Ok(again)
}

/// Who the children belong to; its namespace's UID is not yet known.
pub fn owner(pipeline: &EventPipeline) -> Owner {
    let meta = &pipeline.metadata;
    Owner {
        name: meta.name.clone().unwrap_or_default(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        namespace_uid: String::new(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
    }
}

async fn fetch(client: &Client, owner: &Owner) -> Result<(Observed, String), fetch::Error> {
    let observed = fetch::observe(client, &owner.namespace, &owner.name);
    let namespace = fetch::namespace_uid(client, &owner.namespace);
    futures::try_join!(observed, namespace)
}

/// Does what was decided. An object that the API server refuses is a verdict; anything else that fails is tried again.
async fn execute(
    pipeline: &EventPipeline,
    owner: &Owner,
    observed: &Observed,
    action: &Action,
    context: &Context,
) -> Result<Verdict, Error> {
    let writer = Writer {
        client: &context.client,
        metrics: &context.metrics,
    };
    let replicas = i32::from(!pipeline.spec.suspend);
    let done = match action {
        Action::Wait => return Ok(Verdict::Waiting),
        Action::Hold(hold) => {
            if let Some(live) = observed
                .deployment
                .as_ref()
                .filter(|d| rollout::is_controlled_by(&owner.uid, d))
            {
                writer.scale(live, replicas, None).await?;
            }
            return Ok(Verdict::Held(hold.clone()));
        }
        Action::Keep(rolled) | Action::Suspend(Some(rolled)) => {
            let blueprint = blueprint(pipeline, owner, context, rolled.clone(), replicas);
            keep(&writer, &blueprint, observed).await
        }
        Action::Create | Action::Roll(_) | Action::Suspend(None) => {
            let rolled = facts(pipeline, owner, context);
            let blueprint = blueprint(pipeline, owner, context, rolled, replicas);
            writer
                .apply(&build::children(&blueprint), observed)
                .await
                .map(Some)
        }
    };
    match done {
        Ok(live) => {
            if let Some(live) = live {
                writer.prune(owner, &live, &observed.config_maps).await?;
            }
            Ok(Verdict::applied(pipeline.spec.suspend))
        }
        Err(error) => match error.refusal() {
            Some(message) => Ok(Verdict::ChildRefused(message)),
            None => Err(error.into()),
        },
    }
}

/// Puts back what drifted. Where this operator would build the same pipeline's pods differently (it was upgraded, its
/// defaults changed), the pods are left as they are until the pipeline changes.
async fn keep(
    writer: &Writer<'_>,
    blueprint: &Blueprint<'_>,
    observed: &Observed,
) -> Result<Option<Deployment>, apply::Error> {
    let children = build::children(blueprint);
    let same = rollout::rolled(&children.deployment)
        .is_some_and(|built| built.template == blueprint.rolled.template)
        && children.config_map.metadata.name.as_ref() == Some(&blueprint.rolled.config_map);
    if same {
        return writer.apply(&children, observed).await.map(Some);
    }
    if let Some(live) = &observed.deployment {
        writer
            .scale(live, blueprint.replicas, Some(blueprint.owner.generation))
            .await?;
    }
    Ok(observed.deployment.clone())
}

/// The facts of a rollout that begins now.
fn facts(pipeline: &EventPipeline, owner: &Owner, context: &Context) -> Rolled {
    let checkpoint = pipeline
        .status
        .as_ref()
        .and_then(|status| status.checkpoint.as_ref());
    Rolled {
        config_map: config_map::name(owner, &pipeline.spec),
        workers: pipeline.spec.workers.clone(),
        image: context.defaults.image.clone(),
        seen_epoch: checkpoint.map(|checkpoint| checkpoint.epoch),
        time: crate::status::rfc3339(context.clock.now()),
        template: String::new(),
    }
}

fn blueprint<'a>(
    pipeline: &'a EventPipeline,
    owner: &'a Owner,
    context: &'a Context,
    rolled: Rolled,
    replicas: i32,
) -> Blueprint<'a> {
    Blueprint {
        owner,
        spec: &pipeline.spec,
        defaults: &context.defaults,
        rolled,
        replicas,
    }
}

/// What status is to say of it. Of a refused spec the objective is that of the pods that keep running.
fn judged(
    pipeline: &EventPipeline,
    observed: &Observed,
    accepted: Option<CheckedPlan>,
    verdict: Verdict,
) -> Judged {
    let running = || Plan::parse(&rollout::running_spec(observed)?).ok();
    let plan = accepted.map(|checked| checked.plan).or_else(running);
    Judged {
        generation: pipeline.metadata.generation.unwrap_or_default(),
        verdict,
        freshness: objective(&pipeline.spec.objectives, plan.as_ref()),
    }
}

#[cfg(test)]
mod tests;
