//! Laws of the topic that remembers how far sinks are: whose progress counts, and what is refused or ended for it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn progress_is_found_among_that_of_many_sinks_and_behind_what_they_are_about_to_commit() {
    let world = World::new(1).await;
    let mut sink = world.sink("a").await;
    let first = world.sealed(&mut sink, 1, &[1]).await;
    apply(&mut sink, &first).await;
    let others: Vec<_> = (0..1000).map(|other| other.to_string()).collect();
    let sends = others
        .iter()
        .map(|other| world.progress.send(0, Some(other), Some("{}")));
    futures::future::join_all(sends).await;
    let about_to = world.progress.open_transaction("{}").await;
    let second = world.sealed(&mut sink, 2, &[2]).await;
    apply(&mut sink, &second).await;
    let mut later = world.sink("b").await;
    let third = world.sealed(&mut later, 3, &[3]).await;
    let mut asks = tokio::spawn(async move { later.probe(&third).await.unwrap() });
    // What is committed behind an open transaction is not handed out: the answer waits, and is not an older one.
    let waits = tokio::time::timeout(Duration::from_secs(2), &mut asks).await;
    assert!(waits.is_err(), "{waits:?}");
    about_to.commit().await;
    assert_eq!(within(asks).await.unwrap(), Some(Epoch(2)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn what_another_sink_of_a_dead_worker_left_open_is_ended_by_the_first_that_starts() {
    let mut world = World::new(1).await;
    world.progress.make_with(1, "compact").await;
    let sibling = format!("{}-sibling", world.topic.name);
    let left = world.progress.open_transaction_as(&sibling, "{}").await;
    world.settings.siblings = vec![SinkIdentity(sibling)];
    let mut sink = world.sink("a").await;
    let intent = world.sealed(&mut sink, 1, &[1]).await;
    assert_eq!(within(sink.probe(&intent)).await.unwrap(), None);
    within(sink.roll_forward(&intent)).await.unwrap();
    left.fails().await;
    assert_eq!(world.seen().await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn progress_that_is_gone_is_never_taken_for_a_new_topic() {
    let world = World::new(1).await;
    let mut sink = world.sink("a").await;
    let intent = world.sealed(&mut sink, 1, &[1]).await;
    apply(&mut sink, &intent).await;
    world.progress.remake_compacted().await;
    let mut later = world.sink("b").await;
    let next = world.sealed(&mut later, 2, &[2]).await;
    assert_eq!(within(later.probe(&next)).await.unwrap(), None);
    let (reason, message) = why(within(later.roll_forward(&next)).await.unwrap_err());
    assert_eq!(reason, "SinkHistoryLost", "{message}");
    assert_eq!(world.seen().await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_earlier_life_of_the_sink_holds_nothing_for_a_later_one() {
    let mut world = World::new(1).await;
    let mut sink = world.sink("a").await;
    let intent = world.sealed(&mut sink, 1, &[1]).await;
    apply(&mut sink, &intent).await;
    // A reset: another identity under the same name.
    world.settings.identity = SinkIdentity("fedcba9876543210".repeat(4));
    let mut reset = world.sink("b").await;
    let body = world.sealed(&mut reset, 5, &[5]).await.body;
    let first = Intent {
        prev: None,
        ..world.intent(5, body)
    };
    assert_eq!(within(reset.probe(&first)).await.unwrap(), None);
    apply(&mut reset, &first).await;
    // Who slept through it finds its epoch done.
    apply(&mut sink, &intent).await;
    assert_eq!(world.seen().await, [1, 5]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_progress_topic_that_forgets_or_has_no_one_order_is_refused() {
    for (partitions, policy) in [(2, "compact"), (1, "delete")] {
        let world = World::new(1).await;
        world.progress.make_with(partitions, policy).await;
        let mut sink = world.sink("a").await;
        let intent = world.sealed(&mut sink, 1, &[1]).await;
        let (reason, message) = why(within(sink.roll_forward(&intent)).await.unwrap_err());
        assert_eq!(reason, "TopicMismatch", "{message}");
        assert!(message.contains(&world.progress.name), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn who_only_asks_fences_nobody_and_creates_nothing() {
    let world = World::new(1).await;
    let asking = async || {
        let settings = KafkaSinkSettings {
            asks_only: true,
            ..world.settings.clone()
        };
        KafkaSink::open(settings).await.unwrap()
    };
    let mut sink = world.sink("a").await;
    let first = world.sealed(&mut sink, 1, &[1]).await;
    assert_eq!(within(asking().await.probe(&first)).await.unwrap(), None);
    assert!(!world.progress.is_there());
    apply(&mut sink, &first).await;
    let second = world.sealed(&mut sink, 2, &[2]).await;
    let held = within(asking().await.probe(&second)).await.unwrap();
    assert_eq!(held, Some(Epoch(1)));
    // It would be in doubt if somebody had begun after it.
    within(sink.roll_forward(&second)).await.unwrap();
    assert_eq!(world.seen().await, [1, 2]);
}
