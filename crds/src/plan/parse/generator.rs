//! The `generator` source: its numbers, and that what it writes is what the source reads.

use super::Findings;
use crate::plan::{Code, GeneratorPlan, Violation};
use crate::source::{Generator, Source};

pub(super) fn generator(
    raw: &Generator,
    path: &str,
    findings: &mut Findings,
) -> Option<GeneratorPlan> {
    findings.require((1..=10_000_000).contains(&raw.rate), || {
        Violation::new(
            Code::OutOfRange,
            format!("{path}.rate"),
            "must be 1 to 10000000 events a second",
        )
    });
    findings.require(raw.seed >= 0, || {
        Violation::new(
            Code::OutOfRange,
            format!("{path}.seed"),
            "must be at least 0",
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

/// A template writes either JSON or rows of CSV with its own columns, and the source must read that.
pub(super) fn written(raw: &Source, path: &str, findings: &mut Findings) {
    let Some(Generator { template, .. }) = raw.generator else {
        return;
    };
    let name = template.name();
    let at = format!("{path}.format");
    match (template.columns(), &raw.format.csv) {
        (None, None) => {}
        (None, Some(_)) => {
            let message = format!("`{name}` makes JSON documents, not rows of CSV");
            findings.add(
                Violation::new(Code::Misplaced, format!("{at}.csv"), message)
                    .help("write `format: {json: {}}`, or leave `format` out"),
            );
        }
        (Some(_), None) => {
            let message = format!("`{name}` makes rows of CSV without a header");
            findings.add(
                Violation::new(Code::Misplaced, at, message)
                    .help("write `format: {csv: {header: false}}`"),
            );
        }
        (Some(columns), Some(csv)) => {
            let own = template.format().csv.unwrap_or_else(|| csv.clone());
            for (field, given, own) in [
                ("delimiter", &csv.delimiter, own.delimiter),
                ("quote", &csv.quote, own.quote),
            ] {
                findings.require(*given == own, || {
                    let message = format!("the rows of `{name}` are written with `{own}`");
                    Violation::new(Code::Misplaced, format!("{at}.csv.{field}"), message)
                        .help(format!("leave `{field}` out"))
                });
            }
            self::columns(raw, (name, columns), path, findings);
        }
    }
}

/// Rows without a header stand in the order of the schema's fields.
fn columns(raw: &Source, (name, columns): (&str, &[&str]), path: &str, findings: &mut Findings) {
    let fields = raw.schema.fields.iter().map(|field| field.name.as_str());
    findings.require(fields.eq(columns.iter().copied()), || {
        let message = format!("not the columns of `{name}` in their order");
        Violation::new(Code::Misplaced, format!("{path}.schema.fields"), message)
            .help(format!("declare {}, in this order", columns.join(", ")))
    });
}
