//! Time that stands still while anything can run, and jumps to the next sleeper when nothing can: for the simulation and for
//! tests of pipelines.
//!
//! All of a world runs on one thread. What it waits for must be in that thread or in memory: an answer from elsewhere is not
//! seen coming, and time would jump past it. So code that blocks runs in turn here ([`in_turn`]).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use evp_core::position::Micros;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// 2026-01-01T00:00:00Z.
pub(crate) const BEGIN: Micros = Micros(1_767_225_600_000_000);

/// One clock for all processes of a world.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    begin: Micros,
    /// What takes longer never ends.
    longest: Duration,
    time: Mutex<Time>,
    /// The world itself was woken, which the runtime does not count as something that can run.
    woken: AtomicBool,
    /// Nothing can run and nobody sleeps, or time is up.
    stuck: CancellationToken,
}

#[derive(Debug, Default)]
struct Time {
    now: u64,
    slept: u64,
    /// Who is to be woken when; the second number keeps the order of equals.
    sleepers: BTreeMap<(u64, u64), Waker>,
}

impl VirtualClock {
    /// A world that begins at that instant and lasts no longer.
    pub(crate) fn new(begin: Micros, longest: Duration) -> Self {
        Self {
            begin,
            longest,
            time: Mutex::default(),
            woken: AtomicBool::default(),
            stuck: CancellationToken::new(),
        }
    }

    fn time<T>(&self, with: impl FnOnce(&mut Time) -> T) -> T {
        with(&mut self.time.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing can run: the next sleeper wakes.
    fn advance(&self) {
        if self.woken.load(Ordering::SeqCst) {
            return;
        }
        let next = self.time(|time| {
            let ((at, _), waker) = time.sleepers.pop_first()?;
            time.now = time.now.max(at);
            (u128::from(time.now) < self.longest.as_micros()).then_some(waker)
        });
        match next {
            Some(waker) => waker.wake(),
            None => self.stuck.cancel(),
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Micros {
        let passed = i64::try_from(self.time(|t| t.now)).unwrap_or(i64::MAX);
        Micros(self.begin.0.saturating_add(passed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.time(|t| t.now))
    }

    async fn sleep(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let until = self.time(|time| {
            time.slept += 1;
            (time.now.saturating_add(micros), time.slept)
        });
        Sleep { clock: self, until }.await;
    }
}

struct Sleep<'a> {
    clock: &'a VirtualClock,
    until: (u64, u64),
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        self.clock.time(|time| {
            if until.0 <= time.now {
                return Poll::Ready(());
            }
            time.sleepers.insert(until, context.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        let until = self.until;
        self.clock.time(|time| time.sleepers.remove(&until));
    }
}

/// Runs a world to its end on this thread, in an order that is the same each time. `None`: nothing moves any more, or time is
/// up.
pub(crate) fn block_on<T>(
    clock: &Arc<VirtualClock>,
    world: impl Future<Output = T>,
) -> std::io::Result<Option<T>> {
    let idle = Arc::clone(clock);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(move || idle.advance())
        .build()?;
    let _here = Here::enter();
    let mut world = pin!(async {
        tokio::select! {
            biased;
            done = world => Some(done),
            () = clock.stuck.cancelled() => None,
        }
    });
    Ok(runtime.block_on(poll_fn(|context| {
        clock.woken.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::new(Woken {
            clock: Arc::clone(clock),
            waker: context.waker().clone(),
        }));
        world.as_mut().poll(&mut Context::from_waker(&waker))
    })))
}

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, time is virtual on this thread.
struct Here;

impl Here {
    fn enter() -> Self {
        HERE.set(true);
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(false);
    }
}

/// Time is virtual on this thread.
pub(crate) fn runs_here() -> bool {
    HERE.get()
}

/// Runs what blocks when its turn comes, on the world's one thread.
#[expect(
    clippy::disallowed_methods,
    reason = "stands for the pool of threads, whose order no seed decides and whose answers no clock waits for"
)]
pub(crate) fn in_turn<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(async move { job() })
}

struct Woken {
    clock: Arc<VirtualClock>,
    waker: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.clock.woken.store(true, Ordering::SeqCst);
        self.waker.wake_by_ref();
    }
}
