//! Laws of SQL texts.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};

use super::*;
use crate::position::Micros;

fn scope() -> Scope {
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = Schema::new(vec![
        Field::new("orderId", DataType::Utf8, false),
        Field::new("price", DataType::Float64, true),
        Field::new("at", utc(), false),
        Field::new("units", DataType::Int64, true),
        Field::new("context", context(), true),
        Field::new("_meta.offset", DataType::Int64, false),
        Field::new("_meta.timestamp", utc(), false),
    ]);
    Scope {
        node: "orders".into(),
        columns: Arc::new(columns),
    }
}

fn context() -> DataType {
    let entry = vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ];
    let entries = Field::new("entries", DataType::Struct(entry.into()), false);
    DataType::Map(Arc::new(entries), false)
}

/// Type of the one column that a text gives, as a pipeline carries it.
fn column_type(sql: &str) -> DataType {
    let text = Text { sql, path: "p" };
    let expr = select(text, &scope()).unwrap().remove(0).expr;
    let schema = df_schema(&scope()).unwrap();
    canonical(expr, &schema).unwrap().get_type(&schema).unwrap()
}

/// What a text gives for two rows: the first of 7 units, the second of the most there can be.
fn value(sql: &str) -> Result<ArrayRef, DataFusionError> {
    let columns = Arc::new(Schema::new(vec![Field::new(
        "units",
        DataType::Int64,
        false,
    )]));
    let scope = Scope {
        node: "orders".into(),
        columns: columns.clone(),
    };
    let expr = select(Text { sql, path: "p" }, &scope)
        .unwrap()
        .remove(0)
        .expr;
    let units: ArrayRef = Arc::new(Int64Array::from(vec![7, i64::MAX]));
    let batch = RecordBatch::try_new(columns.clone(), vec![units]).unwrap();
    compile(&expr, &columns, Micros(1_000_000))?
        .evaluate(&batch)?
        .into_array(2)
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
        [
            "orderId",
            "price",
            "at",
            "units",
            "context",
            "_meta.offset",
            "_meta.timestamp"
        ]
    );
}

