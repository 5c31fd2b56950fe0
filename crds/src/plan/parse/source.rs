//! Sources, their schemas and watermarks; and the small objects that only the operator uses.

use std::collections::BTreeSet;

use super::text::{duration, instant, positive, quantity};
use super::{Findings, data_type, exactly_one, node_name};
use crate::pipeline::{Objectives, Workers};
use crate::plan::{
    Code, DataType, GeneratorPlan, KafkaPlan, KafkaStart, OnDataLoss, PlannedField, RowSchema,
    SaslPlan, SourceKind, SourcePlan, TlsPlan, Violation, WatermarkPlan,
};
use crate::schema::{Field, RecordSchema, UnknownFields};
use crate::source::{Generator, Kafka, Source, StartFrom, StartOffset, Tls, Watermark};

pub(super) fn source(
    index: usize,
    raw: &Source,
    routes: bool,
    findings: &mut Findings,
) -> Option<SourcePlan> {
    let path = format!("spec.sources[{index}]");
    let name = node_name(&raw.name, &path, findings);
    let kinds = [
        ("kafka", raw.kafka.is_some()),
        ("generator", raw.generator.is_some()),
    ];
    let kind = exactly_one(&path, &kinds, findings)
        .then(|| kind(raw, &path, findings))
        .flatten();
    if let Some(kafka) = &raw.kafka {
        findings.require(
            kafka.on_data_loss != OnDataLoss::RecordGap || routes,
            || {
                let message =
                    "`RecordGap` leaves a row in the dead letters, and `deadLetter` is not given";
                Violation::new(
                    Code::DeadLetterNeeded,
                    format!("{path}.kafka.onDataLoss"),
                    message,
                )
            },
        );
    }
    let schema = schema(&raw.schema, &format!("{path}.schema"), findings);
    let max_record_bytes = quantity(
        &raw.schema.max_record_bytes,
        &format!("{path}.schema.maxRecordBytes"),
        findings,
    );
    findings.require(
        max_record_bytes.is_none_or(|b| (1..=64 << 20).contains(&b)),
        || {
            Violation::new(
                Code::OutOfRange,
                format!("{path}.schema.maxRecordBytes"),
                "must be 1 to 64Mi",
            )
        },
    );
    let watermark = match &raw.watermark {
        Some(w) => watermark(w, schema.as_ref(), &format!("{path}.watermark"), findings).map(Some),
        None => Some(None),
    };
    Some(SourcePlan {
        name: name?,
        kind: kind?,
        schema: schema?,
        refuse_unknown_fields: raw.schema.unknown_fields == UnknownFields::DeadLetter,
        max_record_bytes: usize::try_from(max_record_bytes?).ok()?,
        watermark: watermark?,
    })
}

fn kind(raw: &Source, path: &str, findings: &mut Findings) -> Option<SourceKind> {
    match (&raw.kafka, &raw.generator) {
        (Some(raw), _) => kafka(raw, &format!("{path}.kafka"), findings).map(SourceKind::Kafka),
        (_, Some(raw)) => {
            generator(raw, &format!("{path}.generator"), findings).map(SourceKind::Generator)
        }
        _ => None,
    }
}

fn generator(raw: &Generator, path: &str, findings: &mut Findings) -> Option<GeneratorPlan> {
    findings.require((1..=10_000_000).contains(&raw.rate), || {
        Violation::new(
            Code::OutOfRange,
            format!("{path}.rate"),
            "must be 1 to 10000000 events a second",
        )
    });
    findings.require(raw.limit.is_none_or(|limit| limit > 0), || {
        Violation::new(
            Code::OutOfRange,
            format!("{path}.limit"),
            "must be at least 1",
        )
    });
    Some(GeneratorPlan {
        template: raw.template,
        rate: u64::try_from(raw.rate).ok()?,
        seed: u64::try_from(raw.seed).ok()?,
        limit: raw.limit.and_then(|limit| u64::try_from(limit).ok()),
    })
}

