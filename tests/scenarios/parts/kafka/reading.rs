//! What is read, in which order, from where.

use super::*;

#[tokio::test]
#[ignore = "bed"]
async fn all_records_are_read_once_in_order_up_to_the_end() {
    let topic = Topic::create(3).await;
    for i in 0..300 {
        topic
            .send(i % 3, Some(&format!("k{i}")), Some(&format!("{i:03}")))
            .await;
    }
    let mut source = source(plan(&topic.name));
    let start = source.splits(None).await.unwrap();
    assert_eq!(start.len(), 3);
    assert!(
        start
            .values()
            .all(|p| p.topic_id.is_some() && p.next == Position(0))
    );
    let ends = source.end_positions().await.unwrap();
    source.seek(&start).await.unwrap();
    let seen = read_until(&mut source, |s| s.records.len() == 300).await;
    let expected: Vec<_> = (0..300).map(|i| format!("{i:03}")).collect();
    assert_eq!(seen.values(), expected);
    for partition in 0..3 {
        let offsets: Vec<_> = seen
            .records
            .iter()
            .filter(|r| r.0 == partition)
            .map(|r| r.1)
            .collect();
        assert_eq!(offsets, (0..100).collect::<Vec<_>>());
        assert_eq!(seen.next(partition), 100);
        assert_eq!(ends[&SplitId::partition(partition)].next, Position(100));
    }
    assert_eq!(seen.ends, [Some(Position(100)); 3]);
    assert!(seen.positions.values().all(|p| p.leader_epoch.is_some()));
}

#[tokio::test]
#[ignore = "bed"]
async fn a_source_reads_on_from_any_position() {
    let topic = Topic::create(1).await;
    topic.send_all(0..50).await;
    let (mut source, _) = started(plan(&topic.name)).await;
    let small = Budget {
        records: 20,
        ..BUDGET
    };
    let mut seen = Seen::default();
    within(async {
        while seen.records.len() < 20 {
            let budget = Budget {
                records: 20 - seen.records.len(),
                ..small
            };
            seen.take(&source.poll(budget, WAIT).await.unwrap());
        }
    })
    .await;
    assert_eq!(seen.next(0), 20);
    let mut other = super::source(plan(&topic.name));
    assert_eq!(
        other.splits(Some(&seen.positions)).await.unwrap(),
        SplitPositions::new()
    );
    other.seek(&seen.positions).await.unwrap();
    let rest = read_until(&mut other, |s| s.records.len() == 30).await;
    assert_eq!(rest.records[0].1, 20);
    // And back again on the same connection.
    other.seek(&seen.positions).await.unwrap();
    let again = read_until(&mut other, |s| s.records.len() == 30).await;
    assert_eq!(again.records, rest.records);
}

#[tokio::test]
#[ignore = "bed"]
async fn the_first_start_is_where_the_manifest_says() {
    let topic = Topic::create(2).await;
    topic.send_at(0, 1_000_000, "old").await;
    topic.send_at(0, 2_000_000, "new").await;
    let starts = [
        (KafkaStart::Earliest, [0, 0]),
        (KafkaStart::Latest, [2, 0]),
        (KafkaStart::Time(1_000_000_000), [0, 0]),
        (KafkaStart::Time(1_000_000_001), [1, 0]),
        (KafkaStart::Time(3_000_000_000), [2, 0]),
        (KafkaStart::Offsets(vec![(0, 1)]), [1, 0]),
    ];
    for (start, expected) in starts {
        let mut source = source(KafkaPlan {
            start: start.clone(),
            ..plan(&topic.name)
        });
        let found = source.splits(None).await.unwrap();
        assert_eq!(
            found.values().map(|p| p.next.0).collect::<Vec<_>>(),
            expected,
            "{start:?}"
        );
    }
}

