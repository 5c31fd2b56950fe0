//! A test per row of the table, on whole specs.

use serde_json::{Value, json};

use super::*;
use crate::build::tests::{spec, spec_json};

type Edit = fn(&mut Value);

/// Changes the base spec; gives the one change that this makes.
fn change(edit: Edit) -> Change {
    let mut changes = changes(edit);
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

fn changes(edit: Edit) -> Vec<Change> {
    let mut json = spec_json();
    edit(&mut json);
    between(&spec(), &serde_json::from_value(json).unwrap())
}

fn without_aggregate(json: &mut Value) {
    json["steps"].as_array_mut().unwrap().pop();
    json["sinks"].as_array_mut().unwrap().pop();
}

#[track_caller]
fn check(path: &str, class: Class, edit: Edit) {
    let found = change(edit);
    assert_eq!((found.path.as_str(), found.class), (path, class), "{found}");
}

#[test]
fn no_change_is_no_change() {
    assert_eq!(changes(|_| ()), Vec::new());
}

#[test]
fn hot_fields_replace_no_pod() {
    check("spec.suspend", Class::Hot, |s| s["suspend"] = json!(true));
    check("spec.objectives.freshness", Class::Hot, |s| {
        s["objectives"] = json!({"freshness": "1h"});
    });
    check("spec.objectives.maxDeadLetterPercent", Class::Hot, |s| {
        s["objectives"] = json!({"maxDeadLetterPercent": 5});
    });
}

#[test]
fn rolling_fields_replace_pods_and_keep_state() {
    use Class::Rolling;
    check("spec.workers.resources.limits.memory", Rolling, |s| {
        s["workers"] = json!({"resources": {"limits": {"memory": "1Gi"}}});
    });
    check("spec.skip", Rolling, |s| {
        s["skip"] = json!([{"source": "orders", "split": "0", "position": 7}]);
    });
    let validated = |check: &str| {
        let mut json = spec_json();
        json["steps"][0].as_object_mut().unwrap().remove("query");
        json["steps"][0]["validate"] = json!({"rules": [{"name": "a", "check": check}]});
        serde_json::from_value(json).unwrap()
    };
    let rules = between(&validated("true"), &validated("1 = 1"));
    assert_eq!(worst(&rules), Some(Rolling), "{rules:?}");
    check("spec.checkpoint.interval", Rolling, |s| {
        s["checkpoint"]["interval"] = json!("5s");
    });
    check("spec.checkpoint.adoptFrom", Rolling, |s| {
        s["checkpoint"]["adoptFrom"] = json!("a-uid");
    });
    check("spec.checkpoint.history", Rolling, |s| {
        s["checkpoint"]["history"] = json!("24h");
    });
    check("spec.checkpoint.maxRecordsPerEpoch", Rolling, |s| {
        s["checkpoint"]["maxRecordsPerEpoch"] = json!(5);
    });
    check("spec.checkpoint.maxBytesPerEpoch", Rolling, |s| {
        s["checkpoint"]["maxBytesPerEpoch"] = json!("1Mi");
    });
    check("spec.objectStore.s3.endpoint", Rolling, |s| {
        s["objectStore"]["s3"]["endpoint"] = json!("https://minio");
    });
    check("spec.deadLetter", Rolling, |s| {
        drop(s.as_object_mut().unwrap().remove("deadLetter"));
    });
    check("spec.deadLetter.files.path", Rolling, |s| {
        s["deadLetter"]["files"]["path"] = json!("s3://lake/other");
    });
    check(
        "spec.sources[orders].kafka.bootstrapServers",
        Rolling,
        |s| {
            s["sources"][0]["kafka"]["bootstrapServers"] = json!("kafka-2:9092");
        },
    );
    check("spec.sources[orders].kafka.startFrom", Rolling, |s| {
        s["sources"][0]["kafka"]["startFrom"] = json!("Latest");
    });
    check("spec.sources[orders].kafka.onDataLoss", Rolling, |s| {
        s["sources"][0]["kafka"]["onDataLoss"] = json!("RecordGap");
    });
    check("spec.sources[orders].kafka.sasl.username", Rolling, |s| {
        s["sources"][0]["kafka"]["sasl"]["username"] = json!("other");
    });
    check("spec.resetNonce", Rolling, |s| s["resetNonce"] = json!(1));
    check("spec.sources[orders].format.json", Rolling, |s| {
        s["sources"][0]["format"] = json!({"json": {}});
    });
}

#[test]
fn rolling_fields_of_sources_steps_and_sinks_do_too() {
    use Class::Rolling;
    check("spec.sources[orders].schema.unknownFields", Rolling, |s| {
        s["sources"][0]["schema"]["unknownFields"] = json!("DeadLetter");
    });
    check("spec.sources[orders].schema.maxRecordBytes", Rolling, |s| {
        s["sources"][0]["schema"]["maxRecordBytes"] = json!("2Mi");
    });
    check("spec.sources[orders].watermark.delay", Rolling, |s| {
        s["sources"][0]["watermark"]["delay"] = json!("20m");
    });
    check("spec.sources[orders].watermark.idleTimeout", Rolling, |s| {
        s["sources"][0]["watermark"]["idleTimeout"] = json!("2m");
    });
    check("spec.steps[placed].query.where", Rolling, |s| {
        s["steps"][0]["query"]["where"] = json!("total_price > 1");
    });
    check("spec.steps[placed].query.select", Rolling, |s| {
        s["steps"][0]["query"]["select"] = json!("*");
    });
    check("spec.steps[revenue].aggregate.late", Rolling, |s| {
        s["steps"][1]["aggregate"]["late"] = json!("DeadLetter");
    });
    check("spec.sinks[bronze].delta.partitionBy", Rolling, |s| {
        s["sinks"][0]["delta"]["partitionBy"] = json!(["region"]);
    });
    check("spec.sinks[gold].keys", Rolling, |s| {
        s["sinks"][1]["keys"] = json!(["region"]);
    });
    check("spec.sinks[bronze].mode", Rolling, |s| {
        s["sinks"][0]["mode"] = json!("Update");
    });
}

#[test]
fn additions_and_removals_keep_state() {
    use Class::StateKept;
    check("spec.sources[more]", StateKept, |s| {
        let mut more = s["sources"][0].clone();
        more["name"] = json!("more");
        s["sources"].as_array_mut().unwrap().push(more);
    });
    check("spec.sources[orders].schema.fields[note]", StateKept, |s| {
        let fields = s["sources"][0]["schema"]["fields"].as_array_mut().unwrap();
        fields.insert(
            0,
            json!({"name": "note", "type": "string", "optional": true}),
        );
    });
    check(
        "spec.sources[orders].schema.fields[order_id]",
        StateKept,
        |s| {
            drop(
                s["sources"][0]["schema"]["fields"]
                    .as_array_mut()
                    .unwrap()
                    .remove(0),
            );
        },
    );
    check(
        "spec.sources[orders].schema.fields[region].optional",
        StateKept,
        |s| {
            s["sources"][0]["schema"]["fields"][1]["optional"] = json!(true);
        },
    );
    check("spec.sources[orders].watermark", StateKept, |s| {
        drop(s["sources"][0].as_object_mut().unwrap().remove("watermark"));
    });
    check("spec.steps[more]", StateKept, |s| {
        s["steps"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "more", "from": "orders", "query": {"where": "true"}}));
    });
    check("spec.sinks[more]", StateKept, |s| {
        s["sinks"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "more", "from": "orders", "stdout": {}}));
    });
    check("spec.sinks[bronze]", StateKept, |s| {
        drop(s["sinks"].as_array_mut().unwrap().remove(0));
    });
    check("spec.sinks[bronze].delta.path", StateKept, |s| {
        s["sinks"][0]["delta"]["path"] = json!("s3://lake/other");
    });
    let dropped = changes(without_aggregate);
    assert_eq!(worst(&dropped), Some(StateKept), "{dropped:?}");
    let other_kind = changes(|s| {
        s["sinks"][0].as_object_mut().unwrap().remove("delta");
        s["sinks"][0]["stdout"] = json!({});
    });
    assert_eq!(worst(&other_kind), Some(StateKept), "{other_kind:?}");
}

