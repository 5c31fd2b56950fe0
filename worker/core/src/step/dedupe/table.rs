//! Keys that were seen: a table in the order of their hashes, with gaps.
//!
//! A key takes 48 bytes at most, gaps included: slots are 32 bytes, and a shard grows by a quarter, not twofold, when 17 of 20
//! are taken. Shards grow one after the other, so little is held twice.

use std::num::NonZeroU128;

/// A key that was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seen {
    /// Of its values.
    pub(super) hash: NonZeroU128,
    /// Event time of its row, in microseconds.
    pub(super) time: i64,
    /// Hash of all the row's columns: a duplicate with another one is a conflict.
    pub(super) content: u32,
    /// The epoch that took it in. Beyond the range of `u32` all epochs look alike, and runs hold more than they need.
    pub(super) changed: u32,
}

/// Shards, a power of two.
const SHARDS: usize = 64;

/// A shard begins with so many slots.
const FIRST: usize = 8;

/// A shard grows when more than 17 of 20 slots are taken.
const MOST_FULL: (usize, usize) = (17, 20);

/// A grown shard has five slots where it had four.
const GROWS: (usize, usize) = (5, 4);

/// Keys by hash.
#[derive(Clone, Debug)]
pub(super) struct Table {
    shards: Vec<Shard>,
    len: usize,
}

/// Keys whose hash begins alike.
#[derive(Clone, Debug, Default)]
struct Shard {
    /// Taken slots are in the order of their hashes, none before its home; keys that find no room at the end follow it.
    slots: Vec<Option<Seen>>,
    /// Slots that a hash can have for its home.
    homes: usize,
    len: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            shards: vec![Shard::default(); SHARDS],
            len: 0,
        }
    }
}

impl Table {
    /// Keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are held, gaps included.
    pub(super) fn bytes(&self) -> usize {
        let slots: usize = self.shards.iter().map(|s| s.slots.capacity()).sum();
        slots * size_of::<Option<Seen>>()
    }

    /// All keys of that hash: several if they lie too far apart in time to be one.
    pub(super) fn of(&self, hash: NonZeroU128) -> impl Iterator<Item = &Seen> {
        self.shards[shard_of(hash)].of(hash)
    }

    /// Adds a key.
    pub(super) fn insert(&mut self, seen: Seen) {
        self.shards[shard_of(seen.hash)].insert(seen);
        self.len += 1;
    }

    /// All keys, in the order of their hashes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Seen> + Clone {
        self.shards.iter().flat_map(Shard::iter)
    }

    /// Keeps only these, and gives back the memory of the others.
    pub(super) fn retain(&mut self, keep: impl Fn(&Seen) -> bool) {
        self.len = 0;
        for shard in &mut self.shards {
            let kept = shard.iter().filter(|seen| keep(seen)).count();
            if kept < shard.len {
                shard.rebuild(homes_for(kept), &keep);
            }
            self.len += shard.len;
        }
    }
}

fn shard_of(hash: NonZeroU128) -> usize {
    (hash.get() >> 122) as usize
}

/// Slots for so many keys, so that there is room for some more.
fn homes_for(keys: usize) -> usize {
    let (taken, of) = MOST_FULL;
    let (more, than) = GROWS;
    (keys * of * more).div_ceil(taken * than).max(FIRST)
}

impl Shard {
    fn iter(&self) -> impl Iterator<Item = &Seen> + Clone {
        self.slots.iter().flatten()
    }

    /// The slot that a hash would have in an empty shard: hashes are spread evenly, so their order is that of their homes.
    fn home(&self, hash: NonZeroU128) -> usize {
        // The 64 bits below those that chose the shard.
        let spread = (hash.get() << 6) >> 64;
        usize::try_from((spread * self.homes as u128) >> 64).unwrap_or(0)
    }

    fn of(&self, hash: NonZeroU128) -> impl Iterator<Item = &Seen> {
        let from = self.home(hash).min(self.slots.len());
        let run = self.slots[from..].iter().map_while(Option::as_ref);
        run.skip_while(move |seen| seen.hash < hash)
            .take_while(move |seen| seen.hash == hash)
    }

