//! One test's namespace, its pipelines, and a kubelet and worker of straw: pods get an address at which this process answers
//! `/progress`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evp_api::progress::Progress;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::bed::{Bed, bed};

/// A child or a condition is there within this time or not at all.
const DEADLINE: Duration = Duration::from_mins(1);

/// One test's namespace.
pub(crate) struct World {
    /// What all tests share.
    pub(crate) bed: &'static Bed,
    /// Its name.
    pub(crate) namespace: String,
    client: Client,
}

impl World {
    /// A new namespace.
    pub(crate) async fn new(test: &str) -> Self {
        let bed = tokio::task::spawn_blocking(bed).await.unwrap();
        Self {
            bed,
            namespace: bed.namespace(test).await,
            client: bed.admin().await,
        }
    }

    /// Applies a pipeline as a user does.
    pub(crate) fn apply(&self, name: &str, spec: &Value) {
        let (ok, text) = self.try_apply(name, spec);
        assert!(ok, "{text}");
    }

    /// [`Self::apply`] that may be refused.
    pub(crate) fn try_apply(&self, name: &str, spec: &Value) -> (bool, String) {
        self.bed.try_apply(&json!({
            "apiVersion": "eventpipeline.dev/v1alpha1",
            "kind": "EventPipeline",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }))
    }

    /// kubectl in this namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(args);
        let (ok, text) = self.bed.kubectl(&all, "");
        assert!(ok, "{text}");
        text
    }

    /// The pipeline as it is.
    pub(crate) fn pipeline(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "eventpipeline", name, "-o", "json"])).unwrap()
    }

    /// A condition, once it has this status and reason for the newest generation.
    pub(crate) async fn condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Value {
        let what = format!("{name}: {kind}={status}/{reason}");
        self.until(&what, async || {
            let pipeline = self.pipeline(name);
            let conditions = pipeline["status"]["conditions"].as_array()?;
            let found = conditions.iter().find(|c| c["type"] == kind)?;
            let now = found["status"] == status
                && found["reason"] == reason
                && found["observedGeneration"] == pipeline["metadata"]["generation"];
            if now { Some(found.clone()) } else { None }
        })
        .await
    }

    /// Polls until there is an answer.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if began.elapsed() > DEADLINE {
                let (_, objects) = self.bed.kubectl(
                    &[
                        "-n",
                        &self.namespace,
                        "get",
                        "evp,deploy,cm,pod",
                        "-o",
                        "yaml",
                    ],
                    "",
                );
                panic!("not within {DEADLINE:?}: {what}\n{objects}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Deployment, if there is one.
    pub(crate) async fn deployment(&self, name: &str) -> Option<Deployment> {
        self.api::<Deployment>().get_opt(name).await.unwrap()
    }

    /// Template of the Deployment's pods: as long as it stays, they do.
    pub(crate) async fn template(&self, name: &str) -> Value {
        let deployment = self.deployment(name).await.unwrap();
        json!([deployment.metadata.uid, deployment.spec.unwrap().template])
    }

    /// The `ServiceAccount`, if there is one.
    pub(crate) async fn service_account(&self, name: &str) -> Option<ServiceAccount> {
        self.api::<ServiceAccount>().get_opt(name).await.unwrap()
    }

    /// Names of a pipeline's `ConfigMap`s.
    pub(crate) async fn config_maps(&self, name: &str) -> Vec<String> {
        let ours = ListParams::default().labels(&format!("eventpipeline.dev/pipeline={name}"));
        let found = self.api::<ConfigMap>().list(&ours).await.unwrap().items;
        let mut names: Vec<_> = found
            .into_iter()
            .filter_map(|map| map.metadata.name)
            .collect();
        names.sort();
        names
    }

    /// The one pod of a pipeline that is not being deleted.
    pub(crate) async fn pod(&self, name: &str) -> Pod {
        let ours = ListParams::default().labels(&format!("eventpipeline.dev/pipeline={name}"));
        self.until(&format!("a pod of {name}"), async || {
            let pods = self.api::<Pod>().list(&ours).await.unwrap().items;
            let mut live: Vec<_> = pods
                .into_iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .collect();
            if live.len() == 1 { live.pop() } else { None }
        })
        .await
    }

    /// Runs a pod as a kubelet would: it has an address and is ready.
    pub(crate) fn start(&self, pod: &Pod, address: IpAddr) {
        let image = "registry.test/evp-worker:1";
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "worker", "ready": true, "restartCount": 0, "image": image, "imageID": "",
                                   "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
        }});
        let name = pod.metadata.name.as_deref().unwrap();
        self.kubectl(&[
            "patch",
            "pod",
            name,
            "--subresource=status",
            "--type=strategic",
            "-p",
            &status.to_string(),
        ]);
    }

    /// Ends a pod that no kubelet knows.
    pub(crate) fn end(&self, pod: &Pod) {
        let name = pod.metadata.name.as_deref().unwrap();
        self.kubectl(&[
            "delete",
            "pod",
            name,
            "--ignore-not-found",
            "--grace-period=0",
            "--force",
            "--wait=false",
        ]);
    }
}

