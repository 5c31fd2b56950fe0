//! A world that is not as the manifest says: each trouble has its name in the status, and what to do about it, and no pod ends.

use evp_tests::bed;
use serde_json::{Value, json};

use super::bed::apply;
use super::world::{Lake, World};

/// One pipeline's trouble.
struct Trouble {
    name: &'static str,
    /// What the manifest says wrongly.
    change: Value,
    reason: &'static str,
    /// What the message must tell: what, where, what to do.
    told: Vec<String>,
}

fn replace(path: &str, value: impl Into<Value>) -> Value {
    json!({"op": "replace", "path": path, "value": value.into()})
}

fn secret(path: &str, name: &str, key: &str) -> Value {
    replace(path, json!({"secretKeyRef": {"name": name, "key": key}}))
}

fn troubles() -> Vec<Trouble> {
    let password = "/spec/sources/0/kafka/sasl/password";
    let nobody = format!("{}:1", bed("EVP_BED_HOST_IP"));
    let told = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    vec![
        Trouble {
            name: "no-broker",
            change: replace("/spec/sources/0/kafka/bootstrapServers", nobody.as_str()),
            reason: "SourceUnavailable",
            told: told(&[
                &nobody,
                "cannot be reached",
                "It is tried again, nothing is lost",
            ]),
        },
        Trouble {
            name: "wrong-keys",
            change: secret(
                "/spec/objectStore/s3/secretAccessKey",
                "wrong",
                "secretAccessKey",
            ),
            reason: "StoreDenied",
            told: told(&[
                &bed("EVP_BED_S3_BUCKET"),
                "check the credentials",
                "SignatureDoesNotMatch",
            ]),
        },
        Trouble {
            name: "no-secret",
            change: secret(password, "late", "password"),
            reason: "SecretMissing",
            told: told(&["Secret late has no key 'password'", "create the Secret"]),
        },
        Trouble {
            name: "no-key",
            change: secret(password, "kafka-orders", "pass"),
            reason: "SecretMissing",
            told: told(&["Secret kafka-orders has no key 'pass'", "add the key"]),
        },
        Trouble {
            name: "no-topic",
            change: replace("/spec/sources/0/kafka/topic", "never-made"),
            reason: "TopicMissing",
            told: told(&[
                "topic never-made does not exist",
                "Create it, or correct the name",
            ]),
        },
    ]
}

fn manifest(world: &World, trouble: &Trouble) -> Value {
    let own = |part: &str| world.path(&format!("{}/{part}", trouble.name));
    let mut manifest = world.manifest(&[
        trouble.change.clone(),
        replace("/spec/checkpoint/path", own("checkpoint")),
        replace("/spec/deadLetter/files/path", own("dead")),
        replace("/spec/sinks/0/delta/path", own("bronze")),
        replace("/spec/sinks/1/delta/path", own("gold")),
    ]);
    manifest["metadata"]["name"] = trouble.name.into();
    manifest
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn every_trouble_with_the_world_has_its_name_and_a_way_out_in_the_status_and_ends_no_pod() {
    let world = World::new("troubles", Lake::Tls).await;
    world.create_secret(
        "wrong",
        &["--from-literal=secretAccessKey=wrong".to_owned()],
    );
    let troubles = troubles();
    for trouble in &troubles {
        apply(&manifest(&world, trouble));
    }
    for trouble in &troubles {
        let ready = world
            .condition(trouble.name, ("Ready", "False", trouble.reason))
            .await;
        let message = ready["message"].as_str().unwrap();
        assert_eq!(message.lines().count(), 1, "{message}");
        for part in &trouble.told {
            assert!(
                message.contains(part),
                "{}: {part} is not in: {message}",
                trouble.name
            );
        }
        world
            .condition(trouble.name, ("Accepted", "True", "SpecAccepted"))
            .await;
    }
    let password = format!("--from-literal=password={}", bed("EVP_BED_KAFKA_PASSWORD"));
    world.create_secret("late", &[password]);
    world
        .condition("no-secret", ("Ready", "True", "Committing"))
        .await;
    for trouble in &troubles {
        for pod in world.pods(trouble.name) {
            let container = &pod["status"]["containerStatuses"][0];
            assert_eq!(
                container["restartCount"], 0,
                "{}: {container}",
                trouble.name
            );
        }
    }
}
