//! A value in 64 bits. Two of a million states are taken for one with a probability of one in thirty million.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Folded multiplication over the words of a value.
#[derive(Default)]
pub(super) struct Folded(u64);

/// Fingerprints that were seen.
pub(super) type Seen = HashSet<u64, BuildHasherDefault<Folded>>;

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ value.wrapping_add(0x2545_f491_4f6c_dd1d)) * ODD;
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        self.0 = u64::try_from(low ^ high).unwrap().rotate_left(23);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    /// Which variant of an enum.
    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }
}

pub(super) fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = Folded(0);
    value.hash(&mut hasher);
    hasher.finish()
}
