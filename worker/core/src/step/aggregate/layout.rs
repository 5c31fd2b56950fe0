//! How an aggregate's state lies in files: which windows share a bucket, what a row's columns are, what they mean.
//!
//! In memory rows are bytes (arrow's row format); in state files they are typed columns (`crate::state`). A layout knows no
//! state, so that files are read by several threads at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::DataFusionError;
use evp_api::plan::WindowPlan;

use super::groups::key_converter;
use super::measures::{self, Measures, split_distinct_key};
use crate::check::AggregatePlanned;
use crate::protocol::digest::Digest;
use crate::protocol::head::Bucket;
use crate::state::{self, RestoreError, Section};
use crate::window;

/// Windows of at most this much time lie in one bucket, but for a window that is longer.
const SPAN: i64 = 3_600_000_000;

/// Most windows of a bucket: each that closed before its bucket did is remembered.
const MOST_WINDOWS: i64 = 1024;

/// Types and meaning of an aggregate's state.
#[derive(Debug)]
pub(super) struct Layout {
    keys: RowConverter,
    states: RowConverter,
    distinct: BTreeMap<u8, RowConverter>,
    key_fields: Vec<Field>,
    state_fields: Vec<Field>,
    fingerprint: String,
    span: i64,
    /// Windows are sessions.
    merges: bool,
}

/// What one file is to hold.
#[derive(Debug, Default)]
pub(super) struct FileRows<'a> {
    /// Starts of windows whose older rows are gone.
    pub(super) closed: Vec<i64>,
    /// Keys and states of groups.
    pub(super) groups: Vec<(&'a [u8], &'a [u8])>,
    /// Keys of distinct values.
    pub(super) distinct: Vec<&'a [u8]>,
    /// Keys of sessions whose older rows are gone.
    pub(super) gone: Vec<&'a [u8]>,
}

/// Key and state of a group.
pub(super) type LoadedGroup = (Arc<[u8]>, Box<[u8]>);

/// What one file held. Windows that closed first, then rows.
#[derive(Debug, Default)]
pub struct Loaded {
    pub(super) closed: Vec<i64>,
    pub(super) groups: Vec<LoadedGroup>,
    pub(super) distinct: Vec<Box<[u8]>>,
    pub(super) gone: Vec<Arc<[u8]>>,
}

/// Window start of a group's key: the first eight bytes after its marker, as arrow's row format writes an integer.
pub(super) fn start_of(key: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    if let Some(written) = key.get(1..9) {
        bytes.copy_from_slice(written);
    }
    bytes[0] ^= 0x80;
    i64::from_be_bytes(bytes)
}

/// The group of a key: what follows the window start.
pub(super) fn group_of(key: &[u8]) -> &[u8] {
    key.get(9..).unwrap_or_default()
}

/// The key of a group's window that starts there; the inverse of [`start_of`] and [`group_of`].
pub(super) fn key_at(start: i64, group: &[u8]) -> Arc<[u8]> {
    let mut bytes = start.to_be_bytes();
    bytes[0] ^= 0x80;
    [&[1], &bytes[..], group].concat().into()
}

/// Window start of a distinct value's key; `None`: it is no such key.
pub(super) fn start_of_distinct(key: &[u8]) -> Option<i64> {
    split_distinct_key(key).map(|(_, group, _)| start_of(group))
}

impl Layout {
    pub(super) fn new(
        plan: &AggregatePlanned,
        measures: &Measures,
    ) -> Result<Self, DataFusionError> {
        let merges = matches!(plan.plan.window, WindowPlan::Session { .. });
        let last = merges.then(|| Field::new("last", DataType::Int64, false));
        let measured = measures.state_fields();
        let measured = measured.iter().map(|f| f.as_ref().clone());
        let state_fields: Vec<Field> = last.into_iter().chain(measured).collect();
        let mut key_fields = vec![Field::new("window_start", DataType::Int64, false)];
        key_fields.extend(plan.groups.iter().map(|&i| plan.input.field(i).clone()));
        let one = |field: &Field| SortField::new(field.data_type().clone());
        let distinct = measures
            .distinct()
            .into_iter()
            .map(|(i, value)| Ok((i, RowConverter::new(vec![SortField::new(value)])?)));
        let slide = window::slide(plan.plan.window);
        Ok(Self {
            keys: key_converter(plan)?,
            states: RowConverter::new(state_fields.iter().map(one).collect())?,
            distinct: distinct.collect::<Result<_, DataFusionError>>()?,
            fingerprint: fingerprint(plan, &key_fields, &state_fields),
            key_fields,
            state_fields,
            span: slide.saturating_mul((SPAN / slide.max(1)).clamp(1, MOST_WINDOWS)),
            merges,
        })
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The bucket of the window that starts there.
    pub(super) fn bucket(&self, start: i64) -> Bucket {
        Bucket(start.div_euclid(self.span))
    }

    /// Starts of the windows of a bucket.
    pub(super) fn starts(&self, bucket: Bucket) -> Range<i64> {
        let first = bucket.0.saturating_mul(self.span);
        first..first.saturating_add(self.span)
    }

    /// Keys to their columns: window start, then groups.
    pub(super) fn keys_to_columns<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        columns(&self.keys, keys)
    }

