//! Answers kept for a while, negative ones included: bounded in number and in age.
//!
//! It knows no clock: instants come in as arguments.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Answer, Question};

/// Positive answers live at least this long. Sessions of one page load come in bursts, and a time of zero would mean
/// one question for each of them.
pub const TTL_MIN: Duration = Duration::from_secs(10);
/// Positive answers live at most this long, so that a moved service is found again without a restart.
pub const TTL_MAX: Duration = Duration::from_hours(1);
/// "No such name" and "no address" live at least this long.
pub const NEGATIVE_TTL_MIN: Duration = Duration::from_secs(5);
/// "No such name" and "no address" live at most this long.
pub const NEGATIVE_TTL_MAX: Duration = Duration::from_mins(1);
/// How long they live where the zone gives no time for them. They are not to be kept (RFC 2308 section 5), so this is
/// just long enough to spare the servers a storm of repeats.
pub const NEGATIVE_TTL_UNKNOWN: Duration = Duration::from_secs(1);
/// Failures of the servers are remembered just long enough to spare them a storm of repeats.
pub const FAILURE_TTL: Duration = Duration::from_secs(2);

/// Answers by question. When full, the answer that came in first makes room.
pub struct Cache {
    entries: HashMap<Question, Entry>,
    /// Questions in the order in which their answers came. An entry that was replaced since then has another number.
    order: VecDeque<(u64, Question)>,
    next_number: u64,
    entries_max: usize,
}

struct Entry {
    answer: Answer,
    expires: Instant,
    number: u64,
}

impl Cache {
    /// An empty cache for at most `entries_max` answers.
    pub fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), next_number: 0, entries_max }
    }

    /// The answer to `question`, if it is there and still good.
    pub fn find(&self, question: &Question, now: Instant) -> Option<&Answer> {
        self.entries.get(question).filter(|entry| now < entry.expires).map(|entry| &entry.answer)
    }

    /// Keeps `answer` for `ttl`, which the caller has bounded.
    pub fn insert(&mut self, question: Question, answer: Answer, ttl: Duration, now: Instant) {
        if self.entries_max == 0 {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.order.push_back((number, question.clone()));
        self.entries.insert(question, Entry { answer, expires: now + ttl, number });
        self.drop_surplus();
        // Answers replaced again and again leave their old places in the order behind.
        if self.order.len() > 2 * self.entries_max {
            let entries = &self.entries;
            self.order.retain(|(number, question)| entries.get(question).is_some_and(|entry| entry.number == *number));
        }
    }

    /// Changes how many answers are kept. Those that came first go first.
    pub fn set_entries_max(&mut self, entries_max: usize) {
        self.entries_max = entries_max;
        self.drop_surplus();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    fn drop_surplus(&mut self) {
        while self.entries.len() > self.entries_max {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((number, question)) = self.order.pop_front() else { return self.entries.clear() };
        if self.entries.get(&question).is_some_and(|entry| entry.number == number) {
            self.entries.remove(&question);
        }
    }
}

/// How long a positive answer is kept.
pub fn positive_ttl(ttl_s: u32) -> Duration {
    Duration::from_secs(ttl_s.into()).clamp(TTL_MIN, TTL_MAX)
}

/// How long a negative answer is kept.
pub fn negative_ttl(ttl_s: Option<u32>) -> Duration {
    ttl_s.map_or(NEGATIVE_TTL_UNKNOWN, |ttl_s| {
        Duration::from_secs(ttl_s.into()).clamp(NEGATIVE_TTL_MIN, NEGATIVE_TTL_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Family, ResolveError};
    use super::*;

    fn question(name: &str) -> Question {
        Question::new(name, Family::V4)
    }

    const GONE: Answer = Err(ResolveError::NoSuchName);

    #[test]
    fn an_answer_is_found_until_it_expires() {
        let now = Instant::now();
        let mut cache = Cache::new(4);
        cache.insert(question("a"), GONE, Duration::from_secs(10), now);
        assert!(cache.find(&question("a"), now + Duration::from_millis(9999)).is_some());
        assert!(cache.find(&question("a"), now + Duration::from_secs(10)).is_none());
        assert!(cache.find(&Question::new("a", Family::V6), now).is_none());
    }

    #[test]
    fn a_full_cache_drops_what_came_first() {
        let now = Instant::now();
        let mut cache = Cache::new(3);
        for name in ["a", "b", "c", "d"] {
            cache.insert(question(name), GONE, Duration::from_secs(10), now);
        }
        assert!(cache.find(&question("a"), now).is_none());
        assert!(["b", "c", "d"].iter().all(|name| cache.find(&question(name), now).is_some()));
    }

    #[test]
    fn replacing_one_answer_for_ever_does_not_grow_the_cache() {
        let now = Instant::now();
        let mut cache = Cache::new(3);
        cache.insert(question("kept"), GONE, Duration::from_secs(10), now);
        for _ in 0..1000 {
            cache.insert(question("a"), GONE, Duration::from_secs(10), now);
        }
        assert!(cache.order.len() <= 6);
        assert!(cache.find(&question("kept"), now).is_some() && cache.find(&question("a"), now).is_some());
    }

    #[test]
    fn times_to_live_are_held_between_floor_and_ceiling() {
        assert_eq!([0, 9, 300, u32::MAX].map(positive_ttl), [10, 10, 300, 3600].map(Duration::from_secs));
        assert_eq!([None, Some(0), Some(30), Some(86400)].map(negative_ttl), [1, 5, 30, 60].map(Duration::from_secs));
    }
}
