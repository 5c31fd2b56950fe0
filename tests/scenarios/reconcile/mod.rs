//! The operator against a real API server with controllers: what the scripted one cannot show. Each test has a namespace of
//! its own; no pod runs, so kubelet and worker are of straw.

mod bed;
mod leader;
mod world;

use std::collections::BTreeSet;

use evp_api::progress::Halt;
use evp_operator::rbac;
use serde_json::{Value, json};

use bed::{bed, documents, right};
use world::{Worker, World, at_work, orders, orders_with};

fn other_window(spec: &mut Value) {
    spec["steps"][1]["aggregate"]["window"]["tumbling"]["size"] = json!("10m");
}

#[tokio::test]
#[ignore = "bed"]
async fn the_api_server_refuses_what_the_crd_rules_out() {
    let world = World::new("crd").await;
    let refused = |name: &str, spec: Value, why: &str| {
        let (ok, text) = world.try_apply(name, &spec);
        assert!(!ok, "it was taken");
        assert!(text.contains(why), "{why} is not in: {text}");
    };
    refused(
        "two-kinds",
        orders_with(|s| s["sinks"][0]["stdout"] = json!({})),
        "exactly one",
    );
    refused(
        "no-kind",
        orders_with(|s| drop(s["sources"][0].as_object_mut().unwrap().remove("kafka"))),
        "exactly one",
    );
    refused(
        "no-source",
        orders_with(|s| s["sources"] = json!([])),
        "sources",
    );
    refused(
        "no-name",
        orders_with(|s| s["steps"][0]["name"] = json!("Not_A_Label")),
        "name",
    );
    world.apply("orders", &orders());
    let moved = orders_with(|s| s["checkpoint"]["path"] = json!("s3://lake/elsewhere"));
    refused("orders", moved, "immutable");
}

#[tokio::test]
#[ignore = "bed"]
async fn a_pipeline_becomes_its_children() {
    let world = World::new("children").await;
    world.apply("orders", &orders());
    let pod = world.pod("orders").await;
    let deployment = world.deployment("orders").await.unwrap();
    let uid = world.pipeline("orders")["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let account = world.service_account("orders").await.unwrap();
    for metadata in [&deployment.metadata, &account.metadata] {
        let owner = &metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.uid.as_str(), owner.controller),
            (uid.as_str(), Some(true))
        );
    }
    assert_eq!(world.config_maps("orders").await.len(), 1);
    assert_eq!(
        pod.spec.unwrap().containers[0].image.as_deref(),
        Some(bed::IMAGE)
    );
    world
        .condition("orders", "Accepted", "True", "SpecAccepted")
        .await;
    world
        .condition("orders", "Reconciling", "True", "WorkersStarting")
        .await;
    let status = world.pipeline("orders")["status"].clone();
    let kinds: Vec<_> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].clone())
        .collect();
    assert_eq!(
        kinds,
        [
            "Accepted",
            "Ready",
            "OnTime",
            "Clean",
            "Reconciling",
            "Stalled"
        ]
    );
}

#[tokio::test]
#[ignore = "bed"]
async fn a_wrong_column_is_refused_with_its_place_and_the_pods_are_left_alone() {
    let world = World::new("refused").await;
    let worker = Worker::new().await;
    worker.says(at_work);
    world.apply("orders", &orders());
    world.start(&world.pod("orders").await, worker.address);
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    let before = world.template("orders").await;
    world.apply(
        "orders",
        &orders_with(|s| s["steps"][1]["aggregate"]["groupBy"] = json!(["regoin"])),
    );
    let accepted = world
        .condition("orders", "Accepted", "False", "SpecNotAccepted")
        .await;
    let message = accepted["message"].as_str().unwrap();
    assert!(
        message.starts_with("EVP2107 spec.steps[1].aggregate.groupBy[0]: "),
        "{message}"
    );
    assert!(
        message.contains("regoin") && message.contains("region"),
        "{message}"
    );
    let ready = world
        .condition("orders", "Ready", "False", "SpecNotAccepted")
        .await;
    assert!(
        ready["message"]
            .as_str()
            .unwrap()
            .ends_with("generation 1 keeps committing"),
        "{ready}"
    );
    world
        .condition("orders", "Stalled", "True", "SpecNotAccepted")
        .await;
    assert_eq!(world.template("orders").await, before);
    world.apply("orders", &orders());
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
}

