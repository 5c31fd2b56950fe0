//! A real API server, the chart's CRD and roles on it, and one operator that runs under the chart's `ServiceAccount`.
//!
//! Owns what all tests of this folder share: set up once a process, never torn down (the bed is). Every request of the
//! operator is recorded with its answer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use evp_operator::run::{Clients, with_clients};
use evp_operator::settings::RunArgs;
use k8s_openapi::api::core::v1::Namespace;
use kube::client::ClientBuilder;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

/// The operator's own namespace.
const OPERATOR_NAMESPACE: &str = "evp-system";
/// Image of the workers; nothing runs it here.
pub(crate) const IMAGE: &str = "registry.test/evp-worker:1";

/// What the bed gives.
pub(crate) struct Bed {
    /// Folder with kubectl and helm.
    bin: PathBuf,
    /// Administrator's kubeconfig.
    kubeconfig: PathBuf,
    /// Every request of the operator: method, path, status.
    pub(crate) requests: Requests,
}

/// Method, path without query, status.
pub(crate) type Request = (String, String, u16);

/// Requests as they were answered.
#[derive(Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<Vec<Request>>>);

impl Requests {
    /// All so far.
    pub(crate) fn all(&self) -> Vec<Request> {
        self.0.lock().unwrap().clone()
    }

    /// Writes so far whose path contains a text.
    pub(crate) fn writes(&self, part: &str) -> Vec<Request> {
        let reads = ["GET", "WATCH"];
        let mut all = self.all();
        all.retain(|(method, path, _)| !reads.contains(&method.as_str()) && path.contains(part));
        all
    }
}

/// The bed, with the operator running.
pub(crate) fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(|| {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let path = |name: &str| {
            let value = std::env::var_os(name);
            PathBuf::from(
                value.unwrap_or_else(|| panic!("{name} is not set: tests/bed/bed up light")),
            )
        };
        let bed = Bed {
            bin: path("EVP_BED_BIN"),
            kubeconfig: path("EVP_BED_KUBE_LIGHT"),
            requests: Requests::default(),
        };
        bed.install();
        bed.start_operator();
        bed
    })
}

impl Bed {
    /// An administrator's client. Each test makes its own: a client lives on its test's runtime.
    pub(crate) async fn admin(&self) -> Client {
        Client::try_from(self.config().await).unwrap()
    }

