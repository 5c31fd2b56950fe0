//! Laws of reading.

use super::*;

const MINIMAL: &str = "\
apiVersion: eventpipeline.dev/v1alpha1
kind: EventPipeline
metadata: {name: tiny, labels: {team: data}}
spec:
  checkpoint: {path: file:///tmp/c}
  sources:
  - name: orders
    generator: {template: orders}
    schema: {fields: [{name: order_id, type: string}]}
  sinks:
  - {name: out, from: orders, stdout: {}}
";

/// Code, path, line, column, message, help of a finding.
type Pointed<'a> = (Code, &'a str, usize, usize, &'a str, Option<&'a str>);

/// Each finding after a change of the minimal manifest.
fn finds(from: &str, to: &str, expected: &[Pointed<'_>]) {
    assert!(MINIMAL.contains(from));
    let found = read(&MINIMAL.replace(from, to), "f.yaml").unwrap_err();
    let brief: Vec<_> = found
        .iter()
        .map(|f| {
            (
                f.code,
                f.path.as_str(),
                f.line,
                f.column,
                f.message.as_str(),
                f.help.as_deref(),
            )
        })
        .collect();
    assert_eq!(brief, expected);
}

#[test]
fn a_manifest_is_read_with_what_its_file_says_of_it() {
    let read = read(MINIMAL, "f.yaml").unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(
        (
            read[0].metadata.name.as_str(),
            read[0].spec.sources[0].name.as_str()
        ),
        ("tiny", "orders")
    );
}

#[test]
fn json_is_read_like_yaml() {
    let value: Value = serde_saphyr::from_str(MINIMAL).unwrap();
    let text = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(
        read(&text, "f.json").unwrap(),
        read(MINIMAL, "f.yaml").unwrap()
    );
}

#[test]
fn other_api_groups_and_empty_documents_are_skipped() {
    let text = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n---\n---\n{MINIMAL}---\n{MINIMAL}"
    );
    let read = read(&text, "f.yaml").unwrap();
    assert_eq!(read.iter().map(|m| m.document).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_manifest_taken_from_a_cluster_is_read() {
    let text = MINIMAL.replace(
        "{name: tiny,",
        "{name: tiny, uid: u, namespaceUid: ns, generation: 3, resourceVersion: '7',",
    );
    let read = read(&format!("{text}status: {{ready: true}}\n"), "f.yaml").unwrap();
    assert_eq!(read[0].metadata.namespace_uid.as_deref(), Some("ns"));
}

#[test]
fn an_unknown_field_is_pointed_at_with_what_is_close() {
    let help = Some("did you mean `schema`?");
    let missing = "missing field `schema`";
    finds(
        "    schema:",
        "    shema:",
        &[
            (
                Code::MissingField,
                "spec.sources[0].schema",
                7,
                5,
                missing,
                None,
            ),
            (
                Code::UnknownField,
                "spec.sources[0].shema",
                9,
                5,
                "unknown field `shema`",
                help,
            ),
        ],
    );
}

#[test]
fn a_value_of_another_type_is_pointed_at() {
    finds(
        "name: orders\n",
        "name: 7\n",
        &[(
            Code::WrongType,
            "spec.sources[0].name",
            7,
            11,
            "expected a text, found a number",
            Some("put it in quotes: `\"7\"`"),
        )],
    );
    finds(
        "stdout: {}",
        "stdout: ",
        &[(
            Code::WrongType,
            "spec.sinks[0].stdout",
            11,
            31,
            "expected fields, found nothing",
            Some("write `{}` for all defaults"),
        )],
    );
}

#[test]
fn a_value_outside_of_a_closed_set_is_answered_with_the_set() {
    finds(
        "stdout: {}",
        "mode: append, stdout: {}",
        &[(
            Code::OutOfRange,
            "spec.sinks[0].mode",
            11,
            37,
            "`append` is not a value of `mode`",
            Some("did you mean `Append`?"),
        )],
    );
}

#[test]
fn another_kind_or_version_of_our_group_is_refused() {
    let message = "there is no kind `EventPipline` in eventpipeline.dev";
    finds(
        "kind: EventPipeline",
        "kind: EventPipline",
        &[(
            Code::NotBuilt,
            "kind",
            2,
            7,
            message,
            Some("did you mean `EventPipeline`?"),
        )],
    );
    let message = "there is no version `v2` of eventpipeline.dev";
    let help = Some("write `eventpipeline.dev/v1alpha1`");
    finds(
        "v1alpha1",
        "v2",
        &[(Code::NotBuilt, "apiVersion", 1, 13, message, help)],
    );
}

#[test]
fn what_is_not_yaml_is_pointed_at_where_reading_stopped() {
    finds(
        "metadata: {name: tiny,",
        "metadata: [name: tiny,",
        &[(
            Code::Syntax,
            "",
            3,
            11,
            "mismatched bracket '[' closed by '}'",
            None,
        )],
    );
}
