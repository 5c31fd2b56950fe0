//! `evp explain`: the page of an error code or of a manifest field, offline.

use std::fmt::Write as _;
use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use clap::Args;
use evp_api::plan::{Code, Violation};
use serde_json::Value;

use crate::manifest::SCHEMA;

/// Explains a code or a field.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// A code such as `EVP2107`, or a field such as `spec.sources.kafka.startFrom`; absent: all codes.
    #[arg(value_name = "CODE|FIELD")]
    pub subject: Option<String>,
}

/// 0: explained; 2: there is no such code or field.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let page = match args.subject.as_deref() {
        None => Ok(codes()),
        Some(subject) => explain(subject),
    };
    match page {
        Ok(page) => {
            let _ = stdout().write_all(page.as_bytes());
            ExitCode::SUCCESS
        }
        Err(fault) => {
            let _ = writeln!(stderr(), "evp: {fault}");
            ExitCode::from(2)
        }
    }
}

fn codes() -> String {
    let lines = Code::ALL
        .iter()
        .map(|code| format!("{code}  {}\n", code.title()));
    lines.collect()
}

fn explain(subject: &str) -> Result<String, String> {
    let upper = subject.to_ascii_uppercase();
    let digits = upper.strip_prefix("EVP").unwrap_or(&upper);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return code(&format!("EVP{digits}"));
    }
    field(subject)
}

fn code(name: &str) -> Result<String, String> {
    let code = Code::ALL.iter().find(|code| code.as_str() == name);
    let code = code.ok_or_else(|| format!("there is no code {name}; `evp explain` lists all"))?;
    let text: Vec<_> = code.explanation().lines().map(str::trim).collect();
    Ok(format!("{code}: {}\n\n{}\n", code.title(), text.join("\n")))
}

/// Indexes may be given or left out, and so may `spec`.
fn field(path: &str) -> Result<String, String> {
    let words: Vec<&str> = path
        .split('.')
        .map(|w| w.split('[').next().unwrap_or(w))
        .collect();
    let root = &SCHEMA["properties"];
    let implied = words.first().is_some_and(|first| root.get(first).is_none());
    let (mut schema, mut walked) = if implied {
        (&root["spec"], "spec".to_owned())
    } else {
        (&*SCHEMA, String::new())
    };
    for word in words {
        let Some(properties) = inner(schema)["properties"].as_object() else {
            return Err(format!("`{walked}` has no fields"));
        };
        let Some(next) = properties.get(word) else {
            let names = properties.keys().map(String::as_str);
            let listed = names.clone().collect::<Vec<_>>().join(", ");
            let fault = Violation::new(Code::UnknownField, "", "").did_you_mean(word, names);
            let help = fault.help.unwrap_or_else(|| format!("it has: {listed}"));
            return Err(format!("`{walked}` has no field `{word}`; {help}"));
        };
        if !walked.is_empty() {
            walked.push('.');
        }
        walked.push_str(word);
        if next["type"] == "array" {
            walked.push_str("[]");
        }
        schema = next;
    }
    Ok(page(&walked, schema))
}

/// What a list holds, or the field itself.
fn inner(schema: &Value) -> &Value {
    match schema.get("items") {
        Some(items) => items,
        None => schema,
    }
}

fn page(path: &str, schema: &Value) -> String {
    let mut page = format!("{path}  <{}>\n", kind(schema));
    for text in [&schema["description"], &inner(schema)["description"]] {
        if let Some(text) = text.as_str() {
            let _ = write!(page, "\n{text}\n");
        }
        if schema.get("items").is_none() {
            break;
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).collect();
        let _ = write!(page, "\nOne of: {}\n", values.join(", "));
    }
    if !schema["default"].is_null() {
        let _ = write!(page, "\nDefault: {}\n", plain(&schema["default"]));
    }
    for rule in inner(schema)["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let _ = write!(page, "\nRule: {}\n", plain(&rule["message"]));
    }
    if let Some(properties) = inner(schema)["properties"].as_object() {
        page.push_str("\nFields:\n");
        let required = inner(schema)["required"].as_array();
        for (name, field) in properties {
            let needed = required.is_some_and(|r| r.iter().any(|n| n == name));
            let needed = if needed { ", required" } else { "" };
            let text = plain(&field["description"]);
            let _ = writeln!(page, "  {name}  <{}{needed}>\n      {text}", kind(field));
        }
    }
    page
}

fn kind(schema: &Value) -> String {
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some(kind) => kind.to_owned(),
        None => "any".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page() {
        for code in Code::ALL {
            let page = explain(&code.as_str().to_lowercase()).unwrap();
            assert!(
                page.starts_with(&format!("{code}: {}\n\n", code.title())),
                "{page}"
            );
        }
    }

    #[test]
    fn a_field_says_its_values_and_its_default_with_or_without_indexes() {
        let page = explain("spec.sources[0].kafka.startFrom").unwrap();
        assert!(
            page.starts_with("spec.sources[].kafka.startFrom  <string>\n\nWhere the very first"),
            "{page}"
        );
        assert!(
            page.contains("One of: Earliest, Latest, Time, Offsets\n\nDefault: Earliest\n"),
            "{page}"
        );
        assert_eq!(explain("sources.kafka.startFrom").unwrap(), page);
    }

    #[test]
    fn an_unknown_field_or_code_is_answered_with_what_there_is() {
        assert_eq!(
            explain("spec.sources.kafka.topik").unwrap_err(),
            "`spec.sources[].kafka` has no field `topik`; did you mean `topic`?"
        );
        assert_eq!(
            explain("EVP9999").unwrap_err(),
            "there is no code EVP9999; `evp explain` lists all"
        );
    }
}
