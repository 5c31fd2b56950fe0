//! Flags and environment of `evp-operator run`: plain data.

use std::net::SocketAddr;

use clap::Args;
use evp_api::pipeline::{ResourceAmounts, Resources};

/// Flags of `evp-operator run`; the chart sets them by environment.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Image of the workers.
    #[arg(long, env = "EVP_WORKER_IMAGE", value_name = "IMAGE")]
    pub worker_image: String,
    /// When kubelets pull the workers' image; absent: Kubernetes' default.
    #[arg(long, env = "EVP_WORKER_IMAGE_PULL_POLICY", value_name = "POLICY",
          value_parser = ["Always", "IfNotPresent", "Never"])]
    pub worker_image_pull_policy: Option<String>,
    /// Secrets with credentials of the workers' image registry, comma-separated.
    #[arg(
        long,
        env = "EVP_WORKER_IMAGE_PULL_SECRETS",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub worker_image_pull_secrets: Vec<String>,
    /// CPU request of workers that ask for none.
    #[arg(long, env = "EVP_WORKER_CPU_REQUEST", default_value = "100m")]
    pub worker_cpu_request: String,
    /// Memory request of workers that ask for none.
    #[arg(long, env = "EVP_WORKER_MEMORY_REQUEST", default_value = "128Mi")]
    pub worker_memory_request: String,
    /// CPU limit of workers that name none; absent: no limit.
    #[arg(long, env = "EVP_WORKER_CPU_LIMIT")]
    pub worker_cpu_limit: Option<String>,
    /// Memory limit of workers that name none.
    #[arg(long, env = "EVP_WORKER_MEMORY_LIMIT", default_value = "512Mi")]
    pub worker_memory_limit: String,
    /// Only pipelines of this namespace; absent: of all.
    #[arg(long, env = "EVP_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Namespace of the leader's Lease: the operator's own.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "default"
    )]
    pub lease_namespace: String,
    /// Name of the leader's Lease.
    #[arg(
        long,
        env = "EVP_LEASE_NAME",
        value_name = "NAME",
        default_value = "evp-operator"
    )]
    pub lease_name: String,
    /// Who this replica is: the pod's name.
    #[arg(
        long,
        env = "POD_NAME",
        value_name = "NAME",
        default_value = "evp-operator"
    )]
    pub identity: String,
    /// Where `/healthz`, `/readyz` and `/metrics` listen.
    #[arg(
        long,
        env = "EVP_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: SocketAddr,
    /// Reconciles at a time.
    #[arg(long, env = "EVP_CONCURRENCY", value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
}

impl RunArgs {
    /// What pods get that their pipeline does not say.
    pub fn worker_defaults(&self) -> WorkerDefaults {
        WorkerDefaults {
            image: self.worker_image.clone(),
            image_pull_policy: self.worker_image_pull_policy.clone(),
            image_pull_secrets: self.worker_image_pull_secrets.clone(),
            resources: Resources {
                requests: ResourceAmounts {
                    cpu: Some(self.worker_cpu_request.clone()),
                    memory: Some(self.worker_memory_request.clone()),
                },
                limits: ResourceAmounts {
                    cpu: self.worker_cpu_limit.clone(),
                    memory: Some(self.worker_memory_limit.clone()),
                },
            },
        }
    }
}

/// What pods get that their pipeline does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerDefaults {
    /// Image of new rollouts.
    pub image: String,
    /// `None`: Kubernetes' default.
    pub image_pull_policy: Option<String>,
    /// Secrets for the registry.
    pub image_pull_secrets: Vec<String>,
    /// Requests and limits.
    pub resources: Resources,
}
