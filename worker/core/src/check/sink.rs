//! What each sink writes, and whether it can.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use evp_api::plan::{Code, DeltaPlan, NodeName, Plan, SinkKind, SinkPlan, Violation};

/// Columns of every sink: those of its node without `_meta`.
pub(super) fn check(
    plan: &Plan,
    columns: &BTreeMap<NodeName, SchemaRef>,
    faults: &mut Vec<Violation>,
) -> BTreeMap<NodeName, SchemaRef> {
    let mut sinks = BTreeMap::new();
    for (index, sink) in plan.sinks.iter().enumerate() {
        let Some(above) = columns.get(&sink.from) else {
            continue;
        };
        let written = without_meta(above);
        let path = format!("spec.sinks[{index}]");
        keys_pass(sink, &written, &path, faults);
        if let SinkKind::Delta(delta) = &sink.kind {
            delta_can_hold(sink, &written, &path, faults);
            partitions_exist(delta, &written, &path, faults);
        }
        sinks.insert(sink.name.clone(), written);
    }
    sinks
}

fn without_meta(columns: &SchemaRef) -> SchemaRef {
    let kept = columns
        .fields()
        .iter()
        .filter(|f| !f.name().starts_with("_meta."))
        .cloned()
        .collect::<Vec<_>>();
    Arc::new(Schema::new(kept))
}

fn keys_pass(sink: &SinkPlan, columns: &SchemaRef, path: &str, faults: &mut Vec<Violation>) {
    for key in &sink.keys {
        if columns.column_with_name(key).is_none() {
            let message = format!(
                "`{}` must pass the key `{key}` unchanged for `mode: Update`",
                sink.from
            );
            faults.push(Violation::new(
                Code::KeysChanged,
                format!("{path}.from"),
                message,
            ));
        }
    }
}

fn delta_can_hold(sink: &SinkPlan, columns: &SchemaRef, path: &str, faults: &mut Vec<Violation>) {
    for field in columns.fields() {
        if !is_delta_type(field.data_type()) {
            let message = format!(
                "`{}` of `{}` is {}, which a Delta table cannot hold",
                field.name(),
                sink.from,
                field.data_type()
            );
            faults.push(
                Violation::new(Code::ColumnType, format!("{path}.from"), message).help(format!(
                    "CAST `{}` to another type in a query step",
                    field.name()
                )),
            );
        }
    }
}

fn is_delta_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_delta_type(item.data_type()),
        DataType::Struct(members) => members.iter().all(|m| is_delta_type(m.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(members) => members.iter().all(|m| is_delta_type(m.data_type())),
            _ => false,
        },
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, zone) => zone
            .as_deref()
            .is_some_and(|z| matches!(z, "UTC" | "+00:00" | "Etc/UTC")),
        DataType::Utf8
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Boolean
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..) => true,
        _ => false,
    }
}

fn partitions_exist(
    delta: &DeltaPlan,
    columns: &SchemaRef,
    path: &str,
    faults: &mut Vec<Violation>,
) {
    for (i, name) in delta.partition_by.iter().enumerate() {
        let path = format!("{path}.delta.partitionBy[{i}]");
        match columns.column_with_name(name) {
            None => {
                let names = columns.fields().iter().map(|f| f.name().as_str());
                faults.push(
                    Violation::new(
                        Code::UnknownColumn,
                        path,
                        format!("no column named `{name}`"),
                    )
                    .did_you_mean(name, names),
                );
            }
            Some((_, field))
                if field.data_type().is_nested() || field.data_type() == &DataType::Binary =>
            {
                let message = format!(
                    "`{name}` is {}, by which a table cannot be partitioned",
                    field.data_type()
                );
                faults.push(Violation::new(Code::ColumnType, path, message));
            }
            Some(_) => {}
        }
    }
    if !delta.partition_by.is_empty() && delta.partition_by.len() == columns.fields().len() {
        let message = "a table needs a column that is not a partition column";
        faults.push(Violation::new(
            Code::OutOfRange,
            format!("{path}.delta.partitionBy"),
            message,
        ));
    }
}
