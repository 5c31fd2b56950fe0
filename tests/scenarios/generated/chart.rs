//! The chart's copies and lists.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::read_to_string;

use evp_operator::rbac;
use serde_json::Value;

use super::{expect_file, top};

fn chart(path: &str) -> String {
    read_to_string(top("charts/evp").join(path)).unwrap()
}

#[test]
fn the_chart_carries_the_crds() {
    for entry in std::fs::read_dir(top("crds")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let name = path.file_name().unwrap().to_str().unwrap();
            expect_file(
                &format!("charts/evp/files/crds/{name}"),
                &read_to_string(&path).unwrap(),
            );
        }
    }
}

#[test]
fn the_charts_rights_are_the_ones_that_are_used() {
    let helpers = chart("templates/_helpers.tpl");
    let rules = helpers
        .split_once(r#"{{- define "evp.rules" -}}"#)
        .unwrap()
        .1;
    assert_eq!(
        rights(rules.split_once("{{- end -}}").unwrap().0),
        granted(rbac::PIPELINES)
    );
    let leader = chart("templates/rbac.yaml");
    let rules = leader.rsplit_once("rules:\n").unwrap().1;
    assert_eq!(
        rights(rules.split_once("---").unwrap().0),
        granted(rbac::OWN)
    );
}

type Right = (String, String, String);

fn granted(rules: &[rbac::Rule]) -> BTreeSet<Right> {
    let right = |rule: &rbac::Rule, verb: &str| {
        (
            rule.group.to_owned(),
            rule.resource.to_owned(),
            verb.to_owned(),
        )
    };
    rules
        .iter()
        .flat_map(|rule| rule.verbs.iter().map(move |verb| right(rule, verb)))
        .collect()
}

fn rights(yaml: &str) -> BTreeSet<Right> {
    let rules: Value = serde_saphyr::from_str(yaml).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let right = |rule: &Value, verb: &Value| {
        (
            text(&rule["apiGroups"][0]),
            text(&rule["resources"][0]),
            text(verb),
        )
    };
    let rules = rules.as_array().unwrap().iter();
    rules
        .flat_map(|rule| {
            rule["verbs"]
                .as_array()
                .unwrap()
                .iter()
                .map(move |verb| right(rule, verb))
        })
        .collect()
}

#[test]
fn every_value_is_in_the_schema_and_no_other_is_taken() {
    let values: Value = serde_saphyr::from_str(&chart("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).unwrap();
    compare("", &values, &schema, &schema);
}

/// Objects with named members are closed, and each member of the values is known.
fn compare(path: &str, values: &Value, schema: &Value, root: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let (Some(values), Some(properties)) = (values.as_object(), schema["properties"].as_object())
    else {
        return;
    };
    assert_eq!(
        schema["additionalProperties"],
        Value::Bool(false),
        "`{path}` takes anything"
    );
    for (key, value) in values {
        let known = properties
            .get(key)
            .unwrap_or_else(|| panic!("`{path}.{key}` is not in the schema"));
        compare(&format!("{path}.{key}"), value, known, root);
    }
}

#[test]
fn the_readme_lists_every_value() {
    const BEGIN: &str = "<!-- values: generated from values.yaml -->\n";
    const END: &str = "<!-- end of values -->\n";
    let readme = chart("README.md");
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let table = table(&chart("values.yaml"));
    expect_file(
        "charts/evp/README.md",
        &format!("{before}{BEGIN}{table}{END}{after}"),
    );
}

/// One row a leaf of the values, with the comment above it.
fn table(yaml: &str) -> String {
    let mut rows = String::from("| value | default | meaning |\n|---|---|---|\n");
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut comment = Vec::new();
    for line in yaml.lines().skip_while(|line| !line.is_empty()) {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        if text.is_empty() {
            comment.clear();
        } else if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim().to_owned());
        } else if let Some((key, value)) = text.split_once(':') {
            above.retain(|(depth, _)| *depth < indent);
            above.push((indent, key.to_owned()));
            let names: Vec<_> = above.iter().map(|(_, name)| name.as_str()).collect();
            let value = match value.trim() {
                "" => String::new(),
                value => format!("`{value}`"),
            };
            let words = comment.join(" ");
            if !(value.is_empty() && words.is_empty()) {
                writeln!(rows, "| `{}` | {value} | {words} |", names.join(".")).unwrap();
            }
            comment.clear();
        }
    }
    rows
}
