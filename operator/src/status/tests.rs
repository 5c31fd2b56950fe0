//! Laws of the conditions: whole statuses from facts, one world and what is different about it.

use evp_api::plan::{Code, Violation};
use evp_api::progress::{
    Halt, LedgerProgress, Recent, Release, SinkProgress, SourceProgress, StepProgress,
    WatermarkHold,
};
use evp_api::status::Condition;
use serde_json::json;

use super::*;
use crate::build::tests::{built, owner, spec};
use crate::build::{Rolled, config_map};
use crate::change::{Change, Class};

const NOW: &str = "2026-11-21T06:00:00Z";

/// A pipeline at work, as the base of every law.
struct World {
    spec: EventPipelineSpec,
    previous: EventPipelineStatus,
    judged: Judged,
    deployment: Option<Deployment>,
    pods: Vec<PodView>,
    reports: Vec<Report>,
    now: Timestamp,
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn micros(text: &str) -> i64 {
    time(text).as_microsecond()
}

fn at_work() -> World {
    let spec = spec();
    let mut deployment = built(&spec).deployment;
    set_rolled(&mut deployment, |rolled| {
        rolled.time = "2026-11-21T05:59:00Z".into();
    });
    deployment.status = serde_json::from_value(json!({"readyReplicas": 1, "replicas": 1})).unwrap();
    World {
        pods: vec![PodView {
            name: "orders-1".into(),
            uid: "pod-1".into(),
            ready: true,
            config_map: Some(config_map::name(&owner(), &spec)),
            ..PodView::default()
        }],
        reports: vec![Report {
            pod_uid: "pod-1".into(),
            progress: report(),
            age: Duration::from_secs(1),
        }],
        spec,
        previous: EventPipelineStatus::default(),
        judged: Judged {
            generation: 3,
            verdict: Verdict::Applied,
            freshness: Some(Duration::from_secs(31 * 60 + 30)),
        },
        deployment: Some(deployment),
        now: time(NOW),
    }
}

fn report() -> Progress {
    Progress {
        pipeline: "orders".into(),
        plan_digest: "d3".into(),
        plan_of_newest_epoch: "d3".into(),
        ready: true,
        epoch: 412,
        term: 2,
        incarnation: "i".into(),
        decided_time: micros("2026-11-21T05:59:52Z"),
        lag_records: 1240,
        records_per_second: 1312,
        watermark: Some(micros("2026-11-21T05:50:00Z")),
        state_bytes: 18 << 20,
        ledger: LedgerProgress {
            read: 1_000_000,
            balanced: true,
            ..LedgerProgress::default()
        },
        recent: Recent {
            read: 1000,
            ..Recent::default()
        },
        steps: vec![StepProgress {
            name: "revenue".into(),
            open_windows: 40,
            ..StepProgress::default()
        }],
        ..Progress::default()
    }
}

fn set_rolled(deployment: &mut Deployment, edit: impl FnOnce(&mut Rolled)) {
    let mut rolled = rollout::rolled(deployment).unwrap();
    edit(&mut rolled);
    let text = serde_json::to_string(&rolled).unwrap();
    deployment
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(names::ROLLED.into(), text);
}

impl World {
    fn status(&self) -> EventPipelineStatus {
        next(&Facts {
            name: "orders",
            uid: "uid-1",
            spec: &self.spec,
            previous: &self.previous,
            judged: &self.judged,
            deployment: self.deployment.as_ref(),
            pods: &self.pods,
            reports: &self.reports,
            now: self.now,
        })
    }

    fn report(&mut self) -> &mut Progress {
        &mut self.reports[0].progress
    }