    fn insert(&mut self, seen: Seen) {
        let (taken, of) = MOST_FULL;
        if (self.len + 1) * of > self.homes * taken {
            self.rebuild(homes_for(self.len + 1), |_| true);
        }
        self.place(seen);
        self.len += 1;
    }

    /// Puts a key after those of lower or equal hash, and moves what stands in its way up to the next gap.
    fn place(&mut self, seen: Seen) {
        let mut at = self.home(seen.hash);
        while let Some(Some(there)) = self.slots.get(at) {
            if there.hash > seen.hash {
                break;
            }
            at += 1;
        }
        let gap = self.slots[at.min(self.slots.len())..]
            .iter()
            .position(Option::is_none);
        let gap = gap.map_or(self.slots.len(), |gap| at + gap);
        if gap == self.slots.len() {
            self.push(None);
        }
        self.slots.copy_within(at..gap, at + 1);
        self.slots[at] = Some(seen);
    }

    /// Adds a slot behind the last home.
    fn push(&mut self, slot: Option<Seen>) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(FIRST);
        }
        self.slots.push(slot);
    }

    /// Takes a table of another size.
    fn rebuild(&mut self, homes: usize, keep: impl Fn(&Seen) -> bool) {
        let mut slots = Vec::with_capacity(homes + FIRST);
        slots.resize(homes, None);
        let old = std::mem::replace(&mut self.slots, slots);
        (self.homes, self.len) = (homes, 0);
        let mut next = 0;
        for seen in old.into_iter().flatten().filter(keep) {
            // They come in order: each goes to its home, or behind the one before it.
            next = next.max(self.home(seen.hash));
            match self.slots.get_mut(next) {
                Some(slot) => *slot = Some(seen),
                None => self.push(Some(seen)),
            }
            next += 1;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    fn seen(key: u64, time: i64) -> Seen {
        let hash = xxh3_128(&key.to_le_bytes());
        Seen {
            hash: NonZeroU128::new(hash).unwrap(),
            time,
            content: 0,
            changed: 0,
        }
    }

    #[test]
    fn a_key_takes_at_most_48_bytes_whatever_their_number() {
        let mut table = Table::default();
        let mut most = 0;
        for key in 0..1_200_000 {
            table.insert(seen(key, 0));
            // Below this the first slots of shards weigh more than what is in them.
            if key > 20_000 && key % 997 == 0 {
                most = most.max(table.bytes().div_ceil(table.len()));
            }
        }
        assert!(most <= 48, "{most}");
        assert_eq!(size_of::<Option<Seen>>(), 32);
    }

    #[test]
    fn it_holds_what_a_plain_map_holds() {
        let (mut table, mut map) = (Table::default(), BTreeMap::<u64, Vec<i64>>::new());
        let mut state = 7_u64;
        for step in 0..60_000_i64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key = state >> 51;
            table.insert(seen(key, step));
            map.entry(key).or_default().push(step);
            if step % 9_973 == 0 {
                let gone = step - 4_000;
                table.retain(|seen| seen.time > gone);
                map.values_mut()
                    .for_each(|times| times.retain(|t| *t > gone));
            }
        }
        for key in 0..(1 << 13) {
            let times: Vec<i64> = table.of(seen(key, 0).hash).map(|s| s.time).collect();
            assert_eq!(&times, map.get(&key).unwrap_or(&Vec::new()), "{key}");
        }
        let all: usize = map.values().map(Vec::len).sum();
        assert_eq!((table.len(), table.iter().count()), (all, all));
        assert!(table.iter().is_sorted_by_key(|seen| seen.hash));
    }

    #[test]
    fn hashes_at_the_very_end_of_a_shard_find_room_behind_it() {
        let mut table = Table::default();
        let last = |low: u128| Seen {
            hash: NonZeroU128::new(u128::MAX - low).unwrap(),
            ..seen(0, i64::try_from(low).unwrap())
        };
        (0..100).for_each(|low| table.insert(last(low)));
        for low in 0..100 {
            let found: Vec<_> = table.of(last(low).hash).map(|s| s.time).collect();
            assert_eq!(found, [i64::try_from(low).unwrap()]);
        }
    }
}
