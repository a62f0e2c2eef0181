//! A coarse lazy timer wheel, for many deadlines that are pushed back often and reached rarely.
//!
//! An entry is armed for a tick and comes out when that tick has passed. Pushing a deadline back does not touch the
//! wheel. The owner keeps its real deadline, compares when the entry comes out, and arms again if the entry came too
//! early. So an owner needs one entry, however busy it is. An entry whose owner is gone comes out and is found to
//! belong to nobody.
//!
//! The wheel knows no clock: instants come in as arguments.

use std::time::{Duration, Instant};

/// The length of a tick. It is short enough for connection racing (RFC 8305 has 250 ms between attempts), and long
/// enough that ten thousand idle sessions cost at most sixty wake-ups a second.
pub const TICK: Duration = Duration::from_millis(16);

/// Slots of the wheel. The entry of a deadline further away than all of them comes out once per round, and is armed
/// again.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;
/// A slot's memory is given back when it held more entries than this.
const SLOT_CAPACITY_KEPT: usize = 64;

/// The wheel, with keys of the owner's choice.
pub struct TimerWheel<K> {
    slots: Box<[Vec<K>]>,
    /// A bit per slot that has entries, so that finding the next one reads 64 words and not 4096 vectors.
    occupied: [u64; WORDS],
    origin: Instant,
    /// First tick that has not been visited.
    current: u64,
}

impl<K: Copy> TimerWheel<K> {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Instant) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), occupied: [0; WORDS], origin: now, current: 0 }
    }

    /// Arms one entry. `key` comes out of [`TimerWheel::expire`] between `deadline` and one tick later, or after one
    /// round of the wheel (65 s) if that is earlier. The owner checks whether it came too early.
    pub fn arm(&mut self, key: K, deadline: Instant) {
        let tick = self.tick_after(deadline).clamp(self.current, self.current + SLOTS as u64 - 1);
        let slot = tick as usize % SLOTS;
        self.slots[slot].push(key);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Takes out all entries whose tick has passed at `now`, and appends them to `due`.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<K>) {
        // A tick is over when the instant it stands for has been reached.
        let end = (now.saturating_duration_since(self.origin).as_millis() / TICK.as_millis()) as u64 + 1;
        while self.current < end {
            let Some(next) = self.next_occupied().filter(|&tick| tick < end) else {
                self.current = end;
                return;
            };
            let slot = &mut self.slots[next as usize % SLOTS];
            due.append(slot);
            if slot.capacity() > SLOT_CAPACITY_KEPT {
                *slot = Vec::new();
            }
            let index = next as usize % SLOTS;
            self.occupied[index / 64] &= !(1 << (index % 64));
            self.current = next + 1;
        }
    }

    /// When [`TimerWheel::expire`] should be called next. `None` while nothing is armed.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.next_occupied().map(|tick| self.origin + Duration::from_millis(tick * TICK.as_millis() as u64))
    }

    /// First tick whose instant is not before `deadline`.
    fn tick_after(&self, deadline: Instant) -> u64 {
        let after = deadline.saturating_duration_since(self.origin);
        after.as_nanos().div_ceil(TICK.as_nanos()) as u64
    }

    /// The tick of the first occupied slot from `current` on, going round once.
    fn next_occupied(&self) -> Option<u64> {
        let start = self.current as usize % SLOTS;
        for step in 0..=WORDS {
            let word = (start / 64 + step) % WORDS;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == WORDS {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                return Some(self.current + ((slot + SLOTS - start) % SLOTS) as u64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut TimerWheel<u32>, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn an_entry_comes_out_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        wheel.arm(7, start + Duration::from_millis(250));
        assert_eq!(expired(&mut wheel, start + Duration::from_millis(249)), [0_u32; 0]);
        assert_eq!(expired(&mut wheel, start + Duration::from_millis(250) + TICK), [7]);
        assert_eq!(wheel.next_expiry(), None);
    }

    #[test]
    fn a_deadline_in_the_past_comes_out_at_once() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        expired(&mut wheel, start + Duration::from_secs(1));
        wheel.arm(1, start);
        assert!(wheel.next_expiry().unwrap() <= start + Duration::from_secs(1) + TICK);
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(1) + TICK), [1]);
    }

    #[test]
    fn a_far_deadline_is_visited_after_one_round() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        wheel.arm(1, start + Duration::from_secs(3600));
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(60)), [0_u32; 0]);
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(66)), [1]);
    }

    #[test]
    fn a_long_sleep_takes_everything_that_was_due() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        for key in 0..500 {
            wheel.arm(key, start + Duration::from_millis(u64::from(key) * 100));
        }
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(500)).len(), 500);
    }

    #[test]
    fn random_deadlines_come_out_within_a_tick_when_polled_as_asked() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        let mut seed = 0x9e37_79b9_u64;
        let mut deadlines = Vec::new();
        for key in 0..2000_u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let deadline = start + Duration::from_micros((seed >> 33) % 60_000_000);
            deadlines.push(deadline);
            wheel.arm(key, deadline);
        }
        let mut seen = 0;
        while let Some(now) = wheel.next_expiry() {
            for key in expired(&mut wheel, now) {
                let deadline = deadlines[key as usize];
                assert!(deadline <= now && now < deadline + TICK, "{key}: {:?}", now - deadline);
                seen += 1;
            }
        }
        assert_eq!(seen, 2000);
    }
}
