//! Sources: kinds and watermarks.

use super::text::{duration, positive};
use super::{Findings, exactly_one, files, format, generator, kafka, node_name, record};
use crate::plan::{Code, OnDataLoss, SourceKind, SourcePlan, Violation, WatermarkPlan};
use crate::schema::{RecordSchema, UnknownFields};
use crate::source::{Source, Watermark};

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
        ("files", raw.files.is_some()),
        ("generator", raw.generator.is_some()),
    ];
    let one = exactly_one(&path, &kinds, findings);
    let kind = kind(raw, &path, findings).filter(|_| one);
    let format = format::format(raw, &path, findings);
    generator::written(raw, &path, findings);
    routed_away(raw, &path, routes, findings);
    let schema = record::schema(&raw.schema, &format!("{path}.schema"), findings);
    let max_record_bytes = record::max_bytes(&raw.schema, &format!("{path}.schema"), findings);
    let watermark = match &raw.watermark {
        Some(w) => watermark(w, &raw.schema, &format!("{path}.watermark"), findings).map(Some),
        None => Some(None),
    };
    Some(SourcePlan {
        name: name?,
        kind: kind?,
        format: format?,
        schema: schema?,
        refuse_unknown_fields: raw.schema.unknown_fields == UnknownFields::DeadLetter,
        max_record_bytes: max_record_bytes?,
        watermark: watermark?,
    })
}

/// What is to be kept with the dead letters needs them.
fn routed_away(raw: &Source, path: &str, routes: bool, findings: &mut Findings) {
    let gaps = raw.kafka.as_ref().map(|kafka| kafka.on_data_loss);
    let cases = [
        (
            gaps == Some(OnDataLoss::RecordGap),
            "kafka.onDataLoss",
            "`RecordGap` leaves a row in",
        ),
        (
            raw.schema.unknown_fields == UnknownFields::DeadLetter,
            "schema.unknownFields",
            "`DeadLetter` sends records to",
        ),
    ];
    for (asked, field, what) in cases {
        findings.require(routes || !asked, || {
            let message = format!("{what} the dead letters, and `deadLetter` is not given");
            Violation::new(Code::DeadLetterNeeded, format!("{path}.{field}"), message)
        });
    }
}

/// What is given, all of it checked.
fn kind(raw: &Source, path: &str, findings: &mut Findings) -> Option<SourceKind> {
    let kafka = raw.kafka.as_ref();
    let kafka = kafka.and_then(|raw| kafka::kafka(raw, &format!("{path}.kafka"), findings));
    let files = raw.files.as_ref();
    let files = files.and_then(|raw| files::files(raw, &format!("{path}.files"), findings));
    let generator = raw.generator.as_ref();
    let generator =
        generator.and_then(|raw| generator::generator(raw, &format!("{path}.generator"), findings));
    kafka
        .map(SourceKind::Kafka)
        .or(files.map(SourceKind::Files))
        .or(generator.map(SourceKind::Generator))
}

fn watermark(
    raw: &Watermark,
    schema: &RecordSchema,
    path: &str,
    findings: &mut Findings,
) -> Option<WatermarkPlan> {
    column(raw, schema, path, findings);
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

/// Judged by the declared texts, so that a fault of another field does not hide this one.
fn column(raw: &Watermark, schema: &RecordSchema, path: &str, findings: &mut Findings) {
    let field = schema.fields.iter().find(|f| f.name == raw.column);
    let fits = field.is_some_and(|f| f.data_type.trim() == "timestamp" && !f.optional);
    findings.require(fits, || {
        let names = schema.fields.iter().map(|f| f.name.as_str());
        let listed: Vec<_> = names.clone().collect();
        let message = match field {
            None => format!("no field named `{}`", raw.column),
            Some(_) => format!("`{}` must be a timestamp that is not optional", raw.column),
        };
        let finding = Violation::new(Code::WatermarkColumn, format!("{path}.column"), message);
        match field {
            None => finding
                .note(format!("there are: {}", listed.join(", ")))
                .did_you_mean(&raw.column, names),
            Some(_) => finding,
        }
    });
}
