//! How many sessions each source has, how many of them are not admitted, and how often it comes.
//!
//! A source is one customer's network, see [`Source`]. Workers share the table, because the kernel spreads the clients of
//! one source over all of them. It is divided by source into parts with a lock each. A lock is held for some arithmetic
//! only, three times in the life of a session.
//!
//! A source is known while it has a session. Without one it is remembered until its rate would let it come as if it had
//! never been there, at most a second later, and of such sources only so many, the oldest go. Every session is counted
//! whatever the limits are, so that limits which come with a reload are exact at once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::stats::gate::Source;

const PARTS: usize = 64;
/// Sources without a session that a part remembers.
const IDLE_MAX: usize = 1024;
/// Room for so many is kept in any case.
const ROOM_MIN: usize = 64;
const SECOND: u64 = 1_000_000_000;

/// What every source may have; 0 is "as much as there is".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceLimits {
    /// At the same time, those that are not admitted included.
    pub sessions_max: usize,
    /// Sessions that are not admitted.
    pub openings_max: usize,
    /// So many may come at once after a second's silence.
    pub accepts_per_second_max: usize,
}

/// Why a source gets no further session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceRefusal {
    Sessions,
    Openings,
    Rate,
}

/// The sources of all workers' sessions.
#[derive(Debug)]
pub(super) struct Sources {
    parts: Box<[Mutex<Part>]>,
    /// Chosen at random, so that nobody can aim at one part.
    hasher: RandomState,
    started: Instant,
}

#[derive(Debug, Default)]
struct Part {
    known: HashMap<Source, Known>,
    /// Sources without a session, with their numbers, the oldest first.
    idle: VecDeque<(Source, u64)>,
    idle_number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    sessions: u32,
    openings: u32,
    /// Its place in `idle`, if it has no session.
    idle_number: u64,
    /// Up to this instant, in nanoseconds since the start, its rate is used up.
    given_until: u64,
}

/// One session of a source, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Visit {
    sources: Arc<Sources>,
    source: Source,
    is_opening: bool,
}

/// What came of a client's wish to come in, beside the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// Sources whose rate was forgotten before its time, for room.
    pub(super) sources: u64,
}

impl Sources {
    pub(super) fn new() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, hasher: RandomState::new(), started: Instant::now() }
    }

    /// Counts a session of `source` that begins at `now`, unless it would be one too many.
    pub(super) fn enter(
        self: &Arc<Self>,
        source: Source,
        limits: SourceLimits,
        now: Instant,
    ) -> (Result<Visit, SourceRefusal>, Forgotten) {
        let now = nanoseconds(now.saturating_duration_since(self.started).as_nanos());
        let mut part = self.part(source);
        let forgotten = part.tidy(now);
        let entered = part.enter(source, limits, now);
        drop(part);
        (entered.map(|()| Visit { sources: Arc::clone(self), source, is_opening: true }), forgotten)
    }

    fn part(&self, source: Source) -> MutexGuard<'_, Part> {
        let place = self.hasher.hash_one(source) as usize % self.parts.len();
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn enter(&mut self, source: Source, limits: SourceLimits, now: u64) -> Result<(), SourceRefusal> {
        let mut known = self.known.get(&source).copied().unwrap_or_default();
        let is_reached = |count: u32, most: usize| most > 0 && count as usize >= most;
        if is_reached(known.sessions, limits.sessions_max) {
            return Err(SourceRefusal::Sessions);
        }
        if is_reached(known.openings, limits.openings_max) {
            return Err(SourceRefusal::Openings);
        }
        if limits.accepts_per_second_max > 0 {
            let interval = SECOND / limits.accepts_per_second_max as u64;
            let next = known.given_until.max(now.saturating_sub(SECOND)) + interval;
            if next > now {
                return Err(SourceRefusal::Rate);
            }
            known.given_until = next;
        }
        known.sessions += 1;
        known.openings += 1;
        self.known.insert(source, known);
        Ok(())
    }

    fn admit(&mut self, source: Source) {
        if let Some(known) = self.known.get_mut(&source) {
            known.openings = known.openings.saturating_sub(1);
        }
    }

    fn leave(&mut self, source: Source) {
        let Entry::Occupied(mut place) = self.known.entry(source) else { return };
        let known = place.get_mut();
        known.sessions = known.sessions.saturating_sub(1);
        if known.sessions > 0 {
            return;
        }
        if known.given_until == 0 {
            place.remove();
        } else {
            self.idle_number += 1;
            known.idle_number = self.idle_number;
            self.idle.push_back((source, self.idle_number));
        }
        self.give_back_room();
    }

    /// Forgets sources without a session: those whose rate is as if they had never come, and the oldest beyond the most
    /// that are remembered.
    fn tidy(&mut self, now: u64) -> Forgotten {
        let mut forgotten = Forgotten::default();
        while let Some(&(source, number)) = self.idle.front() {
            let known = self.known.get(&source).filter(|known| known.sessions == 0 && known.idle_number == number);
            let is_over = known.is_none_or(|known| known.given_until.saturating_add(SECOND) <= now);
            let is_known = known.is_some();
            if !is_over && self.idle.len() <= IDLE_MAX {
                break;
            }
            self.idle.pop_front();
            if is_known {
                self.known.remove(&source);
            }
            forgotten.sources += u64::from(!is_over);
        }
        forgotten
    }

    /// Memory of a crowd that has gone.
    fn give_back_room(&mut self) {
        if self.known.capacity() > ROOM_MIN && self.known.len() < self.known.capacity() / 8 {
            self.known.shrink_to((2 * self.known.len()).max(ROOM_MIN));
        }
    }
}