#[tokio::test]
#[ignore = "bed"]
async fn a_new_partition_is_found_and_starts_at_its_earliest_record() {
    let mut topic = Topic::create(1).await;
    topic.send_all(0..5).await;
    let (mut source, start) = started(KafkaPlan {
        start: KafkaStart::Latest,
        ..plan(&topic.name)
    })
    .await;
    topic.grow(2).await;
    topic.send(1, None, Some("first of the new")).await;
    let new = within(async {
        loop {
            let new = source.splits(Some(&start)).await.unwrap();
            if !new.is_empty() {
                return new;
            }
        }
    })
    .await;
    assert_eq!(new.keys().collect::<Vec<_>>(), [&SplitId::partition(1)]);
    assert_eq!(new[&SplitId::partition(1)].next, Position(0));
    let all: SplitPositions = start.into_iter().chain(new).collect();
    source.seek(&all).await.unwrap();
    let seen = read_until(&mut source, |s| !s.records.is_empty()).await;
    assert_eq!(seen.values(), ["first of the new"]);
}

#[tokio::test]
#[ignore = "bed"]
async fn keys_tombstones_and_times_arrive_as_they_were_sent() {
    let topic = Topic::create(1).await;
    topic.send(0, Some("k"), None).await;
    topic.send(0, None, Some("")).await;
    topic.send_at(0, 1_767_268_800_123, "v").await;
    let (mut source, _) = started(plan(&topic.name)).await;
    let mut records = Vec::new();
    within(async {
        while records.len() < 3 {
            let raw = source.poll(BUDGET, WAIT).await.unwrap();
            records.extend(raw.records.iter().map(|r| {
                (
                    raw.key(r).map(<[u8]>::to_vec),
                    raw.value(r).map(<[u8]>::to_vec),
                    r.timestamp.0,
                )
            }));
        }
    })
    .await;
    assert_eq!(
        (&records[0].0, &records[0].1),
        (&Some(b"k".to_vec()), &None)
    );
    assert_eq!((&records[1].0, &records[1].1), (&None, &Some(Vec::new())));
    assert_eq!(records[2].2, 1_767_268_800_123_000);
}

#[tokio::test]
#[ignore = "bed"]
async fn only_committed_transactions_are_read_and_their_marks_move_the_position() {
    let topic = Topic::create(1).await;
    topic.transaction("committed", true).await;
    topic.transaction("aborted", false).await;
    topic.transaction("again", true).await;
    let (mut source, _) = started(plan(&topic.name)).await;
    // Each transaction is one record and one mark: six offsets, and the last one is a mark.
    let seen = read_until(&mut source, |s| {
        s.positions.values().any(|p| p.next == Position(6))
    })
    .await;
    assert_eq!(seen.values(), ["again", "committed"]);
    assert_eq!(
        source.end_positions().await.unwrap()[&SplitId::partition(0)].next,
        Position(6)
    );

    let open = topic.open_transaction("undecided").await;
    let end = |s: &Seen| s.ends == [Some(Position(7))];
    let seen = read_until(&mut source, end).await;
    assert_eq!(
        (seen.records.len(), seen.next(0)),
        (0, 6),
        "an open transaction is neither read nor an end"
    );
    open.commit().await;
    let seen = read_until(&mut source, |s| {
        s.positions.values().any(|p| p.next == Position(8))
    })
    .await;
    assert_eq!(seen.values(), ["undecided"]);
}

#[tokio::test]
#[ignore = "bed"]
async fn a_poll_whose_caller_went_away_loses_nothing() {
    let topic = Topic::create(1).await;
    let (mut source, _) = started(plan(&topic.name)).await;
    let impatient = tokio::time::timeout(
        Duration::from_millis(50),
        source.poll(BUDGET, Duration::from_secs(5)),
    );
    assert!(impatient.await.is_err());
    topic.send_all(0..10).await;
    let seen = read_until(&mut source, |s| s.records.len() >= 10).await;
    assert_eq!(
        seen.records.iter().map(|r| r.1).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
}
