//! What is wrong with the world is told by name, and nothing is lost.

use super::*;

#[tokio::test]
#[ignore = "bed"]
async fn a_missing_topic_is_named_and_found_once_it_is_there() {
    let topic = Topic::name_only();
    let mut source = source(plan(&topic.name));
    let error = source.splits(None).await.unwrap_err();
    assert_eq!(reason(&error), "TopicMissing");
    assert!(error.to_string().contains(&topic.name), "{error}");
    topic.make(1).await;
    within(async { while source.splits(None).await.is_err() {} }).await;
}

#[tokio::test]
#[ignore = "bed"]
async fn a_broker_that_is_not_there_is_named_with_its_address() {
    let nowhere = KafkaPlan {
        bootstrap_servers: "127.0.0.1:1".into(),
        ..plan("any")
    };
    let mut source = source(nowhere);
    let error = within(source.splits(None)).await.unwrap_err();
    assert_eq!(reason(&error), "SourceUnavailable");
    assert!(
        error.to_string().contains("127.0.0.1:1") && error.to_string().contains("refused"),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "bed"]
async fn credentials_are_read_again_until_they_are_right() {
    let topic = Topic::create(1).await;
    topic.send(0, None, Some("v")).await;
    let secrets = tempfile::tempdir().unwrap();
    let mut source = open(secured(&topic.name), secrets.path());
    let error = source.splits(None).await.unwrap_err();
    assert_eq!(reason(&error), "SecretMissing");

    let put = |key: &str, text: &str| {
        std::fs::create_dir_all(secrets.path().join("kafka")).unwrap();
        std::fs::write(secrets.path().join("kafka").join(key), text).unwrap();
    };
    put(
        "ca",
        &std::fs::read_to_string(env("EVP_BED_KAFKA_CA")).unwrap(),
    );
    put("password", "s3cret-but-wrong\n");
    let error = source.splits(None).await.unwrap_err();
    assert_eq!(reason(&error), "SourceDenied", "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");

    put("password", &format!("{}\n", env("EVP_BED_KAFKA_PASSWORD")));
    let start = source.splits(None).await.unwrap();
    source.seek(&start).await.unwrap();
    assert_eq!(
        read_until(&mut source, |s| !s.records.is_empty())
            .await
            .values(),
        ["v"]
    );
}

#[tokio::test]
#[ignore = "bed"]
async fn a_broker_with_an_unknown_authority_is_not_trusted() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(secrets.path().join("kafka")).unwrap();
    std::fs::write(
        secrets.path().join("kafka/password"),
        env("EVP_BED_KAFKA_PASSWORD"),
    )
    .unwrap();
    let plan = KafkaPlan {
        tls: Some(TlsPlan::default()),
        ..secured("any")
    };
    let error = open(plan, secrets.path()).splits(None).await.unwrap_err();
    assert_eq!(reason(&error), "SourceDenied", "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
#[ignore = "bed"]
async fn records_deleted_before_they_were_read_stop_the_source_or_leave_a_gap() {
    let topic = Topic::create(1).await;
    topic.send_all(0..10).await;
    let (mut source, start) = started(plan(&topic.name)).await;
    topic.delete_before(0, 4).await;
    let error = source.splits(Some(&start)).await.unwrap_err();
    assert_eq!(reason(&error), "DataLost", "{error}");
    assert!(error.to_string().contains("records 0 to 3"), "{error}");
    let error = source.poll(BUDGET, WAIT).await.unwrap_err();
    assert_eq!(reason(&error), "DataLost", "{error}");

    let mut source = super::source(KafkaPlan {
        on_data_loss: OnDataLoss::RecordGap,
        ..plan(&topic.name)
    });
    assert_eq!(
        source.splits(Some(&start)).await.unwrap(),
        SplitPositions::new()
    );
    source.seek(&start).await.unwrap();
    let seen = read_until(&mut source, |s| s.records.len() == 6).await;
    assert_eq!(seen.records[0].1, 4);
    assert_eq!(
        seen.gaps,
        [Gap {
            split: SplitId::partition(0),
            from: Position(0),
            to: Position(4)
        }]
    );
}

#[tokio::test]
#[ignore = "bed"]
async fn records_deleted_while_the_source_runs_are_noticed() {
    let topic = Topic::create(1).await;
    topic.send_all(0..3).await;
    let (mut source, _) = started(plan(&topic.name)).await;
    let seen = read_until(&mut source, |s| s.records.len() == 3).await;
    // A position beyond the log that nothing was fetched from yet: the broker itself refuses it.
    topic.send_all(3..10).await;
    topic.delete_before(0, 8).await;
    source.seek(&seen.positions).await.unwrap();
    let error = within(async {
        loop {
            if let Err(error) = source.poll(BUDGET, WAIT).await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(reason(&error), "DataLost", "{error}");
}

#[tokio::test]
#[ignore = "bed"]
async fn a_topic_made_anew_is_not_taken_for_the_old_one() {
    let topic = Topic::create(1).await;
    topic.send_all(0..5).await;
    let (mut source, _) = started(plan(&topic.name)).await;
    let seen = read_until(&mut source, |s| s.records.len() == 5).await;
    topic.remake(1).await;
    // As long as the old one was: only its id tells.
    topic.send_all(0..7).await;
    let mut later = super::source(plan(&topic.name));
    let error = later.splits(Some(&seen.positions)).await.unwrap_err();
    assert_eq!(reason(&error), "TopicReplaced", "{error}");
    let shorter: SplitPositions = seen
        .positions
        .iter()
        .map(|(split, p)| {
            (
                split.clone(),
                evp_core::position::SplitPosition {
                    next: Position(9),
                    topic_id: None,
                    ..p.clone()
                },
            )
        })
        .collect();
    let error = later.splits(Some(&shorter)).await.unwrap_err();
    assert_eq!(reason(&error), "TopicReplaced", "{error}");
}

#[tokio::test]
#[ignore = "bed"]
async fn a_topic_made_anew_under_a_running_source_is_vouched_for_no_more() {
    let topic = Topic::create(1).await;
    topic.send_all(0..5).await;
    let (mut source, _) = started(plan(&topic.name)).await;
    read_until(&mut source, |s| s.records.len() == 5).await;
    source.vouch(&SplitPositions::new()).await.unwrap();
    topic.remake(1).await;
    topic.send_all(0..7).await;
    // Whatever a poll hands over now: at once, and as often as it is asked.
    for _ in 0..3 {
        let error = source.vouch(&SplitPositions::new()).await.unwrap_err();
        assert_eq!(reason(&error), "TopicReplaced", "{error}");
        let _ = source.poll(BUDGET, WAIT).await;
    }
}
