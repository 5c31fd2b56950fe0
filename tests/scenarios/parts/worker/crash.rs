//! A worker that ends at any step of the protocol and is started again loses nothing and doubles nothing. The steps are the
//! code's own: a step that is added is a crash that is tried, or this does not compile.

use std::sync::Arc;
use std::time::Instant;

use evp_api::plan::DEAD_LETTERS;
use evp_tests::oracle::Expected;
use evp_worker::checkpointer::{Moment, Step};

use super::cells::all_hold;
use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline};

const RECORDS: i64 = 700;

/// Who takes a step: `None` is the lane itself.
pub(super) type Who = Option<&'static str>;

pub(super) const LANE: &[Who] = &[None];
const ALL: &[Who] = &[Some("bronze"), Some(DEAD_LETTERS), Some("gold")];

fn who(step: Step) -> &'static [Who] {
    match step {
        Step::OwnerCreate
        | Step::OwnSwap
        | Step::HeadCreate
        | Step::BornCreate
        | Step::SourceSeek
        | Step::PlanPut
        | Step::StatePut
        | Step::HistoryPut
        | Step::HeadSwap
        | Step::RecordSwap
        | Step::GcDelete => LANE,
        // Changes by key go to the outbox, rows to files.
        Step::StagePut => &[Some("bronze"), Some(DEAD_LETTERS)],
        Step::OutboxPut => &[Some("gold")],
        // No intent of this pipeline is too large for the head; the checkpointer's own laws have some that are.
        Step::IntentPut => &[],
        Step::Probe | Step::Begin | Step::CommitSend | Step::CommitAck => ALL,
        // The files of an append are there before the decision.
        Step::Write => &[Some(DEAD_LETTERS), Some("gold")],
    }
}

/// The places and moments at which the steps crash that `who` takes.
pub(super) fn cells(who: impl Fn(Step) -> &'static [Who]) -> Vec<(Step, String)> {
    let moments = [Moment::Before, Moment::After];
    let of_step = |&step: &Step| {
        let each = who(step).iter();
        each.flat_map(move |&who| moments.map(|moment| (step, crash_at(step, who, moment))))
    };
    Step::ALL.iter().flat_map(of_step).collect()
}

/// The pod that crashes follows one that was killed: it finds a lane to take over and epochs to roll forward.
pub(super) fn takes_over(step: Step) -> bool {
    matches!(step, Step::OwnSwap | Step::Probe | Step::SourceSeek)
}

/// Which pass crashes: of what an epoch does, that of the second epoch, which has one before it.
fn pass(step: Step) -> u32 {
    match step {
        Step::OwnerCreate
        | Step::OwnSwap
        | Step::HeadCreate
        | Step::BornCreate
        | Step::SourceSeek
        | Step::PlanPut
        | Step::Probe
        | Step::RecordSwap
        | Step::GcDelete => 1,
        Step::StatePut
        | Step::StagePut
        | Step::OutboxPut
        | Step::IntentPut
        | Step::HistoryPut
        | Step::HeadSwap
        | Step::Begin
        | Step::Write
        | Step::CommitSend
        | Step::CommitAck => 2,
    }
}

fn crash_at(step: Step, who: Who, moment: Moment) -> String {
    let place = who.map_or(String::new(), |sink| format!("@{sink}"));
    let moment = match moment {
        Moment::Before => "before",
        Moment::After => "after",
    };
    format!("{}{place}:{moment}:{}", step.name(), pass(step))
}

async fn crashed_and_started_again(
    step: Step,
    crash_at: String,
    topic: String,
    expected: Arc<Expected>,
) {
    let begun = Instant::now();
    let mut pipeline = Pipeline::new(&topic);
    if step == Step::GcDelete {
        // Garbage is what forty epochs leave.
        pipeline.set("/checkpoint/maxRecordsPerEpoch", 15);
    }
    if takes_over(step) {
        let mut worker = pipeline.start("a");
        worker.until("a second epoch", |p| p.epoch >= 2).await;
        worker.kill();
    }
    pipeline.start_armed("b", &crash_at).crashed().await;
    // A container that ends is started again in its pod.
    pipeline.commit("b", RECORDS).await;
    pipeline.assert_holds(&expected).await;
    eprintln!("{crash_at}: {:.1} s", begun.elapsed().as_secs_f32());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_worker_that_crashes_at_any_step_and_is_started_again_loses_and_doubles_nothing() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {RECORDS} --seed 3 {PLANTED}"))
        .await;
    let expected = feed.expected();
    let (topic, expected) = (&feed.topic.name, &expected);
    all_hold(cells(who).into_iter().map(|(step, at)| {
        let of = (topic.clone(), Arc::clone(expected));
        (at.clone(), crashed_and_started_again(step, at, of.0, of.1))
    }))
    .await;
}
