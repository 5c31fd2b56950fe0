//! One run of a pipeline from its first start to the end of its scripts: the worker itself, on a clock that does not wait.
//!
//! A crash unwinds all that runs, at the very place; what comes next is a new pod that has the objects alone, as after a
//! process' death.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use evp_core::protocol::decide::Identity;
use evp_core::protocol::head::Head;
use evp_core::protocol::paths::Lane;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::file::Test;
use super::subject::Subject;
use crate::checkpointer::crash::Crashed;
use crate::checkpointer::{CrashPoints, Moment, Step};
use crate::clock::SharedClock;
use crate::ids::Ids;
use crate::job::{Parts, Sample, Topics};
use crate::report::Reporter;
use crate::runtime::{Poison, Remedy, Start};
use crate::secrets::Secrets;
use crate::settings::MemoryBudget;
use crate::source::script::Scripts;
use crate::store::Storage;
use crate::supervise;
use crate::virtual_time::{VirtualClock, block_on};

/// Attempts of one process. There is no world around that could heal; but each attempt finds the records of a batch on which the
/// engine itself fails.
const MOST_ATTEMPTS: u32 = 20;

/// Between two attempts.
const HEALS_AFTER: Duration = Duration::from_secs(3);

/// What became of a run that came to its end.
pub(super) struct Lived {
    /// Where everything lies.
    pub(super) storage: Storage,
    /// The newest decision.
    pub(super) head: Head,
    /// Processes, the last one included.
    pub(super) lives: u64,
}

/// Runs a test's pipeline. `crash_after`: the first process dies when it has decided so many epochs. `Err`: why it does not come
/// to its end.
pub(super) fn live(
    subject: &Subject,
    (test, scripts): (&Test, &Scripts),
    crash_after: Option<u64>,
) -> Result<Lived, String> {
    let clock = Arc::new(VirtualClock::new(test.now, longest(subject, scripts)));
    let storage = subject.storage();
    let crash = crash_after.map_or_else(CrashPoints::none, |epoch| {
        CrashPoints::of_life(Step::HeadSwap, Moment::After, epoch)
    });
    let parts = Parts {
        storage: storage.clone(),
        secrets: Secrets::new("/nowhere"),
        clock: clock.clone(),
        topics: Topics::Folder(Subject::topics()),
        budget: MemoryBudget::of(MemoryBudget::DEFAULT_LIMIT),
        sample: Sample::default(),
        scripts: scripts.clone(),
        crash,
    };
    let world = async {
        let lives = lives(subject, &parts).await?;
        let head = head(subject, &storage).await?;
        Ok::<_, String>((lives, head))
    };
    let came = block_on(&clock, world).map_err(|e| format!("it cannot be run: {e}"))?;
    let (lives, head) = came.unwrap_or_else(|| Err("nothing moves any more".to_owned()))?;
    Ok(Lived {
        storage,
        head,
        lives,
    })
}

/// Time beyond which a run has no end: twice what its epochs take if each stays open for its interval, and an hour.
fn longest(subject: &Subject, scripts: &Scripts) -> Duration {
    let parts = scripts.values().map(|script| script.parts.len()).max();
    let epochs = u32::try_from(parts.unwrap_or_default() + 2).unwrap_or(u32::MAX);
    let interval = subject.checked().plan.checkpoint.interval;
    interval.saturating_mul(epochs).saturating_mul(2) + Duration::from_hours(1)
}

/// Process after process, until one ends well; how many there were.
async fn lives(subject: &Subject, parts: &Parts) -> Result<u64, String> {
    // One crash is armed at most.
    for life in 1..=2 {
        let lived = AssertUnwindSafe(attempts(subject, parts, life));
        match lived.catch_unwind().await {
            Ok(ended) => return ended.map(|()| life),
            Err(payload) if payload.is::<Crashed>() => {}
            Err(payload) => return Err(format!("the worker panicked: {}", said(&*payload))),
        }
    }
    Err("it crashed again".to_owned())
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("without a word")
}

/// One process.
async fn attempts(subject: &Subject, parts: &Parts, life: u64) -> Result<(), String> {
    let path = subject.checked().plan.checkpoint.path.to_string();
    let clock: SharedClock = parts.clock.clone();
    let (mut reporter, _progress) = Reporter::new(&subject.name, &path, clock);
    let start = Start {
        checked: Arc::clone(subject.checked()),
        spec: subject.spec.clone(),
        lane: Lane::default(),
        parts: parts.clone(),
        identity: Identity {
            name: subject.name.clone(),
            uid: "test".to_owned(),
            namespace_uid: "test".to_owned(),
            pod: format!("test-{life}"),
        },
        ids: Ids::seeded(life),
        seen: None,
        waiting: reporter.waiting(),
        poison: Poison::default(),
        until_end: true,
    };
    let mut last = String::new();
    for _ in 0..MOST_ATTEMPTS {
        match supervise::once(&start, &mut reporter, &CancellationToken::new()).await {
            Ok(()) => return Ok(()),
            Err(halt) => {
                last = format!("the pipeline stops: {halt}");
                if halt.remedy != Remedy::Wait {
                    break;
                }
            }
        }
        parts.clock.sleep(HEALS_AFTER).await;
    }
    Err(last)
}

async fn head(subject: &Subject, storage: &Storage) -> Result<Head, String> {
    let place = storage.open(&subject.checked().plan.checkpoint.path);
    let place = place.map_err(|e| e.describe())?;
    let head = place.store.get(&Lane::default().head()).await;
    let head = head.map_err(|e| e.describe())?;
    let (bytes, _) = head.ok_or("nothing was decided")?;
    Head::from_bytes(&bytes).map_err(|e| e.to_string())
}
