//! Message ids that nobody can foresee.

use std::hash::{BuildHasher, RandomState};

/// A keyed hash of a counter. The key comes from the operating system and never leaves the process, so whoever sees
/// some ids learns nothing about the others.
pub struct RandomIds {
    key: RandomState,
    count: u64,
}

impl RandomIds {
    /// A source with a key of its own.
    pub fn new() -> Self {
        Self { key: RandomState::new(), count: 0 }
    }

    /// The next id.
    pub fn next_id(&mut self) -> u16 {
        self.count += 1;
        self.key.hash_one(self.count) as u16
    }
}

impl Default for RandomIds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_spread_over_the_whole_range_and_differ_between_sources() {
        let (mut a, mut b) = (RandomIds::new(), RandomIds::new());
        let ids: Vec<u16> = (0..4096).map(|_| a.next_id()).collect();
        assert!((0..16).all(|bit| ids.iter().any(|id| id >> bit & 1 == 1) && ids.iter().any(|id| id >> bit & 1 == 0)));
        assert!(ids.iter().any(|id| *id != b.next_id()));
    }
}
