//! Crashes at every await, zombies that go on, and answers that are lost, in every order a seed gives.

use std::pin::pin;
use std::task::Poll;

use futures::poll;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::world::World;
use crate::checkpointer::{Checkpointer, Stop};
use crate::store::fault::Fault;

/// Runs until done, or crashes after so many polls.
async fn cut<T>(work: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut work = pin!(work);
    for _ in 0..polls {
        if let Poll::Ready(value) = poll!(&mut work) {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

struct Chaos {
    world: World,
    rng: ChaCha12Rng,
    /// Processes that run or believe they do.
    lanes: Vec<Checkpointer>,
    pods: u32,
}

impl Chaos {
    fn polls(&mut self) -> u32 {
        if self.rng.random_bool(0.5) {
            u32::MAX
        } else {
            self.rng.random_range(0..60)
        }
    }

    async fn start(&mut self) {
        self.pods += 1;
        let (pod, polls) = (format!("p{}", self.pods), self.polls());
        let Some(started) = cut(self.world.try_start(&pod), polls).await else {
            return;
        };
        let mut lane = started
            .expect("a pod that was never fenced starts")
            .checkpointer;
        let polls = self.polls();
        match cut(lane.roll_forward(&mut self.world.sinks()), polls).await {
            Some(Ok(())) => self.lanes.push(lane),
            Some(Err(stop)) => assert_eq!(stop.reason, evp_api::reason::FENCED, "{stop}"),
            None => {}
        }
    }

    /// Any process, a zombie too, works on for a while.
    async fn work(&mut self) {
        if self.lanes.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.lanes.len());
        let (mut lane, polls) = (self.lanes.swap_remove(at), self.polls());
        let quiet = self.rng.random_bool(0.2);
        let work = async {
            if quiet {
                lane.record_quietly().await
            } else {
                self.world.run(&mut lane).await
            }
        };
        let done: Option<Result<(), Stop>> = cut(work, polls).await;
        match done {
            Some(Ok(())) => self.lanes.push(lane),
            Some(Err(stop)) => assert_eq!(stop.reason, evp_api::reason::FENCED, "{stop}"),
            None => {}
        }
    }

    fn fault(&mut self) {
        let faults = [Fault::ReplyLost, Fault::Lost, Fault::DoneAndRefused];
        let objects = ["0/head.json", "0/head.json", "owner.json", "0/born.json"];
        let (fault, object) = (
            faults[self.rng.random_range(0..3)],
            objects[self.rng.random_range(0..4)],
        );
        self.world
            .store
            .next(object, self.rng.random_range(1..4), fault);
    }
}

#[tokio::test]
async fn whatever_crashes_and_whoever_goes_on_each_epoch_is_applied_once() {
    let mut epochs = 0;
    for seed in 0..100 {
        let rng = ChaCha12Rng::seed_from_u64(seed);
        let mut chaos = Chaos {
            world: World::new(),
            rng,
            lanes: Vec::new(),
            pods: 0,
        };
        for _ in 0..50 {
            match chaos.rng.random_range(0..10) {
                0..3 => chaos.start().await,
                3..5 => chaos.fault(),
                _ => chaos.work().await,
            }
        }
        let mut last = chaos.world.start("last").await;
        last.roll_forward(&mut chaos.world.sinks()).await.unwrap();
        chaos.world.run(&mut last).await.unwrap();
        let epoch = last.body().epoch.0;
        chaos.world.holds(1..=epoch);
        epochs += epoch;
    }
    assert!(
        epochs > 500,
        "the seeds decide {epochs} epochs in all: too few to say anything"
    );
}
