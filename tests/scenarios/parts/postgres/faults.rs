//! Lost answers, a server that dies in the middle of a transaction, owners that were superseded, history that is gone.

use std::process::Command;

use evp_api::plan::Mode;
use evp_api::reason;
use evp_core::position::Epoch;
use evp_tests::{root, succeed};
use evp_worker::sink::{Sink, SinkError};

use super::rows::two;
use super::wire::{Cut, Wire};
use super::world::{Ask, Place, World, Writes, named};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_commit_whose_answer_is_lost_is_found_and_one_that_never_arrived_is_made() {
    for cut in [Cut::Answer, Cut::Request] {
        let (world, wire) = (World::new().await, Wire::at("127.0.0.1", cut).await);
        let ask = Ask::new(two(), Mode::Append, &[]);
        let mut sink = Writes::open(world.settings(&ask, &wire.place()))
            .await
            .unwrap();
        sink.commit(&named(&[(1, "a"), (2, "b")])).await;
        sink.commit(&named(&[(3, "c")])).await;
        assert!(
            wire.cuts() > 1,
            "{cut:?}: no COMMIT was cut, or none came after it"
        );
        assert_eq!(
            world.psql("SELECT id, name FROM t ORDER BY id"),
            "1|a\n2|b\n3|c\n",
            "{cut:?}"
        );
        assert_eq!(
            world.psql("SELECT epoch FROM eventpipeline_progress"),
            "2\n",
            "{cut:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_owner_of_a_lower_term_is_refused_once_a_newer_one_has_asked() {
    let world = World::new().await;
    let mut ask = Ask::new(two(), Mode::Append, &[]);
    let mut old = world.open(&ask).await;
    old.commit(&named(&[(1, "a")])).await;
    let late = old.decide(&named(&[(2, "zombie")])).await;
    ask.term = 2;
    let mut new = world.open(&ask).await;
    assert_eq!(new.sink.probe(&late).await.unwrap(), Some(Epoch(1)));
    let error = old.sink.roll_forward(&late).await.unwrap_err();
    assert!(
        matches!(
            error,
            SinkError::Stop {
                reason: reason::FENCED,
                ..
            }
        ),
        "{error}"
    );
    // What was decided is rolled forward by its new owner.
    new.sink.roll_forward(&late).await.unwrap();
    assert_eq!(
        world.psql("SELECT id, name FROM t ORDER BY id"),
        "1|a\n2|zombie\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_question_of_an_audit_changes_nothing() {
    let world = World::new().await;
    let mut ask = Ask::new(two(), Mode::Append, &[]);
    let mut sink = world.open(&ask).await;
    let intent = sink.commit(&named(&[(1, "a")])).await;
    ask.term = 0;
    assert_eq!(
        world.open(&ask).await.sink.probe(&intent).await.unwrap(),
        Some(Epoch(1))
    );
    sink.commit(&named(&[(2, "b")])).await;
    assert_eq!(world.psql("SELECT term FROM eventpipeline_progress"), "1\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_new_incarnation_takes_the_row_over_and_an_older_one_is_told_that_it_is_behind() {
    let world = World::new().await;
    let mut ask = Ask::new(two(), Mode::Append, &[]);
    let mut old = world.open(&ask).await;
    old.commit(&named(&[(1, "a")])).await;
    (ask.incarnation, ask.term) = ("j".repeat(32), 2);
    let mut new = world.open(&ask).await;
    let mut intent = new.decide(&named(&[(2, "b")])).await;
    // The epoch before it was the reset.
    intent.epoch = Epoch(3);
    assert_eq!(new.sink.probe(&intent).await.unwrap(), None);
    new.sink.roll_forward(&intent).await.unwrap();
    assert_eq!(new.sink.probe(&intent).await.unwrap(), Some(Epoch(3)));
    (ask.incarnation, ask.term) = ("i".repeat(32), 3);
    let mut restored = world.open(&ask).await;
    restored.prev = Some(Epoch(1));
    let again = restored.decide(&named(&[(3, "c")])).await;
    let error = restored.sink.roll_forward(&again).await.unwrap_err();
    assert!(
        matches!(
            error,
            SinkError::Stop {
                reason: reason::CHECKPOINT_BEHIND_SINK,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(world.psql("SELECT id FROM t ORDER BY id"), "1\n2\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn progress_that_is_gone_stops_and_appends_nothing() {
    let world = World::new().await;
    let mut sink = world.open(&Ask::new(two(), Mode::Append, &[])).await;
    sink.commit(&named(&[(1, "a")])).await;
    world.run("DELETE FROM eventpipeline_progress").await;
    let intent = sink.decide(&named(&[(2, "b")])).await;
    let error = sink.sink.roll_forward(&intent).await.unwrap_err();
    assert!(
        matches!(
            error,
            SinkError::Stop {
                reason: reason::SINK_HISTORY_LOST,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(world.psql("SELECT id FROM t"), "1\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn two_who_apply_the_same_epoch_at_once_apply_it_once() {
    let world = World::new().await;
    let ask = Ask::new(two(), Mode::Append, &[]);
    let (mut one, mut other) = (world.open(&ask).await, world.open(&ask).await);
    for epoch in 1..=5 {
        let intent = one.decide(&named(&[(epoch, "a")])).await;
        let (first, second) = tokio::join!(
            one.sink.roll_forward(&intent),
            other.sink.roll_forward(&intent)
        );
        first.unwrap();
        second.unwrap();
    }
    assert_eq!(
        world.psql("SELECT count(*), count(DISTINCT id) FROM t"),
        "5|5\n"
    );
}

/// A server in a bed of its own, which goes with it.
struct Server {
    index: String,
}

fn bed_script() -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("tests/bed/bed"));
    command
}

impl Server {
    fn start() -> Self {
        let owner = std::process::id().to_string();
        let claimed = succeed(bed_script().args(["claim", &owner])).stdout;
        let server = Self {
            index: String::from_utf8(claimed).unwrap().trim().to_owned(),
        };
        server.run(&["up", "postgres"]);
        server
    }

    fn run(&self, words: &[&str]) -> String {
        let ran = succeed(bed_script().env("EVP_BED_INDEX", &self.index).args(words));
        String::from_utf8(ran.stdout).unwrap()
    }

    fn place(&self) -> Place {
        let told = self.run(&["env"]);
        let setting = |name: &str| {
            let prefix = format!("export EVP_BED_POSTGRES_{name}=");
            let line = told.lines().find_map(|line| line.strip_prefix(&prefix));
            line.unwrap().to_owned()
        };
        Place {
            host: setting("HOST"),
            port: setting("PORT").parse().unwrap(),
            tls: false,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What is left is swept by the next run.
        bed_script()
            .env("EVP_BED_INDEX", &self.index)
            .arg("down")
            .status()
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_server_that_is_killed_in_the_middle_of_a_transaction_holds_none_of_it_and_then_all_of_it()
 {
    let server = Server::start();
    let world = World::at(server.place()).await;
    let mut sink = world.open(&Ask::new(two(), Mode::Append, &[])).await;
    sink.commit(&named(&[(1, "a")])).await;
    let intent = sink.decide(&named(&[(2, "b"), (3, "c")])).await;
    // Its INSERT waits for this lock, with everything before it done.
    world.run("BEGIN; LOCK TABLE t IN SHARE MODE").await;
    let (applied, ()) = tokio::join!(sink.sink.roll_forward(&intent), async {
        let watch = world.place.client().await;
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'";
        while watch
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            tokio::task::yield_now().await;
        }
        server.run(&["kill", "postgres"]);
    });
    assert!(
        matches!(applied, Err(SinkError::Unavailable { .. })),
        "{applied:?}"
    );
    server.run(&["up", "postgres"]);
    let rows = "SELECT string_agg(id::text, ',' ORDER BY id) FROM t";
    assert_eq!(world.psql(rows), "1\n");
    assert_eq!(sink.sink.probe(&intent).await.unwrap(), Some(Epoch(1)));
    sink.sink.roll_forward(&intent).await.unwrap();
    assert_eq!(world.psql(rows), "1,2,3\n");
}