fn kafka(raw: &Kafka, path: &str, findings: &mut Findings) -> Option<KafkaPlan> {
    let servers_ok = raw.bootstrap_servers.split(',').all(|server| {
        server
            .trim()
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    });
    findings.require(servers_ok, || {
        let message = format!(
            "`{}` must be host:port, comma-separated",
            raw.bootstrap_servers
        );
        Violation::new(Code::Address, format!("{path}.bootstrapServers"), message)
    });
    let topic_ok = raw
        .topic
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    findings.require(topic_ok && !raw.topic.is_empty(), || {
        let message = format!(
            "`{}` must be a topic's name: letters, digits, `.`, `_`, `-`",
            raw.topic
        );
        Violation::new(Code::Address, format!("{path}.topic"), message)
    });
    let start = start(raw, path, findings);
    let tls = match &raw.tls {
        Some(raw) => tls(raw, &format!("{path}.tls"), findings).map(Some),
        None => Some(None),
    };
    let sasl = raw.sasl.as_ref().map(|sasl| SaslPlan {
        mechanism: sasl.mechanism,
        username: sasl.username.clone(),
        password: sasl.password.secret_key_ref.clone(),
    });
    Some(KafkaPlan {
        bootstrap_servers: raw.bootstrap_servers.clone(),
        topic: raw.topic.clone(),
        start: start?,
        tls: tls?,
        sasl,
        on_data_loss: raw.on_data_loss,
    })
}

fn start(raw: &Kafka, path: &str, findings: &mut Findings) -> Option<KafkaStart> {
    let pairs = [
        ("startTime", raw.start_time.is_some(), StartFrom::Time),
        (
            "startOffsets",
            raw.start_offsets.is_some(),
            StartFrom::Offsets,
        ),
    ];
    for (field, given, belongs) in pairs {
        findings.require(given == (raw.start_from == belongs), || {
            let message =
                format!("`{field}` must be given with `startFrom: {belongs:?}`, and only then");
            Violation::new(Code::Together, format!("{path}.{field}"), message)
        });
    }
    Some(match raw.start_from {
        StartFrom::Earliest => KafkaStart::Earliest,
        StartFrom::Latest => KafkaStart::Latest,
        StartFrom::Time => KafkaStart::Time(instant(
            raw.start_time.as_ref()?,
            &format!("{path}.startTime"),
            findings,
        )?),
        StartFrom::Offsets => {
            KafkaStart::Offsets(offsets(raw.start_offsets.as_ref()?, path, findings)?)
        }
    })
}

fn offsets(raw: &[StartOffset], path: &str, findings: &mut Findings) -> Option<Vec<(i32, i64)>> {
    let mut seen = BTreeSet::new();
    let mut one = |(i, start): (usize, &StartOffset)| {
        let path = format!("{path}.startOffsets[{i}]");
        findings.require(start.partition >= 0 && seen.insert(start.partition), || {
            let message = format!(
                "partition {} must be a number from 0, named once",
                start.partition
            );
            Violation::new(Code::OutOfRange, format!("{path}.partition"), message)
        });
        let offset = start
            .offset
            .parse()
            .ok()
            .filter(|offset: &i64| *offset >= 0);
        findings.require(offset.is_some(), || {
            let message = format!("`{}` must be an offset: a number from 0", start.offset);
            Violation::new(Code::OutOfRange, format!("{path}.offset"), message)
        });
        Some((start.partition, offset?))
    };
    raw.iter().enumerate().map(&mut one).collect()
}

fn tls(raw: &Tls, path: &str, findings: &mut Findings) -> Option<TlsPlan> {
    let client = match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => Some((cert.secret_key_ref.clone(), key.secret_key_ref.clone())),
        (None, None) => None,
        _ => {
            findings.add(Violation::new(
                Code::Together,
                path,
                "`cert` and `key` must be given together or not at all",
            ));
            return None;
        }
    };
    Some(TlsPlan {
        ca: raw.ca.as_ref().map(|ca| ca.secret_key_ref.clone()),
        client,
    })
}