#[test]
fn a_sink_that_becomes_a_topic_is_a_new_one_and_how_the_topic_is_written_may_change() {
    use Class::StateKept;
    let to_topic = changes(|s| {
        s["sinks"][0].as_object_mut().unwrap().remove("delta");
        s["sinks"][0]["kafka"] = json!({"bootstrapServers": "kafka:9092", "topic": "log"});
    });
    assert_eq!(worst(&to_topic), Some(StateKept), "{to_topic:?}");
    for (field, class) in [
        ("topic", StateKept),
        ("progressTopic", StateKept),
        ("bootstrapServers", Class::Rolling),
        ("keyColumn", Class::Rolling),
        ("delivery", Class::Rolling),
        ("tls.ca", Class::Rolling),
    ] {
        assert_eq!(
            class_of(&format!("sinks[log].kafka.{field}")),
            class,
            "{field}"
        );
    }
}

#[test]
fn changes_of_state_bearing_fields_are_incompatible() {
    use Class::Incompatible;
    check("spec.checkpoint.path", Class::Never, |s| {
        s["checkpoint"]["path"] = json!("s3://lake/other");
    });
    check("spec.sources[orders].kafka.topic", Class::Never, |s| {
        s["sources"][0]["kafka"]["topic"] = json!("other");
    });
    check("spec.sources[orders].watermark.column", Incompatible, |s| {
        s["sources"][0]["watermark"]["column"] = json!("other");
    });
    check(
        "spec.sources[orders].schema.fields[total_price].type",
        Incompatible,
        |s| {
            s["sources"][0]["schema"]["fields"][2]["type"] = json!("decimal(10,2)");
        },
    );
    check(
        "spec.sources[orders].schema.fields[event_timestamp].unit",
        Incompatible,
        |s| {
            s["sources"][0]["schema"]["fields"][3]["unit"] = json!("ms");
        },
    );
    check(
        "spec.steps[revenue].aggregate.window.tumbling.size",
        Incompatible,
        |s| {
            s["steps"][1]["aggregate"]["window"]["tumbling"]["size"] = json!("10m");
        },
    );
    check(
        "spec.steps[revenue].aggregate.window.tumbling.origin",
        Incompatible,
        |s| {
            s["steps"][1]["aggregate"]["window"]["tumbling"]["origin"] =
                json!("2026-01-01T00:01:00Z");
        },
    );
    check("spec.steps[revenue].aggregate.groupBy", Incompatible, |s| {
        s["steps"][1]["aggregate"]["groupBy"] = json!(["order_id"]);
    });
    check(
        "spec.steps[revenue].aggregate.measures",
        Incompatible,
        |s| {
            s["steps"][1]["aggregate"]["measures"] = json!("max(total_price) AS order_count");
        },
    );
    check("spec.steps[revenue].from", Incompatible, |s| {
        s["steps"][1]["from"] = json!("orders");
    });
}

