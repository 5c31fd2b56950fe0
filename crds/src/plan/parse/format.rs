//! How a record's bytes are read.

use super::Findings;
use crate::plan::{Code, CsvPlan, FormatPlan, Violation};
use crate::source::{Csv, Source};

pub(super) fn format(raw: &Source, path: &str, findings: &mut Findings) -> Option<FormatPlan> {
    let at = format!("{path}.format");
    match (&raw.format.json, &raw.format.csv) {
        (_, None) => Some(FormatPlan::Json),
        (Some(_), Some(_)) => {
            let message = "must have at most one kind: `json` or `csv`";
            findings.require(false, || Violation::new(Code::ExactlyOne, at, message));
            None
        }
        (None, Some(csv)) => {
            flat(raw, path, findings);
            let at = format!("{at}.csv");
            findings.require(!csv.header || raw.files.is_some(), || {
                let message = "only a file has a header; without one values stand in the order of the schema's fields";
                Violation::new(Code::Misplaced, format!("{at}.header"), message)
                    .help("set `header: false`")
            });
            self::csv(csv, &at, findings).map(FormatPlan::Csv)
        }
    }
}

fn csv(raw: &Csv, path: &str, findings: &mut Findings) -> Option<CsvPlan> {
    let delimiter = mark(&raw.delimiter, &format!("{path}.delimiter"), findings);
    let quote = mark(&raw.quote, &format!("{path}.quote"), findings);
    let (delimiter, quote) = (delimiter?, quote?);
    findings.require(delimiter != quote, || {
        let message = "must be another character than `delimiter`";
        Violation::new(Code::OutOfRange, format!("{path}.quote"), message)
    });
    let null = raw.null_text.as_bytes();
    let fine = !null
        .iter()
        .any(|b| [delimiter, quote, b'\n', b'\r'].contains(b));
    findings.require(fine, || {
        let message = "must hold no delimiter, quote or line end: it stands without quotes";
        Violation::new(Code::OutOfRange, format!("{path}.nullText"), message)
    });
    Some(CsvPlan {
        header: raw.header,
        delimiter,
        quote,
        null_text: raw.null_text.clone(),
    })
}

fn mark(text: &str, path: &str, findings: &mut Findings) -> Option<u8> {
    let mark = match text.as_bytes() {
        [mark] if mark.is_ascii() && !matches!(mark, b'\n' | b'\r' | 0) => Some(*mark),
        _ => None,
    };
    findings.require(mark.is_some(), || {
        let message = format!("`{}` must be one ASCII character", text.escape_debug());
        Violation::new(Code::OutOfRange, path, message)
    });
    mark
}

/// A value is a text: nothing is nested in it.
fn flat(raw: &Source, path: &str, findings: &mut Findings) {
    for (i, field) in raw.schema.fields.iter().enumerate() {
        let given = field.data_type.trim_start();
        let nested = ["list<", "map<", "struct<"]
            .iter()
            .any(|kind| given.starts_with(kind));
        findings.require(!nested, || {
            let message = format!("`{}` is nested, and a value of CSV is one text", field.name);
            Violation::new(
                Code::Misplaced,
                format!("{path}.schema.fields[{i}].type"),
                message,
            )
        });
    }
}
