//! Which workers have sessions that wait for buffer memory, and since when.
//!
//! A worker wakes nobody of another worker when it gives memory back. Who waits there looks from time to time, and
//! finds nothing if those here take everything at once. So a worker leaves memory to one whose first session has waited
//! for longer than its own, by more than the time between two looks.
//!
//! A worker that does not look for a long time is stuck, and nobody leaves anything to it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::io::moment::Moment;

/// By so much longer another worker's first session must have waited. Workers whose sessions wait look twice as often.
pub const DEFERENCE: Duration = Duration::from_millis(40);

/// Without a look for so long, a worker is left nothing.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// What each pool says of those who wait for it.
#[derive(Debug)]
pub(in crate::io) struct Waits {
    places: Box<[Place]>,
    /// Places that were given out.
    given: AtomicUsize,
    /// Pools for which somebody waits.
    waiting: AtomicUsize,
}

/// One pool's. Only its thread writes it.
#[derive(Debug, Default)]
struct Place {
    /// Since when the first of those waits that wait now. 0: nobody.
    since: AtomicU64,
    /// When they last looked whether there is some.
    looked: AtomicU64,
}

impl Waits {
    /// For so many pools. More of them may take part, and are not waited for.
    pub(super) fn new(pools: usize) -> Self {
        let places = (0..pools).map(|_| Place::default()).collect();
        Self { places, given: AtomicUsize::new(0), waiting: AtomicUsize::new(0) }
    }

    /// The place of one more pool.
    pub(in crate::io) fn join(&self) -> usize {
        self.given.fetch_add(1, Ordering::Relaxed)
    }

    /// Says since when the first of those waits that wait for the pool.
    pub(in crate::io) fn set(&self, place: usize, since: Option<Moment>) {
        let Some(place) = self.places.get(place) else { return };
        let before = place.since.swap(since.map_or(0, Moment::nanoseconds), Ordering::Relaxed);
        match (before, since) {
            (0, Some(_)) => self.waiting.fetch_add(1, Ordering::Relaxed),
            (1.., None) => self.waiting.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// Those who wait for the pool look whether there is memory.
    pub(in crate::io) fn look(&self, place: usize, now: Moment) {
        if let Some(place) = self.places.get(place) {
            place.looked.store(now.nanoseconds(), Ordering::Relaxed);
        }
    }

    /// Somebody waits for one of the pools.
    pub(in crate::io) fn is_anybody(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Those who wait for another pool come before those who wait for this one.
    pub(in crate::io) fn is_others_turn(&self, place: usize, now: Moment) -> bool {
        let since = |place: &Place| place.since.load(Ordering::Relaxed);
        let own = self.places.get(place).map_or(0, since);
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let goes_first = |other: &Place| {
            let is_first = (1..own.saturating_sub(nanoseconds(DEFERENCE))).contains(&since(other));
            let looks = other.looked.load(Ordering::Relaxed).saturating_add(nanoseconds(LOOK_WITHIN));
            is_first && looks >= now.nanoseconds()
        };
        self.places.iter().any(goes_first)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_has_waited_for_longer_comes_first_unless_it_looks_no_more() {
        let start = Instant::now();
        let at = |ms| Moment::from(start + Duration::from_millis(ms));
        let waits = Waits::new(2);
        let places = [waits.join(), waits.join()];
        assert!(!waits.is_anybody());
        waits.set(places[0], Some(at(0)));
        waits.set(places[1], Some(at(30)));
        waits.look(places[0], at(60));
        let turns = |now| places.map(|place| waits.is_others_turn(place, at(now)));
        assert_eq!(turns(70), [false, false], "about as long");
        waits.set(places[1], Some(at(50)));
        assert_eq!(turns(70), [false, true]);
        assert_eq!(turns(1061), [false, false], "the first is stuck");
        waits.set(places[0], None);
        assert!(waits.is_anybody());
        assert_eq!(turns(70), [false, false]);
        waits.set(places[1], None);
        waits.set(places[1], None);
        assert!(!waits.is_anybody());
    }

    #[test]
    fn a_pool_without_a_place_is_not_waited_for() {
        let waits = Waits::new(1);
        let (_, late) = (waits.join(), waits.join());
        let now = Moment::from(Instant::now());
        waits.set(late, Some(now));
        waits.look(late, now);
        assert!(!waits.is_anybody() && !waits.is_others_turn(0, now) && !waits.is_others_turn(late, now));
    }
}