#[test]
fn another_kind_of_window_and_another_lateness_are_incompatible() {
    use Class::Incompatible;
    check(
        "spec.sources[orders].watermark.allowedLateness",
        Incompatible,
        |s| {
            s["sources"][0]["watermark"]["allowedLateness"] = json!("5m");
        },
    );
    for window in [
        json!({"hopping": {"size": "5m", "slide": "1m"}}),
        json!({"session": {"gap": "5m"}}),
    ] {
        let mut json = spec_json();
        json["steps"][1]["aggregate"]["window"] = window;
        let changes = between(&spec(), &serde_json::from_value(json).unwrap());
        assert_eq!(worst(&changes), Some(Incompatible), "{changes:?}");
    }
}

#[test]
fn a_renamed_source_and_another_kind_are_incompatible() {
    use Class::Incompatible;
    let renamed = changes(|s| {
        s["sources"][0]["name"] = json!("orders2");
        s["steps"][0]["from"] = json!("orders2");
        s["sinks"][0]["from"] = json!("orders2");
    });
    assert_eq!(worst(&renamed), Some(Incompatible), "{renamed:?}");
    let generated = changes(|s| {
        s["sources"][0].as_object_mut().unwrap().remove("kafka");
        s["sources"][0]["generator"] = json!({"template": "orders"});
    });
    assert_eq!(worst(&generated), Some(Class::Never), "{generated:?}");
    let other_kind = changes(|s| {
        s["steps"][1].as_object_mut().unwrap().remove("aggregate");
        s["steps"][1]["query"] = json!({"where": "true"});
    });
    assert_eq!(worst(&other_kind), Some(Incompatible), "{other_kind:?}");
}

