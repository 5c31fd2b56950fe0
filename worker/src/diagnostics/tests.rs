//! Laws of places and of what is drawn.

use evp_core::check::check;

use super::*;

const PIPELINE: &str = "\
apiVersion: eventpipeline.dev/v1alpha1
kind: EventPipeline
metadata: {name: orders}
spec:
  checkpoint: {path: s3://lake/_checkpoints/orders}
  sources:
  - name: orders
    generator: {template: orders}
    schema: {fields: [{name: order_id, type: string}, {name: region, type: string}, {name: at, type: timestamp}]}
    watermark: {column: at, delay: 10m}
  steps:
  - name: placed
    from: orders
    query:
      select: |
        order_id, region,
          upper(regoin) AS loud
  - name: revenue
    from: orders
    aggregate:
      window: {tumbling: {size: 5m}}
      groupBy: [regoin, order_id]
      measures: count(*) AS n
  sinks:
  - {name: gold, from: revenue, mode: Update, delta: {path: s3://lake/gold}}
";

fn findings(text: &str) -> Vec<Finding> {
    let manifests = crate::manifest::read(text, "pipeline.yaml").unwrap();
    locate(
        text,
        "pipeline.yaml",
        &check(&manifests[0].spec).unwrap_err(),
    )
}

/// The text under the caret of every finding.
fn pointed<'t>(text: &'t str, findings: &[Finding]) -> Vec<&'t str> {
    let place = |f: &Finding| offset(text, f.line, f.column);
    findings
        .iter()
        .map(|f| &text[place(f)..offset(text, f.line, f.column + f.length)])
        .collect()
}

#[test]
fn an_unknown_column_is_drawn_with_what_there_is() {
    let text = PIPELINE.replace("upper(regoin)", "upper(region)");
    let drawn = "\
error[EVP2107]: no column named `regoin`
   ┌─ pipeline.yaml:22:17
   │
22 │       groupBy: [regoin, order_id]
   │                 ^^^^^^ `orders` has: order_id, region, at
   │
   = help: did you mean `region`?

";
    assert_eq!(render(&text, &findings(&text)), drawn);
}

#[test]
fn a_place_inside_a_block_text_is_shifted_into_the_file() {
    let found = findings(PIPELINE);
    let places: Vec<_> = found.iter().map(|f| (f.line, f.column, f.length)).collect();
    assert_eq!(places, [(17, 17, 6), (22, 17, 6)], "{found:#?}");
    assert_eq!(pointed(PIPELINE, &found), ["regoin", "regoin"]);
}

#[test]
fn a_place_inside_a_text_is_found_in_every_yaml_style() {
    let block = "|\n        order_id, region,\n          upper(regoin) AS loud\n";
    for style in [
        "order_id, upper(regoin) AS loud\n",
        "order_id,\n          upper(regoin)\n          AS loud\n",
        "'''é'' AS e, upper(regoin) AS loud'\n",
        "\"'\\u00e9\\x41\\\"' AS e,\n\n         \\\n        upper(regoin) AS loud\"\n",
        ">\n        order_id,\n        upper(regoin)\n        AS loud\n",
        ">-\n        order_id,\n          upper(region) AS r,\n\n        upper(regoin)\n",
        "|-\n\n        order_id,\n\n        upper(regoin) AS loud\n",
        "|  # a remark\r\n        order_id,\r\n        upper(regoin) AS loud\r\n",
    ] {
        let text = PIPELINE
            .replace(block, style)
            .replace("[regoin, order_id]", "[order_id]");
        assert_eq!(pointed(&text, &findings(&text)), ["regoin"], "{style}");
    }
}

#[test]
fn what_is_not_there_is_shown_at_what_should_hold_it() {
    let root = &places::documents(PIPELINE)[0];
    let at = |path: &str| {
        &PIPELINE[places::place(
            PIPELINE,
            root,
            &Violation::new(Code::MissingField, path, ""),
        )]
    };
    assert_eq!(at("spec.objectStore.s3"), "spec");
    assert_eq!(at("spec.sources[0].watermark.idleTimeout"), "watermark");
    assert_eq!(at("spec.steps[7]"), "steps");
    assert_eq!(at("spec.sinks[0].delta.partitionBy[0]"), "delta");
    assert_eq!(at("spec.steps[0].from"), "orders");
    assert_eq!(at("spec.steps[0].query.select"), "order_id, region,");
    assert_eq!(at(""), "apiVersion");
}

#[test]
fn a_finding_has_a_stable_json_form() {
    let text = PIPELINE.replace("upper(regoin)", "upper(region)");
    let found = serde_json::to_value(findings(&text)).unwrap();
    let expected = serde_json::json!([{
        "code": "EVP2107", "severity": "error", "path": "spec.steps[1].aggregate.groupBy[0]",
        "file": "pipeline.yaml", "line": 22, "column": 17, "length": 6,
        "message": "no column named `regoin`", "note": "`orders` has: order_id, region, at",
        "help": "did you mean `region`?",
    }]);
    assert_eq!(found, expected);
}

#[test]
fn an_empty_text_has_a_place_too() {
    let found = locate("", "f.yaml", &[Violation::new(Code::Syntax, "", "nothing")]);
    assert_eq!((found[0].line, found[0].column, found[0].length), (1, 1, 0));
    assert!(render("", &found).starts_with("error[EVP1001]: nothing\n"));
}
