//! Laws of decoding (semantics 34, 36).

mod conversions;
mod corpus;
mod laws;
mod rows;

use evp_api::plan::{
    DataType, FormatPlan, GeneratorPlan, NodeName, PlannedField, RowSchema, SourceKind, SourcePlan,
    Template,
};
use evp_api::schema::TimeUnit;

use super::{Decoded, Decoder, MetaColumns};
use crate::dead_letter::RejectCode;
use crate::position::{Micros, Position, SplitId};
use crate::record::{RawBatch, RawRecord, Span};

fn field(name: &str, data_type: DataType) -> PlannedField {
    PlannedField {
        name: name.to_owned(),
        data_type,
        optional: false,
        zone: None,
        unit: None,
    }
}

fn optional(name: &str, data_type: DataType) -> PlannedField {
    PlannedField {
        optional: true,
        ..field(name, data_type)
    }
}

fn source(fields: Vec<PlannedField>) -> SourcePlan {
    SourcePlan {
        name: NodeName::new("orders").unwrap(),
        format: FormatPlan::Json,
        kind: SourceKind::Generator(GeneratorPlan {
            template: Template::Orders,
            rate: 1,
            seed: 0,
            limit: None,
        }),
        schema: RowSchema { fields },
        refuse_unknown_fields: false,
        max_record_bytes: 4096,
        watermark: None,
    }
}

/// A schema with every type, all optional.
fn every_type() -> Vec<PlannedField> {
    let decimal = DataType::Decimal {
        precision: 6,
        scale: 2,
    };
    let zoned = |zone: &str, name: &str| PlannedField {
        zone: Some(zone.to_owned()),
        ..optional(name, DataType::Timestamp)
    };
    let unit = |unit, name: &str| PlannedField {
        unit: Some(unit),
        ..optional(name, DataType::Timestamp)
    };
    vec![
        optional("s", DataType::String),
        optional("i", DataType::Int),
        optional("l", DataType::Long),
        optional("f", DataType::Float),
        optional("d", DataType::Double),
        optional("b", DataType::Boolean),
        optional("n", decimal.clone()),
        optional("date", DataType::Date),
        optional("t", DataType::Timestamp),
        optional("bin", DataType::Binary),
        optional("list", DataType::List(Box::new(DataType::Int))),
        optional("map", DataType::Map(Box::new(DataType::String))),
        optional(
            "st",
            DataType::Struct(vec![
                ("x".into(), DataType::Int),
                ("y".into(), DataType::String),
            ]),
        ),
        optional(
            "deep",
            DataType::List(Box::new(DataType::Map(Box::new(DataType::Struct(vec![(
                "z".into(),
                decimal,
            )]))))),
        ),
        zoned("Europe/Berlin", "berlin"),
        zoned("+05:30", "india"),
        unit(TimeUnit::Seconds, "ts"),
        unit(TimeUnit::Milliseconds, "tms"),
        unit(TimeUnit::Microseconds, "tus"),
        unit(TimeUnit::Nanoseconds, "tns"),
        optional("odd \"name\"", DataType::Int),
    ]
}

fn batch(values: &[Option<&[u8]>]) -> RawBatch {
    let mut raw = RawBatch {
        splits: vec![SplitId::partition(3)],
        ..RawBatch::default()
    };
    for (i, value) in values.iter().enumerate() {
        let span = value.map(|bytes| {
            let start = u32::try_from(raw.bytes.len()).unwrap();
            raw.bytes.extend_from_slice(bytes);
            Span {
                start,
                end: u32::try_from(raw.bytes.len()).unwrap(),
            }
        });
        let position = Position(100 + i64::try_from(i).unwrap());
        raw.records.push(RawRecord {
            split: 0,
            position,
            timestamp: Micros(7),
            key: None,
            value: span,
        });
    }
    raw
}

fn decode(plan: &SourcePlan, values: &[Option<&[u8]>]) -> Decoded {
    Decoder::new(plan, MetaColumns::default()).decode(&batch(values))
}

/// Verdict on one record: the code of its rejection, or none.
fn verdict(plan: &SourcePlan, record: &[u8]) -> Option<(RejectCode, Option<String>, String)> {
    let decoded = decode(plan, &[Some(record)]);
    assert_eq!(decoded.rows.num_rows() + decoded.rejects.len(), 1);
    decoded
        .rejects
        .into_iter()
        .next()
        .map(|r| (r.code, r.field, r.message))
}

/// A small generator of numbers for properties: splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}
