//! What the documents name is there: files, tests, dependencies.

use std::path::{Path, PathBuf};

use evp_tests::root;

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/reliability.md",
    "docs/tests.md",
    "examples/orders/README.md",
    "charts/evp/README.md",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Texts between backquotes, outside of code blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2))
}

/// Targets of the links in a text that lead into the checkout, without their anchors.
fn linked(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or(""))
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

fn exists(base: &Path, target: &str) -> bool {
    base.join(target).exists()
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    for document in DOCUMENTS {
        let base: PathBuf = root().join(document).parent().unwrap().to_owned();
        let text = read(document);
        let lost: Vec<_> = linked(&text).filter(|t| !exists(&base, t)).collect();
        assert!(lost.is_empty(), "{document}: {lost:?}");
    }
}

#[test]
fn every_path_that_the_architecture_names_exists_and_it_stays_short() {
    let text = read("ARCHITECTURE.md");
    let looks_like_a_path = |word: &&str| {
        let folders = [
            "crds/",
            "worker/",
            "operator/",
            "tests/",
            "charts/",
            "examples/",
            "docs/",
        ];
        folders.iter().any(|f| word.starts_with(f))
    };
    let lost: Vec<_> = quoted(&text)
        .filter(looks_like_a_path)
        .filter(|path| !exists(&root(), path))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(text.lines().count() <= 300);
}

#[test]
fn every_test_that_the_readme_names_is_in_a_file_that_its_line_links() {
    let text = read("README.md");
    let promises = text.split("## What it promises").nth(1).unwrap();
    let promises = promises.split("\n## ").next().unwrap();
    let rows: Vec<_> = promises.lines().filter(|l| l.contains("](")).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let laws: Vec<_> = linked(row)
            .filter(|target| Path::new(target).extension().is_some_and(|e| e == "rs"))
            .map(read)
            .collect();
        assert!(!laws.is_empty(), "{row}");
        for name in quoted(row).filter(|word| word.matches('_').count() >= 3) {
            let law = format!("fn {name}(");
            assert!(laws.iter().any(|file| file.contains(&law)), "{name}");
        }
    }
}

#[test]
fn the_readme_has_a_reason_for_every_dependency() {
    let manifest = read("Cargo.toml");
    let dependencies = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let readme = read("README.md");
    let table = readme.split("## Dependencies").nth(1).unwrap();
    let told = |name: &str| {
        table
            .split(|c: char| !(c.is_alphanumeric() || "_-".contains(c)))
            .any(|word| word == name)
    };
    let untold: Vec<_> = dependencies
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .filter(|name| !name.starts_with("evp-") && !name.starts_with('#'))
        .filter(|name| !told(name) && !name.starts_with("datafusion-"))
        .collect();
    assert!(untold.is_empty(), "{untold:?}");
}
