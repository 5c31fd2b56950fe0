//! I/O at the front: reads the live children of one pipeline.
//!
//! Live reads, not caches: a decision to replace pods must not rest on an answer from before the last one.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::build::names;
use crate::rollout::Observed;

/// A read that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}")]
pub struct Error {
    what: &'static str,
    #[source]
    source: Box<kube::Error>,
}

impl Error {
    fn reading(what: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self {
            what,
            source: Box::new(source),
        }
    }
}

/// UID of a namespace; empty for one that does not exist.
pub async fn namespace_uid(client: &Client, namespace: &str) -> Result<String, Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = api
        .get_opt(namespace)
        .await
        .map_err(Error::reading("the namespace"))?;
    Ok(found.and_then(|n| n.metadata.uid).unwrap_or_default())
}

/// The children of a pipeline, and whatever else has their names.
pub async fn observe(client: &Client, namespace: &str, pipeline: &str) -> Result<Observed, Error> {
    let name = names::child_name(pipeline);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&names::pipeline_selector(pipeline));
    let (deployment, service_account, config_maps) = futures::join!(
        deployments.get_opt(&name),
        accounts.get_opt(&name),
        maps.list(&ours)
    );
    Ok(Observed {
        deployment: deployment.map_err(Error::reading("the Deployment"))?,
        service_account: service_account.map_err(Error::reading("the ServiceAccount"))?,
        config_maps: config_maps.map_err(Error::reading("the ConfigMaps"))?.items,
    })
}
