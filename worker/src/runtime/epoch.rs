//! One epoch, from its opening to its decision.

use evp_api::reason;
use evp_core::dataflow::Closed;
use evp_core::protocol::head::Body;
use tokio_util::sync::CancellationToken;

use super::apply::Pending;
use super::fill::{Filled, Open};
use super::{Halt, Runtime, poison, state};
use crate::report::{Letters, Reporter};

/// How an epoch ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Went {
    /// The next one opens.
    On,
    /// Told to stop, or everything asked for is done.
    Finished,
}

impl Runtime {
    /// One epoch; a quiet one is not decided.
    ///
    /// It is filled while the last one is applied. Nothing of it is sealed, stored or decided before that is done: so at most
    /// one decided epoch is undone, and the next head records what was applied.
    pub(super) async fn epoch(
        &mut self,
        reporter: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Went, Halt> {
        let mut open = self.opened();
        self.filler.dataflow.open(open.body.epoch_time)?;
        let filled = self.fill(&mut open, reporter, stop).await?;
        let routed = self.route_rejects(&mut open).await?;
        let idle = self.filler.activity.idle(self.filler.polled);
        let mut closed =
            poison::guarded(|| self.filler.dataflow.close(&idle)).map_err(Halt::failed_epoch)??;
        if filled == Filled::Stopped && mistaken!(TailLost) {
            closed.sinks.clear();
            for sink in self.filler.sinks.values_mut() {
                sink.abandon().await;
            }
        }
        let quiet = !routed && self.is_quiet(&open, &closed);
        if quiet {
            self.filler.dataflow.abandon()?;
            self.applier.checkpointer.record_quietly().await?;
        } else {
            self.vouched(&open, reporter, stop).await?;
            self.decide(open, closed).await?;
        }
        reporter.moved(&self.filler.moving(self.applier.checkpointer.body()));
        Ok(match filled {
            Filled::Stopped => Went::Finished,
            Filled::Reached if quiet => Went::Finished,
            _ => Went::On,
        })
    }

    fn opened(&mut self) -> Open {
        let checkpointer = &self.applier.checkpointer;
        self.filler.bound.opened(checkpointer.care());
        let mut body = checkpointer.open(self.clock.now());
        for (source, splits) in &self.starts {
            let at = body.positions.entry(source.clone()).or_default();
            for (split, start) in splits {
                at.entry(split.clone()).or_insert_with(|| start.clone());
            }
        }
        Open {
            body,
            since: self.clock.elapsed(),
            records: 0,
            bytes: 0,
            letters: Letters::new(),
            committed: checkpointer.body().positions.clone(),
        }
    }

    /// Fills the epoch and rolls the sinks of the last one forward, at the same time. Where a sink stops, filling does too.
    async fn fill(
        &mut self,
        open: &mut Open,
        reporter: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Filled, Halt> {
        loop {
            let enough = stop.child_token();
            let applying = async {
                let applied = self.applier.apply(reporter).await;
                if applied.is_err() {
                    enough.cancel();
                }
                applied
            };
            let filling = self.filler.fill(open, reporter, &enough);
            let (filled, applied) = tokio::join!(filling, applying);
            applied?;
            match filled? {
                Filled::Suspect(record) => {
                    self.applier.checkpointer.compute_alone(&record).await?;
                    self.filler.bound.noted(record);
                }
                filled => return Ok(filled),
            }
        }
    }

    /// Nothing changed: there is nothing to decide.
    fn is_quiet(&self, open: &Open, closed: &Closed) -> bool {
        let last = self.applier.checkpointer.body();
        open.body.positions == last.positions
            && open.body.plan == last.plan
            && closed.watermarks == last.watermarks
            && closed.state.is_empty()
            && closed.sinks.is_empty()
    }

    /// Makes the epoch durable and decides it. Its sinks are rolled forward while the next one is filled.
    async fn decide(&mut self, mut open: Open, mut closed: Closed) -> Result<(), Halt> {
        for (sink, batch) in std::mem::take(&mut closed.sinks) {
            self.filler.stage(&sink, batch).await?;
        }
        self.seal(&mut open.body).await?;
        let body = &mut open.body;
        let files = self.applier.checkpointer.state();
        state::store(&self.filler.dataflow, &files, (&mut *body, &closed)).await?;
        self.filler.tables.store(&files, body).await?;
        body.watermarks = closed.watermarks.clone();
        body.ledger = closed.ledger.clone();
        let permit = self.applier.checkpointer.decide(open.body).await?;
        if mistaken!(StateNotKept) {
            self.filler.dataflow.abandon()?;
        } else {
            self.filler.dataflow.commit(closed, permit.epoch())?;
        }
        self.filler.tables.commit(permit.epoch());
        self.applier.pending = Some(Pending {
            permit,
            state: self.filler.dataflow.state_facts(),
            letters: open.letters,
        });
        Ok(())
    }

    /// Ends staging: what each sink must do is in the body, and its bytes are durable.
    async fn seal(&mut self, body: &mut Body) -> Result<(), Halt> {
        for (name, sink) in &mut self.filler.sinks {
            if let Some(intent) = sink.seal(body.epoch).await?
                && !body.add_intent(name, intent)
            {
                let what = format!("sink {name} is not in the plan");
                return Err(Halt::person(reason::EPOCH_FAILED, what));
            }
        }
        Ok(())
    }
}