fn schema(raw: &RecordSchema, path: &str, findings: &mut Findings) -> Option<RowSchema> {
    findings.require(!raw.fields.is_empty(), || {
        Violation::new(
            Code::OutOfRange,
            format!("{path}.fields"),
            "must name at least one field",
        )
    });
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
        let known = jiff::tz::TimeZone::get(zone).is_ok() || is_offset(zone);
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

/// `+hh:mm` or `-hh:mm`.
fn is_offset(text: &str) -> bool {
    let b = text.as_bytes();
    b.len() == 6
        && matches!(b[0], b'+' | b'-')
        && b[3] == b':'
        && [1, 2, 4, 5].iter().all(|&i| b[i].is_ascii_digit())
}

fn contains_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp => true,
        DataType::List(item) | DataType::Map(item) => contains_timestamp(item),
        DataType::Struct(members) => members.iter().any(|(_, member)| contains_timestamp(member)),
        _ => false,
    }
}

fn watermark(
    raw: &Watermark,
    schema: Option<&RowSchema>,
    path: &str,
    findings: &mut Findings,
) -> Option<WatermarkPlan> {
    if let Some(schema) = schema {
        let names = schema.fields.iter().map(|f| f.name.as_str());
        let violation = match schema.field(&raw.column) {
            None => Some(
                Violation::new(
                    Code::WatermarkColumn,
                    format!("{path}.column"),
                    format!("no field named `{}`", raw.column),
                )
                .did_you_mean(&raw.column, names),
            ),
            Some((_, f)) if f.data_type != DataType::Timestamp || f.optional => {
                Some(Violation::new(
                    Code::WatermarkColumn,
                    format!("{path}.column"),
                    format!("`{}` must be a timestamp that is not optional", raw.column),
                ))
            }
            Some(_) => None,
        };
        violation.into_iter().for_each(|v| findings.add(v));
    }
    let delay = duration(&raw.delay, &format!("{path}.delay"), findings);
    let allowed_lateness = duration(
        &raw.allowed_lateness,
        &format!("{path}.allowedLateness"),
        findings,
    );
    let idle_timeout = positive(&raw.idle_timeout, &format!("{path}.idleTimeout"), findings);
    let max_future = duration(&raw.max_future, &format!("{path}.maxFuture"), findings);
    Some(WatermarkPlan {
        column: raw.column.clone(),
        delay: delay?,
        allowed_lateness: allowed_lateness?,
        idle_timeout: idle_timeout?,
        max_future: max_future?,
    })
}

/// Only the operator uses objectives; they are checked with the rest.
pub(super) fn objectives(raw: &Objectives, findings: &mut Findings) {
    if let Some(freshness) = &raw.freshness {
        positive(freshness, "spec.objectives.freshness", findings);
    }
    findings.require((0..=100).contains(&raw.max_dead_letter_percent), || {
        Violation::new(
            Code::OutOfRange,
            "spec.objectives.maxDeadLetterPercent",
            "must be 0 to 100",
        )
    });
}

/// Only the operator uses resources; they are checked with the rest.
pub(super) fn workers(raw: &Workers, findings: &mut Findings) {
    for (list, amounts) in [
        ("requests", &raw.resources.requests),
        ("limits", &raw.resources.limits),
    ] {
        let path = format!("spec.workers.resources.{list}");
        if let Some(memory) = &amounts.memory {
            quantity(memory, &format!("{path}.memory"), findings);
        }
        let Some(cpu) = &amounts.cpu else { continue };
        let digits = cpu.strip_suffix('m').unwrap_or(cpu);
        let ok = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && digits.parse::<f64>().is_ok();
        findings.require(ok, || {
            let message = format!("`{cpu}` must be a quantity of CPU such as `500m` or `2`");
            Violation::new(Code::Quantity, format!("{path}.cpu"), message)
        });
    }
}