#[tokio::test]
#[ignore = "bed"]
async fn suspend_scales_to_zero_and_resume_tells_the_newest_epoch_seen() {
    let world = World::new("suspend").await;
    let worker = Worker::new().await;
    worker.says(at_work);
    world.apply("orders", &orders());
    world.start(&world.pod("orders").await, worker.address);
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    world.apply("orders", &orders_with(|s| s["suspend"] = json!(true)));
    world
        .condition("orders", "Ready", "False", "Suspended")
        .await;
    let replicas = async || {
        world
            .deployment("orders")
            .await
            .unwrap()
            .spec
            .unwrap()
            .replicas
    };
    assert_eq!(replicas().await, Some(0));
    world
        .condition("orders", "Stalled", "False", "AsExpected")
        .await;
    world.apply("orders", &orders());
    world
        .until("one replica", async || {
            (replicas().await == Some(1)).then_some(())
        })
        .await;
    let text = serde_json::to_string(&world.deployment("orders").await.unwrap()).unwrap();
    assert!(text.contains(r#""--seen-epoch","12""#), "{text}");
}

#[tokio::test]
#[ignore = "bed"]
async fn delete_removes_the_children_and_apply_makes_them_anew() {
    let world = World::new("delete").await;
    world.apply("orders", &orders());
    let old = world.pod("orders").await;
    let uid = world.deployment("orders").await.unwrap().metadata.uid;
    world.kubectl(&["delete", "eventpipeline", "orders", "--wait=true"]);
    world.apply("orders", &orders());
    world.end(&old);
    let new = world
        .until("a new Deployment", async || {
            let deployment = world.deployment("orders").await?;
            (deployment.metadata.uid != uid).then_some(deployment)
        })
        .await;
    let pipeline = world.pipeline("orders")["metadata"]["uid"].clone();
    assert_eq!(
        new.metadata.owner_references.unwrap()[0].uid,
        pipeline.as_str().unwrap()
    );
    world.kubectl(&["delete", "eventpipeline", "orders", "--wait=true"]);
    world
        .until("all children gone", async || {
            let gone = world.deployment("orders").await.is_none()
                && world.service_account("orders").await.is_none()
                && world.config_maps("orders").await.is_empty();
            gone.then_some(())
        })
        .await;
}

#[tokio::test]
#[ignore = "bed"]
async fn a_change_that_destroys_state_is_held_until_it_is_reverted() {
    let world = World::new("held").await;
    let worker = Worker::new().await;
    worker.says(at_work);
    world.apply("orders", &orders());
    world.start(&world.pod("orders").await, worker.address);
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    let before = world.template("orders").await;
    world.apply("orders", &orders_with(other_window));
    let stalled = world
        .condition("orders", "Stalled", "True", "StateIncompatible")
        .await;
    let message = stalled["message"].as_str().unwrap();
    assert!(
        message.starts_with("spec.steps[revenue].aggregate.window.tumbling.size: 5m -> 10m"),
        "{message}"
    );
    assert!(
        message.ends_with("generation 1 keeps committing"),
        "{message}"
    );
    world
        .condition("orders", "Accepted", "True", "SpecAccepted")
        .await;
    assert_eq!(world.template("orders").await, before);
    world.apply("orders", &orders());
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    assert_eq!(world.template("orders").await, before);
}

#[tokio::test]
#[ignore = "bed"]
async fn a_rolling_change_replaces_the_pod_and_then_prunes_the_old_config_map() {
    let world = World::new("roll").await;
    let worker = Worker::new().await;
    worker.says(at_work);
    world.apply("orders", &orders());
    let old = world.pod("orders").await;
    world.start(&old, worker.address);
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    let before = world.config_maps("orders").await;
    world.apply(
        "orders",
        &orders_with(|s| s["checkpoint"]["interval"] = json!("5s")),
    );
    world
        .until("both ConfigMaps", async || {
            (world.config_maps("orders").await.len() == 2).then_some(())
        })
        .await;
    world.end(&old);
    let new = world.pod("orders").await;
    worker.says(|report| report.plan_digest = "next".into());
    world.start(&new, worker.address);
    world
        .condition("orders", "Ready", "False", "FirstEpochPending")
        .await;
    worker.says(|report| report.plan_of_newest_epoch = "next".into());
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    world
        .until("the old ConfigMap gone", async || {
            let now = world.config_maps("orders").await;
            (now.len() == 1 && now != before).then_some(())
        })
        .await;
}

#[tokio::test]
#[ignore = "bed"]
async fn a_second_look_writes_nothing() {
    let world = World::new("quiet").await;
    let worker = Worker::new().await;
    worker.says(at_work);
    world.apply("orders", &orders());
    world.start(&world.pod("orders").await, worker.address);
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    let part = format!("/namespaces/{}/", world.namespace);
    let settled = world
        .until("two rounds without a write", async || {
            let before = world.bed.requests.writes(&part);
            tokio::time::sleep(std::time::Duration::from_secs(11)).await;
            (world.bed.requests.writes(&part) == before).then_some(before)
        })
        .await;
    let reads = world.bed.requests.all().len();
    world.kubectl(&["label", "deployment", "orders", "touched=yes"]);
    world
        .until("another look", async || {
            let all = world.bed.requests.all().split_off(reads);
            let looked = all
                .iter()
                .any(|(_, path, _)| path.contains(&part) && path.ends_with("/deployments/orders"));
            looked.then_some(())
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(world.bed.requests.writes(&part), settled);
}

#[tokio::test]
#[ignore = "bed"]
async fn what_drifted_is_put_back() {
    let world = World::new("drift").await;
    world.apply("orders", &orders());
    world.pod("orders").await;
    world.kubectl(&[
        "set",
        "image",
        "deployment/orders",
        "worker=elsewhere/evp:9",
    ]);
    world.kubectl(&["delete", "configmap", &world.config_maps("orders").await[0]]);
    world
        .until("image and ConfigMap as before", async || {
            let spec = world.deployment("orders").await?.spec?.template.spec?;
            let image = spec.containers[0].image.as_deref() == Some(bed::IMAGE);
            (image && world.config_maps("orders").await.len() == 1).then_some(())
        })
        .await;
}

#[tokio::test]
#[ignore = "bed"]
async fn a_name_that_is_taken_is_left_alone() {
    let world = World::new("taken").await;
    world.kubectl(&["create", "serviceaccount", "orders"]);
    world.apply("orders", &orders());
    let stalled = world
        .condition("orders", "Stalled", "True", "NameTaken")
        .await;
    assert!(
        stalled["message"]
            .as_str()
            .unwrap()
            .contains("ServiceAccount"),
        "{stalled}"
    );
    assert_eq!(
        world
            .service_account("orders")
            .await
            .unwrap()
            .metadata
            .owner_references,
        None
    );
    assert!(world.deployment("orders").await.is_none());
    world.kubectl(&["delete", "serviceaccount", "orders"]);
    world.pod("orders").await;
}

#[tokio::test]
#[ignore = "bed"]
async fn kubectl_shows_what_the_worker_says() {
    let world = World::new("columns").await;
    let worker = Worker::new().await;
    worker.says(at_work);
    world.apply("orders", &orders());
    world.start(&world.pod("orders").await, worker.address);
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    let row = world.kubectl(&["get", "evp", "orders", "-o", "wide", "--no-headers"]);
    let cells: Vec<_> = row.split_whitespace().collect();
    let [
        name,
        ready,
        on_time,
        clean,
        lag,
        watermark,
        committed,
        workers,
        _age,
        sources,
        sinks,
        state,
        message @ ..,
    ] = cells.as_slice()
    else {
        panic!("{row}");
    };
    assert_eq!(
        [*name, *ready, *on_time, *clean, *lag],
        ["orders", "True", "True", "True", "1240"]
    );
    assert!(watermark.starts_with("10m"), "{row}");
    assert!(committed.ends_with('s'), "{row}");
    assert_eq!(
        [*workers, *sources, *sinks, *state],
        ["1", "1", "2", "18Mi"]
    );
    assert_eq!(message.join(" "), "1.3k records/s, 40 windows open");
    worker.says(|report| {
        let message = "Secret lake has no key 'id'".to_owned();
        report.reason = Some(Halt {
            reason: "SecretMissing".into(),
            message,
            stalled: false,
        });
    });
    world
        .condition("orders", "Ready", "False", "SecretMissing")
        .await;
    let row = world.kubectl(&["get", "evp", "orders", "-o", "wide", "--no-headers"]);
    assert!(
        row.trim_end().ends_with("Secret lake has no key 'id'"),
        "{row}"
    );
}

/// Also lives through what no other test makes the operator do, so that by itself it proves every right used.
#[tokio::test]
#[ignore = "bed"]
async fn the_operator_uses_every_right_it_has_and_is_denied_nothing() {
    let world = World::new("rights").await;
    let worker = Worker::new().await;
    worker.says(at_work);
    world.apply("orders", &orders());
    let old = world.pod("orders").await;
    world.start(&old, worker.address);
    let halt = || Halt {
        reason: "SourceUnavailable".into(),
        message: "kafka:9092 does not answer".into(),
        stalled: false,
    };
    for _ in 0..2 {
        world
            .condition("orders", "Ready", "True", "Committing")
            .await;
        worker.says(|report| report.reason = Some(halt()));
        world
            .condition("orders", "Ready", "False", "SourceUnavailable")
            .await;
        worker.says(|report| report.reason = None);
    }
    world
        .condition("orders", "Ready", "True", "Committing")
        .await;
    world.apply(
        "orders",
        &orders_with(|s| s["checkpoint"]["interval"] = json!("5s")),
    );
    world
        .until("both ConfigMaps", async || {
            (world.config_maps("orders").await.len() == 2).then_some(())
        })
        .await;
    world.end(&old);
    world.start(&world.pod("orders").await, worker.address);
    world
        .until("one ConfigMap", async || {
            (world.config_maps("orders").await.len() == 1).then_some(())
        })
        .await;
    let requests = world.bed.requests.all();
    let denied: Vec<_> = requests
        .iter()
        .filter(|(_, _, status)| matches!(status, 401 | 403))
        .collect();
    assert_eq!(denied, Vec::<&bed::Request>::new());
    let mut used: BTreeSet<_> = requests.iter().map(right).collect();
    // An apply of what is not there asks for both rights in one request; the first is only asked for by an admission plug-in.
    for (group, resource) in [
        ("apps", "deployments"),
        ("", "configmaps"),
        ("", "serviceaccounts"),
    ] {
        used.insert((group.into(), resource.into(), "create".into()));
    }
    used.insert((
        "eventpipeline.dev".into(),
        "eventpipelines/finalizers".into(),
        "update".into(),
    ));
    assert_eq!(used, granted(rbac::PIPELINES.iter().chain(rbac::OWN)));
}

fn granted<'a>(rules: impl Iterator<Item = &'a rbac::Rule>) -> BTreeSet<(String, String, String)> {
    let right = |rule: &rbac::Rule, verb: &str| {
        (
            rule.group.to_owned(),
            rule.resource.to_owned(),
            verb.to_owned(),
        )
    };
    rules
        .flat_map(|rule| rule.verbs.iter().map(move |verb| right(rule, verb)))
        .collect()
}

#[tokio::test]
#[ignore = "bed"]
async fn in_namespaced_mode_the_chart_has_roles_only_and_they_suffice() {
    let world = World::new("roles").await;
    let ns = &world.namespace;
    let setting = format!("watchNamespace={ns}");
    let objects = bed().render(&[&setting, "crds.enabled=false", "rbac.aggregate=false"]);
    let kinds: BTreeSet<_> = objects
        .iter()
        .filter_map(|object| object["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        BTreeSet::from(["Deployment", "Role", "RoleBinding", "ServiceAccount"])
    );
    for mut object in objects
        .into_iter()
        .filter(|o| o["kind"].as_str().unwrap().starts_with("Role"))
    {
        // Another account, which no ClusterRole helps.
        object["metadata"]["namespace"] = json!(ns);
        if let Some(subjects) = object.get_mut("subjects") {
            *subjects = json!([{"kind": "ServiceAccount", "name": "default", "namespace": ns}]);
        }
        world.bed.apply(&object);
    }
    let account = format!("--as=system:serviceaccount:{ns}:default");
    for rule in rbac::PIPELINES.iter().chain(rbac::OWN) {
        let (resource, sub) = rule.resource.split_once('/').unwrap_or((rule.resource, ""));
        let full = if rule.group.is_empty() {
            resource.to_owned()
        } else {
            format!("{resource}.{}", rule.group)
        };
        let sub = format!("--subresource={sub}");
        for verb in rule.verbs {
            // The name of the namespace itself is the only name there is.
            let named = if resource == "namespaces" {
                format!("{full}/{ns}")
            } else {
                full.clone()
            };
            let answer = world.kubectl(&["auth", "can-i", verb, &named, &sub, &account]);
            assert_eq!(answer.trim(), "yes", "{verb} {named} {sub}");
        }
    }
    assert_eq!(
        world
            .kubectl(&["get", "namespace", ns, "-o", "name", &account])
            .trim(),
        format!("namespace/{ns}")
    );
}

#[test]
#[ignore = "bed"]
fn helm_renders_exactly_the_rights_that_are_listed() {
    let rules = |object: &Value| object["rules"].as_array().unwrap().clone();
    let named = |objects: &[Value], kind: &str, name: &str| {
        let found = objects
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
            .unwrap();
        rights(&rules(found))
    };
    let objects = bed().render(&[]);
    assert_eq!(
        named(&objects, "ClusterRole", "evp-pipelines"),
        granted(rbac::PIPELINES.iter())
    );
    assert_eq!(
        named(&objects, "Role", "evp-leader"),
        granted(rbac::OWN.iter())
    );
    let objects = bed().render(&["watchNamespace=shop"]);
    assert_eq!(
        named(&objects, "Role", "evp-pipelines"),
        granted(rbac::PIPELINES.iter())
    );
}

fn rights(rules: &[Value]) -> BTreeSet<(String, String, String)> {
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let verbs = texts(&rule["verbs"]).into_iter();
                all.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    all
}

#[test]
#[ignore = "bed"]
fn helm_renders_the_crds_as_they_are() {
    let rendered = bed()
        .render(&[])
        .into_iter()
        .find(|o| o["kind"] == "CustomResourceDefinition")
        .unwrap();
    let ours = documents(evp_operator::CRDS).remove(0);
    assert_eq!(rendered["spec"], ours["spec"]);
    assert_eq!(
        rendered["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    let without = bed().render(&["crds.enabled=false"]);
    assert!(
        without
            .iter()
            .all(|object| object["kind"] != "CustomResourceDefinition")
    );
}
