//! I/O at the end: brings children to the API server, in a documented order, and prunes what nobody reads any more.
//!
//! Order: `ServiceAccount`, `ConfigMap`, Deployment (a pod never waits for what it names), then old `ConfigMaps` once the roll is
//! over. Server-side apply under one field manager; an object that already says all we say is not written. Every write to
//! a live object names its UID, every delete its UID and resourceVersion, so that a namesake is never touched.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::build::{Children, Owner, names};
use crate::metrics::Metrics;
use crate::rollout::{self, Observed};

/// A write that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {kind} {name}")]
pub struct Error {
    kind: String,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

impl Error {
    /// The API server's word, if it refused the object itself, so that trying again is no use until something changes.
    pub fn refusal(&self) -> Option<String> {
        match &*self.source {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Some(format!(
                "the API server refuses {} {}: {}",
                self.kind, self.name, status.message
            )),
            _ => None,
        }
    }
}

/// Where writes go.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// The API server.
    pub client: &'a Client,
    /// Counts writes.
    pub metrics: &'a Metrics,
}

impl Writer<'_> {
    /// Applies all children. Answers with the Deployment as it then is.
    pub async fn apply(&self, children: &Children, seen: &Observed) -> Result<Deployment, Error> {
        self.put(&children.service_account, seen.service_account.as_ref())
            .await?;
        let name = &children.config_map.metadata.name;
        let live = seen
            .config_maps
            .iter()
            .find(|map| &map.metadata.name == name);
        self.put(&children.config_map, live).await?;
        self.put(&children.deployment, seen.deployment.as_ref())
            .await
    }

    /// Changes nothing of a live Deployment but the number of its pods and, if given, the generation it stands for.
    pub async fn scale(
        &self,
        live: &Deployment,
        replicas: i32,
        generation: Option<i64>,
    ) -> Result<(), Error> {
        let same = rollout::replicas(live) == replicas;
        let told = generation.is_none() || generation == rollout::generation(live);
        if same && told {
            return Ok(());
        }
        let mut patch = json!({
            "metadata": {"uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version},
            "spec": {"replicas": replicas},
        });
        if let Some(generation) = generation {
            patch["metadata"]["annotations"] = json!({names::GENERATION: generation.to_string()});
        }
        let params = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = live.metadata.name.as_deref().unwrap_or_default();
        self.metrics.wrote("patch", "Deployment");
        let patched = self
            .api::<Deployment>(live)
            .patch(name, &params, &Patch::Merge(patch))
            .await;
        patched.map(drop).map_err(failed::<Deployment>(name))
    }

    /// Deletes `ConfigMaps` that no pod reads any more.
    pub async fn prune(
        &self,
        owner: &Owner,
        live: &Deployment,
        maps: &[ConfigMap],
    ) -> Result<(), Error> {
        for map in rollout::obsolete(owner, live, maps) {
            let name = map.metadata.name.as_deref().unwrap_or_default();
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: map.metadata.uid.clone(),
                    resource_version: map.metadata.resource_version.clone(),
                }),
                ..DeleteParams::default()
            };
            self.metrics.wrote("delete", "ConfigMap");
            match self.api::<ConfigMap>(map).delete(name, &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(failed::<ConfigMap>(name)(error)),
            }
        }
        Ok(())
    }

    async fn put<K>(&self, wanted: &K, live: Option<&K>) -> Result<K, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        if let Some(live) = live
            && covers(&json_of(live), &json_of(wanted))
        {
            return Ok(live.clone());
        }
        let mut wanted = wanted.clone();
        wanted.meta_mut().uid = live.and_then(|live| live.meta().uid.clone());
        let name = wanted.meta().name.clone().unwrap_or_default();
        self.metrics.wrote("apply", &K::kind(&()));
        let params = PatchParams::apply(names::MANAGER).force();
        let applied = self
            .api::<K>(&wanted)
            .patch(&name, &params, &Patch::Apply(&wanted))
            .await;
        applied.map_err(failed::<K>(&name))
    }

    fn api<K>(&self, object: &K) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn failed<K: Resource<DynamicType = ()>>(name: &str) -> impl FnOnce(kube::Error) -> Error {
    let name = name.to_owned();
    move |source| Error {
        kind: K::kind(&()).into_owned(),
        name,
        source: Box::new(source),
    }
}

fn json_of(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// Everything that `wanted` says, `live` says too. Items of lists that have names are found by name, others by place; what
/// the API server or others add does not count.
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| live.get(key).is_some_and(|live| covers(live, value))),
        (Value::Array(live), Value::Array(wanted)) => {
            let by_name = wanted.iter().all(|item| item["name"].is_string());
            if by_name {
                wanted.iter().all(|item| {
                    let named = live.iter().find(|other| other["name"] == item["name"]);
                    named.is_some_and(|live| covers(live, item))
                })
            } else {
                live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| covers(l, w))
            }
        }
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_covers_what_it_says_and_no_more() {
        let live = json!({"a": 1, "defaulted": true, "list": [{"name": "x", "v": 1, "more": 2}, {"name": "injected"}]});
        assert!(covers(&live, &json!({"a": 1})));
        assert!(covers(&live, &json!({"list": [{"name": "x", "v": 1}]})));
        assert!(!covers(&live, &json!({"a": 2})));
        assert!(!covers(&live, &json!({"b": 1})));
        assert!(!covers(&live, &json!({"list": [{"name": "x", "v": 3}]})));
        assert!(!covers(&live, &json!({"list": [{"name": "y"}]})));
        assert!(!covers(
            &json!({"args": ["a", "b"]}),
            &json!({"args": ["a"]})
        ));
    }
}
