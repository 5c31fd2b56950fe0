//! Laws of SQL texts.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::*;

fn scope() -> Scope {
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = Schema::new(vec![
        Field::new("orderId", DataType::Utf8, false),
        Field::new("price", DataType::Float64, true),
        Field::new("at", utc(), false),
        Field::new("_meta.offset", DataType::Int64, false),
        Field::new("_meta.timestamp", utc(), false),
    ]);
    Scope {
        node: "orders".into(),
        columns: Arc::new(columns),
    }
}

fn names(sql: &str) -> Vec<String> {
    let text = Text {
        sql,
        path: "spec.steps[0].query.select",
    };
    select(text, &scope())
        .unwrap()
        .into_iter()
        .map(|c| c.name)
        .collect()
}

fn fault(sql: &str) -> Violation {
    let text = Text { sql, path: "p" };
    let mut faults = select(text, &scope()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

#[test]
fn a_star_passes_all_columns_and_meta() {
    assert_eq!(
        names("*"),
        ["orderId", "price", "at", "_meta.offset", "_meta.timestamp"]
    );
}

#[test]
fn a_star_without_meta_may_still_name_its_parts() {
    let sql = "* EXCLUDE (_meta), _meta.offset AS kafka_offset, CAST(at AS DATE) AS day";
    assert_eq!(
        names(sql),
        ["orderId", "price", "at", "kafka_offset", "day"]
    );
    let meta = meta_columns(sql);
    assert!(meta.offset && !meta.timestamp && !meta.raw);
}

#[test]
fn names_keep_their_case() {
    assert_eq!(names("orderId, price * 2 AS Twice"), ["orderId", "Twice"]);
    assert_eq!(fault("orderid").code, Code::UnknownColumn);
}

#[test]
fn an_unknown_column_is_pointed_at_with_what_there_is_and_what_was_meant() {
    let fault = fault("orderId,\n  prise * 2 AS x");
    assert_eq!(
        (fault.code, fault.span),
        (Code::UnknownColumn, Some((11, 16)))
    );
    assert_eq!(fault.help.as_deref(), Some("did you mean `price`?"));
    assert!(
        fault
            .note
            .unwrap()
            .starts_with("`orders` has: orderId, price")
    );
}

#[test]
fn a_text_that_ends_early_or_goes_on_is_a_syntax_fault() {
    assert_eq!(fault("price +").code, Code::SqlSyntax);
    assert_eq!(fault("price FROM x").code, Code::SqlSyntax);
}

#[test]
fn rule_37_random_functions_are_refused() {
    assert_eq!(fault("random() AS r").code, Code::SqlFunction);
    assert_eq!(fault("uuid() AS r").code, Code::SqlFunction);
}

#[test]
fn rule_37_now_is_seen() {
    let text = Text {
        sql: "now() AS n, price",
        path: "p",
    };
    let columns = select(text, &scope()).unwrap();
    assert!(reads_now(&columns[0].expr) && !reads_now(&columns[1].expr));
}

#[test]
fn a_condition_must_be_boolean() {
    let check = |sql| condition(Text { sql, path: "p" }, &scope());
    assert!(check("price > 3 AND orderId LIKE 'a%'").is_ok());
    assert_eq!(check("price + 1").unwrap_err()[0].code, Code::SqlPlan);
}

#[test]
fn a_function_that_does_not_exist_is_a_plan_fault() {
    assert_eq!(fault("nosuch(price) AS x").code, Code::SqlPlan);
}

#[test]
fn two_columns_of_one_name_are_refused() {
    assert_eq!(
        fault("price AS a, orderId AS a").code,
        Code::DuplicateColumn
    );
}
