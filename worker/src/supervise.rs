//! Keeps a lane running: starts it, reports why it halted, starts it again. It never hides a cause in a crash loop.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::report::Reporter;
use crate::runtime::{Halt, Remedy, Start, start};

/// How long after a halt that may heal by itself.
const HEALS_AFTER: Duration = Duration::from_secs(3);

/// How long after a halt that a person must end: they may have acted.
const PERSON_AFTER: Duration = Duration::from_secs(15);

/// Runs until told to stop, or to the end if that was asked for.
pub async fn until_stopped(lane: &Start, reporter: &mut Reporter, stop: &CancellationToken) {
    reporter.starting();
    while let Err(halt) = once(lane, reporter, stop).await {
        report(&halt, reporter);
        let wait = match halt.remedy {
            Remedy::Wait => HEALS_AFTER,
            Remedy::Person => PERSON_AFTER,
            Remedy::Never => return stop.cancelled().await,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = lane.parts.clock.sleep(wait) => {}
        }
    }
}

/// One attempt. `Err`: why it ended before it was told to.
pub async fn once(
    lane: &Start,
    reporter: &mut Reporter,
    stop: &CancellationToken,
) -> Result<(), Halt> {
    let runtime = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        runtime = start(lane, stop) => runtime?,
    };
    runtime.run(reporter, stop).await
}

fn report(halt: &Halt, reporter: &Reporter) {
    let stalled = halt.remedy != Remedy::Wait;
    tracing::error!(code = halt.reason, stalled, "{}", halt.message);
    reporter.halted(halt.reason, &halt.message, stalled);
}
