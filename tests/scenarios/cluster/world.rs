//! One test's namespace, Secrets, topic and place in the lake, and the orders example with an overlay for them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evp_tests::{bed, root};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bed::{install, kubectl, try_kubectl};
use crate::parts::kafka::topic::Topic;

/// A change is there within this time or not at all; a slow machine takes a tenth of it.
const DEADLINE: Duration = Duration::from_mins(2);

/// One test's world.
pub(crate) struct World {
    /// Its namespace, under Pod Security "restricted".
    pub(crate) namespace: String,
    /// Its topic of three partitions.
    pub(crate) topic: Topic,
    lake: Lake,
    dir: TempDir,
}

/// The S3 server that a test writes to.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Lake {
    /// Without encryption: the one that the foreign readers read.
    Plain,
    /// With a certificate of the bed's own authority.
    Tls,
}

impl World {
    /// A new namespace with the Secrets of the example's README, and a topic.
    pub(crate) async fn new(test: &str, lake: Lake) -> Self {
        tokio::task::spawn_blocking(install).await.unwrap();
        let prefix = format!("{test}-");
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(8)
            .tempdir()
            .unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        let world = Self {
            namespace: name.to_lowercase(),
            topic: Topic::create(3).await,
            lake,
            dir,
        };
        world.make_namespace();
        world.write_overlay();
        world
    }

