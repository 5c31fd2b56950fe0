//! Sinks.

mod postgres;

use super::graph::{Graph, Node};
use super::text::storage_path;
use super::{Findings, exactly_one, kafka, named_once, node_name};
use crate::plan::{Code, DeltaPlan, Mode, NodeName, ParquetPlan, SinkKind, SinkPlan, Violation};
use crate::sink::{Delta, Kafka, Parquet, Sink};
use crate::step::Aggregate;

use postgres::postgres;

pub(super) fn sink(
    index: usize,
    raw: &Sink,
    graph: &Graph<'_>,
    findings: &mut Findings,
) -> Option<SinkPlan> {
    let path = format!("spec.sinks[{index}]");
    let name = node_name(&raw.name, &path, findings);
    let kinds: Vec<_> = Sink::KINDS.into_iter().zip(raw.given()).collect();
    let one = exactly_one(&path, &kinds, findings);
    let kind = if let Some(table) = &raw.delta {
        delta(table, raw.mode, &format!("{path}.delta"), findings).map(SinkKind::Delta)
    } else if let Some(folder) = &raw.parquet {
        parquet(folder, raw.mode, &path, findings).map(SinkKind::Parquet)
    } else if let Some(log) = &raw.kafka {
        log_fits(raw, log, (&path, graph), findings);
        let plan = kafka::kafka_sink(log, &format!("{path}.kafka"), findings);
        Some(SinkKind::Kafka(plan))
    } else if let Some(table) = &raw.postgres {
        postgres(table, &format!("{path}.postgres"), findings).map(SinkKind::Postgres)
    } else {
        Some(SinkKind::Stdout)
    };
    let kind = kind.filter(|_| one);
    let keys = keys(raw, &path, graph, findings);
    Some(SinkPlan {
        name: name?,
        from: NodeName::new(&raw.from)?,
        mode: raw.mode,
        keys: keys?,
        kind: kind?,
    })
}

fn delta(raw: &Delta, mode: Mode, path: &str, findings: &mut Findings) -> Option<DeltaPlan> {
    findings.require(raw.partition_by.is_empty() || mode == Mode::Append, || {
        let message = "`partitionBy` with `mode: Update` is not built yet";
        Violation::new(Code::NotBuilt, format!("{path}.partitionBy"), message)
    });
    named_once(&raw.partition_by, &format!("{path}.partitionBy"), findings);
    let table = storage_path(&raw.path, &format!("{path}.path"), findings)?;
    Some(DeltaPlan {
        path: table,
        partition_by: raw.partition_by.clone(),
    })
}

fn parquet(raw: &Parquet, mode: Mode, path: &str, findings: &mut Findings) -> Option<ParquetPlan> {
    findings.require(mode == Mode::Append, || {
        let message = "files are added and never changed";
        Violation::new(Code::Misplaced, format!("{path}.mode"), message)
            .help("use `mode: Append`, or a `delta` table")
    });
    let path = format!("{path}.parquet");
    named_once(&raw.partition_by, &format!("{path}.partitionBy"), findings);
    Some(ParquetPlan {
        path: storage_path(&raw.path, &format!("{path}.path"), findings)?,
        partition_by: raw.partition_by.clone(),
    })
}

