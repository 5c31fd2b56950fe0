//! The stored state of an aggregate: per window the state rows of its groups and their distinct values.
//!
//! In memory rows are bytes (arrow's row format); in state files they are typed columns (`crate::state`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion_common::DataFusionError;
use hashbrown::{HashMap, HashSet};

use super::groups::{Groups, key_converter};
use super::measures::{self, Measures, Partial, split_distinct_key};
use crate::check::AggregatePlanned;
use crate::protocol::digest::Digest;
use crate::state::{self, Section};

/// A state file that does not fit.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It was written by another version of the engine or for another meaning of the step.
    #[error(
        "the state was written for another meaning of the step: it has {found}, the step has {wanted}"
    )]
    Incompatible {
        /// In the file.
        found: String,
        /// Of the step.
        wanted: String,
    },
    /// It cannot be read.
    #[error("the state file cannot be read")]
    Unreadable(#[source] DataFusionError),
}

/// Groups and distinct values of one window.
#[derive(Debug, Default)]
struct Bucket {
    groups: HashMap<Arc<[u8]>, Box<[u8]>>,
    distinct: HashSet<Box<[u8]>>,
}

/// The stored state.
#[derive(Debug)]
pub(super) struct State {
    keys: RowConverter,
    states: RowConverter,
    distinct: BTreeMap<u8, RowConverter>,
    key_fields: Vec<Field>,
    state_fields: Vec<Field>,
    fingerprint: String,
    buckets: BTreeMap<i64, Bucket>,
    bytes: usize,
}

/// The change of one epoch; the stored state is untouched until [`State::apply`].
#[derive(Debug, Default)]
pub(super) struct Merged {
    rows: Vec<MergedRow>,
    distinct: Vec<Box<[u8]>>,
    closed: BTreeSet<i64>,
}

/// A group that an epoch touched.
#[derive(Debug)]
struct MergedRow {
    key: Arc<[u8]>,
    state: Box<[u8]>,
    /// The state differs from the stored one.
    changed: bool,
}

impl Merged {
    pub(super) fn changed_keys(&self) -> Vec<&[u8]> {
        self.rows
            .iter()
            .filter(|row| row.changed)
            .map(|row| &*row.key)
            .collect()
    }

    pub(super) fn changed_states(&self) -> Vec<&[u8]> {
        self.rows
            .iter()
            .filter(|row| row.changed)
            .map(|row| &*row.state)
            .collect()
    }
}

/// Window start of a key: the first eight bytes after its marker, as arrow's row format writes an integer.
fn bucket_of(key: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    if let Some(written) = key.get(1..9) {
        bytes.copy_from_slice(written);
    }
    bytes[0] ^= 0x80;
    i64::from_be_bytes(bytes)
}

