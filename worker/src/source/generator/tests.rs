//! Laws of the generator source.

use std::sync::{Arc, Mutex};

use evp_api::plan::Template;

use super::*;
use crate::clock::Clock;

/// Moves only when somebody waits.
struct FakeClock(Mutex<i64>);

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> Micros {
        Micros(*self.0.lock().unwrap())
    }
    fn elapsed(&self) -> Duration {
        Duration::from_micros(u64::try_from(*self.0.lock().unwrap()).unwrap())
    }
    async fn sleep(&self, duration: Duration) {
        *self.0.lock().unwrap() += i64::try_from(duration.as_micros()).unwrap();
    }
}

fn clock() -> SharedClock {
    Arc::new(FakeClock(Mutex::new(1_767_268_800_000_000)))
}

fn source(clock: SharedClock, limit: Option<u64>, back_dated: u64) -> GeneratorSource {
    let plan = GeneratorPlan {
        template: Template::Orders,
        rate: 10,
        seed: 1,
        limit,
    };
    GeneratorSource::new(
        plan,
        clock,
        Planting::default(),
        Duration::from_secs(back_dated),
    )
}

const BUDGET: Budget = Budget {
    records: 1_000,
    bytes: 1 << 20,
};
const WAIT: Duration = Duration::from_secs(1);

/// (split, position, value) of all records.
fn records(raw: &RawBatch) -> Vec<(u32, i64, Vec<u8>)> {
    raw.records
        .iter()
        .map(|r| (r.split, r.position.0, raw.value(r).unwrap().to_vec()))
        .collect()
}

#[tokio::test]
async fn a_resumed_source_goes_on_with_the_very_events_it_would_have_sent() {
    let clock = clock();
    let mut whole = source(Arc::clone(&clock), None, 100);
    let start = whole.splits(None).await.unwrap();
    assert_eq!(start.len(), 3);
    whole.seek(&start).await.unwrap();
    let all = records(&whole.poll(BUDGET, WAIT).await.unwrap());
    assert_eq!(all.len(), 1_000);

    let mut first = source(Arc::clone(&clock), None, 55);
    first.seek(&start).await.unwrap();
    let part = first
        .poll(
            Budget {
                records: 100,
                ..BUDGET
            },
            WAIT,
        )
        .await
        .unwrap();
    let reached: SplitPositions = part
        .reached
        .iter()
        .map(|r| (r.split.clone(), r.position.clone()))
        .collect();
    let mut second = source(clock, None, 0);
    assert_eq!(
        second.splits(Some(&reached)).await.unwrap(),
        SplitPositions::new()
    );
    second.seek(&reached).await.unwrap();
    let rest = second.poll(BUDGET, WAIT).await.unwrap();
    let mut both = records(&part);
    both.extend(records(&rest));
    assert_eq!(both[..1_000], all);
}

#[tokio::test]
async fn events_come_at_their_rate() {
    let clock = clock();
    let mut source = source(Arc::clone(&clock), None, 0);
    let start = source.splits(None).await.unwrap();
    source.seek(&start).await.unwrap();
    let mut count = 0;
    let begun = clock.elapsed();
    while clock.elapsed().saturating_sub(begun) < Duration::from_secs(10) {
        count += source.poll(BUDGET, WAIT).await.unwrap().records.len();
    }
    assert!((100..=102).contains(&count), "{count}");
}

#[tokio::test]
async fn the_limit_is_the_end() {
    let clock = clock();
    let mut source = source(Arc::clone(&clock), Some(25), 60);
    let start = source.splits(None).await.unwrap();
    source.seek(&start).await.unwrap();
    let raw = source.poll(BUDGET, WAIT).await.unwrap();
    assert_eq!(raw.records.len(), 25);
    let ends = source.end_positions().await.unwrap();
    assert_eq!(
        ends.values().map(|p| p.next.0).collect::<Vec<_>>(),
        [9, 8, 8]
    );
    for reached in &raw.reached {
        assert_eq!(
            (&ends[&reached.split], Some(ends[&reached.split].next)),
            (&reached.position, reached.end)
        );
    }
    let before = clock.elapsed();
    assert_eq!(source.poll(BUDGET, WAIT).await.unwrap().records.len(), 0);
    assert_eq!(clock.elapsed().saturating_sub(before), WAIT);
}

#[tokio::test]
async fn a_poll_keeps_to_its_budget() {
    let mut source = source(clock(), None, 60);
    let start = source.splits(None).await.unwrap();
    source.seek(&start).await.unwrap();
    let budget = Budget {
        records: 1_000,
        bytes: 2_000,
    };
    let raw = source.poll(budget, WAIT).await.unwrap();
    assert!(raw.byte_len() <= 2_000 && raw.records.len() > 3);
    let raw = source
        .poll(Budget { bytes: 1, ..budget }, WAIT)
        .await
        .unwrap();
    assert_eq!(raw.records.len(), 1);
}