#[test]
fn generators_may_change_speed_but_not_their_events() {
    let base = |seed: i64, rate: i64, limit: Option<i64>| {
        let mut json = spec_json();
        json["sources"][0].as_object_mut().unwrap().remove("kafka");
        json["sources"][0]["generator"] =
            json!({"template": "orders", "seed": seed, "rate": rate, "limit": limit});
        serde_json::from_value(json).unwrap()
    };
    let class = |new| worst(&between(&base(1, 5, None), &new));
    assert_eq!(class(base(1, 50, None)), Some(Class::Rolling));
    assert_eq!(class(base(1, 5, Some(9))), Some(Class::Rolling));
    assert_eq!(class(base(2, 5, None)), Some(Class::Never));
}

#[test]
fn another_spelling_of_the_same_thing_only_rolls() {
    check(
        "spec.steps[revenue].aggregate.window.tumbling.size",
        Class::Rolling,
        |s| {
            s["steps"][1]["aggregate"]["window"]["tumbling"]["size"] = json!("300s");
        },
    );
    check(
        "spec.steps[revenue].aggregate.window.tumbling.origin",
        Class::Rolling,
        |s| {
            s["steps"][1]["aggregate"]["window"]["tumbling"]["origin"] =
                json!("1970-01-01T00:00:00Z");
        },
    );
    check(
        "spec.steps[revenue].aggregate.measures",
        Class::Rolling,
        |s| {
            s["steps"][1]["aggregate"]["measures"] =
                json!("count(order_id) AS order_count,\n  sum(total_price) AS total_revenue\n");
        },
    );
}

#[test]
fn where_no_aggregate_hangs_on_it_types_and_inputs_may_change() {
    let mut stateless = spec_json();
    without_aggregate(&mut stateless);
    let old: EventPipelineSpec = serde_json::from_value(stateless.clone()).unwrap();
    let class = |edit: Edit| {
        let mut json = stateless.clone();
        edit(&mut json);
        worst(&between(&old, &serde_json::from_value(json).unwrap()))
    };
    assert_eq!(
        class(|s| s["sources"][0]["schema"]["fields"][2]["type"] = json!("float")),
        Some(Class::Rolling)
    );
    assert_eq!(
        class(|s| s["steps"][0]["from"] = json!("elsewhere")),
        Some(Class::Rolling)
    );
    assert_eq!(
        class(|s| s["sources"][0]["kafka"]["topic"] = json!("other")),
        Some(Class::Never)
    );
}

#[test]
fn a_type_that_does_not_reach_the_state_may_change() {
    check(
        "spec.sources[orders].schema.fields[order_id].type",
        Class::Rolling,
        |s| s["sources"][0]["schema"]["fields"][0]["type"] = json!("long"),
    );
}

#[test]
fn order_within_named_lists_is_no_change_of_a_field() {
    assert_eq!(
        changes(|s| s["sinks"].as_array_mut().unwrap().reverse()),
        Vec::new()
    );
}

#[test]
fn a_change_is_told_with_field_old_and_new_value() {
    let told = change(|s| s["steps"][1]["aggregate"]["window"]["tumbling"]["size"] = json!("10m"));
    assert_eq!(
        told.to_string(),
        "spec.steps[revenue].aggregate.window.tumbling.size: 5m -> 10m"
    );
}

#[test]
fn every_row_of_the_table_is_reached_by_some_path() {
    for (index, (pattern, class)) in TABLE.iter().enumerate() {
        let path = pattern.replace("[*]", "[x]").replace("**", "anything");
        let first = TABLE
            .iter()
            .position(|(p, _)| fits(&segments(p), &segments(&path)));
        assert_eq!(first, Some(index), "{pattern} is shadowed");
        assert_eq!(class_of(&path), *class);
    }
}

#[test]
fn a_field_nobody_thought_of_is_incompatible() {
    assert_eq!(class_of("sources[x].someday"), Class::Incompatible);
}
