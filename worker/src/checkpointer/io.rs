//! The store with patience: what did not answer is asked again, for ever once a lane is ours, and somebody is told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::crash::{CrashPoints, Moment, Step};
use super::stop::Stop;
use crate::clock::SharedClock;
use crate::ids::Ids;
use crate::store::{ETag, Store, StoreError};

/// First wait; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Attempts of one request while starting, about six seconds of waiting: then whoever started us decides whether to go on.
const ATTEMPTS_AT_START: u32 = 7;

/// Something that is waited for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting<'a> {
    /// `the object store`, or the sink's name.
    pub on: &'a str,
    /// Word from the catalogue of reasons.
    pub reason: &'static str,
    /// What, where, what to do.
    pub message: &'a str,
    /// Failed attempts so far.
    pub attempts: u32,
    /// The next attempt comes after this.
    pub wait: Duration,
}

/// Who is told about waiting.
pub trait Report: Send + Sync + 'static {
    /// An attempt failed; another follows.
    fn waiting(&self, waiting: &Waiting<'_>);
    /// What was waited for answers again.
    fn resumed(&self, on: &str);
}

/// Tells the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged;

impl Report for Logged {
    fn waiting(&self, w: &Waiting<'_>) {
        tracing::warn!(on = w.on, reason = w.reason, attempts = w.attempts, wait = ?w.wait, "waiting: {}", w.message);
    }

    fn resumed(&self, on: &str) {
        tracing::info!(on, "answers again");
    }
}

/// Waits longer each time, and tells.
pub(super) struct Backoff<'a> {
    on: &'a str,
    attempts: u32,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(on: &'a str) -> Self {
        Self { on, attempts: 0 }
    }

    pub(super) async fn wait(&mut self, io: &Io, reason: &'static str, message: &str) {
        self.attempts = self.attempts.saturating_add(1);
        let wait = FIRST_WAIT
            .saturating_mul(1 << self.attempts.min(16).saturating_sub(1))
            .min(LONGEST_WAIT);
        io.report.waiting(&Waiting {
            on: self.on,
            reason,
            message,
            attempts: self.attempts,
            wait,
        });
        io.clock.sleep(wait).await;
    }

    pub(super) fn done(&self, io: &Io) {
        if self.attempts > 0 {
            io.report.resumed(self.on);
        }
    }
}

/// How often what does not answer is asked again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Patience {
    /// [`ATTEMPTS_AT_START`]: whoever started us decides whether to go on.
    Bounded,
    /// For ever: a decided epoch waits.
    Endless,
}

/// What the store is called in reports.
pub(super) const STORE: &str = "the object store";

/// The injected world.
#[derive(Clone)]
pub(super) struct Io {
    pub(super) store: Arc<dyn Store>,
    pub(super) url: String,
    pub(super) clock: SharedClock,
    pub(super) ids: Ids,
    pub(super) crash: CrashPoints,
    pub(super) report: Arc<dyn Report>,
    /// How often requests are repeated.
    pub(super) patience: Patience,
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Io {
    /// The same world with another patience.
    pub(super) fn with(&self, patience: Patience) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// Whether another attempt may follow a failed one.
    pub(super) fn tries_again(&self, backoff: &Backoff<'_>) -> bool {
        self.patience == Patience::Endless || backoff.attempts + 1 < ATTEMPTS_AT_START
    }

    /// Repeats a request until it is answered. Not for conditional writes.
    pub(super) async fn patiently<T>(
        &self,
        request: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Result<T, Stop> {
        let mut backoff = Backoff::new(STORE);
        loop {
            match request().await {
                Ok(value) => {
                    backoff.done(self);
                    return Ok(value);
                }
                Err(e @ StoreError::Unavailable { .. }) => self.again(&mut backoff, e).await?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits before another attempt, unless a start has tried often enough.
    pub(super) async fn again(&self, backoff: &mut Backoff<'_>, e: StoreError) -> Result<(), Stop> {
        if !self.tries_again(backoff) {
            return Err(e.into());
        }
        backoff.wait(self, e.reason(), &e.describe()).await;
        Ok(())
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<(Bytes, ETag)>, Stop> {
        self.patiently(async || self.store.get(name).await).await
    }

    /// A plain write, with its crash points.
    pub(super) async fn put(&self, step: Step, name: &str, bytes: Bytes) -> Result<(), Stop> {
        self.crash.hit(step, Moment::Before);
        self.patiently(async || self.store.put(name, bytes.clone()).await)
            .await?;
        self.crash.hit(step, Moment::After);
        Ok(())
    }
}
