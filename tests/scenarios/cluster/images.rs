//! The images that the tests run have the layout of the Dockerfile's last stages.

use std::collections::{BTreeMap, BTreeSet};

use evp_tests::{bed, root};
use serde_json::Value;

/// What the last stage of a target says.
#[derive(Debug, Default, Eq, PartialEq)]
struct Layout {
    copied: BTreeSet<String>,
    user: String,
    entrypoint: Vec<String>,
    env: BTreeSet<String>,
}

/// The stages of the Dockerfile by name. Stops at an instruction that it does not know: nothing is overlooked.
fn stages() -> BTreeMap<String, Layout> {
    let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let mut stages = BTreeMap::new();
    // What is copied into the build stage, and run there, is in no image.
    let (_, last) = text.split_once("\nFROM debian").unwrap();
    for stage in last.split("\nFROM debian") {
        let mut lines = stage.lines();
        let (base, name) = lines.next().unwrap().split_once(" AS ").unwrap();
        assert_eq!(base, ":bookworm-slim");
        let mut layout = Layout::default();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (instruction, rest) = line.split_once(' ').unwrap();
            match instruction {
                "COPY" => {
                    let words: Vec<_> = rest.split(' ').collect();
                    assert!(matches!(words[..], ["--from=build", _, _]), "{line}");
                    layout.copied.insert(words[2].to_owned());
                }
                "USER" => rest.clone_into(&mut layout.user),
                "ENTRYPOINT" => layout.entrypoint = serde_json::from_str(rest).unwrap(),
                "ENV" => drop(layout.env.insert(rest.to_owned())),
                other => panic!("{other}: {line}"),
            }
        }
        stages.insert(name.to_owned(), layout);
    }
    stages
}

/// What an archive holds, as it was read back from it.
fn archive(name: &str) -> (Layout, Value) {
    let path = std::path::Path::new(&bed("EVP_BED_IMAGES")).join(format!("evp-{name}.json"));
    let told: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let texts =
        |field: &str| -> Vec<String> { serde_json::from_value(told[field].clone()).unwrap() };
    let layout = Layout {
        copied: told["copied"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect(),
        user: told["user"].as_str().unwrap().to_owned(),
        entrypoint: texts("entrypoint"),
        // The base image's own search path.
        env: texts("env")
            .into_iter()
            .filter(|set| !set.starts_with("PATH="))
            .collect(),
    };
    (layout, told)
}

#[test]
#[ignore = "bed"]
fn the_archives_hold_what_the_dockerfile_says_and_are_started_as_it_says() {
    let stages = stages();
    assert!(stages.keys().eq(["operator", "worker"]), "{stages:?}");
    for (name, wanted) in stages {
        let (found, told) = archive(&name);
        assert_eq!(found, wanted, "{name}");
        let program = &told["copied"][&wanted.entrypoint[0]];
        assert_eq!(program["mode"], "0755", "{name}");
        // Beside what the base image brings there is nothing.
        let base = told["base"].as_object().unwrap().keys();
        let mut strange = base.filter(|path| {
            !["/lib/", "/lib64/", "/usr/lib/"]
                .iter()
                .any(|dir| path.starts_with(dir))
                && !["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"].contains(&path.as_str())
        });
        assert_eq!(strange.next(), None, "{name}");
    }
}