    /// State rows to their columns.
    pub(super) fn states_to_columns<'a>(
        &self,
        states: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        columns(&self.states, states)
    }

    /// Columns of states to their rows.
    pub(super) fn states_of(&self, columns: &[ArrayRef]) -> Result<Rows, DataFusionError> {
        Ok(self.states.convert_columns(columns)?)
    }

    /// A state file.
    pub(super) fn encode(&self, rows: &FileRows<'_>) -> Result<Vec<u8>, DataFusionError> {
        let mut groups = self.keys_to_columns(rows.groups.iter().map(|row| row.0))?;
        groups.extend(self.states_to_columns(rows.groups.iter().map(|row| row.1))?);
        let fields: Vec<Field> = self
            .key_fields
            .iter()
            .chain(&self.state_fields)
            .cloned()
            .collect();
        let mut sections = vec![
            Section::closed(&rows.closed)?,
            Section::new("groups", &fields, groups)?,
        ];
        for (measure, values) in &self.distinct {
            sections.push(self.distinct_section(*measure, values, &rows.distinct)?);
        }
        if self.merges {
            let gone = self.keys_to_columns(rows.gone.iter().copied())?;
            sections.push(Section::new("gone", &self.key_fields, gone)?);
        }
        state::encode(&self.fingerprint, &sections)
    }

    fn distinct_section(
        &self,
        measure: u8,
        values: &RowConverter,
        keys: &[&[u8]],
    ) -> Result<Section, DataFusionError> {
        let split = keys.iter().filter_map(|key| split_distinct_key(key));
        let mine: Vec<_> = split.filter(|key| key.0 == measure).collect();
        let mut section = self.keys_to_columns(mine.iter().map(|key| key.1))?;
        section.extend(columns(values, mine.iter().map(|key| key.2))?);
        let value_type = section[section.len() - 1].data_type().clone();
        let value = Field::new("value", value_type, true);
        let fields: Vec<Field> = self.key_fields.iter().cloned().chain([value]).collect();
        Section::new(&format!("distinct.{measure}"), &fields, section)
    }

    /// Reads a state file.
    pub(super) fn read(&self, file: &[u8]) -> Result<Loaded, RestoreError> {
        let decoded = state::decode(file).map_err(RestoreError::Unreadable)?;
        if decoded.fingerprint != self.fingerprint {
            return Err(RestoreError::Incompatible {
                found: decoded.fingerprint,
                wanted: self.fingerprint.clone(),
            });
        }
        let mut loaded = Loaded::default();
        for section in &decoded.sections {
            for batch in &section.batches {
                self.read_batch(&section.name, batch, &mut loaded)
                    .map_err(RestoreError::Unreadable)?;
            }
        }
        Ok(loaded)
    }

    fn read_batch(
        &self,
        section: &str,
        batch: &RecordBatch,
        into: &mut Loaded,
    ) -> Result<(), DataFusionError> {
        let at = self.key_fields.len();
        if section == "closed" {
            into.closed.extend(state::closed_starts(batch));
        } else if section == "gone" {
            let keys = self.keys.convert_columns(batch.columns())?;
            into.gone.extend(keys.iter().map(|key| key.data().into()));
        } else if section == "groups" {
            let keys = self.keys.convert_columns(&batch.columns()[..at])?;
            let states = self.states.convert_columns(&batch.columns()[at..])?;
            let rows = keys.iter().zip(states.iter());
            into.groups
                .extend(rows.map(|(k, s)| (k.data().into(), s.data().into())));
        } else if let Some(measure) = section
            .strip_prefix("distinct.")
            .and_then(|m| m.parse().ok())
            && let Some(values) = self.distinct.get(&measure)
        {
            let groups = self.keys.convert_columns(&batch.columns()[..at])?;
            let values = values.convert_columns(&batch.columns()[at..=at])?;
            for (group, value) in groups.iter().zip(values.iter()) {
                let mut key = Vec::new();
                measures::distinct_key(&mut key, measure, group.data(), value.data());
                into.distinct.push(key.into());
            }
        }
        Ok(())
    }
}

fn columns<'a>(
    converter: &RowConverter,
    rows: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    let parser = converter.parser();
    Ok(converter.convert_rows(rows.map(|row| parser.parse(row)))?)
}

/// Window, keys and measures decide what a state row means; below an aggregate, what that one's rows mean does too.
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
    let above = plan.above.as_deref().map(|above| format!("|{above}"));
    // Under another one a window that closed might open again, and be given out a second time.
    let lateness = (plan.allowed_lateness != 0).then(|| format!("|late {}", plan.allowed_lateness));
    let more = [above, lateness].into_iter().flatten();
    Digest::of((text + &more.collect::<String>()).as_bytes()).0
}
