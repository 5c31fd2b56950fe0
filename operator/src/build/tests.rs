//! Laws of the children.

use evp_api::pipeline::EventPipelineSpec;
use serde_json::{Value, json};

use super::{Blueprint, Children, Owner, Rolled, children, config_map, deployment, names};
use crate::settings::WorkerDefaults;

/// The pipeline of these tests.
pub(crate) fn owner() -> Owner {
    Owner {
        name: "orders".into(),
        namespace: "shop".into(),
        namespace_uid: "ns-1".into(),
        uid: "uid-1".into(),
        generation: 3,
    }
}

/// The operator's defaults in these tests.
pub(crate) fn defaults() -> WorkerDefaults {
    let amounts = |cpu: Option<&str>, memory: &str| evp_api::pipeline::ResourceAmounts {
        cpu: cpu.map(Into::into),
        memory: Some(memory.into()),
    };
    WorkerDefaults {
        image: "registry/evp:1".into(),
        image_pull_policy: None,
        image_pull_secrets: Vec::new(),
        resources: evp_api::pipeline::Resources {
            requests: amounts(Some("100m"), "128Mi"),
            limits: amounts(None, "512Mi"),
        },
    }
}

/// A spec with a Kafka source, an aggregate and two tables, as JSON to be edited.
pub(crate) fn spec_json() -> Value {
    let secret = |name: &str, key: &str| json!({"secretKeyRef": {"name": name, "key": key}});
    json!({
        "checkpoint": {"path": "s3://lake/_checkpoints/orders", "interval": "30s"},
        "objectStore": {"s3": {"accessKeyId": secret("lake", "id"), "secretAccessKey": secret("lake", "secret")}},
        "deadLetter": {"files": {"path": "s3://lake/_dead_letters/orders"}},
        "sources": [{
            "name": "orders",
            "kafka": {"bootstrapServers": "kafka:9092", "topic": "order-events", "tls": {"ca": secret("kafka", "ca.crt")},
                      "sasl": {"mechanism": "PLAIN", "username": "orders", "password": secret("kafka", "password")}},
            "schema": {"fields": [
                {"name": "order_id", "type": "string"}, {"name": "region", "type": "string"},
                {"name": "total_price", "type": "double"}, {"name": "event_timestamp", "type": "timestamp"}]},
            "watermark": {"column": "event_timestamp", "delay": "10m"}
        }],
        "steps": [
            {"name": "placed", "from": "orders", "query": {"where": "total_price > 0"}},
            {"name": "revenue", "from": "placed", "aggregate": {
                "window": {"tumbling": {"size": "5m"}}, "groupBy": ["region"],
                "measures": "count(order_id) AS order_count, sum(total_price) AS total_revenue"}}
        ],
        "sinks": [
            {"name": "bronze", "from": "orders", "delta": {"path": "s3://lake/bronze/orders"}},
            {"name": "gold", "from": "revenue", "mode": "Update", "delta": {"path": "s3://lake/gold/orders"}}
        ]
    })
}

/// [`spec_json`], typed.
pub(crate) fn spec() -> EventPipelineSpec {
    serde_json::from_value(spec_json()).unwrap()
}

/// Facts of a rollout of that spec.
pub(crate) fn rolled(spec: &EventPipelineSpec) -> Rolled {
    Rolled {
        config_map: config_map::name(&owner(), spec),
        workers: spec.workers.clone(),
        image: "registry/evp:1".into(),
        seen_epoch: None,
        time: "2026-11-21T05:00:00Z".into(),
        template: String::new(),
    }
}

/// The children of a spec.
pub(crate) fn built(spec: &EventPipelineSpec) -> Children {
    children(&Blueprint {
        owner: &owner(),
        spec,
        defaults: &defaults(),
        rolled: rolled(spec),
        replicas: 1,
    })
}

