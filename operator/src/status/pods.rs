//! A pod as status sees it, and what is wrong with it in its own words.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::build::names;

/// What of a pod matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// It is being deleted.
    pub leaving: bool,
    /// It passes its readiness probe.
    pub ready: bool,
    /// The `ConfigMap` it reads its pipeline from.
    pub config_map: Option<String>,
    /// Where its endpoints are, once it has an address.
    pub address: Option<(String, u16)>,
    /// Why it is not working; `None`: nothing is known to be wrong.
    pub trouble: Option<String>,
}

impl PodView {
    /// Looks at a pod.
    pub fn of(pod: &Pod) -> Self {
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            leaving: pod.metadata.deletion_timestamp.is_some(),
            ready: condition(pod, "Ready").is_some_and(|(status, _)| status == "True"),
            config_map: config_map(pod),
            address: address(pod),
            trouble: trouble(pod),
        }
    }
}

/// The pipeline's UID on a pod of ours.
pub fn pipeline_uid(pod: &Pod) -> Option<&String> {
    pod.labels().get(names::PIPELINE_UID)
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, Option<&'a str>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == kind)?;
    Some((&found.status, found.message.as_deref()))
}

fn config_map(pod: &Pod) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|v| v.name == names::PIPELINE_VOLUME)?;
    Some(volume.config_map.as_ref()?.name.clone())
}

fn address(pod: &Pod) -> Option<(String, u16)> {
    let ip = pod.status.as_ref()?.pod_ip.clone()?;
    let container = pod
        .spec
        .as_ref()?
        .containers
        .iter()
        .find(|c| c.name == names::CONTAINER)?;
    let ports = container.ports.iter().flatten();
    let named = ports
        .filter(|p| p.name.as_deref() == Some(names::PORT_NAME))
        .map(|p| p.container_port);
    let port = named.min().unwrap_or(names::PORT);
    Some((ip, u16::try_from(port).ok()?))
}

/// The pod's own error: it cannot be placed, its container cannot start, or it ended.
fn trouble(pod: &Pod) -> Option<String> {
    if let Some(("False", message)) = condition(pod, "PodScheduled") {
        return Some(format!(
            "it cannot be scheduled: {}",
            message.unwrap_or("no reason is given")
        ));
    }
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let words = [status.reason.as_deref(), status.message.as_deref()];
        return Some(format!("it failed: {}", join(&words)));
    }
    let containers = status.container_statuses.as_ref()?;
    containers.iter().find_map(container_trouble)
}

fn container_trouble(container: &ContainerStatus) -> Option<String> {
    let ended = |state: &Option<ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref()?;
        let code = format!("exit code {}", ended.exit_code);
        let last = ended.message.as_deref().map(last_line);
        Some(join(&[ended.reason.as_deref(), Some(&code), last]))
    };
    let state = container.state.as_ref();
    if let Some(text) = ended(&container.state) {
        return Some(format!("its container ended: {text}"));
    }
    let waiting = state.and_then(|state| state.waiting.as_ref())?;
    match waiting.reason.as_deref() {
        None | Some("ContainerCreating" | "PodInitializing") => None,
        Some("CrashLoopBackOff") => Some(match ended(&container.last_state) {
            Some(text) => format!("its container keeps ending: {text}"),
            None => "its container keeps ending".to_owned(),
        }),
        reason => Some(format!(
            "its container does not start: {}",
            join(&[reason, waiting.message.as_deref()])
        )),
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or_default()
}

fn join(words: &[Option<&str>]) -> String {
    let given: Vec<_> = words
        .iter()
        .flatten()
        .copied()
        .filter(|word| !word.is_empty())
        .collect();
    given.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(status: &Value, trouble: Option<&str>) {
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
        assert_eq!(PodView::of(&pod).trouble.as_deref(), trouble);
    }

    fn container(state: &Value) -> Value {
        let mut status = json!({"name": "worker", "ready": false, "restartCount": 3, "image": "", "imageID": ""});
        status
            .as_object_mut()
            .unwrap()
            .extend(state.as_object().unwrap().clone());
        json!({"containerStatuses": [status]})
    }

    #[test]
    fn a_pod_on_its_way_has_no_trouble() {
        check(&json!({}), None);
        check(
            &container(&json!({"state": {"waiting": {"reason": "ContainerCreating"}}})),
            None,
        );
        check(&container(&json!({"state": {"running": {}}})), None);
    }

    #[test]
    fn a_pod_that_cannot_be_placed_says_why() {
        check(
            &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: no memory"}]}),
            Some("it cannot be scheduled: 0/3 nodes: no memory"),
        );
    }

    #[test]
    fn an_image_that_cannot_be_had_is_named() {
        check(
            &container(
                &json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling evp:9"}}}),
            ),
            Some("its container does not start: ImagePullBackOff, Back-off pulling evp:9"),
        );
    }

    #[test]
    fn a_crash_loop_shows_exit_code_and_last_words() {
        check(
            &container(&json!({
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "starting\nno such file\n"}}})),
            Some("its container keeps ending: Error, exit code 3, no such file"),
        );
    }
}
