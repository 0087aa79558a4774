//! Traces of reads, the same for each cache: a miss puts the key.

use crate::subjects::Subject;

/// A trace and the room that a cache has for it.
#[derive(Clone, Copy)]
pub struct Trace {
    pub name: &'static str,
    pub capacity: u64,
    reads: u64,
    keys: fn(&mut Dice, u64) -> u64,
}

impl Trace {
    /// Returns which percentage of the reads hit.
    pub fn hits(&self, cache: &dyn Subject) -> f64 {
        let mut dice = Dice::new();
        let mut hits = 0_u64;
        for read in 0..self.reads {
            let key = (self.keys)(&mut dice, read);
            if cache.get(key) {
                hits += 1;
            } else {
                cache.put(key);
            }
        }
        hits as f64 * 100.0 / self.reads as f64
    }
}

pub const ALL: [Trace; 6] = [
    // The most frequent of 20,000 rooms, of which one is replaced after each five reads.
    Trace {
        name: "hits-zipf-churn",
        capacity: 2_000,
        reads: 600_000,
        keys: |dice, read| {
            let room = dice.zipf(20_000, 0.9);
            // Rooms end in turn; each time a room's number is used it is another one.
            let ended = read / 5;
            let life = (ended + 20_000 - room) / 20_000;
            life * 20_000 + room
        },
    },
    // Zipf, and again and again a scan over keys that nobody reads twice.
    Trace {
        name: "hits-scan",
        capacity: 2_000,
        reads: 600_000,
        keys: |dice, read| {
            if read % 10_000 < 4_000 { 1_000_000 + read } else { dice.zipf(20_000, 0.9) }
        },
    },
    // Round and round over a quarter more keys than there is room for.
    Trace { name: "hits-loop", capacity: 2_000, reads: 300_000, keys: |_, read| read % 2_500 },
    // Loops, Zipf and what is read twice within short, a third each.
    Trace {
        name: "hits-mixed",
        capacity: 2_000,
        reads: 600_000,
        keys: |dice, read| match read % 3 {
            0 => 1_000_000 + read / 3 % 3_000,
            1 => dice.zipf(20_000, 0.9),
            _ => 2_000_000 + read / 6,
        },
    },
    // The 1,500 keys that are read are others after each 60,000 reads.
    Trace {
        name: "hits-shift",
        capacity: 2_000,
        reads: 600_000,
        keys: |dice, read| read / 60_000 * 10_000 + dice.below(1_500),
    },
    // A million keys, room for a tenth of them.
    Trace {
        name: "hits-zipf-1m",
        capacity: 100_000,
        reads: 2_000_000,
        keys: |dice, _| dice.zipf(1_000_000, 0.99),
    },
];

/// SplitMix64, and Zipf by rejection (Hoermann, Derflinger: Rejection-inversion to generate variates from monotone
/// discrete distributions, 1996).
pub struct Dice(u64);

impl Dice {
    const fn new() -> Self {
        Self(42)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a rank from zero below `count`, with a weight of one by its number to the power `s`, which is not one.
    fn zipf(&mut self, count: u64, s: f64) -> u64 {
        let integral = |x: f64| (x.powf(1.0 - s) - 1.0) / (1.0 - s);
        let inverse = |y: f64| (1.0 + y * (1.0 - s)).powf(1.0 / (1.0 - s));
        let (low, high) = (integral(1.5) - 1.0, integral(count as f64 + 0.5));
        loop {
            let y = low + self.unit() * (high - low);
            let rank = inverse(y).round().clamp(1.0, count as f64);
            if integral(rank + 0.5) - rank.powf(-s) <= y {
                return rank as u64 - 1;
            }
        }
    }
}
