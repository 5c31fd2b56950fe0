//! `evp produce`.

use super::*;

#[tokio::test]
#[ignore = "bed"]
async fn the_ledger_of_evp_produce_is_what_the_topic_holds() {
    let topic = Topic::create(3).await;
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.jsonl");
    let password = dir.path().join("password");
    std::fs::write(&password, format!("{}\n", env("EVP_BED_KAFKA_PASSWORD"))).unwrap();
    let flags = format!(
        "--to kafka://{}/{} --rate 2000 --limit 1500 --seed 3 --malformed 0.1 --duplicates 0.1 --late 0.1 --late-from 800 \
         --idle-partition 1:200..700 --ledger {} --ca {} --sasl-mechanism SCRAM-SHA-256 --username {} --password-file {}",
        env("EVP_BED_KAFKA_SASL_SSL"),
        topic.name,
        ledger.display(),
        env("EVP_BED_KAFKA_CA"),
        env("EVP_BED_KAFKA_USER"),
        password.display(),
    );
    topic::produce(&flags.split(' ').collect::<Vec<_>>()).await;
    let text = std::fs::read_to_string(&ledger).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let number = |line: &serde_json::Value, name: &str| line[name].as_i64().unwrap();
    assert!(lines.iter().map(|l| number(l, "i")).eq(0..1_500));
    assert!(lines[200..700].iter().all(|l| l["partition"] != 1));
    assert!(lines[..800].iter().all(|l| l["kind"] != "late"));
    let placed = |l| {
        (
            number(l, "partition"),
            number(l, "offset"),
            number(l, "timestamp"),
        )
    };
    let mut expected: Vec<_> = lines.iter().map(placed).collect();
    expected.sort_unstable();
    let (mut source, _) = started(plan(&topic.name)).await;
    let mut found = Vec::new();
    within(async {
        while found.len() < 1_500 {
            let raw = source.poll(BUDGET, WAIT).await.unwrap();
            found.extend(raw.records.iter().map(|r| {
                let partition = raw.splits[r.split as usize].as_partition().unwrap();
                (i64::from(partition), r.position.0, r.timestamp.0 / 1_000)
            }));
        }
    })
    .await;
    found.sort_unstable();
    assert_eq!(found, expected);
}