impl Visit {
    /// The session is admitted: it is known to be a user's, or is passed on to a fallback.
    pub(super) fn admit(&mut self) {
        if std::mem::take(&mut self.is_opening) {
            self.sources.part(self.source).admit(self.source);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut part = self.sources.part(self.source);
        if self.is_opening {
            part.admit(self.source);
        }
        part.leave(self.source);
    }
}

fn nanoseconds(passed: u128) -> u64 {
    // A program that runs for longer than 584 years is not expected. 0 stands for "never".
    u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    const NONE: SourceLimits = SourceLimits { sessions_max: 0, openings_max: 0, accepts_per_second_max: 0 };

    fn table() -> (Arc<Sources>, Instant) {
        let sources = Arc::new(Sources::new());
        let started = sources.started;
        (sources, started)
    }

    fn known(sources: &Sources) -> usize {
        sources.parts.iter().map(|part| part.lock().unwrap().known.len()).sum()
    }

    #[test]
    fn sessions_and_openings_of_a_source_have_limits_of_their_own() {
        let (sources, now) = table();
        let limits = SourceLimits { sessions_max: 3, openings_max: 2, ..NONE };
        let enter = |source| sources.enter(source, limits, now).0;
        let mut first = enter(1).unwrap();
        let _second = enter(1).unwrap();
        assert_eq!(enter(1).unwrap_err(), SourceRefusal::Openings);
        first.admit();
        first.admit();
        let third = enter(1).unwrap();
        assert_eq!(enter(1).unwrap_err(), SourceRefusal::Sessions);
        drop(third);
        assert_eq!(enter(1).map(|_| ()), Ok(()), "who leaves unadmitted gives both back");
        assert!(enter(2).is_ok(), "another source has limits of its own");
    }

    #[test]
    fn limits_that_come_later_know_the_sessions_that_are_there() {
        let (sources, now) = table();
        let _there: Vec<_> = (0..5).map(|_| sources.enter(7, NONE, now).0.unwrap()).collect();
        let limits = SourceLimits { sessions_max: 5, ..NONE };
        assert_eq!(sources.enter(7, limits, now).0.unwrap_err(), SourceRefusal::Sessions);
    }

    #[test]
    fn a_source_may_come_so_often_in_a_second_and_then_as_often_as_that_allows() {
        let (sources, now) = table();
        let limits = SourceLimits { accepts_per_second_max: 10, ..NONE };
        let comes = |after_ms: u64| {
            let at = now + Duration::from_millis(after_ms);
            (0..50).filter(|_| sources.enter(1, limits, at).0.is_ok()).count()
        };
        assert_eq!([comes(0), comes(99), comes(100), comes(350)], [10, 0, 1, 2]);
        assert_eq!(comes(10_000), 10, "a pause is worth a second");
        assert_eq!(sources.enter(1, limits, now).0.unwrap_err(), SourceRefusal::Rate);
    }

    #[test]
    fn without_a_rate_nobody_is_remembered_and_with_one_for_a_second() {
        let (sources, now) = table();
        for source in 0..1000 {
            drop(sources.enter(source, NONE, now).0.unwrap());
        }
        assert_eq!(known(&sources), 0);
        let limits = SourceLimits { accepts_per_second_max: 1, ..NONE };
        for source in 0..1000 {
            drop(sources.enter(source, limits, now).0.unwrap());
        }
        assert_eq!(known(&sources), 1000);
        for source in 0..1000 {
            drop(sources.enter(source, NONE, now + Duration::from_secs(2)).0.unwrap());
        }
        assert_eq!(known(&sources), 0);
    }

    #[test]
    fn of_those_without_a_session_only_so_many_are_remembered_and_the_oldest_go() {
        let (sources, now) = table();
        let limits = SourceLimits { accepts_per_second_max: 1, ..NONE };
        let stays = sources.enter(u64::MAX, limits, now).0.unwrap();
        let mut forgotten = 0;
        let crowd = 2 * (PARTS * IDLE_MAX) as u64;
        for source in 0..crowd {
            let (visit, more) = sources.enter(source, limits, now);
            forgotten += more.sources;
            drop(visit);
        }
        assert!(known(&sources) <= PARTS * (IDLE_MAX + 1) + 1);
        assert!(forgotten >= crowd - (PARTS * (IDLE_MAX + 1)) as u64);
        assert!(sources.enter(0, limits, now).0.is_ok(), "the oldest is forgotten");
        assert!(sources.enter(crowd - 1, limits, now).0.is_err(), "the newest is not");
        let sessions = SourceLimits { sessions_max: 1, ..NONE };
        assert!(sources.enter(u64::MAX, sessions, now).0.is_err(), "nor is one that has a session");
        drop(stays);
    }

    #[test]
    fn memory_of_a_crowd_is_given_back() {
        let (sources, now) = table();
        let crowd: Vec<_> = (0..50_000).map(|source| sources.enter(source, NONE, now).0.unwrap()).collect();
        drop(crowd);
        let room: usize = sources.parts.iter().map(|part| part.lock().unwrap().known.capacity()).sum();
        assert!(room <= PARTS * 4 * ROOM_MIN, "{room}");
    }

    #[test]
    fn workers_count_in_one_table() {
        let (sources, now) = table();
        let limits = SourceLimits { sessions_max: 100, ..NONE };
        let entered: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let visits: Vec<_> = (0..50).filter_map(|_| sources.enter(1, limits, now).0.ok()).collect();
                        let count = visits.len();
                        std::mem::forget(visits);
                        count
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(entered, 100);
    }
}
