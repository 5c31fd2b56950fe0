//! Other orders in which the partitions of a source could have been read: between two promises, and each in its own order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::source::script::{Part, Record, Script, Scripts};

/// Seeds that are tried.
pub(super) const SEEDS: u64 = 4;

/// Scripts of the seeds whose order is none of those before, the written one included.
pub(super) fn interleavings(written: &Scripts) -> Vec<(u64, Scripts)> {
    let mut orders = vec![order(written)];
    let mut all = Vec::new();
    for seed in 1..=SEEDS {
        let scripts = shuffled(written, seed);
        let order = order(&scripts);
        if !orders.contains(&order) {
            orders.push(order);
            all.push((seed, scripts));
        }
    }
    all
}

fn order(scripts: &Scripts) -> Vec<Vec<i32>> {
    let parts = scripts.values().flat_map(|script| &script.parts);
    let partitions = |part: &Part| part.records.iter().map(|r| r.partition).collect();
    parts.map(partitions).collect()
}

/// Another order, in batches of another size.
fn shuffled(written: &Scripts, seed: u64) -> Scripts {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut of = |script: &Script| Script {
        parts: script
            .parts
            .iter()
            .map(|part| mixed(part, &mut random))
            .collect(),
        most: usize::try_from(seed).unwrap_or(usize::MAX),
        ..script.clone()
    };
    let scripts = written.iter();
    scripts
        .map(|(name, script)| (name.clone(), Arc::new(of(script))))
        .collect()
}

fn mixed(part: &Part, random: &mut impl Rng) -> Part {
    let mut waiting: BTreeMap<i32, VecDeque<&Record>> = BTreeMap::new();
    for record in &part.records {
        waiting
            .entry(record.partition)
            .or_default()
            .push_back(record);
    }
    let mut records = Vec::with_capacity(part.records.len());
    while !waiting.is_empty() {
        let at = random.random_range(0..waiting.len());
        let Some(partition) = waiting.keys().nth(at).copied() else {
            break;
        };
        let queue = waiting.entry(partition).or_default();
        records.extend(queue.pop_front().cloned());
        if queue.is_empty() {
            waiting.remove(&partition);
        }
    }
    Part {
        records,
        advance_to: part.advance_to,
    }
}

#[cfg(test)]
mod tests {
    use evp_api::plan::NodeName;
    use evp_core::position::Micros;

    use super::*;

    fn scripts(partitions: &[i32]) -> Scripts {
        let record = |(line, &partition): (u64, &i32)| Record {
            partition,
            value: None,
            key: None,
            timestamp: Micros(0),
            line,
        };
        let records: Vec<_> = (0..).zip(partitions).map(record).collect();
        let (first, second) = records.split_at(records.len() / 2);
        let part = |records: &[Record], advance_to| Part {
            records: records.to_vec(),
            advance_to,
        };
        let script = Script {
            partitions: vec![0, 1, 2],
            parts: vec![part(first, Some(Micros(1))), part(second, None)],
            file: None,
            most: usize::MAX,
        };
        Scripts::from([(NodeName::new("in").unwrap(), Arc::new(script))])
    }

    #[test]
    fn an_interleaving_is_another_order_that_keeps_partitions_and_promises_apart() {
        let written = scripts(&[0, 1, 2, 0, 1, 2, 0, 1]);
        let all = interleavings(&written);
        assert_eq!(all.len(), 4);
        for (seed, other) in &all {
            let (written, other) = (
                &written.values().next().unwrap().parts,
                &other.values().next().unwrap().parts,
            );
            assert_ne!(written, other, "{seed}");
            for (before, after) in written.iter().zip(other) {
                assert_eq!(before.advance_to, after.advance_to);
                for partition in 0..3 {
                    let of = |part: &Part| -> Vec<_> {
                        part.records
                            .iter()
                            .filter(|r| r.partition == partition)
                            .cloned()
                            .collect()
                    };
                    assert_eq!(of(before), of(after));
                }
            }
        }
    }

    #[test]
    fn one_partition_has_one_order() {
        assert!(interleavings(&scripts(&[0; 8])).is_empty());
    }
}