#[test]
fn a_star_without_meta_may_still_name_its_parts() {
    let sql = "* EXCLUDE (_meta), _meta.offset AS kafka_offset, CAST(at AS DATE) AS day";
    assert_eq!(
        names(sql),
        [
            "orderId",
            "price",
            "at",
            "units",
            "context",
            "kafka_offset",
            "day"
        ]
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
    for sql in ["random()", "uuid()", "1 + abs(random())"] {
        assert_eq!(fault(sql).code, Code::SqlFunction, "{sql}");
    }
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

#[test]
fn a_function_that_does_not_exist_is_pointed_at_with_the_nearest_one() {
    let fault = fault("price, uper(orderId) AS x");
    assert_eq!((fault.code, fault.span), (Code::SqlPlan, Some((7, 11))));
    assert_eq!(fault.help.as_deref(), Some("did you mean `upper`?"));
}

#[test]
fn where_nothing_nearer_is_known_the_whole_expression_is_pointed_at() {
    assert_eq!(fault("price, orderId + price AS x").span, Some((7, 22)));
    assert_eq!(fault("price AS a, random() AS b").span, Some((12, 18)));
}

#[test]
fn the_functions_are_the_same_whatever_else_is_built() {
    for other_crates in [
        "sha256(orderId)",
        "make_array(1)",
        "[1, 2]",
        "version()",
        "input_file_name()",
    ] {
        assert_eq!(
            fault(&format!("{other_crates} AS x")).code,
            Code::SqlPlan,
            "{other_crates}"
        );
    }
    for ours in [
        "substr(orderId, 1, 2)",
        "substring(orderId FROM 2)",
        "position('a' IN orderId)",
    ] {
        select(
            Text {
                sql: ours,
                path: "p",
            },
            &scope(),
        )
        .unwrap();
    }
}

#[test]
fn rule_36_every_column_has_a_type_of_a_pipeline() {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for sql in [
        "now()",
        "current_timestamp",
        "CAST(orderId AS TIMESTAMP)",
        "to_timestamp(units)",
        "to_timestamp_seconds(units)",
        "TIMESTAMP '2026-01-01T00:00:00Z'",
        "date_trunc('second', at)",
        "at - INTERVAL '1 day'",
    ] {
        assert_eq!(column_type(sql), instant, "{sql}");
    }
    assert_eq!(column_type("CAST(units AS VARCHAR)"), DataType::Utf8);
    assert_eq!(column_type("CAST(units AS SMALLINT)"), DataType::Int32);
    assert_eq!(column_type("context['variant']"), DataType::Utf8);
    assert_eq!(
        column_type("coalesce(context['variant'], 'none')"),
        DataType::Utf8
    );
}

#[test]
fn rule_1_a_number_is_not_a_time_without_its_unit() {
    assert_eq!(
        fault("CAST(units AS TIMESTAMP) AS t").code,
        Code::SqlFunction
    );
    assert_eq!(fault("CAST(units AS DATE) AS t").code, Code::SqlFunction);
}

#[test]
fn rule_38_overflow_is_an_error_and_no_other_number() {
    for sql in [
        "units + 1",
        "units * 2",
        "-2 - units",
        "-units - 2",
        "units + 1 + 1",
    ] {
        assert!(value(sql).is_err(), "{sql}");
    }
    for sql in ["units - 1", "-units", "units / 2", "units % 7"] {
        assert!(value(sql).is_ok(), "{sql}");
    }
}

#[test]
fn rule_38_a_constant_that_cannot_be_computed_is_found_before_any_row() {
    for sql in [
        "9223372036854775807 + 1",
        "units + 1 / 0",
        "CAST('x' AS INT)",
        "-(-9223372036854775807 - 1)",
    ] {
        let fault = fault(&format!("{sql} AS x"));
        assert_eq!(fault.code, Code::SqlFunction, "{sql}: {fault:?}");
    }
}

#[test]
fn rule_37_now_is_the_time_of_the_epoch() {
    let now = value("now()").unwrap();
    let expected = TimestampMicrosecondArray::from(vec![1_000_000; 2]).with_timezone("UTC");
    assert_eq!(now.as_ref(), &expected as &dyn arrow::array::Array);
}

#[test]
fn placeholders_subqueries_and_windows_are_refused() {
    for sql in [
        "$1",
        "(SELECT 1)",
        "price IN (SELECT 1)",
        "count(*) OVER ()",
    ] {
        assert_eq!(
            fault(&format!("{sql} AS x")).code,
            Code::SqlFunction,
            "{sql}"
        );
    }
}

#[test]
fn no_column_may_pose_as_a_part_of_meta() {
    assert_eq!(fault("price AS \"_meta.raw\"").code, Code::DuplicateColumn);
    assert_eq!(fault("price AS _meta").code, Code::DuplicateColumn);
    assert_eq!(
        names(
            "_metadata AS x, price"
                .replace("_metadata", "units")
                .as_str()
        ),
        ["x", "price"]
    );
}

/// The stack of a thread is 2 MiB.
#[test]
fn a_text_that_would_outgrow_the_stack_is_refused() {
    let refused = |sql: String| {
        let text = Text {
            sql: &sql,
            path: "p",
        };
        let found = select(text, &scope()).map(|_| ()).unwrap_err();
        assert_eq!(found[0].code, Code::SqlSyntax, "{}", found[0].message);
        assert_eq!(meta_columns(&sql), MetaColumns::default());
    };
    refused("(".repeat(8_000) + "1" + &")".repeat(8_000));
    refused(vec!["price>1"; 2_000].join(" AND "));
    refused(vec!["1"; 8_000].join("+"));
    refused(vec!["1"; 990].join("+"));
    refused("NOT ".repeat(4_000) + "true");
    refused("CASE WHEN true THEN 1 ELSE ".repeat(400) + "1" + &" END".repeat(400));
    refused("price".to_owned() + &"::double".repeat(2_000));
    refused("- ".repeat(4_000) + "price");
    refused("abs(".repeat(3_000) + "price" + &")".repeat(3_000));
    refused("price".to_owned() + &" IS NULL".repeat(2_000));
    refused("CAST(price AS ".to_owned() + &"ARRAY<".repeat(2_000) + "INT" + &">".repeat(2_001));
    refused("CAST(price AS ".to_owned() + &"STRUCT<a ".repeat(1_500) + "INT" + &">".repeat(1_501));
    refused("CAST(price AS ".to_owned() + &"Nullable(".repeat(1_500) + "INT" + &")".repeat(1_501));
    refused("CAST(price AS ".to_owned() + &"Tuple(a ".repeat(1_500) + "INT" + &")".repeat(1_501));
    refused("CAST(price AS ".to_owned() + &"UNION(a ".repeat(1_500) + "INT" + &")".repeat(1_501));
    refused("CAST(price AS ".to_owned() + &"MAP(INT,".repeat(1_500) + "INT" + &")".repeat(1_501));
    refused("CAST(price AS ".to_owned() + &"SETOF ".repeat(2_000) + "INT)");
    refused("CAST(price AS ".to_owned() + &"Nested(a ".repeat(1_500) + "INT" + &")".repeat(1_501));
    refused("CAST(price AS ".to_owned() + &"TABLE(a ".repeat(1_500) + "INT" + &")".repeat(1_501));
    refused("CAST(price AS INT".to_owned() + &"[]".repeat(5_000) + ")");
    refused("(SELECT ".repeat(1_500) + "1" + &")".repeat(1_500));
    refused("{'a': ".repeat(1_500) + "1" + &"}".repeat(1_500));
    refused("[".repeat(4_000) + "1" + &"]".repeat(4_000));
    refused(" ".repeat(16 * 1024) + "price");
}

#[test]
fn a_text_of_many_conditions_is_planned_and_computed() {
    value(&format!("{} units % 3", "units % 3 + ".repeat(60))).unwrap();
    value(&format!("units IN ({})", vec!["1"; 2_000].join(","))).unwrap();
    let case = format!("CASE {} END", "WHEN units = 3 THEN 1 ".repeat(200));
    value(&case).unwrap();
}
