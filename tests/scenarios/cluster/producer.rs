//! `evp produce orders` as a process: sends until it is told to stop, and leaves its ledger.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use evp_tests::{bed, evp, succeed};

use super::world::World;

/// A producer that runs.
pub(crate) struct Producer {
    child: Child,
    ledger: PathBuf,
}

impl Producer {
    /// Starts it on the world's topic, over the encrypted listener. What is planted never depends on where epochs fall.
    pub(crate) fn start(world: &World, seed: u32, rate: u32, planted: &[&str]) -> Self {
        let ledger = world.dir().join(format!("ledger-{seed}.jsonl"));
        let topic = &world.topic.name;
        let child = evp(world.dir())
            .args(["produce", "orders", "--sasl-mechanism", "PLAIN"])
            .args(["--username", &bed("EVP_BED_KAFKA_USER")])
            .arg("--password-file")
            .arg(world.secret("kafka-password"))
            .args(["--ca", &bed("EVP_BED_KAFKA_CA")])
            .args([
                "--to",
                &format!("kafka://{}/{topic}", bed("EVP_BED_KAFKA_SASL_SSL")),
            ])
            .args(["--seed", &seed.to_string(), "--rate", &rate.to_string()])
            .arg("--ledger")
            .arg(&ledger)
            .args([
                "--malformed",
                "0.004",
                "--duplicates",
                "0.01",
                "--disorder",
                "0.1",
            ])
            .args(planted)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, ledger }
    }

    /// Ends it as Ctrl-C does: what is in flight is acknowledged and in the ledger.
    pub(crate) fn stop(mut self) -> PathBuf {
        let pid = self.child.id().to_string();
        succeed(Command::new("kill").args(["-INT", &pid]));
        let ended = self.child.wait().unwrap();
        assert!(ended.success(), "evp produce ended with {ended}");
        std::mem::take(&mut self.ledger)
    }
}

/// A test that stops in the middle leaves no producer behind.
impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Paths as references.
pub(crate) fn paths(ledgers: &[PathBuf]) -> Vec<&Path> {
    ledgers.iter().map(PathBuf::as_path).collect()
}
