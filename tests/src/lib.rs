//! What whole-system tests share: the programs under test and the oracles, as processes.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it does not expect"
)]

pub mod oracle;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Value of a variable that the bed sets.
pub fn bed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by ./tests/run"))
}

/// The project's top folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program to its end; its output. Stops at any exit code but 0.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("a program that can be started");
    let (words, rows) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    let most = rows.len().min(4_000);
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{words}\n{}",
        output.status,
        &rows[..rows.floor_char_boundary(most)]
    );
    output
}

/// `evp` with its own home for what a user's runs remember.
pub fn evp(home: &Path) -> Command {
    let mut command = Command::new(bed("EVP_BED_WORKER_BIN"));
    command.env("XDG_STATE_HOME", home);
    command
}
