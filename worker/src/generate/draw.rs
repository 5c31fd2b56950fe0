//! Numbers drawn by counter: splitmix64 over (seed, event, purpose). No state outlives an event, so any event can be made
//! first.

/// The draws of one event for one purpose.
#[derive(Debug)]
pub(super) struct Draw(u64);

/// What numbers are drawn for: draws of one purpose never shift those of another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Kind = 1,
    Content = 2,
    Identity = 3,
    Time = 4,
    Conflict = 5,
}

impl Draw {
    pub(super) fn new(seed: u64, event: u64, purpose: Purpose) -> Self {
        let mut draw = Self(seed ^ (purpose as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let start = draw.next() ^ event.wrapping_mul(0xA076_1D64_78BD_642F);
        Self(start)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which must not be zero; the bias is below 2^-32 for the small bounds used here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number in 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits: exact")]
        let bits = (self.next() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// One of several.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }
}

/// Hash of a key, the same on every machine (FNV-1a, then mixed).
pub(super) fn hash(key: &[u8]) -> u64 {
    let fnv = key.iter().fold(0xCBF2_9CE4_8422_2325_u64, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3)
    });
    mix(fnv)
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
