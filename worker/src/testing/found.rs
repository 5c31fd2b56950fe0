//! What sinks hold in the end, read back as anybody would read it, with the keys applied that the sink itself does not apply here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use evp_api::plan::{DeadLetterFormat, KafkaSinkPlan, NodeName, SinkKind, SinkPlan, StoragePath};
use evp_core::protocol::head::Head;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::cell::Cell;
use super::expect::Row;
use super::life::Lived;
use super::subject::{Keyed, Subject};
use crate::cli::place::written;
use crate::cli::query::{self, Written};
use crate::sink::dead_letters::{dead_letter_schema, json_lines_schema};
use crate::store::{Location, Storage};

/// Reads what a run left.
pub(super) struct Found<'a> {
    subject: &'a Subject,
    storage: &'a Storage,
    head: &'a Head,
}

type Read<T> = Result<T, String>;

impl<'a> Found<'a> {
    pub(super) fn of(subject: &'a Subject, lived: &'a Lived) -> Self {
        Self {
            subject,
            storage: &lived.storage,
            head: &lived.head,
        }
    }

    /// The rows of a sink.
    pub(super) async fn sink(&self, name: &NodeName) -> Read<Vec<Row>> {
        let sink = self.subject.sink(name).ok_or("there is no such sink")?;
        let schema = &self.subject.checked().sinks[name];
        match (&sink.kind, self.subject.keyed.get(name)) {
            (SinkKind::Kafka(kafka), _) => {
                let rows = rows(&self.topic(sink, kafka, schema).await?, schema)?;
                let keyed = Keyed {
                    keys: sink.keys.clone(),
                    last: true,
                };
                Ok(if sink.keys.is_empty() {
                    rows
                } else {
                    keyed.of(rows)
                })
            }
            (SinkKind::Delta(delta), Some(keyed)) => {
                let added = self.added(&delta.path).await?;
                Ok(keyed.of(rows(&added, schema)?))
            }
            _ => rows(&self.table(name.as_str(), Some(name)).await?, schema),
        }
    }

