//! The node with the chart on it.
//!
//! Owns what all tests of this folder share: the chart is installed once a process and never removed (the bed is).

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use evp_tests::{bed, root, succeed};

/// The operator's own namespace.
pub(crate) const OPERATOR_NAMESPACE: &str = "evp-system";
/// Release of the chart, and so the name of the operator's Deployment.
pub(crate) const RELEASE: &str = "evp";

/// Has the chart installed, from this checkout and with the images of this build.
pub(crate) fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let mut helm = tool("helm");
        helm.args(["upgrade", "--install", RELEASE])
            .arg(root().join("charts/evp"))
            .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"])
            .args(["--set", "image.repository=localhost/evp-operator"])
            .args(["--set", "image.tag=dev"])
            .args(["--set", "worker.image.repository=localhost/evp-worker"])
            .args(["--set", "worker.image.tag=dev"])
            // On a bed that was kept the pod of an earlier image must go.
            .args([
                "--set",
                &format!("podAnnotations.test=run-{}", std::process::id()),
            ])
            .args(["--wait", "--timeout", "3m"]);
        succeed(&mut helm);
    });
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(std::path::Path::new(&bed("EVP_BED_BIN")).join(name));
    command.env("KUBECONFIG", bed("EVP_BED_CLUSTER"));
    command
}

/// Runs kubectl as administrator, with this on its standard input; its output.
pub(crate) fn kubectl(args: &[&str], input: &str) -> String {
    let output = try_kubectl(args, input);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// [`kubectl`] that may be refused.
pub(crate) fn try_kubectl(args: &[&str], input: &str) -> Output {
    let mut child = tool("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Applies a manifest as a user does.
pub(crate) fn apply(manifest: &serde_json::Value) {
    kubectl(&["apply", "-f", "-"], &manifest.to_string());
}

/// Ends a container's processes with -9, as the kernel would.
pub(crate) fn kill_container(id: &str) {
    succeed(Command::new(bed("EVP_BED_CTL")).args(["kill-container", id]));
}
