//! Kafka's own console consumer: what a reader that shares no code with ours sees of committed records, at the end or meanwhile.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use evp_tests::{bed, succeed};

use super::topic::{Record, Topic};

fn consumer(topic: &Topic) -> Command {
    let mut java = Command::new("java");
    java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m"])
        .arg("-cp")
        .arg(format!("{}/*", bed("EVP_BED_KAFKA_LIBS")))
        .arg("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .args(["--bootstrap-server", &topic.broker, "--topic", &topic.name])
        .args(["--from-beginning", "--isolation-level", "read_committed"]);
    for shown in ["partition", "headers", "key"] {
        java.args(["--property", &format!("print.{shown}=true")]);
    }
    java
}

/// All that is committed now, by partition.
pub(crate) fn read(topic: &Topic) -> Vec<Record> {
    let printed = succeed(consumer(topic).args(["--timeout-ms", "5000"])).stdout;
    records(&String::from_utf8(printed).unwrap())
}

/// What was printed in whole lines, by partition and in its order. That nothing more came is told on the same stream.
fn records(printed: &str) -> Vec<Record> {
    let whole = printed
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let told = whole.filter_map(|line| line.strip_prefix("Partition:"));
    let mut records: Vec<_> = told
        .map(|line| record(line.trim_end_matches('\n')))
        .collect();
    records.sort_by_key(|record| record.partition);
    records
}

fn record(line: &str) -> Record {
    let [partition, headers, key, value] = line.split('\t').collect::<Vec<_>>()[..] else {
        panic!("{line}");
    };
    let text = |text: &str| (text != "null").then(|| text.to_owned());
    let pairs = headers.split(',').map(|pair| pair.split_once(':').unwrap());
    Record {
        partition: partition.parse().unwrap(),
        key: text(key),
        value: text(value),
        headers: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

/// A consumer that reads while the topic is written, and keeps all that it was given.
pub(crate) struct Reader {
    child: Child,
    kept: PathBuf,
}

impl Reader {
    /// Reads a topic from its beginning until it is dropped, and keeps in this file what it is given.
    pub(crate) fn start(topic: &Topic, kept: PathBuf) -> Self {
        let to = File::create(&kept).unwrap();
        let mut java = consumer(topic);
        let child = java.stdin(Stdio::null()).stdout(to).spawn().unwrap();
        Self { child, kept }
    }

    /// What it was given so far, by partition.
    pub(crate) fn seen(&mut self) -> Vec<Record> {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the reader ended: {ended:?}");
        records(&std::fs::read_to_string(&self.kept).unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
