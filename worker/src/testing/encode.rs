//! Columns as somebody wrote them, as a record of their source's own format. What is given is not judged: the decoder does that.

use evp_api::plan::{CsvPlan, DataType, FormatPlan, PlannedField, RowSchema};
use serde_json::{Map, Value, json};

/// The bytes of a record. Fields that are not given have a default of their type, optional ones are absent.
pub(super) fn record(
    format: &FormatPlan,
    schema: &RowSchema,
    given: &Map<String, Value>,
) -> Vec<u8> {
    let value = |field: &PlannedField| match given.get(&field.name) {
        Some(value) => Some(value.clone()),
        None => (!field.optional).then(|| default(&field.data_type)),
    };
    match format {
        FormatPlan::Json => {
            let fields = schema.fields.iter();
            let fields = fields.filter_map(|f| Some((f.name.clone(), value(f)?)));
            Value::Object(fields.collect()).to_string().into_bytes()
        }
        FormatPlan::Csv(csv) => {
            let values = schema.fields.iter().map(|f| cell(csv, value(f)));
            row(csv, values.collect())
        }
    }
}

/// The first row of a file, where it names the columns.
pub(super) fn header(csv: &CsvPlan, schema: &RowSchema) -> Vec<u8> {
    let names = schema.fields.iter().map(|f| text(csv, &f.name));
    row(csv, names.collect())
}

fn row(csv: &CsvPlan, values: Vec<String>) -> Vec<u8> {
    let delimiter = char::from(csv.delimiter).to_string();
    values.join(&delimiter).into_bytes()
}

fn cell(csv: &CsvPlan, value: Option<Value>) -> String {
    match value {
        None | Some(Value::Null) => csv.null_text.clone(),
        Some(Value::String(value)) => text(csv, &value),
        Some(value) => text(csv, &value.to_string()),
    }
}

/// In quotes where it would be read as something else.
fn text(csv: &CsvPlan, value: &str) -> String {
    let (delimiter, quote) = (char::from(csv.delimiter), char::from(csv.quote));
    let marks = [delimiter, quote, '\n', '\r'];
    if value == csv.null_text || value.contains(marks) {
        let doubled = value.replace(quote, &format!("{quote}{quote}"));
        return format!("{quote}{doubled}{quote}");
    }
    value.to_owned()
}

fn default(data_type: &DataType) -> Value {
    match data_type {
        DataType::String | DataType::Binary => json!(""),
        DataType::Int
        | DataType::Long
        | DataType::Float
        | DataType::Double
        | DataType::Decimal { .. } => json!(0),
        DataType::Boolean => json!(false),
        DataType::Date => json!("1970-01-01"),
        DataType::Timestamp => json!("1970-01-01T00:00:00Z"),
        DataType::List(_) => json!([]),
        DataType::Map(_) | DataType::Struct(_) => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use evp_api::EventPipelineSpec;
    use evp_api::plan::SourcePlan;
    use evp_core::dead_letter::Reject;
    use evp_core::decode::{Decoder, MetaColumns};
    use evp_core::position::Micros;

    use super::*;
    use crate::testing::cell::{Cell, shown};
    use crate::testing::given;

    fn source(format: &Value) -> SourcePlan {
        let spec = json!({
            "checkpoint": {"path": "s3://lake/_c"},
            "sources": [{"name": "in", "files": {"path": "s3://lake/in"}, "format": format, "schema": {"fields": [
                {"name": "s", "type": "string"}, {"name": "i", "type": "int"}, {"name": "d", "type": "decimal(5,2)"},
                {"name": "b", "type": "boolean"}, {"name": "t", "type": "timestamp"}, {"name": "day", "type": "date"},
                {"name": "o", "type": "string", "optional": true}]}}],
            "sinks": [{"name": "out", "from": "in", "stdout": {}}],
        });
        let spec: EventPipelineSpec = serde_json::from_value(spec).unwrap();
        evp_core::check::check(&spec)
            .unwrap()
            .plan
            .sources
            .remove(0)
    }

    /// The rows that the real decoder makes of records, and what it refuses.
    fn decoded(format: &Value, given: &[Value]) -> (Vec<String>, Vec<String>) {
        let source = source(format);
        let given = given.iter().map(|columns| json!({"record": columns}));
        let given = given::read(&source, &given.collect::<Vec<_>>(), "");
        let batch = given.unwrap().received(&source, Micros(0)).all();
        let decoded = Decoder::new(&source, MetaColumns::default()).decode(&batch);
        let columns = decoded.rows.schema();
        let row = |i| {
            let columns = columns.fields().iter().zip(decoded.rows.columns());
            let row = columns.map(|(f, c)| (f.name().clone(), Cell::of(c, i)));
            shown(&row.collect::<Vec<_>>())
        };
        let reject = |r: &Reject| format!("{:?} {}", r.code, r.field.clone().unwrap_or_default());
        (
            (0..decoded.rows.num_rows()).map(row).collect(),
            decoded.rejects.iter().map(reject).collect(),
        )
    }

    #[test]
    fn what_is_given_is_what_the_decoder_reads_in_every_format() {
        let full = json!({"s": "a,\"b\"\nc;", "i": -7, "d": 1.5, "b": true, "t": "2026-01-01T00:00:00Z", "day": "2026-01-02", "o": ""});
        let absent = json!({"o": null});
        let wrong = json!({"i": "many"});
        for format in [
            json!({}),
            json!({"csv": {"header": true}}),
            json!({"csv": {}}),
            json!({"csv": {"delimiter": ";", "quote": "'", "nullText": "NULL"}}),
        ] {
            let (rows, rejects) = decoded(&format, &[full.clone(), absent.clone(), wrong.clone()]);
            assert_eq!(
                rows,
                [
                    r#"{s: "a,\"b\"\nc;", i: -7, d: 1.50, b: true, t: 2026-01-01T00:00:00Z, day: 2026-01-02, o: ""}"#,
                    r#"{s: "", i: 0, d: 0.00, b: false, t: 1970-01-01T00:00:00Z, day: 1970-01-01, o: null}"#,
                ],
                "{format}"
            );
            assert_eq!(rejects, ["WrongType i"], "{format}");
        }
    }
}
