//! Judges a value by a structural schema, as the API server would, but with all findings, places and better words.
//!
//! Owns unknown and missing fields, types, closed sets of values and bounds. Patterns and rules between fields are
//! left to [`evp_api::plan::Plan::parse`].

use evp_api::plan::{Code, Violation};
use serde_json::{Map, Value};

/// All findings; empty: the value has the shape.
pub(crate) fn check(value: &Value, schema: &Value) -> Vec<Violation> {
    let mut findings = Vec::new();
    node(value, schema, "", &mut findings);
    findings
}

/// What a value is, for people.
pub(crate) fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a decimal number",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "fields",
    }
}

fn node(value: &Value, schema: &Value, path: &str, findings: &mut Vec<Violation>) {
    let expected = schema["type"].as_str().unwrap_or_default();
    match (expected, value) {
        ("object", Value::Object(fields)) => object(fields, schema, path, findings),
        ("array", Value::Array(items)) => {
            bound(items.len(), schema, ("Items", "items"), path, findings);
            for (index, item) in items.iter().enumerate() {
                node(
                    item,
                    &schema["items"],
                    &format!("{path}[{index}]"),
                    findings,
                );
            }
        }
        ("string", Value::String(text)) => string(text, schema, path, findings),
        ("integer", Value::Number(number)) if !number.is_f64() => {
            integer(number.as_i64(), schema, path, findings);
        }
        ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) | ("", _) => {}
        _ => findings.push(wrong_type(value, schema, expected, path)),
    }
}

fn wrong_type(value: &Value, schema: &Value, expected: &str, path: &str) -> Violation {
    let wanted = match expected {
        "object" => "fields",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        _ => "a number",
    };
    let message = format!("expected {wanted}, found {}", noun(value));
    let fault = Violation::new(Code::WrongType, path, message);
    match (expected, value) {
        ("string", Value::Number(_) | Value::Bool(_)) => {
            fault.help(format!("put it in quotes: `\"{value}\"`"))
        }
        ("integer" | "boolean", Value::String(_)) => {
            fault.help("take the quotes away, if it has any")
        }
        ("array", Value::String(_) | Value::Object(_)) => fault.help("write it as a list: `[…]`"),
        ("object", Value::Null) if schema["required"].is_null() => {
            fault.help("write `{}` for all defaults")
        }
        (_, Value::Null) => fault.help("give it a value or take it out"),
        ("object", _) => fault.note(known(schema)),
        _ => fault,
    }
}

fn object(fields: &Map<String, Value>, schema: &Value, path: &str, findings: &mut Vec<Violation>) {
    let at = |field: &str| match path {
        "" => field.to_owned(),
        _ => format!("{path}.{field}"),
    };
    let properties = schema["properties"].as_object();
    for (name, value) in fields {
        match (properties.and_then(|p| p.get(name)), properties) {
            (Some(schema), _) => node(value, schema, &at(name), findings),
            (None, Some(properties)) => {
                let message = format!("unknown field `{name}`");
                let fault = Violation::new(Code::UnknownField, at(name), message);
                let names = properties.keys().map(String::as_str);
                findings.push(fault.note(known(schema)).did_you_mean(name, names));
            }
            (None, None) => node(value, &schema["additionalProperties"], &at(name), findings),
        }
    }
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            let fault = Violation::new(
                Code::MissingField,
                at(name),
                format!("missing field `{name}`"),
            );
            findings.push(match schema["properties"][name]["description"].as_str() {
                Some(description) => fault.note(description),
                None => fault,
            });
        }
    }
}

fn known(schema: &Value) -> String {
    let names = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(Map::keys);
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "it has no fields".to_owned(),
        [one] => format!("expected {one}"),
        _ => format!("expected one of {}", names.join(", ")),
    }
}

fn string(text: &str, schema: &Value, path: &str, findings: &mut Vec<Violation>) {
    let Some(values) = schema["enum"].as_array() else {
        return bound(
            text.chars().count(),
            schema,
            ("Length", "characters"),
            path,
            findings,
        );
    };
    let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    if !values.contains(&text) {
        let listed: Vec<_> = values.iter().map(|v| format!("`{v}`")).collect();
        let field = path.rsplit('.').next().unwrap_or(path);
        let message = format!("`{text}` is not a value of `{field}`");
        let fault = Violation::new(Code::OutOfRange, path, message);
        let fault = fault.note(format!("expected one of {}", listed.join(", ")));
        findings.push(fault.did_you_mean(text, values));
    }
}

/// Lengths and counts: `minLength`, `maxItems` and so on.
fn bound(
    length: usize,
    schema: &Value,
    of: (&str, &str),
    path: &str,
    findings: &mut Vec<Violation>,
) {
    let (key, unit) = of;
    let limit = |which: &str| schema[format!("{which}{key}")].as_u64().unwrap_or(u64::MAX);
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    let message = if limit("min") != u64::MAX && length < limit("min") {
        format!("has {length} {unit}; at least {} are needed", limit("min"))
    } else if length > limit("max") {
        format!("has {length} {unit}; at most {} are allowed", limit("max"))
    } else {
        return;
    };
    findings.push(Violation::new(Code::OutOfRange, path, message));
}

/// `None`: beyond what 64 bits hold.
fn integer(value: Option<i64>, schema: &Value, path: &str, findings: &mut Vec<Violation>) {
    let (least, most) = match schema["format"].as_str() {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    // Schemas give bounds as JSON numbers; all of ours are whole and small.
    let whole = |key: &str| {
        schema[key]
            .as_f64()
            .and_then(|n| format!("{n:.0}").parse().ok())
    };
    let least = least.max(whole("minimum").unwrap_or(least));
    let most = most.min(whole("maximum").unwrap_or(most));
    if !value.is_some_and(|v| (least..=most).contains(&v)) {
        let message = format!("must be between {least} and {most}");
        findings.push(Violation::new(Code::OutOfRange, path, message));
    }
}