    async fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap()
    }

    /// Runs kubectl as administrator; its output, and whether it did well.
    pub(crate) fn kubectl(&self, args: &[&str], input: &str) -> (bool, String) {
        let mut command = Command::new(self.bin.join("kubectl"));
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args);
        run(command, input)
    }

    /// The chart's objects, as helm renders them.
    pub(crate) fn render(&self, settings: &[&str]) -> Vec<serde_json::Value> {
        let mut command = Command::new(self.bin.join("helm"));
        command.args(["template", "evp"]).arg(chart()).args([
            "--namespace",
            OPERATOR_NAMESPACE,
            "--kube-version",
            "1.34.0",
        ]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let (ok, text) = run(command, "");
        assert!(ok, "{text}");
        documents(&text)
    }

    fn install(&self) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}});
        let mut objects = vec![namespace];
        // Nothing here runs pods: the operator runs in this process.
        objects.extend(
            self.render(&[])
                .into_iter()
                .filter(|object| object["kind"] != "Deployment"),
        );
        for object in &objects {
            self.apply(object);
        }
        let crd = "crd/eventpipelines.eventpipeline.dev";
        let (ok, text) = self.kubectl(
            &["wait", "--for=condition=Established", "--timeout=30s", crd],
            "",
        );
        assert!(ok, "{text}");
    }

    /// Applies an object as administrator, server-side.
    pub(crate) fn apply(&self, object: &serde_json::Value) {
        let (ok, text) = self.try_apply(object);
        assert!(ok, "{text}");
    }

    /// [`Self::apply`] that may be refused.
    pub(crate) fn try_apply(&self, object: &serde_json::Value) -> (bool, String) {
        self.kubectl(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &object.to_string(),
        )
    }

    /// A token of the operator's account.
    fn token(&self) -> String {
        let args = [
            "create",
            "token",
            "evp",
            "-n",
            OPERATOR_NAMESPACE,
            "--duration=12h",
        ];
        let (ok, text) = self.kubectl(&args, "");
        assert!(ok, "{text}");
        text.trim().to_owned()
    }

    /// On a runtime of its own, for it outlives every test's.
    fn start_operator(&self) {
        let args = RunArgs {
            worker_image: IMAGE.into(),
            worker_image_pull_policy: None,
            worker_image_pull_secrets: Vec::new(),
            worker_cpu_request: "100m".into(),
            worker_memory_request: "128Mi".into(),
            worker_cpu_limit: None,
            worker_memory_limit: "512Mi".into(),
            watch_namespace: None,
            lease_namespace: OPERATOR_NAMESPACE.into(),
            lease_name: format!("evp-{}", std::process::id()),
            identity: format!("test-{}", std::process::id()),
            listen: "127.0.0.1:0".parse().unwrap(),
            concurrency: 8,
        };
        let (kubeconfig, token, requests) =
            (self.kubeconfig.clone(), self.token(), self.requests.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let result = runtime.block_on(async {
                let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
                let mut config =
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                        .await
                        .unwrap();
                config.auth_info = AuthInfo {
                    token: Some(token.into()),
                    ..AuthInfo::default()
                };
                let record = Record(requests);
                let api = ClientBuilder::try_from(config.clone())
                    .unwrap()
                    .with_layer(&record)
                    .build();
                config.default_retry = false;
                let lease = ClientBuilder::try_from(config)
                    .unwrap()
                    .with_layer(&record)
                    .build();
                with_clients(args, Clients { api, lease }, CancellationToken::new()).await
            });
            eprintln!("the operator ended: {result:?}");
        });
    }

    /// A namespace for one test, under Pod Security restricted.
    pub(crate) async fn namespace(&self, test: &str) -> String {
        let namespaces: Api<Namespace> = Api::all(self.admin().await);
        let namespace = json!({"metadata": {
            "generateName": format!("{test}-"),
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }});
        let namespace = serde_json::from_value(namespace).unwrap();
        let made = namespaces
            .create(&kube::api::PostParams::default(), &namespace)
            .await
            .unwrap();
        made.metadata.name.unwrap()
    }
}

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/evp")
}

/// The objects in a YAML text.
pub(crate) fn documents(text: &str) -> Vec<serde_json::Value> {
    let parts = text
        .split("\n---")
        .map(|part| part.trim_start_matches("---"));
    let parsed = parts.map(|part| serde_saphyr::from_str(part).unwrap_or_default());
    parsed
        .filter(|object: &serde_json::Value| object.is_object())
        .collect()
}

fn run(mut command: Command, input: &str) -> (bool, String) {
    let io = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = io.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// (group, resource, verb) of a request, as RBAC sees it.
pub(crate) fn right((method, path, _): &Request) -> (String, String, String) {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        other => panic!("{other:?}"),
    };
    let rest = match rest {
        ["namespaces", _, below @ ..] if !below.is_empty() => below,
        _ => rest,
    };
    let resource = match rest {
        [kind, _, sub] => format!("{kind}/{sub}"),
        [kind, ..] => (*kind).to_owned(),
        [] => panic!("{path}"),
    };
    let verb = match (method.as_str(), rest.len()) {
        ("WATCH", _) => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        other => panic!("{other:?}"),
    };
    (group.to_owned(), resource, verb.to_owned())
}

#[derive(Clone)]
struct Record(Requests);

impl<S> Layer<S> for Record {
    type Service = Recorded<S>;

    fn layer(&self, inner: S) -> Recorded<S> {
        Recorded {
            inner,
            requests: self.0.clone(),
        }
    }
}

#[derive(Clone)]
struct Recorded<S> {
    inner: S,
    requests: Requests,
}

impl<S, A, B> Service<http::Request<A>> for Recorded<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let watch = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        let method = if watch {
            "WATCH"
        } else {
            request.method().as_str()
        }
        .to_owned();
        let path = request.uri().path().to_owned();
        let requests = self.requests.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            requests
                .0
                .lock()
                .unwrap()
                .push((method, path, response.status().as_u16()));
            Ok(response)
        })
    }
}
