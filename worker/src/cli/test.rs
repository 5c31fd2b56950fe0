//! `evp test`: the tests of pipelines, each a folder with a manifest and its `tests.yaml`.

use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::Fault;
use crate::clock::{SharedClock, SystemClock};
use crate::diagnostics;
use crate::manifest::Manifest;
use crate::tasks;
use crate::testing::junit::{Case, Suite, document};
use crate::testing::{self, Outcome, Subject, Test, Variant};

/// The file of tests in a folder.
const TESTS: &str = "tests.yaml";

/// Tests whole pipelines in virtual time: each test plainly, with a crash after each commit, and with partitions interleaved otherwise.
#[derive(Clone, Debug, clap::Args)]
pub struct TestArgs {
    /// Folders with a manifest, `pipeline.yaml` or the only one there, and `tests.yaml`.
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Write the results here as `JUnit` XML too.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// The tests of a folder.
struct Folder {
    name: String,
    subject: Arc<Subject>,
    tests: Vec<Test>,
}

/// 0: all passed; 1: some failed; 2: a folder has no tests that can be run.
pub async fn run(args: TestArgs) -> Result<ExitCode, Fault> {
    let mut folders = Vec::new();
    for dir in &args.dirs {
        match folder(dir) {
            Ok(folder) => folders.push(folder),
            Err(Fault::Findings(found)) => {
                let _ = write!(stderr(), "{found}");
                return Ok(ExitCode::from(2));
            }
            Err(fault) => {
                let _ = writeln!(stderr(), "evp: {fault}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    let mut suites = Vec::new();
    for folder in folders {
        suites.push(judge(folder).await?);
    }
    let cases = || suites.iter().flat_map(|suite| &suite.cases);
    let failed = cases().filter(|case| case.failure.is_some()).count();
    writeln!(
        stdout(),
        "{} passed, {failed} failed",
        cases().count() - failed
    )?;
    if let Some(file) = &args.junit {
        std::fs::write(file, document(&suites)).map_err(|e| {
            Fault::Environment(format!("{} cannot be written: {e}", file.display()))
        })?;
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn folder(dir: &Path) -> Result<Folder, Fault> {
    let (file, manifest) = manifest(dir)?;
    let subject = Subject::of(&manifest, &file)?;
    let path = dir.join(TESTS);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Fault::Usage(format!("{} cannot be read: {e}", path.display())))?;
    let tests = testing::read(&text, &path.display().to_string(), &subject)
        .map_err(|found| Fault::Findings(diagnostics::render(&text, &found)))?;
    Ok(Folder {
        name: dir.display().to_string(),
        subject: Arc::new(subject),
        tests,
    })
}

/// The manifest of a folder: `pipeline.yaml`, or the only one there.
fn manifest(dir: &Path) -> Result<(PathBuf, Manifest), Fault> {
    let usual = dir.join("pipeline.yaml");
    if usual.exists() {
        let manifest = super::one_manifest(&usual)?;
        return Ok((usual, manifest));
    }
    let unreadable = |e| Fault::Usage(format!("{} cannot be read: {e}", dir.display()));
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let is_manifest = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str());
        matches!(extension, Some("yaml" | "yml" | "json")) && !path.ends_with(TESTS)
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_manifest)
        .collect();
    files.sort();
    match files.as_slice() {
        [file] => Ok((file.clone(), super::one_manifest(file)?)),
        _ => Err(Fault::Usage(format!(
            "{} has no pipeline.yaml, and {} other files that could be the manifest; name it pipeline.yaml",
            dir.display(),
            files.len()
        ))),
    }
}

/// Runs the tests of a folder and tells of each.
async fn judge(folder: Folder) -> Result<Suite, Fault> {
    let Folder {
        name,
        subject,
        tests,
    } = folder;
    let clock = SystemClock::shared();
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let runs = tests
        .into_iter()
        .map(|test| timed(Arc::clone(&subject), test, clock.clone()));
    let mut runs = futures::stream::iter(runs).buffered(at_once);
    writeln!(stdout(), "{name}")?;
    let mut cases = Vec::new();
    while let Some((test, outcome, took)) = runs.next().await {
        tell(&test, &outcome, took)?;
        let failure = outcome.failed.map(|(variant, why)| {
            let first = why.lines().next().unwrap_or_default();
            (format!("{variant}: {first}"), format!("{variant}\n{why}"))
        });
        cases.push(Case {
            name: test,
            took,
            failure,
        });
    }
    Ok(Suite { name, cases })
}

async fn timed(
    subject: Arc<Subject>,
    test: Test,
    clock: SharedClock,
) -> (String, Outcome, Duration) {
    let name = test.name.clone();
    let began = clock.elapsed();
    let ran = tasks::blocking(move || testing::run(&subject, &test)).await;
    let outcome = ran.unwrap_or_else(|_| Outcome {
        passed: Vec::new(),
        failed: Some((Variant::Plain, "the test itself panicked\n".to_owned())),
    });
    (name, outcome, clock.elapsed().saturating_sub(began))
}

fn tell(test: &str, outcome: &Outcome, took: Duration) -> std::io::Result<()> {
    let mut out = stdout().lock();
    let seconds = took.as_secs_f64();
    match &outcome.failed {
        None => writeln!(
            out,
            "  ok      {test} ({}, {seconds:.1} s)",
            ran(&outcome.passed)
        ),
        Some((variant, why)) => {
            writeln!(out, "  FAILED  {test}\n    {variant}:")?;
            why.lines()
                .try_for_each(|line| writeln!(out, "      {line}"))
        }
    }
}

/// Which variants there were.
fn ran(passed: &[Variant]) -> String {
    let count = |is: fn(&Variant) -> bool| passed.iter().filter(|v| is(v)).count();
    let counted = |count: usize, what: &str| match count {
        0 => String::new(),
        1 => format!(", 1 {what}"),
        n => format!(
            ", {n} {}",
            if what == "crash" {
                "crashes".to_owned()
            } else {
                format!("{what}s")
            }
        ),
    };
    let crashes = count(|v| matches!(v, Variant::Crash(_)));
    let interleavings = count(|v| matches!(v, Variant::Interleaved(_)));
    format!(
        "plain{}{}",
        counted(crashes, "crash"),
        counted(interleavings, "interleaving")
    )
}