    /// The world a moment later, with what was said before.
    fn then(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        self.previous = self.status();
        self.now = time("2026-11-21T06:00:10Z");
        edit(&mut self);
        self
    }
}

fn condition(status: &EventPipelineStatus, kind: &str) -> Condition {
    status
        .conditions
        .iter()
        .find(|c| c.kind == kind)
        .unwrap()
        .clone()
}

/// `Ready=True/Committing` and so on, all six.
fn words(status: &EventPipelineStatus) -> Vec<String> {
    let word = |c: &Condition| format!("{}={}/{}", c.kind, c.status, c.reason);
    status.conditions.iter().map(word).collect()
}

#[track_caller]
fn check(world: &World, wanted: &[&str]) {
    let status = world.status();
    let words = words(&status);
    for wanted in wanted {
        assert!(
            words.iter().any(|word| word == wanted),
            "{wanted} is not in {words:?}"
        );
    }
}

fn held(verdict: Hold) -> World {
    let mut world = at_work();
    world.judged = Judged {
        generation: 4,
        verdict: Verdict::Held(verdict),
        ..world.judged
    };
    world
}

#[test]
fn a_pipeline_at_work_says_so_in_all_six_conditions() {
    assert_eq!(
        words(&at_work().status()),
        [
            "Accepted=True/SpecAccepted",
            "Ready=True/Committing",
            "OnTime=True/WithinObjective",
            "Clean=True/WithinObjective",
            "Reconciling=False/AsExpected",
            "Stalled=False/AsExpected"
        ]
    );
}

#[test]
fn its_columns_are_what_the_worker_reported() {
    let status = at_work().status();
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.watermark.as_deref(), Some("2026-11-21T05:50:00Z"));
    assert_eq!(
        status.committed_time.as_deref(),
        Some("2026-11-21T05:59:52Z")
    );
    assert_eq!(
        (status.lag_records, status.records_per_second),
        (Some(1240), Some(1300))
    );
    let workers = status.workers.unwrap();
    assert_eq!((workers.replicas, workers.ready), (1, 1));
    assert_eq!(
        workers.selector,
        "eventpipeline.dev/pipeline=orders,eventpipeline.dev/pipeline-uid=uid-1"
    );
    let summary = status.summary.unwrap();
    assert_eq!(
        (summary.sources, summary.sinks, summary.state.as_str()),
        (1, 2, "18Mi")
    );
    assert_eq!(summary.message, "1.3k records/s, 40 windows open");
}

#[test]
fn a_watermark_in_the_future_is_shown_as_now() {
    let mut world = at_work();
    world.report().watermark = Some(micros("2026-11-21T07:00:00Z"));
    assert_eq!(world.status().watermark.as_deref(), Some(NOW));
}

#[test]
fn without_a_watermark_the_column_shows_the_last_committed_record() {
    let mut world = at_work();
    world.report().watermark = None;
    world.report().last_record_time = Some(micros("2026-11-21T05:59:00Z"));
    assert_eq!(
        world.status().watermark.as_deref(),
        Some("2026-11-21T05:59:00Z")
    );
}

#[test]
fn nothing_happened_means_nothing_to_write() {
    let world = at_work().then(|world| {
        world.now = time("2026-11-21T06:05:00Z");
        world.report().records_per_second = 1287;
    });
    assert_eq!(world.status(), world.previous);
}

#[test]
fn a_transition_time_moves_only_when_the_status_flips() {
    let world = at_work().then(|world| world.report().caught_up = true);
    let on_time = condition(&world.status(), "OnTime");
    assert_eq!(
        (
            on_time.reason.as_str(),
            on_time.last_transition_time.as_str()
        ),
        ("CaughtUp", NOW)
    );
    let world = world.then(|world| world.report().ready = false);
    assert_eq!(
        condition(&world.status(), "Ready").last_transition_time,
        "2026-11-21T06:00:10Z"
    );
}

#[test]
fn ready_needs_an_epoch_under_this_generations_plan() {
    let mut world = at_work();
    world.report().plan_of_newest_epoch = "d2".into();
    check(
        &world,
        &[
            "Ready=False/FirstEpochPending",
            "Reconciling=True/FirstEpochPending",
            "Stalled=False/AsExpected",
        ],
    );
}

#[test]
fn ready_needs_a_report_that_is_young() {
    let world = at_work().then(|world| world.reports[0].age = REPORT_LIFETIME);
    check(
        &world,
        &[
            "Ready=False/WorkerSilent",
            "Reconciling=False/AsExpected",
            "Clean=True/WithinObjective",
        ],
    );
}

#[test]
fn ready_needs_pods_of_this_generation() {
    let mut world = at_work();
    world.pods[0].config_map = Some("orders-old".into());
    check(
        &world,
        &[
            "Ready=False/WorkersStarting",
            "Reconciling=True/WorkersStarting",
        ],
    );
    world.pods[0].leaving = true;
    check(&world, &["Ready=False/RollingOut"]);
    let mut world = at_work();
    world.judged.generation = 4;
    check(
        &world,
        &["Ready=False/RollingOut", "Reconciling=True/RollingOut"],
    );
}

#[test]
fn what_stops_the_worker_is_the_reason() {
    let mut world = at_work();
    let message = "Secret shop/kafka has no key 'password'";
    world.report().reason = Some(Halt {
        reason: "SecretMissing".into(),
        message: message.into(),
        stalled: false,
    });
    check(
        &world,
        &["Ready=False/SecretMissing", "Stalled=False/AsExpected"],
    );
    assert_eq!(world.status().summary.unwrap().message, message);
    world.report().reason = Some(Halt {
        reason: "CheckpointOwned".into(),
        message: "m".into(),
        stalled: true,
    });
    check(
        &world,
        &[
            "Ready=False/CheckpointOwned",
            "Stalled=True/CheckpointOwned",
            "Reconciling=False/AsExpected",
        ],
    );
}