impl State {
    pub(super) fn new(
        plan: &AggregatePlanned,
        measures: &Measures,
    ) -> Result<Self, DataFusionError> {
        let state_fields: Vec<Field> = measures
            .state_fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        let mut key_fields = vec![Field::new("window_start", DataType::Int64, false)];
        key_fields.extend(plan.groups.iter().map(|&i| plan.input.field(i).clone()));
        let one = |field: &Field| SortField::new(field.data_type().clone());
        let distinct = measures
            .distinct()
            .into_iter()
            .map(|(i, value)| Ok((i, RowConverter::new(vec![SortField::new(value)])?)));
        Ok(Self {
            keys: key_converter(plan)?,
            states: RowConverter::new(state_fields.iter().map(one).collect())?,
            distinct: distinct.collect::<Result<_, DataFusionError>>()?,
            fingerprint: fingerprint(plan, &key_fields, &state_fields),
            key_fields,
            state_fields,
            buckets: BTreeMap::new(),
            bytes: 0,
        })
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn windows(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_distinct(&self, start: i64, key: &[u8]) -> bool {
        self.buckets
            .get(&start)
            .is_some_and(|bucket| bucket.distinct.contains(key))
    }

    /// Merges what an epoch gathered with the stored rows of the groups it touched.
    pub(super) fn merge(
        &self,
        partial: &mut Partial,
        groups: &Groups,
        measures: &Measures,
    ) -> Result<Merged, DataFusionError> {
        if groups.len() == 0 {
            return Ok(Merged::default());
        }
        let stored: Vec<Option<&[u8]>> = groups.keys().iter().map(|key| self.stored(key)).collect();
        let rows: Vec<usize> = stored
            .iter()
            .enumerate()
            .filter_map(|(i, row)| row.map(|_| i))
            .collect();
        let old: Vec<&[u8]> = stored.iter().flatten().copied().collect();
        let old = self.states_to_columns(&old)?;
        let columns = measures.merge(partial, groups.len(), &old, &rows)?;
        let merged = self.states.convert_columns(&columns)?;
        let row = |(i, row): (usize, arrow::row::Row<'_>)| MergedRow {
            key: Arc::clone(&groups.keys()[i]),
            state: row.data().into(),
            changed: stored[i] != Some(row.data()),
        };
        let rows = merged.iter().enumerate().map(row).collect();
        Ok(Merged {
            rows,
            distinct: partial.take_distinct(),
            closed: BTreeSet::new(),
        })
    }

    fn stored(&self, key: &Arc<[u8]>) -> Option<&[u8]> {
        self.buckets
            .get(&bucket_of(key))?
            .groups
            .get(key)
            .map(AsRef::as_ref)
    }

    /// Adds the windows that close: stored ones and those of this change.
    pub(super) fn closing(&self, mut merged: Merged, closes: impl Fn(i64) -> bool) -> Merged {
        let stored = self.buckets.keys().copied();
        let fresh = merged.rows.iter().map(|row| bucket_of(&row.key));
        merged.closed = stored.chain(fresh).filter(|&start| closes(start)).collect();
        merged
    }

    /// Keys and newest states of all groups of the windows that close.
    pub(super) fn closed_rows<'a>(&'a self, merged: &'a Merged) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
        let mut rows: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        for start in &merged.closed {
            let bucket = self
                .buckets
                .get(start)
                .into_iter()
                .flat_map(|bucket| &bucket.groups);
            rows.extend(bucket.map(|(key, state)| (&**key, &**state)));
        }
        let fresh = merged
            .rows
            .iter()
            .filter(|row| merged.closed.contains(&bucket_of(&row.key)));
        rows.extend(fresh.map(|row| (&*row.key, &*row.state)));
        rows.into_iter().unzip()
    }

    /// The change becomes the stored state.
    pub(super) fn apply(&mut self, merged: Merged) {
        for row in merged.rows {
            self.put(row.key, row.state);
        }
        for key in merged.distinct {
            self.put_distinct(key);
        }
        for start in merged.closed {
            self.drop_bucket(start);
        }
    }

    fn put(&mut self, key: Arc<[u8]>, state: Box<[u8]>) {
        let bucket = self.buckets.entry(bucket_of(&key)).or_default();
        let (key_len, state_len) = (key.len(), state.len());
        match bucket.groups.insert(key, state) {
            None => self.bytes += key_len + state_len + 64,
            Some(old) => self.bytes = (self.bytes + state_len).saturating_sub(old.len()),
        }
    }

    fn put_distinct(&mut self, key: Box<[u8]>) {
        let Some((_, group, _)) = split_distinct_key(&key) else {
            return;
        };
        let bucket = self.buckets.entry(bucket_of(group)).or_default();
        let added = key.len() + 32;
        if bucket.distinct.insert(key) {
            self.bytes += added;
        }
    }

    fn drop_bucket(&mut self, start: i64) {
        let Some(bucket) = self.buckets.remove(&start) else {
            return;
        };
        let groups: usize = bucket
            .groups
            .iter()
            .map(|(key, state)| key.len() + state.len() + 64)
            .sum();
        let distinct: usize = bucket.distinct.iter().map(|key| key.len() + 32).sum();
        self.bytes = self.bytes.saturating_sub(groups + distinct);
    }

    /// Keys to their columns: window start, then groups.
    pub(super) fn keys_to_columns(&self, keys: &[&[u8]]) -> Result<Vec<ArrayRef>, DataFusionError> {
        columns(&self.keys, keys)
    }

    /// State rows to their columns.
    pub(super) fn states_to_columns(
        &self,
        states: &[&[u8]],
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        columns(&self.states, states)
    }

    pub(super) fn encode_delta(&self, merged: &Merged) -> Result<Option<Vec<u8>>, DataFusionError> {
        let changed: Vec<_> = merged
            .rows
            .iter()
            .filter(|row| row.changed && !merged.closed.contains(&bucket_of(&row.key)))
            .collect();
        let keys: Vec<&[u8]> = changed.iter().map(|row| &*row.key).collect();
        let states: Vec<&[u8]> = changed.iter().map(|row| &*row.state).collect();
        let closed: Vec<i64> = merged
            .closed
            .iter()
            .copied()
            .filter(|start| self.buckets.contains_key(start))
            .collect();
        let distinct: Vec<&[u8]> = merged
            .distinct
            .iter()
            .map(AsRef::as_ref)
            .filter(|key| {
                split_distinct_key(key)
                    .is_some_and(|(_, group, _)| !merged.closed.contains(&bucket_of(group)))
            })
            .collect();
        if keys.is_empty() && closed.is_empty() && distinct.is_empty() {
            return Ok(None);
        }
        self.encode(&keys, &states, &distinct, &closed).map(Some)
    }

    pub(super) fn encode_base(&self) -> Result<Vec<u8>, DataFusionError> {
        let (mut keys, mut states, mut distinct) = (Vec::new(), Vec::new(), Vec::new());
        for bucket in self.buckets.values() {
            for (key, state) in &bucket.groups {
                keys.push(&**key);
                states.push(&**state);
            }
            distinct.extend(bucket.distinct.iter().map(AsRef::<[u8]>::as_ref));
        }
        self.encode(&keys, &states, &distinct, &[])
    }

    fn encode(
        &self,
        keys: &[&[u8]],
        states: &[&[u8]],
        distinct: &[&[u8]],
        closed: &[i64],
    ) -> Result<Vec<u8>, DataFusionError> {
        let mut group_columns = self.keys_to_columns(keys)?;
        group_columns.extend(self.states_to_columns(states)?);
        let fields: Vec<Field> = self
            .key_fields
            .iter()
            .chain(&self.state_fields)
            .cloned()
            .collect();
        let mut sections = vec![
            Section::new("groups", &fields, group_columns)?,
            Section::closed(closed)?,
        ];
        for (measure, values) in &self.distinct {
            let mine: Vec<_> = distinct
                .iter()
                .filter_map(|key| split_distinct_key(key))
                .filter(|key| key.0 == *measure)
                .collect();
            let mut section =
                self.keys_to_columns(&mine.iter().map(|key| key.1).collect::<Vec<_>>())?;
            section.extend(columns(
                values,
                &mine.iter().map(|key| key.2).collect::<Vec<_>>(),
            )?);
            let value = Field::new(
                "value",
                section[section.len() - 1].data_type().clone(),
                true,
            );
            let fields: Vec<Field> = self.key_fields.iter().cloned().chain([value]).collect();
            sections.push(Section::new(
                &format!("distinct.{measure}"),
                &fields,
                section,
            )?);
        }
        state::encode(&self.fingerprint, &sections)
    }

    pub(super) fn restore(&mut self, file: &[u8]) -> Result<(), RestoreError> {
        let decoded = state::decode(file).map_err(RestoreError::Unreadable)?;
        if decoded.fingerprint != self.fingerprint {
            return Err(RestoreError::Incompatible {
                found: decoded.fingerprint,
                wanted: self.fingerprint.clone(),
            });
        }
        self.take_in(&decoded.sections)
            .map_err(RestoreError::Unreadable)
    }

    fn take_in(&mut self, sections: &[Section]) -> Result<(), DataFusionError> {
        let keys = self.key_fields.len();
        for section in sections {
            for batch in &section.batches {
                let converted = match section.name.as_str() {
                    "closed" => {
                        state::closed_starts(batch)
                            .into_iter()
                            .for_each(|start| self.drop_bucket(start));
                        continue;
                    }
                    _ => self.keys.convert_columns(&batch.columns()[..keys])?,
                };
                if section.name == "groups" {
                    let states = self.states.convert_columns(&batch.columns()[keys..])?;
                    let rows: Vec<_> = converted
                        .iter()
                        .zip(states.iter())
                        .map(|(k, s)| (k.data().into(), s.data().into()))
                        .collect();
                    rows.into_iter()
                        .for_each(|(key, state)| self.put(key, state));
                } else if let Some(measure) = section
                    .name
                    .strip_prefix("distinct.")
                    .and_then(|m| m.parse().ok())
                {
                    self.restore_distinct(measure, &converted, &batch.columns()[keys])?;
                }
            }
        }
        Ok(())
    }

    fn restore_distinct(
        &mut self,
        measure: u8,
        groups: &arrow::row::Rows,
        values: &ArrayRef,
    ) -> Result<(), DataFusionError> {
        let Some(converter) = self.distinct.get(&measure) else {
            return Ok(());
        };
        let values = converter.convert_columns(std::slice::from_ref(values))?;
        for (group, value) in groups.iter().zip(values.iter()) {
            let mut key = Vec::new();
            measures::distinct_key(&mut key, measure, group.data(), value.data());
            self.put_distinct(key.into());
        }
        Ok(())
    }
}

fn columns(converter: &RowConverter, rows: &[&[u8]]) -> Result<Vec<ArrayRef>, DataFusionError> {
    let parser = converter.parser();
    Ok(converter.convert_rows(rows.iter().map(|row| parser.parse(row)))?)
}

/// Window, keys and measures decide what a state row means.
fn fingerprint(plan: &AggregatePlanned, keys: &[Field], states: &[Field]) -> String {
    let typed = |fields: &[Field]| {
        fields
            .iter()
            .map(|f| format!("{} {}", f.name(), f.data_type()))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let event_time: SchemaRef =
        Arc::new(Schema::new(vec![plan.input.field(plan.event_time).clone()]));
    let text = format!(
        "{}|{:?}|{}|{}|{}|{}",
        state::ENGINE,
        plan.plan.window,
        event_time.field(0).name(),
        typed(keys),
        measures::meaning(plan),
        typed(states),
    );
    Digest::of(text.as_bytes()).0
}