/// A log is added to and never taken back from.
fn log_fits(raw: &Sink, log: &Kafka, (path, graph): (&str, &Graph<'_>), findings: &mut Findings) {
    let spec = graph.spec();
    findings.require(raw.keys.is_empty(), || {
        let message = "`keys` say which rows of a table are replaced, and a log replaces none";
        Violation::new(Code::Misplaced, format!("{path}.keys"), message)
            .help("name the column of the records' key with `kafka.keyColumn`")
    });
    findings.require(raw.mode == Mode::Append || log.key_column.is_some(), || {
        let message = "`keyColumn` must be given with `mode: Update`: without it the changes of a window lose their order";
        Violation::new(Code::Together, format!("{path}.kafka.keyColumn"), message)
    });
    let reads = |source: &crate::source::Source| {
        let kafka = source.kafka.as_ref();
        kafka.is_some_and(|k| k.topic == log.topic && k.bootstrap_servers == log.bootstrap_servers)
    };
    findings.require(!spec.sources.iter().any(reads), || {
        let message = format!(
            "topic `{}` is read by a source of this pipeline: it would read what it writes, for ever",
            log.topic
        );
        Violation::new(Code::Cycle, format!("{path}.kafka.topic"), message)
    });
    if raw.mode == Mode::Update {
        let takes_back = graph
            .above(&raw.from)
            .into_iter()
            .map_while(|node| match node {
                Node::Step(i) => spec.steps[i].query.as_ref(),
                Node::Source(_) => None,
            })
            .any(|query| query.filter.is_some());
        findings.require(!takes_back, || {
            let message = "a window that a `where` lets pass and later refuses would have to be taken back, and a log takes \
                           nothing back";
            Violation::new(Code::Misplaced, format!("{path}.mode"), message)
                .help("use `mode: Append`, or select the condition as a column")
        });
    }
}

/// Keys that are given, or inherited from the aggregate above.
fn keys(raw: &Sink, path: &str, graph: &Graph<'_>, findings: &mut Findings) -> Option<Vec<String>> {
    let path = format!("{path}.keys");
    named_once(&raw.keys, &path, findings);
    match raw.mode {
        Mode::Append if raw.keys.is_empty() || raw.postgres.is_some() => Some(raw.keys.clone()),
        Mode::Append => {
            let message =
                "`keys` with `mode: Append` (insert if absent) is built for `postgres` only";
            findings.add(
                Violation::new(Code::NotBuilt, path, message)
                    .help("take `keys` out, or use `mode: Update`"),
            );
            None
        }
        // What stands above is unknown, which has its own finding.
        Mode::Update if graph.root(&raw.from).is_none() => None,
        Mode::Update => match aggregate_above(raw, graph) {
            Some(aggregate) => inherited(raw, aggregate, &path, findings),
            None => given(raw, &path, findings),
        },
    }
}

fn aggregate_above<'a>(raw: &Sink, graph: &Graph<'a>) -> Option<&'a Aggregate> {
    let above = graph.above(&raw.from).into_iter();
    above.into_iter().find_map(|node| match node {
        Node::Step(i) => graph.spec().steps[i].aggregate.as_ref(),
        Node::Source(_) => None,
    })
}

/// Keys of a sink in `Update` mode that no aggregate stands above.
fn given(raw: &Sink, path: &str, findings: &mut Findings) -> Option<Vec<String>> {
    if raw.postgres.is_none() {
        let message =
            "`mode: Update` below anything but an `aggregate` is built for `postgres` only";
        let path = path.replace(".keys", ".mode");
        findings.add(Violation::new(Code::NotBuilt, path, message));
        return None;
    }
    if raw.keys.is_empty() {
        let message = "`keys` must be given with `mode: Update` where no `aggregate` stands above";
        findings.add(Violation::new(Code::Together, path, message));
        return None;
    }
    Some(raw.keys.clone())
}

fn inherited(
    raw: &Sink,
    aggregate: &Aggregate,
    path: &str,
    findings: &mut Findings,
) -> Option<Vec<String>> {
    if aggregate.window.session.is_some() {
        let message =
            "sessions merge while they are open, so a row of one could have to be taken back";
        findings.add(
            Violation::new(Code::Misplaced, path.replace(".keys", ".mode"), message)
                .help("use `mode: Append`: one row when the session closes"),
        );
        return None;
    }
    let first = std::iter::once("window_start".to_owned());
    let inherited: Vec<_> = first.chain(aggregate.group_by.iter().cloned()).collect();
    if raw.keys.is_empty() {
        return Some(inherited);
    }
    let (mut given, mut wanted) = (raw.keys.clone(), inherited);
    given.sort();
    wanted.sort();
    findings.require(given == wanted, || {
        let message = format!("keys must be the aggregate's own: {}", wanted.join(", "));
        Violation::new(Code::KeysChanged, path, message)
            .help("leave `keys` out: they are inherited")
    });
    Some(raw.keys.clone())
}
