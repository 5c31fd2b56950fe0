//! The one place that spawns: every task has a name and a parent, all end on one signal and are joined.

use std::future::Future;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;

/// The tasks of one parent. Dropping it aborts what still runs.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// Tasks that also end when `parent` is cancelled.
    pub fn below(parent: &CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            stop: parent.child_token(),
        }
    }

    /// The signal on which tasks end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Runs a task that has nothing to end: it is dropped once tasks are to end.
    pub fn spawn_until_stopped(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stopping();
        self.spawn(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Signals all tasks, waits for them until the deadline, aborts the rest.
    pub async fn drain(mut self, clock: &SharedClock, deadline: Duration) {
        self.stop.cancel();
        let joined = async { while self.set.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = joined => {}
            () = clock.sleep(deadline) => {}
        }
        self.set.abort_all();
    }
}

/// Runs code that blocks where that is allowed. Waiting for it may be given up; it is not.
pub fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if crate::virtual_time::runs_here() {
        return crate::virtual_time::in_turn(job);
    }
    tokio::task::spawn_blocking(job)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use evp_core::position::Micros;

    use super::*;
    use crate::clock::Clock;

    /// Time stands still.
    struct Still;

    #[async_trait]
    impl Clock for Still {
        fn now(&self) -> Micros {
            Micros(0)
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        async fn sleep(&self, _: Duration) {
            std::future::pending::<()>().await;
        }
    }

    #[tokio::test]
    async fn a_task_that_never_ends_by_itself_keeps_no_end_waiting() {
        let mut tasks = Tasks::below(&CancellationToken::new());
        tasks.spawn_until_stopped("signal", std::future::pending());
        let clock: SharedClock = Arc::new(Still);
        tasks.drain(&clock, Duration::from_secs(2)).await;
    }
}
