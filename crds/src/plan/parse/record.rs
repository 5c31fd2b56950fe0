//! The declared fields of a source's records.

use std::collections::BTreeSet;

use super::text::quantity;
use super::{Findings, data_type};
use crate::plan::{Code, DataType, PlannedField, RowSchema, Violation};
use crate::schema::{Field, RecordSchema};

/// Largest `maxRecordBytes`: a record is held in memory as a whole.
const MAX_RECORD: u64 = 64 << 20;

pub(super) fn schema(raw: &RecordSchema, path: &str, findings: &mut Findings) -> Option<RowSchema> {
    let mut seen = BTreeSet::new();
    for (i, field) in raw.fields.iter().enumerate() {
        findings.require(seen.insert(&field.name), || {
            let message = format!("`{}` is declared twice", field.name);
            Violation::new(
                Code::DuplicateField,
                format!("{path}.fields[{i}].name"),
                message,
            )
        });
    }
    let fields: Vec<_> = raw
        .fields
        .iter()
        .enumerate()
        .map(|(i, f)| field(f, &format!("{path}.fields[{i}]"), findings))
        .collect();
    Some(RowSchema {
        fields: fields.into_iter().collect::<Option<_>>()?,
    })
}

/// Largest record that is decoded.
pub(super) fn max_bytes(raw: &RecordSchema, path: &str, findings: &mut Findings) -> Option<usize> {
    let path = format!("{path}.maxRecordBytes");
    let bytes = quantity(&raw.max_record_bytes, &path, findings)?;
    findings.require((1..=MAX_RECORD).contains(&bytes), || {
        Violation::new(Code::OutOfRange, path, "must be 1 to 64Mi")
    });
    usize::try_from(bytes).ok()
}

fn field(raw: &Field, path: &str, findings: &mut Findings) -> Option<PlannedField> {
    findings.require(
        !raw.name.is_empty() && raw.name != "_meta" && !raw.name.starts_with("_meta."),
        || {
            let message = format!(
                "`{}` must not be empty or begin with `_meta`, which every source adds",
                raw.name
            );
            Violation::new(Code::Name, format!("{path}.name"), message)
        },
    );
    let parsed = data_type::parse(&raw.data_type).map_err(|why| {
        let message = format!("`{}` is not a type: {why}", raw.data_type);
        Violation::new(Code::DataType, format!("{path}.type"), message)
            .did_you_mean(&raw.data_type, data_type::KNOWN)
    });
    let parsed = findings.take(parsed)?;
    let holds_time = contains_timestamp(&parsed);
    for (option, given) in [("zone", raw.zone.is_some()), ("unit", raw.unit.is_some())] {
        findings.require(!given || holds_time, || {
            let message = format!(
                "`{option}` says how a timestamp is read; `{}` is {}",
                raw.name, raw.data_type
            );
            Violation::new(Code::TimestampOption, format!("{path}.{option}"), message)
        });
    }
    if let Some(zone) = &raw.zone {
        let known = is_offset(zone) || jiff::tz::TimeZone::get(zone).is_ok();
        findings.require(known, || {
            let message = format!("`{zone}` must be an IANA zone such as `Europe/Berlin`, or an offset such as `+02:00`");
            Violation::new(Code::OutOfRange, format!("{path}.zone"), message)
        });
    }
    Some(PlannedField {
        name: raw.name.clone(),
        data_type: parsed,
        optional: raw.optional,
        zone: raw.zone.clone(),
        unit: raw.unit,
    })
}

/// `+hh:mm` or `-hh:mm`, as far as a clock goes.
fn is_offset(text: &str) -> bool {
    let number = |range| {
        text.get(range)
            .filter(|digits: &&str| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u8>().ok())
    };
    text.len() == 6
        && text.starts_with(['+', '-'])
        && text.get(3..4) == Some(":")
        && number(1..3).is_some_and(|hours| hours < 24)
        && number(4..6).is_some_and(|minutes| minutes < 60)
}

fn contains_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp => true,
        DataType::List(item) | DataType::Map(item) => contains_timestamp(item),
        DataType::Struct(members) => members.iter().any(|(_, member)| contains_timestamp(member)),
        _ => false,
    }
}