#[test]
fn a_pod_that_cannot_run_is_told_in_its_own_words() {
    let mut world = at_work();
    world.reports.clear();
    world.pods[0].trouble = Some("its container keeps ending: Error, exit code 3".into());
    world.pods[0].ready = false;
    check(
        &world,
        &[
            "Ready=False/WorkersNotReady",
            "Reconciling=True/WorkersNotReady",
        ],
    );
    let message = condition(&world.status(), "Ready").message;
    assert_eq!(
        message,
        "pod orders-1: its container keeps ending: Error, exit code 3"
    );
}

#[test]
fn a_rollout_that_takes_too_long_is_stalled_with_the_real_error_and_stays_so() {
    let mut world = at_work();
    world.reports.clear();
    world.pods[0].trouble = Some("its container does not start: ImagePullBackOff".into());
    set_rolled(world.deployment.as_mut().unwrap(), |rolled| {
        rolled.time = "2026-11-21T05:49:59Z".into();
    });
    for world in [world].into_iter().map(|world| world.then(|_| ())) {
        check(
            &world,
            &[
                "Stalled=True/ProgressDeadlineExceeded",
                "Reconciling=False/ProgressDeadlineExceeded",
            ],
        );
        let message = condition(&world.status(), "Stalled").message;
        assert!(message.contains("ImagePullBackOff"), "{message}");
    }
}

#[test]
fn a_pipeline_that_was_at_work_and_fails_is_not_reconciling() {
    let world = at_work().then(|world| {
        set_rolled(world.deployment.as_mut().unwrap(), |rolled| {
            rolled.time = "2026-11-20T00:00:00Z".into();
        });
        world.reports.clear();
        world.pods[0].trouble = Some("its container ended: Error, exit code 3".into());
    });
    check(
        &world,
        &[
            "Ready=False/WorkersNotReady",
            "Reconciling=False/AsExpected",
            "Stalled=False/AsExpected",
        ],
    );
}

#[test]
fn a_refused_spec_is_told_with_code_place_and_fix_while_the_old_pods_commit() {
    let world = held(Hold::NotAccepted(vec![violation()]));
    check(
        &world,
        &[
            "Accepted=False/SpecNotAccepted",
            "Ready=False/SpecNotAccepted",
            "Stalled=True/SpecNotAccepted",
            "Reconciling=False/SpecNotAccepted",
        ],
    );
    let status = world.status();
    assert_eq!(status.observed_generation, Some(4));
    let message = condition(&status, "Accepted").message;
    assert_eq!(
        message,
        "EVP2107 spec.steps[1].aggregate.groupBy[0]: no column named `regoin`; did you mean `region`?"
    );
    assert!(
        condition(&status, "Ready")
            .message
            .ends_with("generation 3 keeps committing")
    );
}

#[test]
fn a_held_change_names_field_old_and_new_value() {
    let change = Change {
        path: "spec.steps[revenue].aggregate.window.tumbling.size".into(),
        class: Class::Incompatible,
        old: Some("5m".into()),
        new: Some("10m".into()),
    };
    let world = held(Hold::StateIncompatible(vec![change]));
    check(
        &world,
        &[
            "Accepted=True/SpecAccepted",
            "Ready=False/StateIncompatible",
            "Stalled=True/StateIncompatible",
        ],
    );
    let message = condition(&world.status(), "Stalled").message;
    assert!(
        message.starts_with("spec.steps[revenue].aggregate.window.tumbling.size: 5m -> 10m"),
        "{message}"
    );
}

#[test]
fn a_taken_name_and_a_refused_child_need_a_person() {
    check(
        &held(Hold::NameTaken("m".into())),
        &["Ready=False/NameTaken", "Stalled=True/NameTaken"],
    );
    let mut world = at_work();
    world.judged.verdict = Verdict::ChildRefused("quota".into());
    check(
        &world,
        &[
            "Accepted=True/SpecAccepted",
            "Ready=False/ChildRefused",
            "Stalled=True/ChildRefused",
        ],
    );
}

