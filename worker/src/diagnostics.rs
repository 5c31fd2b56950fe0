//! Findings for people: a violation names a field, a finding has its place in a file and can be drawn.
//!
//! Owns the second pass over the text ([`places`]), the drawing with a caret, and the JSON form. Does not judge.

mod align;
mod places;

use std::ops::Range;

use codespan_reporting::diagnostic::{Diagnostic, Label};
use codespan_reporting::files::SimpleFile;
use codespan_reporting::term::termcolor::{NoColor, WriteColor};
use codespan_reporting::term::{self, Config};
use evp_api::KIND;
use evp_api::plan::{Code, Violation};
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The manifest is refused.
    Error,
}

/// A violation with its place. Its JSON form is stable.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Which rule.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The field, such as `spec.steps[2].aggregate.groupBy[0]`; empty: the whole document.
    pub path: String,
    /// The file as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters that the caret covers, all in that line; 0 at the end of a text.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What is known instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// One fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Finds the places of violations of the first pipeline in a text.
pub fn locate(text: &str, file: &str, violations: &[Violation]) -> Vec<Finding> {
    let documents = places::documents(text);
    let first = documents
        .iter()
        .position(|d| d.text_of("kind") == Some(KIND));
    locate_in(text, file, first.unwrap_or_default(), violations)
}

/// Finds the places of violations of one document of a text; sorted by place.
pub fn locate_in(
    text: &str,
    file: &str,
    document: usize,
    violations: &[Violation],
) -> Vec<Finding> {
    let documents = places::documents(text);
    let found = violations.iter().map(|violation| {
        let place = match documents.get(document) {
            Some(root) => places::place(text, root, violation),
            None => 0..0,
        };
        finding(text, file, place, violation.clone())
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|f| (f.line, f.column));
    found
}

/// The finding of a text that is not YAML.
pub fn unreadable(text: &str, file: &str, error: &serde_saphyr::Error) -> Finding {
    use serde_saphyr::MessageFormatter;
    let message = serde_saphyr::UserMessageFormatter.format_message(error.without_snippet());
    let place = error.location().map_or(0, |location| {
        let line = usize::try_from(location.line()).unwrap_or(1).max(1);
        let column = usize::try_from(location.column()).unwrap_or(1).max(1);
        offset(text, line, column)
    });
    let violation = Violation::new(Code::Syntax, "", message);
    finding(
        text,
        file,
        places::within_line(text, place..place),
        violation,
    )
}

fn finding(text: &str, file: &str, place: Range<usize>, violation: Violation) -> Finding {
    let before = text.get(..place.start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let count = |range: Range<usize>| text.get(range).map_or(0, |t| t.chars().count());
    let Violation {
        code,
        path,
        span: _,
        message,
        note,
        help,
    } = violation;
    Finding {
        code,
        severity: Severity::Error,
        path,
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: count(line_start..place.start) + 1,
        length: count(place),
        message,
        note,
        help,
    }
}

/// Byte offset of a line and column, both from 1; the end of the line or text, if there are less.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text
        .split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum();
    let rest = text[start..].split('\n').next().unwrap_or_default();
    let within = rest.char_indices().nth(column - 1);
    start + within.map_or(rest.len(), |(at, _)| at)
}

/// Draws findings of one file without colours.
pub fn render(text: &str, findings: &[Finding]) -> String {
    let mut drawn = NoColor::new(Vec::new());
    // Writing to memory does not fail.
    let _ = draw(&mut drawn, text, findings);
    String::from_utf8_lossy(&drawn.into_inner()).into_owned()
}

/// Draws findings of one file: code, place, line, caret, what is known, one fix.
pub fn draw(out: &mut dyn WriteColor, text: &str, findings: &[Finding]) -> std::io::Result<()> {
    for finding in findings {
        let start = offset(text, finding.line, finding.column);
        let rest = text[start..].char_indices().nth(finding.length);
        let end = rest.map_or(text.len(), |(at, _)| start + at);
        let label = Label::primary((), start..end);
        let diagnostic = Diagnostic::error()
            .with_code(finding.code)
            .with_message(&finding.message)
            .with_label(match &finding.note {
                Some(note) => label.with_message(note),
                None => label,
            })
            .with_notes_iter(finding.help.iter().map(|help| format!("help: {help}")));
        let file = SimpleFile::new(&finding.file, text);
        term::emit_to_write_style(out, &Config::default(), &file, &diagnostic)
            .map_err(std::io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
