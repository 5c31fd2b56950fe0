//! `evp check`: what the operator would say of a manifest, before anybody applies it.

use std::io::{IsTerminal, Read, Write, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use codespan_reporting::term::termcolor::{ColorChoice, StandardStream};
use evp_core::check::{CheckedPlan, check};

use crate::diagnostics::{self, Finding};
use crate::manifest::{self, Manifest};

/// Judges manifests.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Manifests, YAML or JSON, with any number of documents each; `-` reads standard input.
    #[arg(short, long, value_name = "FILE", required = true, num_args = 1..)]
    pub file: Vec<PathBuf>,
    /// How findings are printed.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// With the line and a caret.
    Text,
    /// One list of all findings.
    Json,
}

/// What there is to say of one file.
struct Verdict {
    text: String,
    /// A line for each pipeline that is fine.
    fine: Vec<String>,
    findings: Vec<Finding>,
}

/// Findings go to standard output, all else to standard error. 0: fine; 1: findings; 2: a file cannot be read, or
/// there is no pipeline in any.
pub fn run(args: &CheckArgs) -> ExitCode {
    let mut verdicts = Vec::new();
    for file in &args.file {
        match read(file) {
            Ok(text) => verdicts.push(judge(text, &file.display().to_string())),
            Err(error) => {
                say(&format!("evp: {} cannot be read: {error}", file.display()));
                return ExitCode::from(2);
            }
        }
    }
    let findings = verdicts.iter().map(|v| v.findings.len()).sum();
    // A closed pipe is the reader's decision.
    let _ = match args.output {
        Output::Text => print_text(&verdicts),
        Output::Json => print_json(&verdicts),
    };
    for line in verdicts.iter().flat_map(|v| &v.fine) {
        say(line);
    }
    match findings {
        0 if verdicts.iter().all(|v| v.fine.is_empty()) => {
            say("evp: there is no EventPipeline in what was given");
            ExitCode::from(2)
        }
        0 => ExitCode::SUCCESS,
        findings => {
            say(&counted(findings, "finding"));
            ExitCode::from(1)
        }
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn judge(text: String, file: &str) -> Verdict {
    let (mut fine, mut findings) = (Vec::new(), Vec::new());
    for document in manifest::read_each(&text, file) {
        match document {
            Ok(manifest) => match check(&manifest.spec) {
                Ok(checked) => fine.push(summary(&manifest, &checked)),
                Err(found) => {
                    findings.extend(diagnostics::locate_in(
                        &text,
                        file,
                        manifest.document,
                        &found,
                    ));
                }
            },
            Err(found) => findings.extend(found),
        }
    }
    Verdict {
        text,
        fine,
        findings,
    }
}

fn summary(manifest: &Manifest, checked: &CheckedPlan) -> String {
    format!(
        "{}: ok, {}, {}, {}",
        manifest.metadata.name,
        counted(checked.plan.sources.len(), "source"),
        counted(checked.plan.steps.len(), "step"),
        counted(checked.plan.sinks.len(), "sink"),
    )
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn print_text(verdicts: &[Verdict]) -> std::io::Result<()> {
    // `Auto` respects NO_COLOR.
    let colours = if stdout().is_terminal() {
        ColorChoice::Auto
    } else {
        ColorChoice::Never
    };
    let mut out = StandardStream::stdout(colours);
    for verdict in verdicts {
        diagnostics::draw(&mut out, &verdict.text, &verdict.findings)?;
    }
    Ok(())
}

fn print_json(verdicts: &[Verdict]) -> std::io::Result<()> {
    let findings: Vec<_> = verdicts.iter().flat_map(|v| &v.findings).collect();
    let mut out = stdout().lock();
    serde_json::to_writer_pretty(&mut out, &findings)?;
    writeln!(out)
}

fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
