//! Happy eyeballs (RFC 8305): which address to try when, so that a broken family or host costs a fraction of a second.
//!
//! A race has no sockets and no clock. The dialer reports what happened and asks what to do.
//!
//! Addresses of the preferred family and of the other one take turns. The next attempt starts [`ATTEMPT_DELAY`] after
//! the one before, or at once when that failed. What the dialer knows of the two best addresses may let the other
//! family begin.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::outbound::resolve::Family;

/// Time one attempt has for itself before the next starts beside it (RFC 8305 section 5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long the other family's addresses wait for the preferred family's answer (RFC 8305 section 3).
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// Addresses tried in one dial.
pub const ATTEMPTS_MAX: usize = 8;
/// Attempts open at once.
pub const OPEN_ATTEMPTS_MAX: usize = 4;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Connect to this address. The attempt counts as open until its failure is reported.
    Attempt(IpAddr),
    /// Nothing until something is reported, or this instant.
    Wait(Option<Instant>),
    /// No address is left to try, to wait for or to hope for.
    Exhausted,
}

/// Which family goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Preferred,
    Other,
}

/// The state of one race.
#[derive(Debug)]
pub struct Race {
    preferred: Family,
    /// The family of the first attempt.
    begins: Family,
    v4: Contestants,
    v6: Contestants,
    last: Option<Family>,
    started: usize,
    open: usize,
    next_attempt_at: Option<Instant>,
    /// Until when addresses of the other family are held back.
    held_until: Option<Instant>,
}

/// One family's part.
#[derive(Debug, Default)]
struct Contestants {
    addresses: VecDeque<IpAddr>,
    is_awaited: bool,
}

impl Race {
    /// A race without addresses, in which those of `preferred` go first.
    pub fn new(preferred: Family) -> Self {
        Self {
            preferred,
            begins: preferred,
            v4: Contestants::default(),
            v6: Contestants::default(),
            last: None,
            started: 0,
            open: 0,
            next_attempt_at: None,
            held_until: None,
        }
    }

    /// Addresses of `family` will be reported later, if only an empty list.
    pub fn expect(&mut self, family: Family) {
        self.side(family).is_awaited = true;
    }

    /// The addresses of `family` are known. A failed look-up has none.
    pub fn on_addresses(&mut self, family: Family, addresses: &[IpAddr], now: Instant) {
        let side = self.side(family);
        side.is_awaited = false;
        side.addresses.extend(addresses);
        if self.held_until.is_none() {
            self.held_until = Some(now + RESOLUTION_DELAY);
        }
    }

    /// While nothing was tried and both families have addresses: the preferred family's best one and the other's.
    pub fn choice(&self) -> Option<(IpAddr, IpAddr)> {
        let (v4, v6) = (self.v4.addresses.front(), self.v6.addresses.front());
        let (&v4, &v6) = v4.zip(v6).filter(|_| self.started == 0)?;
        Some(if self.preferred == Family::V4 { (v4, v6) } else { (v6, v4) })
    }

    /// Settles a [`Race::choice`].
    pub fn begin(&mut self, with: Begin) {
        self.begins = match with {
            Begin::Preferred => self.preferred,
            Begin::Other => other(self.preferred),
        };
    }

    /// An open attempt failed.
    pub fn on_attempt_failed(&mut self, now: Instant) {
        self.open = self.open.saturating_sub(1);
        self.next_attempt_at = Some(now);
    }

    /// The open attempt to `ip` was closed without an outcome, because its socket was wanted elsewhere. No other
    /// attempt starts for that now. The address is tried again behind the others.
    pub fn on_attempt_given_up(&mut self, ip: IpAddr) {
        self.open = self.open.saturating_sub(1);
        self.started = self.started.saturating_sub(1);
        self.side(if ip.is_ipv4() { Family::V4 } else { Family::V6 }).addresses.push_back(ip);
    }

    /// The address handed out last must not be dialled. It does not count as tried.
    pub fn on_attempt_forbidden(&mut self, now: Instant) {
        self.started = self.started.saturating_sub(1);
        self.on_attempt_failed(now);
    }

