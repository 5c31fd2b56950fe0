//! The operator's brain: what is wanted and what is there → one [`Action`]. Pure.
//!
//! Decides whether pods are made, kept, replaced, stopped or left alone. Knows no time and no API server; nothing is
//! remembered between calls, every step follows from what is observed.

use evp_api::pipeline::EventPipelineSpec;
use evp_api::plan::Violation;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::build::{Owner, Rolled, config_map, names};
use crate::change::{self, Change};

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Deployment of our name, whoever owns it.
    pub deployment: Option<Deployment>,
    /// The `ServiceAccount` of our name, whoever owns it.
    pub service_account: Option<ServiceAccount>,
    /// `ConfigMaps` with our label.
    pub config_maps: Vec<ConfigMap>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// There is no Deployment: make all children.
    Create,
    /// The pods run this very pipeline: put back what drifted, replace nothing.
    Keep(Rolled),
    /// The pods run another pipeline, or none: new `ConfigMap`, pods replaced. The changes are for people; they may be empty.
    Roll(Vec<Change>),
    /// No pods. `Some`: the Deployment already stands for this pipeline.
    Suspend(Option<Rolled>),
    /// Children of a deleted pipeline of this name are still there: come back when they have gone.
    Wait,
    /// Nothing may change but the number of pods; a person must act.
    Hold(Hold),
}

/// Why nothing may change.
#[derive(Clone, Debug, PartialEq)]
pub enum Hold {
    /// The spec has findings.
    NotAccepted(Vec<Violation>),
    /// These changes would destroy state.
    StateIncompatible(Vec<Change>),
    /// An object of our name is somebody else's; the message names it.
    NameTaken(String),
}

/// Decides.
pub fn next(
    owner: &Owner,
    spec: Result<&EventPipelineSpec, &Vec<Violation>>,
    observed: &Observed,
) -> Action {
    match claim(owner, observed) {
        Claim::Free => {}
        Claim::Leaving => return Action::Wait,
        Claim::Taken(message) => return Action::Hold(Hold::NameTaken(message)),
    }
    let spec = match spec {
        Ok(spec) => spec,
        Err(violations) => return Action::Hold(Hold::NotAccepted(violations.clone())),
    };
    let Some(deployment) = &observed.deployment else {
        return if spec.suspend {
            Action::Suspend(None)
        } else {
            Action::Create
        };
    };
    match (compare(owner, spec, observed), spec.suspend) {
        (Comparison::Incompatible(changes), _) => Action::Hold(Hold::StateIncompatible(changes)),
        (Comparison::Same(rolled), true) => Action::Suspend(Some(rolled)),
        (Comparison::Other(_), true) => Action::Suspend(None),
        // From zero the facts are taken anew: no pod is disturbed, and the newest epoch seen is told.
        (Comparison::Same(_), false) if replicas(deployment) == 0 => Action::Roll(Vec::new()),
        (Comparison::Same(rolled), false) => Action::Keep(rolled),
        (Comparison::Other(changes), false) => Action::Roll(changes),
    }
}

/// The facts of the last rollout; `None`: it is not ours, or cannot be read.
pub fn rolled(deployment: &Deployment) -> Option<Rolled> {
    let text = deployment
        .metadata
        .annotations
        .as_ref()?
        .get(names::ROLLED)?;
    serde_json::from_str(text).ok()
}

/// The generation a Deployment stands for.
pub fn generation(deployment: &Deployment) -> Option<i64> {
    let annotations = deployment.metadata.annotations.as_ref()?;
    annotations.get(names::GENERATION)?.parse().ok()
}

