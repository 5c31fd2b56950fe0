//! Arrow schemas as Delta schemas: types, the text in the log, what a table must look like, rows brought into its shape.
//!
//! Source of the format: the Delta protocol, "Schema Serialization Format". Every column we create is nullable.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use serde_json::{Value, json};

/// Characters that a column name must not hold without column mapping.
const BAD_NAME: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// The zone every timestamp is stored in.
const UTC: &str = "UTC";

/// The Arrow type a column is stored as; `None`: Delta has no such type.
fn stored_type(data_type: &DataType) -> Option<DataType> {
    let element = |field: &Field, name: &str| {
        stored_type(field.data_type()).map(|t| Arc::new(Field::new(name, t, true)))
    };
    Some(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Decimal128(_, scale) if *scale >= 0 => data_type.clone(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::Dictionary(_, values) => stored_type(values)?,
        DataType::List(item) | DataType::LargeList(item) => {
            DataType::List(element(item, "element")?)
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return None;
            };
            let key = Arc::new(Field::new(
                "key",
                stored_type(pair.first()?.data_type())?,
                false,
            ));
            let pair = Fields::from(vec![key, element(pair.get(1)?, "value")?]);
            DataType::Map(
                Arc::new(Field::new("key_value", DataType::Struct(pair), false)),
                false,
            )
        }
        DataType::Struct(members) => {
            let members: Option<Vec<_>> = members.iter().map(|m| element(m, m.name())).collect();
            DataType::Struct(members?.into())
        }
        _ => return None,
    })
}

/// The type as Delta spells it. Expects a stored type.
fn delta_type(data_type: &DataType) -> Value {
    match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Date32 => json!("date"),
        DataType::Decimal128(precision, scale) => json!(format!("decimal({precision},{scale})")),
        DataType::Binary => json!("binary"),
        DataType::Timestamp(..) => json!("timestamp"),
        DataType::List(item) => {
            json!({"type": "array", "elementType": delta_type(item.data_type()), "containsNull": true})
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => json!({
                "type": "map",
                "keyType": delta_type(pair[0].data_type()),
                "valueType": delta_type(pair[1].data_type()),
                "valueContainsNull": true,
            }),
            _ => Value::Null,
        },
        DataType::Struct(members) => struct_type(members),
        _ => json!("string"),
    }
}

fn struct_type(fields: &Fields) -> Value {
    let fields = fields.iter().map(|f| {
        json!({"name": f.name(), "type": delta_type(f.data_type()), "nullable": true, "metadata": {}})
    });
    json!({"type": "struct", "fields": fields.collect::<Vec<_>>()})
}

/// The columns a sink writes, as they are stored.
#[derive(Clone, Debug)]
pub(super) struct TableSchema {
    /// Stored types, all columns, in the pipeline's order.
    pub arrow: SchemaRef,
    /// Column names no row of which is ever null.
    required: Vec<bool>,
}

impl TableSchema {
    /// `Err` says which column cannot be stored, and the way out.
    pub(super) fn new(rows: &Schema) -> Result<Self, String> {
        let mut fields = Vec::with_capacity(rows.fields().len());
        let mut seen = BTreeMap::new();
        for field in rows.fields() {
            let name = field.name();
            if name.is_empty() || name.contains(BAD_NAME) {
                return Err(format!(
                    "column '{name}' has a character that Delta column names cannot hold; rename it with AS in a query step"
                ));
            }
            if let Some(other) = seen.insert(name.to_lowercase(), name) {
                return Err(format!(
                    "columns '{other}' and '{name}' differ only in case, which Delta does not tell apart; rename one"
                ));
            }
            let Some(stored) = stored_type(field.data_type()) else {
                return Err(format!(
                    "column '{name}' has type {}, which Delta cannot store; cast it in a query step",
                    field.data_type()
                ));
            };
            fields.push(Field::new(name, stored, true));
        }
        Ok(Self {
            arrow: Arc::new(Schema::new(fields)),
            required: rows.fields().iter().map(|f| !f.is_nullable()).collect(),
        })
    }

    /// `metaData.schemaString`.
    pub(super) fn text(&self) -> String {
        struct_type(self.arrow.fields()).to_string()
    }

