//! The one place that spawns: every task has a name, all end on one signal, the first to end by itself ends all.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{SharedClock, within};

/// The tasks of the process. Dropping it aborts what still runs.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// The signal on which tasks end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task until it ends.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Leaves the tasks to the runtime, which ends them with the process.
    pub fn detach(mut self) {
        self.set.detach_all();
    }

    /// Name of the next task that ends; `None` when there are none. A panic counts as an end.
    pub async fn next_ended(&mut self) -> Option<&'static str> {
        let ended = self.set.join_next().await?;
        Some(ended.unwrap_or("a task that panicked"))
    }

    /// Signals all tasks, waits for them until the deadline, aborts the rest.
    pub async fn drain(mut self, clock: &SharedClock, deadline: Duration) {
        self.stop.cancel();
        let joined = async { while self.set.join_next().await.is_some() {} };
        within(clock, deadline, joined).await;
        self.set.abort_all();
    }
}