    /// What to do at `now`. The dialer calls it until it answers something else than an attempt.
    pub fn next(&mut self, now: Instant) -> Step {
        let has_candidate = !self.v4.addresses.is_empty() || !self.v6.addresses.is_empty();
        if has_candidate && self.started < ATTEMPTS_MAX {
            if let Some(until) = self.held_back(now) {
                return Step::Wait(Some(until));
            }
            if self.open >= OPEN_ATTEMPTS_MAX {
                return Step::Wait(None);
            }
            if let Some(at) = self.next_attempt_at.filter(|&at| self.open > 0 && now < at) {
                return Step::Wait(Some(at));
            }
            if let Some(ip) = self.take_candidate() {
                self.started += 1;
                self.open += 1;
                self.next_attempt_at = Some(now + ATTEMPT_DELAY);
                return Step::Attempt(ip);
            }
        }
        let is_awaited = (self.v4.is_awaited || self.v6.is_awaited) && self.started < ATTEMPTS_MAX;
        if self.open > 0 || is_awaited { Step::Wait(None) } else { Step::Exhausted }
    }

    /// Until when the first attempt waits for the preferred family's answer, if it does.
    fn held_back(&mut self, now: Instant) -> Option<Instant> {
        let preferred = self.preferred;
        let side = self.side(preferred);
        let is_missing = side.is_awaited && side.addresses.is_empty();
        self.held_until.filter(|&until| self.started == 0 && is_missing && now < until)
    }

    /// The family that did not go last, if it has an address, else the other one.
    fn take_candidate(&mut self) -> Option<IpAddr> {
        let family = self.last.filter(|_| self.started > 0).map_or(self.begins, other);
        for family in [family, other(family)] {
            if let Some(ip) = self.side(family).addresses.pop_front() {
                self.last = Some(family);
                return Some(ip);
            }
        }
        None
    }

    fn side(&mut self, family: Family) -> &mut Contestants {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| ip(text)).collect()
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn both_awaited() -> Race {
        let mut race = Race::new(Family::V6);
        race.expect(Family::V4);
        race.expect(Family::V6);
        race
    }

    #[test]
    fn families_take_turns_at_the_attempt_delay_beginning_with_the_preferred_one() {
        let start = Instant::now();
        let mut race = Race::new(Family::V6);
        race.on_addresses(Family::V4, &ips(&["1.0.0.1", "1.0.0.2"]), start);
        race.on_addresses(Family::V6, &ips(&["2600::1", "2600::2"]), start);
        for (turn, expected) in ["2600::1", "1.0.0.1", "2600::2", "1.0.0.2"].into_iter().enumerate() {
            let now = after(start, 250 * turn as u64);
            assert_eq!(race.next(now), Step::Attempt(ip(expected)));
            if turn < 3 {
                assert_eq!(race.next(now), Step::Wait(Some(now + ATTEMPT_DELAY)));
            }
        }
        assert_eq!(race.next(after(start, 9000)), Step::Wait(None));
    }

    #[test]
    fn the_other_family_begins_where_it_is_told_to() {
        let start = Instant::now();
        let mut race = Race::new(Family::V6);
        race.on_addresses(Family::V4, &ips(&["10.0.0.1", "1.0.0.2"]), start);
        assert_eq!(race.choice(), None, "there is nothing to choose from");
        race.on_addresses(Family::V6, &ips(&["2600::1"]), start);
        assert_eq!(race.choice(), Some((ip("2600::1"), ip("10.0.0.1"))));
        race.begin(Begin::Other);
        assert_eq!(race.next(start), Step::Attempt(ip("10.0.0.1")));
        race.on_attempt_forbidden(start);
        assert_eq!(race.choice(), Some((ip("2600::1"), ip("1.0.0.2"))), "a forbidden address was no beginning");
        race.begin(Begin::Preferred);
        assert_eq!(race.next(start), Step::Attempt(ip("2600::1")));
        assert_eq!(race.choice(), None, "it has begun");
        assert_eq!(race.next(after(start, 250)), Step::Attempt(ip("1.0.0.2")));
    }

