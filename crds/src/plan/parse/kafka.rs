//! Kafka: sources, sinks, and how a cluster is reached.

use std::collections::BTreeSet;

use super::Findings;
use super::address::{secret, servers, topic};
use super::text::instant;
use crate::plan::{Code, KafkaPlan, KafkaSinkPlan, KafkaStart, SaslPlan, TlsPlan, Violation};
use crate::secret::SecretValue;
use crate::sink;
use crate::source::{Kafka, Sasl, StartFrom, StartOffset, Tls};

pub(super) fn kafka(raw: &Kafka, path: &str, findings: &mut Findings) -> Option<KafkaPlan> {
    servers(
        &raw.bootstrap_servers,
        &format!("{path}.bootstrapServers"),
        findings,
    );
    topic(&raw.topic, &format!("{path}.topic"), findings);
    let start = start(raw, path, findings);
    let tls = raw
        .tls
        .as_ref()
        .map(|raw| tls(raw, &format!("{path}.tls"), findings));
    let sasl = raw
        .sasl
        .as_ref()
        .map(|raw| sasl(raw, &format!("{path}.sasl"), findings));
    Some(KafkaPlan {
        bootstrap_servers: raw.bootstrap_servers.clone(),
        topic: raw.topic.clone(),
        start: start?,
        tls,
        sasl,
        on_data_loss: raw.on_data_loss,
    })
}

pub(super) fn kafka_sink(raw: &sink::Kafka, path: &str, findings: &mut Findings) -> KafkaSinkPlan {
    servers(
        &raw.bootstrap_servers,
        &format!("{path}.bootstrapServers"),
        findings,
    );
    topic(&raw.topic, &format!("{path}.topic"), findings);
    let progress = format!("{path}.progressTopic");
    topic(&raw.progress_topic, &progress, findings);
    findings.require(raw.progress_topic != raw.topic, || {
        let message = "must be another topic than the one that is written";
        Violation::new(Code::OutOfRange, progress, message)
    });
    let sink::Kafka {
        tls: raw_tls,
        sasl: raw_sasl,
        ..
    } = raw;
    KafkaSinkPlan {
        bootstrap_servers: raw.bootstrap_servers.clone(),
        topic: raw.topic.clone(),
        key_column: raw.key_column.clone(),
        delivery: raw.delivery,
        progress_topic: raw.progress_topic.clone(),
        tls: raw_tls
            .as_ref()
            .map(|raw| tls(raw, &format!("{path}.tls"), findings)),
        sasl: raw_sasl
            .as_ref()
            .map(|raw| sasl(raw, &format!("{path}.sasl"), findings)),
    }
}

fn sasl(raw: &Sasl, path: &str, findings: &mut Findings) -> SaslPlan {
    findings.require(!raw.username.is_empty(), || {
        Violation::new(
            Code::OutOfRange,
            format!("{path}.username"),
            "must not be empty",
        )
    });
    SaslPlan {
        mechanism: raw.mechanism,
        username: raw.username.clone(),
        password: secret(&raw.password, &format!("{path}.password"), findings),
    }
}

fn start(raw: &Kafka, path: &str, findings: &mut Findings) -> Option<KafkaStart> {
    let pairs = [
        ("startTime", raw.start_time.is_some(), StartFrom::Time),
        (
            "startOffsets",
            raw.start_offsets.is_some(),
            StartFrom::Offsets,
        ),
    ];
    for (field, given, belongs) in pairs {
        findings.require(given == (raw.start_from == belongs), || {
            let message =
                format!("`{field}` must be given with `startFrom: {belongs:?}`, and only then");
            Violation::new(Code::Together, format!("{path}.{field}"), message)
        });
    }
    Some(match raw.start_from {
        StartFrom::Earliest => KafkaStart::Earliest,
        StartFrom::Latest => KafkaStart::Latest,
        StartFrom::Time => KafkaStart::Time(instant(
            raw.start_time.as_ref()?,
            &format!("{path}.startTime"),
            findings,
        )?),
        StartFrom::Offsets => {
            KafkaStart::Offsets(offsets(raw.start_offsets.as_ref()?, path, findings)?)
        }
    })
}

fn offsets(raw: &[StartOffset], path: &str, findings: &mut Findings) -> Option<Vec<(i32, i64)>> {
    let mut seen = BTreeSet::new();
    let mut one = |(i, start): (usize, &StartOffset)| {
        let path = format!("{path}.startOffsets[{i}]");
        findings.require(start.partition >= 0 && seen.insert(start.partition), || {
            let message = format!(
                "partition {} must be a number from 0, named once",
                start.partition
            );
            Violation::new(Code::OutOfRange, format!("{path}.partition"), message)
        });
        let offset = start
            .offset
            .parse()
            .ok()
            .filter(|offset: &i64| *offset >= 0);
        findings.require(offset.is_some(), || {
            let message = format!("`{}` must be an offset: a number from 0", start.offset);
            Violation::new(Code::OutOfRange, format!("{path}.offset"), message)
        });
        Some((start.partition, offset?))
    };
    raw.iter().enumerate().map(&mut one).collect()
}

/// TLS of a connection, whatever is spoken on it.
pub(super) fn tls(raw: &Tls, path: &str, findings: &mut Findings) -> TlsPlan {
    let mut read = |field: &str, raw: &Option<SecretValue>| {
        let raw = raw.as_ref()?;
        Some(secret(raw, &format!("{path}.{field}"), findings))
    };
    let ca = read("ca", &raw.ca);
    let (cert, key) = (read("cert", &raw.cert), read("key", &raw.key));
    findings.require(cert.is_some() == key.is_some(), || {
        let message = "`cert` and `key` must be given together or not at all";
        Violation::new(Code::Together, path, message)
    });
    TlsPlan {
        ca,
        client: cert.zip(key),
    }
}
