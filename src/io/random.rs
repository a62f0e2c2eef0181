//! Random numbers that nobody can foresee, without a system call for each.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// A keyed hash (SipHash) of a counter. It is good for message ids and padding, not for keys.
pub struct Random {
    key: Key,
    count: u64,
}

enum Key {
    /// Comes from the operating system and never leaves the process, so whoever sees some numbers learns nothing about
    /// the others.
    Secret(RandomState),
    /// For simulation: the same seed gives the same numbers.
    Seed(u64),
}

impl Random {
    /// A source with a secret key of its own.
    #[expect(clippy::new_without_default, reason = "two sources are never equal, which a default would suggest")]
    pub fn new() -> Self {
        Self { key: Key::Secret(RandomState::new()), count: 0 }
    }

    /// A source that can be run again.
    pub fn seeded(seed: u64) -> Self {
        Self { key: Key::Seed(seed), count: 0 }
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.count += 1;
        match &self.key {
            Key::Secret(key) => key.hash_one(self.count),
            Key::Seed(seed) => {
                let mut hasher = DefaultHasher::new();
                (seed, self.count).hash(&mut hasher);
                hasher.finish()
            }
        }
    }

    /// A number from 0 to `bound - 1`, 0 for a bound of 0. The bias is below 2^-32 of a value's share.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_spread_over_their_range_and_differ_between_sources() {
        let (mut a, mut b) = (Random::new(), Random::new());
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[a.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert_ne!((a.next_u64(), a.next_u64()), (b.next_u64(), b.next_u64()));
        assert_eq!(a.below(0), 0);
    }

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let numbers = |seed| {
            let mut random = Random::seeded(seed);
            [random.next_u64(), random.next_u64()]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }
}