    /// Compares with a table's `schemaString`; `Err` names the column, both types and the fix.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        let table: Value = serde_json::from_str(text)
            .map_err(|e| format!("the table's schema cannot be read: {e}"))?;
        let columns = table["fields"].as_array().cloned().unwrap_or_default();
        for (field, required) in self.arrow.fields().iter().zip(&self.required) {
            let name = field.name();
            let ours = delta_type(field.data_type());
            let Some(column) = columns.iter().find(|c| c["name"] == json!(name)) else {
                return Err(format!(
                    "the pipeline writes column '{name}' ({}), which the table does not have; add it to the table, leave \
                     it out with a query step, or write to another path",
                    spell(&ours)
                ));
            };
            if plain(&column["type"]) != ours {
                return Err(format!(
                    "column '{name}' is {} in the table and {} in the pipeline; cast it in a query step or write to \
                     another path",
                    spell(&column["type"]),
                    spell(&ours)
                ));
            }
            if column["nullable"] == json!(false) && !required {
                return Err(format!(
                    "column '{name}' is NOT NULL in the table and may be null in the pipeline; drop the constraint or \
                     write to another path"
                ));
            }
        }
        let extra = columns.iter().find_map(|c| {
            let name = c["name"].as_str()?;
            self.arrow
                .field_with_name(name)
                .is_err()
                .then_some((name, &c["type"]))
        });
        match extra {
            None => Ok(()),
            Some((name, kind)) => Err(format!(
                "the table has column '{name}' ({}), which the pipeline does not write; select it in a query step, drop \
                 it from the table, or write to another path",
                spell(kind)
            )),
        }
    }

    /// Rows in stored types and column order. Columns are found by name; one that is missing (a file older than the
    /// column) is null.
    pub(super) fn shape(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns =
            self.arrow
                .fields()
                .iter()
                .map(|field| match batch.column_by_name(field.name()) {
                    None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                    Some(column) if column.data_type() == field.data_type() => {
                        Ok(Arc::clone(column))
                    }
                    Some(column) => cast(column, field.data_type()),
                });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.arrow), columns)
    }
}

/// A type without the metadata of nested fields, which says nothing about what is stored.
fn plain(kind: &Value) -> Value {
    match kind {
        Value::Object(members) => {
            let kept = members.iter().map(|(k, v)| match k.as_str() {
                "metadata" => (k.clone(), json!({})),
                _ => (k.clone(), plain(v)),
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        other => other.clone(),
    }
}

fn spell(kind: &Value) -> String {
    match kind {
        Value::String(name) => name.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> TableSchema {
        let fields: Vec<_> = fields
            .iter()
            .map(|(n, t)| Field::new(*n, t.clone(), true))
            .collect();
        TableSchema::new(&Schema::new(fields)).unwrap()
    }

    #[test]
    fn a_schema_fits_the_table_it_would_create() {
        let nested = DataType::Struct(vec![Field::new("a", DataType::Utf8View, false)].into());
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let ours = schema(&[
            ("s", DataType::Utf8View),
            ("d", DataType::Decimal128(10, 2)),
            ("t", time),
            ("n", nested),
            ("l", list),
        ]);
        assert_eq!(ours.check(&ours.text()), Ok(()));
    }

    #[test]
    fn a_mismatch_names_the_column_and_both_types() {
        let table = schema(&[("region", DataType::Utf8), ("quantity", DataType::Int32)]).text();
        let check = |fields: &[(&str, DataType)], words: &[&str]| {
            let message = schema(fields).check(&table).unwrap_err();
            for word in words {
                assert!(message.contains(word), "{message}");
            }
        };
        check(
            &[("region", DataType::Utf8), ("quantity", DataType::Int64)],
            &["'quantity'", "integer", "long"],
        );
        check(
            &[("region", DataType::Utf8), ("units", DataType::Int64)],
            &["'units'", "long", "does not have"],
        );
        check(&[("region", DataType::Utf8)], &["'quantity'", "integer"]);
    }

    #[test]
    fn names_delta_cannot_hold_are_refused() {
        let check = |names: &[&str]| {
            let fields: Vec<_> = names
                .iter()
                .map(|n| Field::new(*n, DataType::Utf8, true))
                .collect();
            TableSchema::new(&Schema::new(fields)).is_err()
        };
        assert!(check(&["a b"]) && check(&["a", "A"]) && !check(&["a", "b"]));
    }
}
