//! `evp produce` as a process: sends until it is told to stop, or all at once, and leaves its ledger.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use evp_tests::{bed, evp, succeed};

use super::site::Site;
use super::world::World;
use crate::parts::kafka::topic::Topic;

/// A producer that runs.
pub(crate) struct Producer {
    child: Child,
    ledger: PathBuf,
}

/// Over the encrypted listener into a topic.
fn to_topic(command: &mut Command, topic: &Topic, password: &Path) {
    let to = format!("kafka://{}/{}", bed("EVP_BED_KAFKA_SASL_SSL"), topic.name);
    command
        .args(["--to", &to, "--sasl-mechanism", "PLAIN"])
        .args(["--username", &bed("EVP_BED_KAFKA_USER")])
        .arg("--password-file")
        .arg(password)
        .args(["--ca", &bed("EVP_BED_KAFKA_CA")]);
}

impl Producer {
    /// Sends orders to the world's topic. What is planted never depends on where epochs fall.
    pub(crate) fn start(world: &World, seed: u32, rate: u32, planted: &[&str]) -> Self {
        let ledger = world.dir().join(format!("ledger-{seed}.jsonl"));
        let mut command = evp(world.dir());
        command.args(["produce", "orders"]);
        let password = world.secret("kafka-orders", "password");
        to_topic(&mut command, &world.topic, &password);
        command
            .args(["--seed", &seed.to_string(), "--rate", &rate.to_string()])
            .args(["--malformed", "0.004", "--duplicates", "0.01"])
            .args(["--disorder", "0.1"])
            .args(planted);
        Self::spawn(command, ledger)
    }

    /// Drops files of a shop's events into a folder below the site's prefix.
    pub(crate) fn of_files(site: &Site, folder: &str, ledger: &str, flags: &str) -> Self {
        let mut command = evp(site.dir());
        command
            .args(["produce", "shop", "--to", &site.path(folder)])
            .args(["--endpoint", &bed("EVP_BED_S3_ENDPOINT")])
            .args(["--region", &bed("EVP_BED_S3_REGION")])
            .env("AWS_ACCESS_KEY_ID", bed("EVP_BED_S3_ACCESS_KEY"))
            .env("AWS_SECRET_ACCESS_KEY", bed("EVP_BED_S3_SECRET_KEY"))
            .args(flags.split(' '));
        Self::spawn(command, site.dir().join(ledger))
    }

    /// Sends what users did to a topic.
    pub(crate) fn of_activity(site: &Site, topic: &Topic, ledger: &str, flags: &str) -> Self {
        let mut command = evp(site.dir());
        command.args(["produce", "activity"]).args(flags.split(' '));
        to_topic(
            &mut command,
            topic,
            &site.secret("kafka-activity", "password"),
        );
        Self::spawn(command, site.dir().join(ledger))
    }

    fn spawn(mut command: Command, ledger: PathBuf) -> Self {
        command
            .arg("--ledger")
            .arg(&ledger)
            .stderr(Stdio::inherit());
        let child = command.spawn().unwrap();
        Self { child, ledger }
    }

    /// Waits until it has sent all that it was to send.
    pub(crate) fn end(mut self) -> PathBuf {
        let ended = self.child.wait().unwrap();
        assert!(ended.success(), "evp produce ended with {ended}");
        std::mem::take(&mut self.ledger)
    }

    /// Ends it as Ctrl-C does: what is in flight is acknowledged and in the ledger.
    pub(crate) fn stop(self) -> PathBuf {
        let pid = self.child.id().to_string();
        succeed(Command::new("kill").args(["-INT", &pid]));
        self.end()
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
