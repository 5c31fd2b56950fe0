//! The worker: one replica, replaced as a whole, under Pod Security "restricted".
//!
//! Secrets are mounted by name with `optional: true`: a missing one does not keep the pod from starting, the worker names it
//! and goes on when the kubelet brings it. The operator itself never reads a Secret.

use std::collections::{BTreeMap, BTreeSet};

use evp_api::pipeline::{EventPipelineSpec, Resources};
use evp_api::secret::SecretKeyRef;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource,
    ResourceFieldSelector, ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{Blueprint, Rolled, metadata, names};

/// How long a rollout may take before the Deployment says so; the operator's own deadline is the same.
pub const PROGRESS_DEADLINE_SECONDS: i32 = 600;
/// SIGTERM to SIGKILL: what finishing an epoch and its sinks may take.
const GRACE_SECONDS: i64 = 60;
/// User and group of the worker's image.
const NON_ROOT: i64 = 65532;
const PIPELINE_DIR: &str = "/etc/evp/pipeline";
const SECRETS_DIR: &str = "/etc/evp/secrets";
const SCRATCH_DIR: &str = "/var/lib/evp";

/// Builds it.
pub fn build(blueprint: &Blueprint<'_>) -> Deployment {
    let owner = blueprint.owner;
    let template = template(blueprint);
    let rolled = Rolled {
        template: template_hash(&template),
        ..blueprint.rolled.clone()
    };
    let mut metadata = metadata(owner, names::child_name(&owner.name));
    metadata.annotations = Some(BTreeMap::from([
        (names::GENERATION.to_owned(), owner.generation.to_string()),
        (
            names::ROLLED.to_owned(),
            serde_json::to_string(&rolled).unwrap_or_default(),
        ),
    ]));
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(blueprint.replicas),
            revision_history_limit: Some(1),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                ..DeploymentStrategy::default()
            }),
            selector: LabelSelector {
                match_labels: Some(names::pod_selector(&owner.name, &owner.uid)),
                ..LabelSelector::default()
            },
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn template_hash(template: &PodTemplateSpec) -> String {
    names::hash(&serde_json::to_string(template).unwrap_or_default())
}

fn template(blueprint: &Blueprint<'_>) -> PodTemplateSpec {
    let owner = blueprint.owner;
    let mut labels = names::labels(&owner.name);
    labels.extend(names::pod_selector(&owner.name, &owner.uid));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(
                "kubectl.kubernetes.io/default-container".to_owned(),
                names::CONTAINER.to_owned(),
            )])),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::child_name(&owner.name)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            image_pull_secrets: pull_secrets(&blueprint.defaults.image_pull_secrets),
            security_context: Some(pod_security()),
            containers: vec![container(blueprint)],
            volumes: Some(volumes(blueprint)),
            ..PodSpec::default()
        }),
    }
}

fn pull_secrets(names: &[String]) -> Option<Vec<LocalObjectReference>> {
    let reference = |name: &String| LocalObjectReference { name: name.clone() };
    (!names.is_empty()).then(|| names.iter().map(reference).collect())
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NON_ROOT),
        run_as_group: Some(NON_ROOT),
        fs_group: Some(NON_ROOT),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container(blueprint: &Blueprint<'_>) -> Container {
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(blueprint.rolled.image.clone()),
        image_pull_policy: blueprint.defaults.image_pull_policy.clone(),
        command: Some(vec!["evp".to_owned()]),
        args: Some(args(blueprint.rolled.seen_epoch)),
        env: Some(environment()),
        ports: Some(vec![ContainerPort {
            name: Some(names::PORT_NAME.to_owned()),
            container_port: names::PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 5, 2)),
        resources: Some(requirements(
            &blueprint.rolled.workers.resources,
            &blueprint.defaults.resources,
        )),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts(!secrets(blueprint.spec).is_empty())),
        ..Container::default()
    }
}

