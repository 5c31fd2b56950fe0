//! What the tables hold, read commit by commit from the objects themselves.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::universe::Universe;

/// One commit of a Delta table.
#[derive(Debug, Default)]
pub(super) struct Version {
    /// The epoch that its marker names.
    pub(super) epoch: Option<u64>,
    /// Under which name.
    pub(super) app: String,
    /// Rows that this commit adds.
    pub(super) added: Vec<String>,
    /// All rows, as of this commit.
    pub(super) rows: Vec<String>,
    pub(super) removes: usize,
}

/// Every version of a table; these columns of its rows.
pub(super) async fn versions(
    universe: &Universe,
    table: &str,
    columns: &[&str],
) -> Result<Vec<Version>, String> {
    let mut versions = Vec::new();
    let mut active: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0.. {
        let name = format!("{table}/_delta_log/{number:020}.json");
        let Some(commit) = universe.get(&name).await else {
            break;
        };
        let mut version = Version::default();
        for line in String::from_utf8_lossy(&commit).lines() {
            let action: Value = serde_json::from_str(line).map_err(|e| format!("{name}: {e}"))?;
            if let Some(txn) = action.get("txn") {
                version.epoch = txn["version"].as_u64();
                version.app = txn["appId"].as_str().unwrap_or_default().to_owned();
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                version.removes += 1;
                if active.remove(path).is_none() {
                    return Err(format!("{name} removes {path}, which is not there"));
                }
            }
            if let Some(path) = action["add"]["path"].as_str() {
                let file = format!("{table}/{path}");
                let bytes = universe.get(&file).await;
                let bytes = bytes.ok_or_else(|| format!("{name} adds {file}, which is gone"))?;
                let rows = parquet_rows(bytes, columns).map_err(|e| format!("{file}: {e}"))?;
                version.added.extend(rows.clone());
                if active.insert(path.to_owned(), rows).is_some() {
                    return Err(format!("{name} adds {path} a second time"));
                }
            }
        }
        version.rows = active.values().flatten().cloned().collect();
        version.added.sort();
        version.rows.sort();
        versions.push(version);
    }
    Ok(versions)
}

fn parquet_rows(bytes: Bytes, columns: &[&str]) -> Result<Vec<String>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| text(&e))?;
    let mut rows = Vec::new();
    for batch in reader.build().map_err(|e| text(&e))? {
        let batch = batch.map_err(|e| text(&e))?;
        let column = |name: &&str| -> Result<ArrayRef, String> {
            let column = batch.column_by_name(name).ok_or(format!("no {name}"))?;
            let plain = match column.data_type() {
                DataType::Timestamp(..) => cast(column, &DataType::Int64),
                _ => Ok(column.clone()),
            };
            plain
                .and_then(|c| cast(&c, &DataType::Utf8))
                .map_err(|e| text(&e))
        };
        let columns: Vec<ArrayRef> = columns.iter().map(column).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cell = |c: &ArrayRef| match c.is_valid(row) {
                true => c.as_string::<i32>().value(row).to_owned(),
                false => "null".to_owned(),
            };
            rows.push(columns.iter().map(cell).collect::<Vec<_>>().join(" "));
        }
    }
    Ok(rows)
}

/// Dead letters by epoch: step, split, position.
pub(super) async fn letters(universe: &Universe) -> Result<BTreeMap<u64, Vec<String>>, String> {
    published(universe, "dead-letters", |epoch, name, file| {
        let mut found = Vec::new();
        for line in String::from_utf8_lossy(&file).lines() {
            let letter: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
            let text = |field: &str| letter[field].as_str().unwrap_or_default().to_owned();
            if letter["epoch"].as_u64() != Some(epoch) {
                return Err(format!("{name} of epoch {epoch} has {line}"));
            }
            let (step, split) = (text("step"), text("split"));
            found.push(format!("{step} {split} {}", letter["position"]));
        }
        Ok(found)
    })
    .await
}

/// Rows of Parquet files by epoch; these columns of them.
pub(super) async fn parquet(
    universe: &Universe,
    folder: &str,
    columns: &[&str],
) -> Result<BTreeMap<u64, Vec<String>>, String> {
    published(universe, folder, |_, name, file| {
        parquet_rows(file, columns).map_err(|e| format!("{name}: {e}"))
    })
    .await
}

/// What the files of each epoch hold, as the markers name them. Also that nothing else is visible.
async fn published(
    universe: &Universe,
    folder: &str,
    read: impl Fn(u64, &str, Bytes) -> Result<Vec<String>, String>,
) -> Result<BTreeMap<u64, Vec<String>>, String> {
    let mut epochs = BTreeMap::new();
    let mut visible: BTreeSet<String> = BTreeSet::new();
    let mut named = BTreeSet::new();
    for object in universe.list(folder).await {
        let Some(marker) = object.strip_prefix(&format!("{folder}/_commits/")) else {
            if !object.starts_with(&format!("{folder}/_")) {
                visible.insert(object);
            }
            continue;
        };
        let epoch = marker.trim_end_matches(".json").rsplit('-').next();
        let epoch: u64 = epoch.and_then(|e| e.parse().ok()).ok_or(object.clone())?;
        let body = universe.get(&object).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).map_err(|e| format!("{object}: {e}"))?;
        let mut found = Vec::new();
        for file in body["files"].as_array().into_iter().flatten() {
            let name = format!("{folder}/{}", file["name"].as_str().unwrap_or_default());
            let bytes = universe.get(&name).await;
            let bytes = bytes.ok_or_else(|| format!("{object} names {name}, which is gone"))?;
            found.extend(read(epoch, &name, bytes)?);
            named.insert(name);
        }
        found.sort();
        if epochs.insert(epoch, found).is_some() {
            return Err(format!("two markers of epoch {epoch}"));
        }
    }
    match visible.difference(&named).next() {
        Some(stray) => Err(format!("{stray} is visible and no marker names it")),
        None => Ok(epochs),
    }
}
