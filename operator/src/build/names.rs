//! Every name, label and annotation of a pipeline's children is spelled here and nowhere else.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Field manager of all our applies, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "eventpipeline-operator";
/// Label: the pipeline a child belongs to, see [`child_name`].
pub const PIPELINE: &str = "eventpipeline.dev/pipeline";
/// Label of pods and of the selector: the pipeline's UID, so that pods of a deleted namesake are nobody's.
pub const PIPELINE_UID: &str = "eventpipeline.dev/pipeline-uid";
/// Annotation of the Deployment: the newest generation it stands for.
pub const GENERATION: &str = "eventpipeline.dev/generation";
/// Annotation of the Deployment: the facts of its last rollout, see [`super::Rolled`].
pub const ROLLED: &str = "eventpipeline.dev/rolled";
/// The one container of a worker pod.
pub const CONTAINER: &str = "worker";
/// Name of its port.
pub const PORT_NAME: &str = "http";
/// Its port, unless the pod says otherwise.
pub const PORT: i32 = 9090;
/// Name of the volume with the pipeline's `ConfigMap`.
pub const PIPELINE_VOLUME: &str = "pipeline";
/// The `ConfigMap`'s only key.
pub const PIPELINE_FILE: &str = "pipeline.json";
/// The longest label value, and the longest name that can be one.
const LONGEST: usize = 63;

/// Selects all children in watches and lists.
pub fn children_selector() -> String {
    format!("app.kubernetes.io/managed-by={MANAGER}")
}

/// Selects the children of one pipeline.
pub fn pipeline_selector(pipeline: &str) -> String {
    format!(
        "{},{PIPELINE}={}",
        children_selector(),
        child_name(pipeline)
    )
}

/// Name of a pipeline's Deployment and `ServiceAccount` and value of its label: the pipeline's own, or where that is longer
/// than 63 characters its start and a hash.
pub fn child_name(pipeline: &str) -> String {
    bounded(pipeline, LONGEST)
}

/// Name of the `ConfigMap` that holds this content.
pub fn config_map_name(pipeline: &str, content: &str) -> String {
    let hash = hash(content);
    format!("{}-{hash}", bounded(pipeline, LONGEST - 1 - hash.len()))
}

/// Labels of a child.
pub fn labels(pipeline: &str) -> BTreeMap<String, String> {
    let name = child_name(pipeline);
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([
        label("app.kubernetes.io/name", "eventpipeline"),
        label("app.kubernetes.io/instance", &name),
        label("app.kubernetes.io/component", "worker"),
        label("app.kubernetes.io/part-of", "eventpipeline"),
        label("app.kubernetes.io/managed-by", MANAGER),
        label(PIPELINE, &name),
    ])
}

/// Labels by which a Deployment knows its pods.
pub fn pod_selector(pipeline: &str, uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (PIPELINE.to_owned(), child_name(pipeline)),
        (PIPELINE_UID.to_owned(), uid.to_owned()),
    ])
}

/// Ten hex digits that stand for a text.
pub fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut hex = String::new();
    for byte in digest.iter().take(5) {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn bounded(name: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name.to_owned();
    }
    let hash = hash(name);
    let start = &name[..longest - 1 - hash.len()];
    format!("{}-{hash}", start.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_is_kept() {
        let name = "a".repeat(63);
        assert_eq!(child_name(&name), name);
        assert_eq!(
            config_map_name("orders", "{}"),
            format!("orders-{}", hash("{}"))
        );
    }

    #[test]
    fn a_longer_name_is_cut_to_63_characters_and_stays_its_own() {
        let long = format!("{}-x", "a".repeat(70));
        let other = format!("{}-y", "a".repeat(70));
        for name in [&long, &other] {
            assert!(child_name(name).len() <= 63);
            assert!(config_map_name(name, "{}").len() <= 63);
        }
        assert_ne!(child_name(&long), child_name(&other));
        assert_ne!(config_map_name(&long, "{}"), config_map_name(&other, "{}"));
    }

    #[test]
    fn a_cut_name_has_no_punctuation_before_its_hash() {
        let name = format!("{}.-.-.-.-{}", "a".repeat(48), "b".repeat(30));
        let cut = child_name(&name);
        assert!(cut.starts_with(&format!("{}-", "a".repeat(48))), "{cut}");
        assert!(!cut.contains(".-"), "{cut}");
    }
}