fn args(seen_epoch: Option<i64>) -> Vec<String> {
    let pipeline = format!("{PIPELINE_DIR}/{}", names::PIPELINE_FILE);
    let listen = format!("0.0.0.0:{}", names::PORT);
    let mut args = vec!["worker", "--pipeline", &pipeline];
    args.extend(["--secrets", SECRETS_DIR, "--lane", "0"]);
    args.extend(["--scratch", SCRATCH_DIR]);
    let epoch = seen_epoch.map(|epoch| epoch.to_string());
    if let Some(epoch) = &epoch {
        args.extend(["--seen-epoch", epoch.as_str()]);
    }
    args.extend(["--listen", &listen]);
    args.into_iter().map(str::to_owned).collect()
}

fn environment() -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let memory = EnvVar {
        name: "EVP_MEMORY_LIMIT_BYTES".to_owned(),
        value_from: Some(EnvVarSource {
            resource_field_ref: Some(ResourceFieldSelector {
                container_name: Some(names::CONTAINER.to_owned()),
                resource: "limits.memory".to_owned(),
                divisor: Some(Quantity("1".to_owned())),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    vec![
        field("POD_NAME", "metadata.name"),
        field("POD_UID", "metadata.uid"),
        memory,
    ]
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(names::PORT_NAME.to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn requirements(asked: &Resources, defaults: &Resources) -> ResourceRequirements {
    let pick = |asked: &Option<String>, default: &Option<String>| {
        asked.clone().or_else(|| default.clone()).map(Quantity)
    };
    let amounts = |cpu: Option<Quantity>, memory: Option<Quantity>| {
        let named = [("cpu", cpu), ("memory", memory)];
        let given = named
            .into_iter()
            .filter_map(|(name, amount)| Some((name.to_owned(), amount?)));
        Some(given.collect::<BTreeMap<_, _>>())
    };
    ResourceRequirements {
        requests: amounts(
            pick(&asked.requests.cpu, &defaults.requests.cpu),
            pick(&asked.requests.memory, &defaults.requests.memory),
        ),
        limits: amounts(
            pick(&asked.limits.cpu, &defaults.limits.cpu),
            pick(&asked.limits.memory, &defaults.limits.memory),
        ),
        ..ResourceRequirements::default()
    }
}

fn mounts(secrets: bool) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount(names::PIPELINE_VOLUME, PIPELINE_DIR, Some(true)),
        mount("scratch", SCRATCH_DIR, None),
    ];
    if secrets {
        mounts.push(mount("secrets", SECRETS_DIR, Some(true)));
    }
    mounts
}

fn volumes(blueprint: &Blueprint<'_>) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: names::PIPELINE_VOLUME.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: blueprint.rolled.config_map.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "scratch".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    ];
    let secrets = secrets(blueprint.spec);
    if !secrets.is_empty() {
        volumes.push(Volume {
            name: "secrets".to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(projections(&secrets)),
            }),
            ..Volume::default()
        });
    }
    volumes
}

/// One source a Secret, its keys at `<name>/<key>`. Optional: neither a missing Secret nor a missing key blocks the pod.
fn projections(secrets: &BTreeSet<SecretKeyRef>) -> Vec<VolumeProjection> {
    let mut keys: BTreeMap<&str, Vec<KeyToPath>> = BTreeMap::new();
    for SecretKeyRef { name, key } in secrets {
        keys.entry(name).or_default().push(KeyToPath {
            key: key.clone(),
            path: format!("{name}/{key}"),
            mode: None,
        });
    }
    let projection = |(name, items): (&str, Vec<KeyToPath>)| VolumeProjection {
        secret: Some(SecretProjection {
            name: name.to_owned(),
            items: Some(items),
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    };
    keys.into_iter().map(projection).collect()
}

/// Every Secret key that a spec names, wherever it does.
pub fn secrets(spec: &EventPipelineSpec) -> BTreeSet<SecretKeyRef> {
    let mut found = BTreeSet::new();
    collect(&serde_json::to_value(spec).unwrap_or_default(), &mut found);
    found
}

fn collect(value: &Value, found: &mut BTreeSet<SecretKeyRef>) {
    match value {
        Value::Object(members) => {
            let named = members.get("secretKeyRef").cloned();
            found.extend(named.and_then(|named| serde_json::from_value(named).ok()));
            members.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