    /// The dead letters, their bytes as text.
    pub(super) async fn letters(&self) -> Read<Vec<Row>> {
        let Some(plan) = &self.subject.checked().plan.dead_letter else {
            return Ok(Vec::new());
        };
        let schema = match plan.format {
            DeadLetterFormat::Parquet => dead_letter_schema(),
            DeadLetterFormat::JsonLines => json_lines_schema(),
        };
        let mut letters = rows(&self.table("dead_letters", None).await?, &schema)?;
        for (name, cell) in letters.iter_mut().flatten() {
            if let (true, Cell::Text(raw) | Cell::Binary(raw)) = (name == "raw", &*cell) {
                let bytes = STANDARD.decode(raw).map_err(|e| e.to_string())?;
                *cell = Cell::Text(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(letters)
    }

    /// A table by its name; `sink`: `None` for the dead letters.
    async fn table(&self, name: &str, sink: Option<&NodeName>) -> Read<Vec<RecordBatch>> {
        let mut written =
            written(self.subject.checked(), self.storage).map_err(|e| e.to_string())?;
        let wanted = |of: &String| sink.is_some_and(|sink| sink.as_str() == of);
        let Written {
            tables,
            folders,
            dead_letters,
        } = &mut written;
        tables.retain(|(of, _)| wanted(of));
        folders.retain(|(of, _)| wanted(of));
        dead_letters.take_if(|_| sink.is_some());
        let opened = query::open_tables(&written).await.map_err(|e| told(&e))?;
        if !opened.absent.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT * FROM \"{name}\"");
        let (batches, cut) = query::ask(&opened.session, &sql)
            .await
            .map_err(|e| told(&e))?;
        match cut {
            false => Ok(batches),
            true => Err("it holds more rows than a test can compare".to_owned()),
        }
    }

    /// The records of a topic, in their order.
    async fn topic(
        &self,
        sink: &SinkPlan,
        kafka: &KafkaSinkPlan,
        schema: &SchemaRef,
    ) -> Read<Vec<RecordBatch>> {
        let folder = Subject::topics().join(&kafka.topic);
        let place = self.open(&StoragePath::Local(folder.display().to_string()))?;
        let ours = self.head.body.sinks.get(&sink.name);
        let ours = ours.map_or("", |entry| entry.identity.id8());
        // Epoch and number stand at the end of a name; others may write to the topic too.
        let number = |path: &Path| {
            let name = path.filename()?.strip_suffix(".jsonl")?;
            let mut parts = name.strip_prefix(ours)?.rsplit('-');
            let (number, epoch): (u64, u64) =
                (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some((epoch, number))
        };
        let is_shown = |path: &Path| {
            path.prefix_match(&place.prefix)
                .is_some_and(|mut p| p.all(|part| !part.as_ref().starts_with('_')))
        };
        let listed: Vec<_> = place
            .root
            .list(Some(&place.prefix))
            .try_collect()
            .await
            .map_err(|e| e.to_string())?;
        let mut files: Vec<_> = listed
            .into_iter()
            .filter(|file| is_shown(&file.location))
            .filter_map(|file| Some((number(&file.location)?, file.location)))
            .collect();
        files.sort();
        let mut batches = Vec::new();
        for (_, file) in files {
            batches.extend(values(&get(&place, &file).await?, schema)?);
        }
        Ok(batches)
    }

    /// The rows that were added to a Delta table without partitions, in the order in which they were.
    async fn added(&self, path: &StoragePath) -> Read<Vec<RecordBatch>> {
        let place = self.open(path)?;
        let mut batches = Vec::new();
        for version in 0_u64.. {
            let name = format!("{}/_delta_log/{version:020}.json", place.prefix);
            let Ok(commit) = get(&place, &Path::from(name)).await else {
                break;
            };
            for action in commit
                .split(|b| *b == b'\n')
                .filter(|line| !line.is_empty())
            {
                let action: serde_json::Value =
                    serde_json::from_slice(action).map_err(|e| e.to_string())?;
                let Some(file) = action["add"]["path"].as_str() else {
                    continue;
                };
                let bytes = get(&place, &Path::from(format!("{}/{file}", place.prefix))).await?;
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
                    .and_then(ParquetRecordBatchReaderBuilder::build);
                let read: Result<Vec<_>, _> = reader.map_err(|e| e.to_string())?.collect();
                batches.extend(read.map_err(|e| e.to_string())?);
            }
        }
        Ok(batches)
    }

    fn open(&self, path: &StoragePath) -> Read<Location> {
        self.storage.open(path).map_err(|e| e.describe())
    }
}

async fn get(place: &Location, path: &Path) -> Read<Bytes> {
    let got = place.root.get(path).await.map_err(|e| e.to_string())?;
    got.bytes().await.map_err(|e| e.to_string())
}

/// An error and what is at its bottom.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes
        .last()
        .map_or(error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Values of records `{"key": …, "value": {…}}`.
fn values(lines: &[u8], schema: &SchemaRef) -> Read<Vec<RecordBatch>> {
    let value = Field::new(
        "value",
        DataType::Struct(schema.fields().iter().map(as_text).collect()),
        false,
    );
    let record = Arc::new(Schema::new(vec![value]));
    let reader = ReaderBuilder::new(record)
        .build(lines)
        .map_err(|e| e.to_string())?;
    let batches: Result<Vec<_>, _> = reader.collect();
    let batches = batches.map_err(|e| e.to_string())?.into_iter();
    Ok(batches
        .map(|batch| RecordBatch::from(batch.column(0).as_struct()))
        .collect())
}

/// Bytes are base64 in JSON.
fn as_text(field: &Arc<Field>) -> Arc<Field> {
    let data_type = match field.data_type() {
        t if t.is_binary() => DataType::Utf8,
        DataType::Struct(members) => DataType::Struct(members.iter().map(as_text).collect()),
        DataType::List(item) => DataType::List(as_text(item)),
        other => other.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Rows of batches, in the columns and types of the sink.
fn rows(batches: &[RecordBatch], schema: &Schema) -> Read<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in batches {
        let mut columns = Vec::new();
        for field in schema.fields() {
            let column = batch.column_by_name(field.name());
            let column = column.ok_or_else(|| format!("it has no column `{}`", field.name()))?;
            // What cannot be cast is compared as it is: text stands for bytes.
            let typed = match field.data_type().is_binary() {
                true => Ok(Arc::clone(column)),
                false => cast(column, field.data_type()),
            };
            columns.push((field, typed.map_err(|e| e.to_string())?));
        }
        rows.extend((0..batch.num_rows()).map(|row| {
            let cell = |(field, column): &(&Arc<Field>, arrow::array::ArrayRef)| {
                let cell = match Cell::of(column, row) {
                    Cell::Text(text) if field.data_type().is_binary() => Cell::Binary(text),
                    cell => cell,
                };
                (field.name().clone(), cell)
            };
            columns.iter().map(cell).collect::<Row>()
        }));
    }
    Ok(rows)
}

impl Keyed {
    /// One row a key, in the order in which keys came first.
    fn of(&self, rows: Vec<Row>) -> Vec<Row> {
        let mut kept: Vec<Row> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in rows {
            let is_key = |(name, _): &&(String, Cell)| self.keys.contains(name);
            let key = format!("{:?}", row.iter().filter(is_key).collect::<Vec<_>>());
            match places.get(&key) {
                None => {
                    places.insert(key, kept.len());
                    kept.push(row);
                }
                Some(&at) if self.last => kept[at] = row,
                Some(_) => {}
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_keeps_the_first_row_of_a_key_or_the_last() {
        let row = |key: i128, value: i128| -> Row {
            vec![
                ("k".into(), Cell::Whole(key)),
                ("v".into(), Cell::Whole(value)),
            ]
        };
        let all = vec![row(1, 1), row(2, 2), row(1, 3)];
        let keyed = |last| Keyed {
            keys: vec!["k".into()],
            last,
        };
        assert_eq!(keyed(false).of(all.clone()), [row(1, 1), row(2, 2)]);
        assert_eq!(keyed(true).of(all), [row(1, 3), row(2, 2)]);
    }
}