#[test]
fn suspended_is_neither_reconciling_nor_stalled_and_names_pending_commits_even_after_the_pod_has_gone()
 {
    let mut world = at_work();
    world.judged.verdict = Verdict::Suspended;
    world.report().sinks = vec![SinkProgress {
        name: "gold".into(),
        pending: 2,
        ..SinkProgress::default()
    }];
    check(
        &world,
        &[
            "Ready=False/Suspended",
            "Reconciling=False/Suspended",
            "Stalled=False/AsExpected",
        ],
    );
    let world = world.then(|world| {
        world.pods.clear();
        world.reports.clear();
    });
    let message = condition(&world.status(), "Ready").message;
    assert!(message.contains("2 commits pending: gold"), "{message}");
}

#[test]
fn on_time_is_judged_by_the_last_watermark_also_when_no_worker_answers() {
    let mut world = at_work();
    world.report().watermark = Some(micros("2026-11-21T05:28:00Z"));
    check(&world, &["OnTime=False/BehindObjective"]);
    let world = at_work().then(|world| {
        world.reports.clear();
        world.now = time("2026-11-21T09:00:00Z");
    });
    check(&world, &["OnTime=False/BehindObjective"]);
    let mut world = at_work();
    world.report().caught_up = true;
    world.report().watermark = Some(0);
    check(&world, &["OnTime=True/CaughtUp"]);
    let mut world = at_work();
    world.report().watermark = None;
    check(&world, &["OnTime=Unknown/NothingRead"]);
}

#[test]
fn clean_is_the_share_of_dead_letters_and_unknown_before_the_first_record() {
    let mut world = at_work();
    world.report().recent = Recent {
        read: 2985,
        dead_lettered: 212,
        top_code: Some("EVP3001".into()),
        top_step: Some("orders".into()),
    };
    check(&world, &["Clean=False/TooManyDeadLetters"]);
    let message = world.status().summary.unwrap().message;
    assert_eq!(
        message,
        "7.1% dead-lettered: EVP3001 at orders failed for 212 records"
    );
    world.report().recent = Recent {
        read: 100,
        dead_lettered: 1,
        ..Recent::default()
    };
    check(&world, &["Clean=True/WithinObjective"]);
    world.report().recent = Recent::default();
    check(&world, &["Clean=Unknown/NothingRead"]);
}

#[test]
fn a_first_look_knows_all_six_conditions() {
    let mut world = at_work();
    world.deployment = None;
    world.pods.clear();
    world.reports.clear();
    assert_eq!(
        words(&world.status()),
        [
            "Accepted=True/SpecAccepted",
            "Ready=False/RollingOut",
            "OnTime=Unknown/NothingRead",
            "Clean=Unknown/NothingRead",
            "Reconciling=True/RollingOut",
            "Stalled=False/AsExpected"
        ]
    );
}

#[test]
fn children_of_a_namesake_that_do_not_leave_are_stalled_after_the_deadline() {
    let mut world = at_work();
    world.judged.verdict = Verdict::Waiting;
    world.reports.clear();
    check(
        &world,
        &[
            "Ready=False/OldChildrenLeaving",
            "Reconciling=True/OldChildrenLeaving",
        ],
    );
    let world = world.then(|world| world.now = time("2026-11-21T06:10:01Z"));
    check(&world, &["Stalled=True/ProgressDeadlineExceeded"]);
}

#[test]
fn who_is_behind_is_told_what_holds_the_watermark() {
    let mut world = at_work();
    world.report().watermark = Some(micros("2026-11-21T05:28:00Z"));
    world.report().sources = vec![SourceProgress {
        name: "orders".into(),
        held_by: Some("partition 1".into()),
        hold: Some(WatermarkHold {
            since: Some(micros("2026-11-21T05:59:52Z")),
            release: Release::Backlog,
            ..WatermarkHold::default()
        }),
        ..SourceProgress::default()
    }];
    assert_eq!(
        condition(&world.status(), "OnTime").message,
        "committed event time is more than 31m30s behind: at 2026-11-21T05:28:00Z; the watermark of orders stands since \
         2026-11-21T05:59:52Z; partition 1 holds it and has records to be committed"
    );
}

#[test]
fn the_objective_is_the_asked_one_or_three_times_delay_and_interval() {
    let asked = Objectives {
        freshness: Some("1h".into()),
        ..Objectives::default()
    };
    assert_eq!(objective(&asked, None), Some(Duration::from_hours(1)));
    assert_eq!(objective(&Objectives::default(), None), None);
}

fn violation() -> Violation {
    let path = "spec.steps[1].aggregate.groupBy[0]";
    Violation::new(Code::UnknownColumn, path, "no column named `regoin`")
        .did_you_mean("regoin", ["region"])
}