fn pod(spec: &EventPipelineSpec) -> Value {
    let deployment = serde_json::to_value(built(spec).deployment).unwrap();
    deployment["spec"]["template"]["spec"].clone()
}

#[test]
fn pods_meet_pod_security_restricted() {
    let pod = pod(&spec());
    assert_eq!(
        pod["securityContext"],
        json!({"fsGroup": 65532, "runAsGroup": 65532, "runAsNonRoot": true, "runAsUser": 65532,
               "seccompProfile": {"type": "RuntimeDefault"}})
    );
    for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        assert_eq!(pod[field], Value::Null, "{field}");
    }
    for container in pod["containers"].as_array().unwrap() {
        assert_eq!(
            container["securityContext"],
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                   "capabilities": {"drop": ["ALL"]}})
        );
        assert_eq!(container["ports"][0]["hostPort"], Value::Null);
        assert_eq!(container["resources"]["limits"]["memory"], "512Mi");
        assert_eq!(container["resources"]["requests"]["cpu"], "100m");
    }
    let allowed = ["configMap", "emptyDir", "projected"];
    for volume in pod["volumes"].as_array().unwrap() {
        let kinds: Vec<_> = volume
            .as_object()
            .unwrap()
            .keys()
            .filter(|k| *k != "name")
            .collect();
        assert!(
            allowed.contains(&kinds[0].as_str()) && kinds.len() == 1,
            "{volume}"
        );
    }
}

#[test]
fn pods_carry_no_token_and_no_foreign_address() {
    let children = built(&spec());
    assert_eq!(
        children.service_account.automount_service_account_token,
        Some(false)
    );
    let pod = pod(&spec());
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["terminationGracePeriodSeconds"], 60);
}

#[test]
fn every_secret_is_mounted_by_name_and_key_and_is_optional() {
    let mut json = spec_json();
    let secret = |key: &str| json!({"secretKeyRef": {"name": "shop", "key": key}});
    let postgres = json!({"host": "db", "database": "d", "table": "t", "username": "u", "password": secret("password"),
        "tls": {"ca": secret("ca.crt")}});
    let sink = json!({"name": "shop", "from": "orders", "postgres": postgres});
    json["sinks"].as_array_mut().unwrap().push(sink);
    let pod = pod(&serde_json::from_value(json).unwrap());
    let secrets = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|v| v["name"] == "secrets")
        .unwrap();
    let source = |name: &str, keys: &[&str]| {
        let item = |key: &&str| json!({"key": key, "path": format!("{name}/{key}")});
        json!({"secret": {"name": name, "optional": true, "items": keys.iter().map(item).collect::<Vec<_>>()}})
    };
    assert_eq!(
        secrets["projected"]["sources"],
        json!([
            source("kafka", &["ca.crt", "password"]),
            source("lake", &["id", "secret"]),
            source("shop", &["ca.crt", "password"])
        ])
    );
}

#[test]
fn the_secrets_of_a_topic_that_is_written_are_mounted_too() {
    let mut json = spec_json();
    let secret = |key: &str| json!({"secretKeyRef": {"name": "out", "key": key}});
    json["sinks"].as_array_mut().unwrap().push(json!({"name": "log", "from": "orders", "kafka": {
        "bootstrapServers": "kafka:9092", "topic": "log", "tls": {"cert": secret("tls.crt"), "key": secret("tls.key")},
        "sasl": {"mechanism": "PLAIN", "username": "log", "password": secret("password")}}}));
    let spec = serde_json::from_value(json).unwrap();
    let keys = deployment::secrets(&spec).into_iter();
    let keys: Vec<_> = keys.filter(|s| s.name == "out").map(|s| s.key).collect();
    assert_eq!(keys, ["password", "tls.crt", "tls.key"]);
}

