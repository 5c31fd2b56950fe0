//! The tests of the examples, as `evp test` runs them, and what it says where something is wrong.

use std::path::Path;
use std::process::Output;

use evp_tests::{evp, root, succeed};
use serde_json::Value;

use super::{EXAMPLES, folder, read};

/// Every file of an example's folder, with one text of its tests replaced.
fn changed(example: &str, dir: &Path, (from, to): (&str, &str)) {
    let tests = read(example, "tests.yaml");
    assert!(tests.contains(from), "{from}");
    std::fs::write(dir.join("tests.yaml"), tests.replacen(from, to, 1)).unwrap();
    std::fs::copy(
        folder(example).join("pipeline.yaml"),
        dir.join("pipeline.yaml"),
    )
    .unwrap();
}

fn tested(dir: &Path) -> Output {
    let mut command = evp(dir);
    command
        .current_dir(dir)
        .args(["test", ".", "--junit", "junit.xml"]);
    command.output().unwrap()
}

/// Names and failures of a `JUnit` document, as a reader of XML has them.
fn junit(file: &Path) -> Value {
    const READ: &str = "import json, sys, xml.etree.ElementTree as e\n\
        root = e.parse(sys.argv[1]).getroot()\n\
        cases = [[c.get('classname'), c.get('name'), [f.text for f in c]] for c in root.iter('testcase')]\n\
        print(json.dumps([root.tag, root.get('tests'), root.get('failures'), cases]))";
    let mut python = std::process::Command::new("python3");
    let read = succeed(python.args(["-c", READ]).arg(file));
    serde_json::from_slice(&read.stdout).unwrap()
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn the_tests_of_every_example_pass_in_all_their_variants() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("junit.xml");
    let mut command = evp(scratch.path());
    command
        .current_dir(root())
        .arg("test")
        .arg("--junit")
        .arg(&file);
    command.args(EXAMPLES.map(|(example, _)| format!("examples/{example}")));
    let said = String::from_utf8(succeed(&mut command).stdout).unwrap();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("  ok "))
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line.contains("(plain, ") && line.contains(" crash")),
        "{said}"
    );
    assert!(
        lines.iter().any(|line| line.contains(" interleavings")),
        "{said}"
    );
    let written =
        EXAMPLES.map(|(example, _)| read(example, "tests.yaml").matches("\n- name: ").count());
    let all = written.iter().sum::<usize>();
    assert!(
        said.ends_with(&format!("\n{all} passed, 0 failed\n")),
        "{said}"
    );
    let report = junit(&file);
    assert_eq!(report[0], "testsuites");
    assert_eq!(
        (report[1].as_str(), report[2].as_str()),
        (Some(all.to_string().as_str()), Some("0"))
    );
    for (example, count) in EXAMPLES.iter().zip(written) {
        let class = format!("examples/{}", example.0);
        let cases = report[3].as_array().unwrap().iter();
        assert_eq!(
            cases.filter(|case| case[0] == class.as_str()).count(),
            count
        );
    }
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn a_wrong_expectation_fails_and_names_the_row_and_the_column() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    changed(
        "orders",
        dir,
        (
            "order_count: 1, total_revenue: 5}",
            "order_count: 1, total_revenue: 6}",
        ),
    );
    let output = tested(dir);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let row =
        "different     {region: eu-west, product_category: Home, order_count: 1, total_revenue: 6}";
    assert!(said.contains(row), "{said}");
    assert!(said.contains("`total_revenue` is 5, expected 6"), "{said}");
    assert!(
        said.contains("plain:") && said.contains(" passed, 1 failed\n"),
        "{said}"
    );
    let report = junit(&dir.join("junit.xml"));
    assert_eq!(report[2], "1");
    let failed = report[3]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case[2] != serde_json::json!([]));
    let texts: Vec<_> = failed.map(|case| case[2][0].as_str().unwrap()).collect();
    assert!(
        texts.len() == 1 && texts[0].contains("`total_revenue` is 5, expected 6"),
        "{texts:?}"
    );
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn tests_that_do_not_fit_their_pipeline_are_told_with_their_place() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    changed("shop", dir, ("    user-events:\n", "    user-event:\n"));
    let output = tested(dir);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(2), 0),
        "{said}"
    );
    let tests = std::fs::read_to_string(dir.join("tests.yaml")).unwrap();
    let line = 1 + tests
        .lines()
        .position(|line| line == "    user-event:")
        .unwrap();
    for part in [
        "error[EVP1002]: the pipeline has no sink `user-event`",
        "did you mean `user-events`?",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.contains(&format!("tests.yaml:{line}:5")), "{said}");
    std::fs::remove_file(dir.join("tests.yaml")).unwrap();
    assert_eq!(tested(dir).status.code(), Some(2));
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn a_demo_brings_tests_that_pass_beside_it() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut demo = evp(dir);
    let demo =
        succeed(
            demo.current_dir(dir)
                .args(["demo", "activity", "--records", "10", "--dir", "d"]),
        );
    let said = String::from_utf8(demo.stdout).unwrap();
    assert!(said.contains("\n  evp test d\n"), "{said}");
    let output = tested(&dir.join("d"));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
