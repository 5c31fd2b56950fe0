//! The only file that reads time or waits for it. Tests inject their own [`Clock`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;

/// Time as the operator sees it.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time: for what people read, never to decide who leads.
    fn now(&self) -> Timestamp;
    /// Time since some fixed instant, never going back: for ages, deadlines and leases.
    fn elapsed(&self) -> Duration;
    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// A clock that is shared.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts at zero elapsed.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn shared() -> SharedClock {
        Arc::new(Self {
            started: Instant::now(),
        })
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// `future`, or `None` when it has not ended within `limit`.
pub async fn within<T>(
    clock: &SharedClock,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = clock.sleep(limit) => None,
    }
}