    fn make_namespace(&self) {
        kubectl(&["create", "namespace", &self.namespace], "");
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &self.namespace, restricted], "");
        let files = [
            ("kafka-password", bed("EVP_BED_KAFKA_PASSWORD")),
            ("access-key", bed("EVP_BED_S3_ACCESS_KEY")),
            ("secret-key", bed("EVP_BED_S3_SECRET_KEY")),
        ];
        for (name, value) in files {
            std::fs::write(self.secret(name), value).unwrap();
        }
        let from = |key: &str, path: &Path| format!("--from-file={key}={}", path.display());
        let kafka_ca = bed("EVP_BED_KAFKA_CA");
        self.create_secret(
            "kafka-orders",
            &[
                from("password", &self.secret("kafka-password")),
                from("ca.crt", Path::new(&kafka_ca)),
            ],
        );
        self.create_secret(
            "lake",
            &[
                from("accessKeyId", &self.secret("access-key")),
                from("secretAccessKey", &self.secret("secret-key")),
                from("ca.crt", Path::new(&bed("EVP_BED_S3_TLS_CA"))),
            ],
        );
    }

    /// Makes a Secret of flags such as `--from-literal=key=value`.
    pub(crate) fn create_secret(&self, name: &str, flags: &[String]) {
        let mut args = vec!["create", "secret", "generic", name];
        args.extend(flags.iter().map(String::as_str));
        self.kubectl(&args);
    }

    /// Path of a file with one secret value.
    pub(crate) fn secret(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder for what the test keeps.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where a part of the pipeline's data is.
    pub(crate) fn path(&self, part: &str) -> String {
        format!(
            "s3://{}/{}/{part}",
            bed("EVP_BED_S3_BUCKET"),
            self.namespace
        )
    }

    // A copy of the example, as a user has one; the test's own overlay lies on the example's.
    fn write_overlay(&self) {
        let from = root().join("examples/orders");
        let to = self.dir.path().join("orders");
        std::fs::create_dir_all(to.join("overlay")).unwrap();
        for file in [
            "pipeline.yaml",
            "overlay/kustomization.yaml",
            "overlay/patch.yaml",
        ] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }

    /// The example as the overlays leave it; the last ones are `changes`, in the words of JSON Patch.
    pub(crate) fn manifest(&self, changes: &[Value]) -> Value {
        let mut patch = self.addresses();
        patch.extend_from_slice(changes);
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "resources": ["../orders/overlay"],
            "patches": [{"target": {"kind": "EventPipeline"}, "patch": json!(patch).to_string()}],
        });
        let overlay = self.dir.path().join("test");
        std::fs::create_dir_all(&overlay).unwrap();
        std::fs::write(
            overlay.join("kustomization.yaml"),
            kustomization.to_string(),
        )
        .unwrap();
        let overlay = overlay.to_str().unwrap();
        let text = kubectl(
            &[
                "kustomize",
                "--load-restrictor",
                "LoadRestrictionsNone",
                overlay,
            ],
            "",
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    fn addresses(&self) -> Vec<Value> {
        let set = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
        let s3 = "/spec/objectStore/s3";
        let mut patch = vec![
            set(
                "/spec/sources/0/kafka/bootstrapServers",
                bed("EVP_BED_KAFKA_SASL_SSL").into(),
            ),
            set(
                "/spec/sources/0/kafka/topic",
                self.topic.name.clone().into(),
            ),
            set(
                "/spec/sources/0/kafka/sasl/username",
                bed("EVP_BED_KAFKA_USER").into(),
            ),
            set("/spec/sources/0/watermark/idleTimeout", "5s".into()),
            set("/spec/checkpoint/interval", "5s".into()),
            set("/spec/checkpoint/path", self.path("checkpoint").into()),
            set("/spec/deadLetter/files/path", self.path("dead").into()),
            set("/spec/sinks/0/delta/path", self.path("bronze").into()),
            set("/spec/sinks/1/delta/path", self.path("gold").into()),
        ];
        match self.lake {
            Lake::Plain => patch.extend([
                set(&format!("{s3}/endpoint"), bed("EVP_BED_S3_ENDPOINT").into()),
                set(&format!("{s3}/allowHttp"), true.into()),
            ]),
            Lake::Tls => patch.extend([
                set(
                    &format!("{s3}/endpoint"),
                    bed("EVP_BED_S3_TLS_ENDPOINT").into(),
                ),
                set(
                    &format!("{s3}/ca"),
                    json!({"secretKeyRef": {"name": "lake", "key": "ca.crt"}}),
                ),
            ]),
        }
        patch
    }

    /// kubectl in this namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(args);
        kubectl(&all, "")
    }

    /// A list or an object, as it is.
    pub(crate) fn get(&self, args: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        serde_json::from_str(&self.kubectl(&all)).unwrap()
    }

    /// A pipeline's status, with `metadata` beside.
    pub(crate) fn pipeline(&self, name: &str) -> Value {
        self.get(&["eventpipeline", name])
    }

    /// As `kubectl wait` does it.
    pub(crate) fn wait_ready(&self, name: &str) {
        let object = format!("eventpipeline/{name}");
        let timeout = format!("--timeout={}s", DEADLINE.as_secs());
        self.kubectl(&["wait", "--for=condition=Ready", &object, &timeout]);
    }

    /// A condition, once it has this status and reason for the newest generation.
    pub(crate) async fn condition(&self, name: &str, wanted: (&str, &str, &str)) -> Value {
        let (kind, status, reason) = wanted;
        self.until(&format!("{name}: {kind}={status}/{reason}"), async || {
            let pipeline = self.pipeline(name);
            let conditions = pipeline["status"]["conditions"].as_array()?;
            let found = conditions.iter().find(|c| c["type"] == kind)?;
            let now = found["status"] == status
                && found["reason"] == reason
                && found["observedGeneration"] == pipeline["metadata"]["generation"];
            now.then(|| found.clone())
        })
        .await
    }

    /// The pods of a pipeline.
    pub(crate) fn pods(&self, name: &str) -> Vec<Value> {
        let label = format!("eventpipeline.dev/pipeline={name}");
        let mut list = self.get(&["pods", "-l", &label]);
        list["items"].as_array_mut().map(std::mem::take).unwrap()
    }

    /// The one pod of a pipeline that is not leaving, once it is ready.
    pub(crate) async fn ready_pod(&self, name: &str) -> Value {
        self.until(&format!("a ready pod of {name}"), async || {
            let mut pods = self.pods(name);
            pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
            let ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
            (pods.len() == 1 && ready(&pods[0])).then(|| pods.remove(0))
        })
        .await
    }

    /// Waits until the status shows what is looked for.
    pub(crate) async fn status<T>(
        &self,
        name: &str,
        what: &str,
        look: impl Fn(&Value) -> Option<T>,
    ) -> T {
        self.until(what, async || look(&self.pipeline(name)["status"]))
            .await
    }

    /// Polls until there is an answer.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(
                began.elapsed() < DEADLINE,
                "not within {DEADLINE:?}: {what}\n{}",
                self.told()
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// What a person would look at.
    fn told(&self) -> String {
        let look = |args: &[&str]| {
            let output = try_kubectl(args, "");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let pipelines = look(&["-n", &self.namespace, "get", "evp,pods", "-o", "yaml"]);
        let label = "eventpipeline.dev/pipeline";
        let logs = look(&[
            "-n",
            &self.namespace,
            "logs",
            "-l",
            label,
            "--tail=40",
            "--prefix",
        ]);
        format!("{pipelines}\n{logs}")
    }
}

/// What runs is ended; the namespace with its pods would go on beside the next test.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            try_kubectl(
                &["delete", "namespace", &self.namespace, "--wait=false"],
                "",
            );
        }
    }
}
