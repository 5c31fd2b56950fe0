//! A checkpoint in memory with a sink that remembers, a clock that does not wait, and faults on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evp_core::dataflow::SinkBatch;
use evp_core::position::{Position, SplitId, SplitPosition};
use evp_core::protocol::head::Intent;
use serde_json::json;

use super::super::*;
use crate::clock::Clock;
use crate::sink::{Applied, Sink, SinkError};
use crate::store::fault::FaultStore;
use crate::store::memory::MemoryStore;
use crate::store::{Condition, Store};

/// Time moves when it is read or waited for.
#[derive(Debug, Default)]
pub(super) struct FakeClock(Mutex<i64>);

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> Micros {
        let mut now = self.0.lock().unwrap();
        *now += 1;
        Micros(*now)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _: Duration) {
        tokio::task::yield_now().await;
    }
}

/// What a sink's target holds.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub marker: Option<Epoch>,
    pub rows: Vec<serde_json::Value>,
    pub failures: VecDeque<SinkError>,
}

pub(super) struct TwinSink(pub Arc<Mutex<Target>>);

#[async_trait]
impl Sink for TwinSink {
    async fn stage(&mut self, _: SinkBatch) -> Result<(), SinkError> {
        Ok(())
    }

    async fn seal(&mut self, _: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        Ok(None)
    }

    async fn abandon(&mut self) {}

    async fn apply(&mut self, intent: &Intent, _: &CommitPermit) -> Result<Applied, SinkError> {
        // Somebody else may run before and after the target changes; a crash may hit here too.
        tokio::task::yield_now().await;
        let done = self.apply_now(intent);
        tokio::task::yield_now().await;
        done
    }

    async fn probe(&mut self, _: &Intent) -> Result<Option<Epoch>, SinkError> {
        tokio::task::yield_now().await;
        Ok(self.0.lock().unwrap().marker)
    }
}

impl TwinSink {
    fn apply_now(&self, intent: &Intent) -> Result<Applied, SinkError> {
        let mut target = self.0.lock().unwrap();
        if let Some(failure) = target.failures.pop_front() {
            return Err(failure);
        }
        if target.marker < Some(intent.epoch) {
            assert_eq!(
                target.marker, intent.prev,
                "an epoch is applied out of order"
            );
            target.marker = Some(intent.epoch);
            target.rows.push(intent.body.clone());
        }
        Ok(Applied {
            version: Some(intent.epoch.0),
            rejected: 0,
        })
    }
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Told(pub Mutex<Vec<String>>);

impl Report for Told {
    fn waiting(&self, w: &Waiting<'_>) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{} {} {}", w.on, w.reason, w.attempts));
    }

    fn resumed(&self, on: &str) {
        self.0.lock().unwrap().push(format!("{on} resumed"));
    }
}

/// Counts how often it was asked.
#[derive(Debug, Default)]
pub(super) struct Latest(pub u32);

#[async_trait]
impl StartPositions for Latest {
    async fn resolve(&mut self, _: Micros) -> Result<StartPoint, Stop> {
        self.0 += 1;
        let split = SplitPosition {
            next: Position(100 + i64::from(self.0)),
            ..Default::default()
        };
        let splits = [(SplitId::partition(0), split)].into();
        Ok(StartPoint {
            positions: [(name("orders"), splits)].into(),
            watermarks: BTreeMap::new(),
        })
    }
}

pub(super) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(super) struct World {
    pub store: Arc<FaultStore>,
    pub target: Arc<Mutex<Target>>,
    pub told: Arc<Told>,
    pub latest: Latest,
    pub again: bool,
    pub seen: Option<Epoch>,
    pub fingerprints: Fingerprints,
    pub adopt_from: Option<String>,
    pub reset_nonce: u64,
    pub history: Micros,
    pub ids: Ids,
    clock: SharedClock,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            store: Arc::new(FaultStore::new(Arc::new(MemoryStore::default()))),
            target: Arc::default(),
            told: Arc::default(),
            latest: Latest::default(),
            again: false,
            seen: None,
            fingerprints: Fingerprints::new(),
            adopt_from: None,
            reset_nonce: 0,
            history: Micros(i64::MAX),
            ids: Ids::seeded(7),
            clock: Arc::new(FakeClock::default()),
        }
    }

    pub(super) fn setup(&self, pod: &str) -> Setup {
        let location = Location {
            store: self.store.clone(),
            ..Location::memory()
        };
        Setup {
            location,
            identity: Identity {
                name: "orders".into(),
                uid: "u".into(),
                namespace_uid: "ns".into(),
                pod: pod.into(),
            },
            lane: Lane::default(),
            plan: json!({"sinks": ["gold"]}),
            targets: [(name("gold"), "twin".to_owned())].into(),
            adopt_from: self.adopt_from.clone(),
            reset_nonce: self.reset_nonce,
            history: self.history,
            fingerprints: self.fingerprints.clone(),
            max_records: None,
            again: self.again,
            seen: self.seen,
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            crash: CrashPoints::none(),
            report: self.told.clone(),
        }
    }

    /// A start of another resource than the others.
    pub(super) async fn start_as(&mut self, uid: &str, pod: &str) -> Result<Started, Stop> {
        let mut setup = self.setup(pod);
        setup.identity.uid = uid.into();
        setup.identity.namespace_uid = format!("namespace of {uid}");
        Checkpointer::start(setup, &mut self.latest).await
    }

    pub(super) async fn try_start(&mut self, pod: &str) -> Result<Started, Stop> {
        let setup = self.setup(pod);
        Checkpointer::start(setup, &mut self.latest).await
    }

    pub(super) async fn start(&mut self, pod: &str) -> Checkpointer {
        self.try_start(pod).await.unwrap().checkpointer
    }

    pub(super) fn sinks(&self) -> Sinks {
        let sink: Box<dyn Sink> = Box::new(TwinSink(self.target.clone()));
        [(name("gold"), sink)].into()
    }

    /// Decides the next epoch with one row for the sink.
    pub(super) async fn decide(
        &self,
        checkpointer: &mut Checkpointer,
    ) -> Result<CommitPermit, Stop> {
        let mut body = checkpointer.open(Micros(1));
        let row = json!(body.epoch.0);
        assert!(body.add_intent(&name("gold"), row));
        checkpointer.decide(body).await
    }

    /// Decides and applies.
    pub(super) async fn run(&self, checkpointer: &mut Checkpointer) -> Result<(), Stop> {
        let permit = self.decide(checkpointer).await?;
        checkpointer
            .apply(permit, &mut self.sinks())
            .await
            .map(drop)
    }

    /// The sink holds each of these epochs once.
    #[track_caller]
    pub(super) fn holds(&self, epochs: std::ops::RangeInclusive<u64>) {
        let expected: Vec<_> = epochs.map(|e| json!(e)).collect();
        assert_eq!(self.target.lock().unwrap().rows, expected);
    }

    pub(super) async fn object(&self, name: &str) -> Option<bytes::Bytes> {
        self.store.get(name).await.unwrap().map(|(bytes, _)| bytes)
    }

    pub(super) async fn create(&self, name: &str, text: &'static str) {
        self.store
            .put_if(name, bytes::Bytes::from(text), &Condition::Absent)
            .await
            .unwrap();
    }
}