/// Pods that a Deployment is to have.
pub fn replicas(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// It is this pipeline's, not a namesake's or a stranger's.
pub fn is_controlled_by(pipeline_uid: &str, deployment: &Deployment) -> bool {
    controller(&deployment.metadata).is_some_and(|uid| uid == pipeline_uid)
}

/// The spec that the pods of the live Deployment read; `None`: it cannot be known.
pub fn running_spec(observed: &Observed) -> Option<EventPipelineSpec> {
    let rolled = rolled(observed.deployment.as_ref()?)?;
    let named = |map: &&ConfigMap| map.metadata.name.as_ref() == Some(&rolled.config_map);
    config_map::read(observed.config_maps.iter().find(named)?)
}

/// `ConfigMaps` that no pod reads any more: all of ours but the Deployment's, once it has rolled to the end.
pub fn obsolete<'a>(
    owner: &Owner,
    deployment: &Deployment,
    config_maps: &'a [ConfigMap],
) -> Vec<&'a ConfigMap> {
    let Some(rolled) = rolled(deployment).filter(|_| settled(deployment)) else {
        return Vec::new();
    };
    config_maps
        .iter()
        .filter(|map| controller(&map.metadata) == Some(&owner.uid))
        .filter(|map| map.metadata.name.as_ref() != Some(&rolled.config_map))
        .collect()
}

/// Only pods of the newest template are there, and they are ready.
fn settled(deployment: &Deployment) -> bool {
    let wanted = replicas(deployment);
    let Some(status) = &deployment.status else {
        return false;
    };
    let is = |count: Option<i32>| count.unwrap_or(0) == wanted;
    status.observed_generation == deployment.metadata.generation
        && is(status.replicas)
        && is(status.updated_replicas)
        && is(status.ready_replicas)
}

enum Claim {
    Free,
    Leaving,
    Taken(String),
}

/// May we have the names? Checked on all children before the first is touched.
fn claim(owner: &Owner, observed: &Observed) -> Claim {
    let deployment = observed
        .deployment
        .as_ref()
        .map(|d| ("Deployment", &d.metadata));
    let account = observed
        .service_account
        .as_ref()
        .map(|a| ("ServiceAccount", &a.metadata));
    let mut leaving = false;
    for (kind, metadata) in [deployment, account].into_iter().flatten() {
        let ours = controller(metadata) == Some(&owner.uid);
        if ours && metadata.deletion_timestamp.is_none() {
            continue;
        }
        if !ours && !of_a_namesake(owner, metadata) {
            let name = metadata.name.as_deref().unwrap_or_default();
            return Claim::Taken(format!(
                "{kind} {}/{name} exists and does not belong to this pipeline; delete or rename it, or rename the pipeline",
                owner.namespace
            ));
        }
        leaving = true;
    }
    if leaving { Claim::Leaving } else { Claim::Free }
}

/// UID of the object's controller.
fn controller(metadata: &ObjectMeta) -> Option<&String> {
    let owners = metadata.owner_references.iter().flatten();
    owners
        .filter(|o| o.controller == Some(true))
        .map(|o| &o.uid)
        .next()
}

/// The child of an EventPipeline of the same name and another UID: deleted and applied anew.
fn of_a_namesake(owner: &Owner, metadata: &ObjectMeta) -> bool {
    metadata.owner_references.iter().flatten().any(|o| {
        o.controller == Some(true)
            && o.kind == evp_api::KIND
            && o.name == owner.name
            && o.uid != owner.uid
    })
}

enum Comparison {
    Same(Rolled),
    Other(Vec<Change>),
    Incompatible(Vec<Change>),
}

/// The wanted spec against the one that the live pods read. Where that one cannot be known, nothing is guessed: the pods
/// are replaced and the worker judges against the head.
fn compare(owner: &Owner, spec: &EventPipelineSpec, observed: &Observed) -> Comparison {
    let Some(rolled) = observed.deployment.as_ref().and_then(rolled) else {
        return Comparison::Other(Vec::new());
    };
    let Some(running) = running_spec(observed) else {
        let same = rolled.config_map == config_map::name(owner, spec);
        return if same && rolled.workers == spec.workers {
            Comparison::Same(rolled)
        } else {
            Comparison::Other(Vec::new())
        };
    };
    if running == config_map::essence(spec) && rolled.workers == spec.workers {
        return Comparison::Same(rolled);
    }
    let running = EventPipelineSpec {
        suspend: spec.suspend,
        objectives: spec.objectives.clone(),
        workers: rolled.workers,
        ..running
    };
    let changes = change::between(&running, spec);
    let held = change::held(changes.clone(), spec.reset_nonce > running.reset_nonce);
    if held.is_empty() {
        Comparison::Other(changes)
    } else {
        Comparison::Incompatible(held)
    }
}

#[cfg(test)]
mod tests;