    #[test]
    fn a_failure_starts_the_next_attempt_at_once() {
        let start = Instant::now();
        let mut race = Race::new(Family::V4);
        race.on_addresses(Family::V4, &ips(&["1.0.0.1", "1.0.0.2"]), start);
        assert_eq!(race.next(start), Step::Attempt(ip("1.0.0.1")));
        race.on_attempt_failed(after(start, 3));
        assert_eq!(race.next(after(start, 3)), Step::Attempt(ip("1.0.0.2")));
        race.on_attempt_failed(after(start, 5));
        assert_eq!(race.next(after(start, 5)), Step::Exhausted);
    }

    #[test]
    fn the_preferred_answer_starts_at_once() {
        let start = Instant::now();
        let mut race = both_awaited();
        assert_eq!(race.next(start), Step::Wait(None));
        race.on_addresses(Family::V6, &ips(&["2600::1"]), start);
        assert_eq!(race.next(start), Step::Attempt(ip("2600::1")));
        assert_eq!(race.next(start), Step::Wait(None));
    }

    #[test]
    fn the_other_answer_waits_the_resolution_delay_and_then_goes_ahead() {
        let start = Instant::now();
        let mut race = both_awaited();
        race.on_addresses(Family::V4, &ips(&["1.0.0.1"]), start);
        assert_eq!(race.next(start), Step::Wait(Some(after(start, 50))));
        assert_eq!(race.next(after(start, 50)), Step::Attempt(ip("1.0.0.1")));
    }

    #[test]
    fn the_other_answer_goes_ahead_when_the_preferred_family_has_none() {
        let start = Instant::now();
        let mut race = both_awaited();
        race.on_addresses(Family::V6, &[], start);
        assert_eq!(race.next(start), Step::Wait(None));
        race.on_addresses(Family::V4, &ips(&["1.0.0.1"]), after(start, 20));
        assert_eq!(race.next(after(start, 20)), Step::Attempt(ip("1.0.0.1")));
    }

    #[test]
    fn late_addresses_still_join_the_race() {
        let start = Instant::now();
        let mut race = both_awaited();
        race.on_addresses(Family::V4, &ips(&["1.0.0.1"]), start);
        assert_eq!(race.next(after(start, 50)), Step::Attempt(ip("1.0.0.1")));
        race.on_attempt_failed(after(start, 60));
        assert_eq!(race.next(after(start, 60)), Step::Wait(None));
        race.on_addresses(Family::V6, &ips(&["2600::1"]), after(start, 400));
        assert_eq!(race.next(after(start, 400)), Step::Attempt(ip("2600::1")));
    }

    #[test]
    fn attempts_are_bounded_open_and_in_all() {
        let start = Instant::now();
        let many: Vec<IpAddr> = (1..=20).map(|last| IpAddr::from([1, 0, 0, last])).collect();
        let mut race = Race::new(Family::V4);
        race.on_addresses(Family::V4, &many, start);
        let mut now = start;
        for _ in 0..OPEN_ATTEMPTS_MAX {
            assert!(matches!(race.next(now), Step::Attempt(_)));
            now += ATTEMPT_DELAY;
        }
        assert_eq!(race.next(now), Step::Wait(None));
        for _ in OPEN_ATTEMPTS_MAX..ATTEMPTS_MAX {
            race.on_attempt_failed(now);
            assert!(matches!(race.next(now), Step::Attempt(_)));
        }
        for _ in 0..OPEN_ATTEMPTS_MAX {
            assert_eq!(race.next(now), Step::Wait(None));
            race.on_attempt_failed(now);
        }
        assert_eq!(race.next(now), Step::Exhausted);
    }

    #[test]
    fn forbidden_addresses_do_not_use_up_attempts() {
        let start = Instant::now();
        let mut race = Race::new(Family::V4);
        let many: Vec<IpAddr> = (1..=16).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        race.on_addresses(Family::V4, &many, start);
        for _ in 0..16 {
            assert!(matches!(race.next(start), Step::Attempt(_)));
            race.on_attempt_forbidden(start);
        }
        assert_eq!(race.next(start), Step::Exhausted);
    }

    #[test]
    fn nothing_found_in_either_family_ends_the_race() {
        let start = Instant::now();
        let mut race = both_awaited();
        race.on_addresses(Family::V4, &[], start);
        assert_eq!(race.next(start), Step::Wait(None));
        race.on_addresses(Family::V6, &[], start);
        assert_eq!(race.next(start), Step::Exhausted);
    }
}
