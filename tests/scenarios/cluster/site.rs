//! One test's namespace on the node, an example with the test's overlay on its own, and what users do there: apply, look, wait.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evp_tests::{bed, evp, root, succeed};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bed::{OPERATOR_NAMESPACE, RELEASE, install, kill_container, kubectl, try_kubectl};

/// A change is there within this time or not at all; a slow machine takes a tenth of it.
const DEADLINE: Duration = Duration::from_mins(2);

/// One test's place on the node.
pub(crate) struct Site {
    /// Its namespace, under Pod Security "restricted".
    pub(crate) namespace: String,
    example: &'static str,
    dir: TempDir,
}

/// An operation of JSON Patch.
pub(crate) fn set(path: &str, value: impl Into<Value>) -> Value {
    json!({"op": "add", "path": path, "value": value.into()})
}

/// The S3 server that foreign readers read: without encryption.
pub(crate) fn plain_store() -> Vec<Value> {
    vec![
        set("/spec/objectStore/s3/endpoint", bed("EVP_BED_S3_ENDPOINT")),
        set("/spec/objectStore/s3/allowHttp", true),
    ]
}

impl Site {
    /// A new namespace, and a copy of the example as a user has one.
    pub(crate) async fn new(test: &str, example: &'static str) -> Self {
        tokio::task::spawn_blocking(install).await.unwrap();
        let prefix = format!("{test}-");
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(8)
            .tempdir()
            .unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        let site = Self {
            namespace: name.to_lowercase(),
            example,
            dir,
        };
        kubectl(&["create", "namespace", &site.namespace], "");
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &site.namespace, restricted], "");
        site.copy_example();
        site
    }

    fn copy_example(&self) {
        let from = root().join("examples").join(self.example);
        let to = self.dir.path().join(self.example);
        std::fs::create_dir_all(to.join("overlay")).unwrap();
        for file in [
            "pipeline.yaml",
            "overlay/kustomization.yaml",
            "overlay/patch.yaml",
        ] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }

    /// Makes a Secret of files that are kept, as the example's README says.
    pub(crate) fn keep_secret(&self, name: &str, entries: &[(&str, &[u8])]) {
        let from = |(key, value): &(&str, &[u8])| {
            let file = self.secret(name, key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, value).unwrap();
            format!("--from-file={key}={}", file.display())
        };
        let flags: Vec<_> = entries.iter().map(from).collect();
        self.create_secret(name, &flags);
    }

    /// Keys of the S3 server, as every example's Secret for it has them.
    pub(crate) fn keep_store_secret(&self, name: &str) {
        let authority = std::fs::read(bed("EVP_BED_S3_TLS_CA")).unwrap();
        self.keep_secret(
            name,
            &[
                ("accessKeyId", bed("EVP_BED_S3_ACCESS_KEY").as_bytes()),
                ("secretAccessKey", bed("EVP_BED_S3_SECRET_KEY").as_bytes()),
                ("ca.crt", &authority),
            ],
        );
    }

    /// Password and authority of the broker.
    pub(crate) fn keep_broker_secret(&self, name: &str) {
        let authority = std::fs::read(bed("EVP_BED_KAFKA_CA")).unwrap();
        self.keep_secret(
            name,
            &[
                ("password", bed("EVP_BED_KAFKA_PASSWORD").as_bytes()),
                ("ca.crt", &authority),
            ],
        );
    }

    /// Makes a Secret of flags such as `--from-literal=key=value`.
    pub(crate) fn create_secret(&self, name: &str, flags: &[String]) {
        let mut args = vec!["create", "secret", "generic", name];
        args.extend(flags.iter().map(String::as_str));
        self.kubectl(&args);
    }

    fn secrets(&self) -> PathBuf {
        self.dir.path().join("secrets")
    }

    /// Path of a file with one secret value that is kept.
    pub(crate) fn secret(&self, name: &str, key: &str) -> PathBuf {
        self.secrets().join(name).join(key)
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

    /// The example as its overlay and then this patch leave it, in the words of JSON Patch.
    pub(crate) fn overlaid(&self, patch: &[Value]) -> Value {
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "resources": [format!("../{}/overlay", self.example)],
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

    /// Until the pipeline says that it is through.
    pub(crate) async fn drained(&self, name: &str) {
        self.condition(name, ("OnTime", "True", "CaughtUp")).await;
        let through = |status: &Value| (status["lagRecords"] == 0).then_some(());
        self.status(name, "no lag", through).await;
    }

    /// Ends a worker's container with -9; returns once its successor runs.
    pub(crate) async fn kill_worker(&self, name: &str) {
        let (_, before) = self.running(name).await;
        kill_container(before["containerID"].as_str().unwrap());
        self.until("the killed container's successor", async || {
            let (_, now) = self.running(name).await;
            (now["containerID"] != before["containerID"]).then_some(())
        })
        .await;
    }

    /// Ends a worker's container with -9 and takes its pod away, as a node that is lost; returns once another pod runs.
    pub(crate) async fn kill_pod(&self, name: &str) {
        let (pod, container) = self.running(name).await;
        kill_container(container["containerID"].as_str().unwrap());
        let lost = pod["metadata"]["name"].as_str().unwrap();
        self.kubectl(&["delete", "pod", lost, "--grace-period=0", "--force"]);
        self.until("another pod", async || {
            let (now, _) = self.running(name).await;
            (now["metadata"]["uid"] != pod["metadata"]["uid"]).then_some(())
        })
        .await;
    }

    /// The one pod of a pipeline that is not leaving, and its container, once that runs.
    async fn running(&self, name: &str) -> (Value, Value) {
        self.until(&format!("a running pod of {name}"), async || {
            let mut pods = self.pods(name);
            pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
            let [pod] = &pods[..] else { return None };
            let container = &pod["status"]["containerStatuses"][0];
            let runs = !container["state"]["running"].is_null();
            runs.then(|| (pod.clone(), container.clone()))
        })
        .await
    }

    /// Stops the test unless an audit of what was decided finds nothing.
    pub(crate) fn assert_audited(&self, manifest: &Value) {
        let file = self.dir.path().join("audited.json");
        std::fs::write(&file, manifest.to_string()).unwrap();
        let mut audit = evp(self.dir.path());
        audit.args(["audit", "--remote", "-f"]).arg(&file);
        succeed(audit.arg("--secrets").arg(self.secrets()));
    }

    /// Stops the test if a secret value is anywhere but in its file.
    pub(crate) fn assert_untold(&self, pipeline: &str, secrets: &[&str]) {
        let objects = "eventpipelines,deployments,configmaps,pods,events";
        let (deployment, operator) = (
            format!("deployment/{pipeline}"),
            format!("deployment/{RELEASE}"),
        );
        // It works before the node knows that it runs, and a log is had from the node.
        let of_operator = |args: &[&str]| {
            let mut all = vec!["-n", OPERATOR_NAMESPACE];
            all.extend(args);
            kubectl(&all, "")
        };
        of_operator(&["rollout", "status", &operator, "--timeout=60s"]);
        let told = [
            self.kubectl(&["get", objects, "-o", "yaml"]),
            self.kubectl(&["logs", &deployment]),
            of_operator(&["logs", &operator]),
        ];
        for (number, secret) in secrets.iter().enumerate() {
            assert!(
                told.iter().all(|text| !text.contains(secret)),
                "secret {number} is told"
            );
        }
        assert!(
            !told[2].contains("forbidden"),
            "the operator lacks a right:\n{}",
            told[2]
        );
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
impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            try_kubectl(
                &["delete", "namespace", &self.namespace, "--wait=false"],
                "",
            );
        }
    }
}
