//! What is wrong with a `tests.yaml`: the findings that several of its readers make.

use evp_api::plan::{Code, Violation};
use serde_json::Value;

use crate::manifest::shape::noun;

/// What was read, or all that is wrong with it.
pub(super) type Read<T> = Result<T, Vec<Violation>>;

/// The value, unless something was found.
pub(super) fn unless<T>(found: Vec<Violation>, value: T) -> Read<T> {
    if found.is_empty() {
        Ok(value)
    } else {
        Err(found)
    }
}

/// One finding.
pub(super) fn refuse<T>(
    code: Code,
    path: impl Into<String>,
    message: impl Into<String>,
) -> Read<T> {
    Err(vec![Violation::new(code, path, message)])
}

/// A value of another kind than is expected there.
pub(super) fn wrong<T>(path: impl Into<String>, expected: &str, found: &Value) -> Read<T> {
    let message = format!("expected {expected}, found {}", noun(found));
    refuse(Code::WrongType, path, message)
}

/// A column that `what` does not have.
pub(super) fn unknown_column<'a>(
    (what, name): (&str, &str),
    path: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Violation {
    let message = format!("{what} has no column `{name}`");
    let listed = known.clone().collect::<Vec<_>>().join(", ");
    Violation::new(Code::UnknownField, format!("{path}.{name}"), message)
        .note(format!("it has: {listed}"))
        .did_you_mean(name, known)
}

/// A name that the pipeline does not have.
pub(super) fn unknown<'a>(
    (kind, name): (&str, &str),
    path: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Violation {
    let listed: Vec<_> = known.clone().map(|name| format!("`{name}`")).collect();
    let note = match listed.as_slice() {
        [] => format!("it has no {kind}s that could be named here"),
        listed => format!("it has: {}", listed.join(", ")),
    };
    let message = format!("the pipeline has no {kind} `{name}`");
    Violation::new(Code::UnknownField, path, message)
        .note(note)
        .did_you_mean(name, known)
}