#[test]
fn a_pipeline_without_secrets_has_no_secret_volume() {
    let mut json = spec_json();
    json.as_object_mut().unwrap().remove("objectStore");
    let kafka = json["sources"][0]["kafka"].as_object_mut().unwrap();
    kafka.remove("sasl");
    kafka.remove("tls");
    let spec = serde_json::from_value(json).unwrap();
    assert!(deployment::secrets(&spec).is_empty());
    let mounts = pod(&spec)["containers"][0]["volumeMounts"].to_string();
    assert!(!mounts.contains("/etc/evp/secrets"), "{mounts}");
}

#[test]
fn the_worker_is_started_as_agreed() {
    let pod = pod(&spec());
    let container = &pod["containers"][0];
    assert_eq!(container["command"], json!(["evp"]));
    assert_eq!(
        container["args"],
        json!([
            "worker",
            "--pipeline",
            "/etc/evp/pipeline/pipeline.json",
            "--secrets",
            "/etc/evp/secrets",
            "--lane",
            "0",
            "--scratch",
            "/var/lib/evp",
            "--listen",
            "0.0.0.0:9090"
        ])
    );
    let env: Vec<_> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["name"].clone())
        .collect();
    assert_eq!(env, ["POD_NAME", "POD_UID", "EVP_MEMORY_LIMIT_BYTES"]);
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
}

#[test]
fn the_worker_hears_of_the_newest_epoch_that_status_saw() {
    let spec = spec();
    let facts = Rolled {
        seen_epoch: Some(412),
        ..rolled(&spec)
    };
    let made = children(&Blueprint {
        owner: &owner(),
        spec: &spec,
        defaults: &defaults(),
        rolled: facts,
        replicas: 1,
    });
    let text = serde_json::to_string(&made.deployment).unwrap();
    assert!(text.contains(r#""--seen-epoch","412""#), "{text}");
}

#[test]
fn one_replica_is_replaced_as_a_whole_and_deleted_with_its_pipeline() {
    let children = built(&spec());
    let deployment = children.deployment.spec.unwrap();
    assert_eq!(deployment.replicas, Some(1));
    assert_eq!(
        deployment.strategy.unwrap().type_.as_deref(),
        Some("Recreate")
    );
    for meta in [
        children.config_map.metadata,
        children.service_account.metadata,
        children.deployment.metadata,
    ] {
        let owners = meta.owner_references.unwrap();
        assert_eq!(
            (owners[0].uid.as_str(), owners[0].controller),
            ("uid-1", Some(true))
        );
        assert_eq!(meta.labels.unwrap()[names::PIPELINE], "orders");
    }
}

#[test]
fn the_config_map_is_immutable_and_named_by_its_content() {
    let one = built(&spec()).config_map;
    assert_eq!(one.immutable, Some(true));
    let mut changed = spec();
    changed.checkpoint.interval = "10s".into();
    assert_ne!(built(&changed).config_map.metadata.name, one.metadata.name);
    assert_eq!(built(&spec()), built(&spec()));
}

#[test]
fn what_changes_no_plan_changes_no_config_map() {
    let mut changed = spec();
    changed.suspend = true;
    changed.objectives.max_dead_letter_percent = 7;
    changed.workers.resources.limits.memory = Some("1Gi".into());
    assert_eq!(built(&changed).config_map, built(&spec()).config_map);
    assert_eq!(
        config_map::read(&built(&changed).config_map).unwrap(),
        config_map::essence(&spec())
    );
}

#[test]
fn the_config_map_names_who_the_pipeline_is() {
    let text = built(&spec()).config_map.data.unwrap()[names::PIPELINE_FILE].clone();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["apiVersion"], "eventpipeline.dev/v1alpha1");
    assert_eq!(document["kind"], "EventPipeline");
    assert_eq!(
        document["metadata"],
        json!({"name": "orders", "namespace": "shop", "uid": "uid-1", "namespaceUid": "ns-1"})
    );
    for field in ["suspend", "workers", "objectives"] {
        assert_eq!(document["spec"].get(field), None, "{field}");
    }
}