/// A worker of straw: answers `/progress` on port 9090 of an address of its own.
#[derive(Clone)]
pub(crate) struct Worker {
    /// Where it is.
    pub(crate) address: IpAddr,
    report: Arc<Mutex<Progress>>,
}

impl Worker {
    /// Listens on the first free address below 127.
    pub(crate) async fn new() -> Self {
        for last in 2..=254_u8 {
            let address = IpAddr::from([127, 90, 90, last]);
            if let Ok(listener) = TcpListener::bind((address, 9090)).await {
                let worker = Self {
                    address,
                    report: Arc::default(),
                };
                tokio::spawn(worker.clone().serve(listener));
                return worker;
            }
        }
        panic!("no free address");
    }

    /// Changes what it says from now on.
    pub(crate) fn says(&self, edit: impl FnOnce(&mut Progress)) {
        edit(&mut self.report.lock().unwrap());
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let body = serde_json::to_string(&*self.report.lock().unwrap()).unwrap();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
                let _ = stream
                    .write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes())
                    .await;
            });
        }
    }
}

/// What a worker at work says.
pub(crate) fn at_work(report: &mut Progress) {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
    *report = Progress {
        pipeline: "orders".into(),
        plan_digest: "plan".into(),
        plan_of_newest_epoch: "plan".into(),
        ready: true,
        epoch: 12,
        term: 1,
        incarnation: "0011".into(),
        decided_time: now - 8_000_000,
        lag_records: 1240,
        records_per_second: 1312,
        watermark: Some(now - 600_000_000),
        state_bytes: 18 << 20,
        ledger: evp_api::progress::LedgerProgress {
            read: 5000,
            balanced: true,
            ..Default::default()
        },
        recent: evp_api::progress::Recent {
            read: 5000,
            ..Default::default()
        },
        steps: vec![evp_api::progress::StepProgress {
            name: "revenue".into(),
            open_windows: 40,
            ..Default::default()
        }],
        checkpoint_path: "s3://lake/_checkpoints/orders".into(),
        report_time: now,
        ..Progress::default()
    };
}

/// The orders pipeline.
pub(crate) fn orders() -> Value {
    let secret = |name: &str, key: &str| json!({"secretKeyRef": {"name": name, "key": key}});
    json!({
        "checkpoint": {"path": "s3://lake/_checkpoints/orders", "interval": "30s"},
        "objectStore": {"s3": {"endpoint": "https://minio.lake.svc:9000", "accessKeyId": secret("lake", "id"),
                               "secretAccessKey": secret("lake", "secret")}},
        "deadLetter": {"files": {"path": "s3://lake/_dead_letters/orders"}},
        "sources": [{
            "name": "orders",
            "kafka": {"bootstrapServers": "kafka:9092", "topic": "order-events",
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

/// [`orders`], edited.
pub(crate) fn orders_with(edit: impl FnOnce(&mut Value)) -> Value {
    let mut spec = orders();
    edit(&mut spec);
    spec
}
