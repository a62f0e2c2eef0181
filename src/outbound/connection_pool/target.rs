//! What is known of one address that was dialled: demand, connect times, failures, what became of its spares.
//!
//! It is pure: no socket and no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::demand::{Demand, TURN};
use crate::io::token::Token;

/// A spare is handed out while it is at most so old. Web servers close silent connections after 20 to 60 s, and a spare
/// that dies at hand-over fails a request that would have worked.
pub const HAND_OUT_AGE_MAX: Duration = Duration::from_secs(15);
/// After so many spares in a row that the target ended, it gets none for [`REST`]. What it did is remembered as long,
/// so a server that was restarted is not held to it for ever.
const DEATHS_MAX: u32 = 2;
const REST: Duration = Duration::from_mins(5);
/// A target that spoke first gets no spare for so long.
const SPEECH_MEMORY: Duration = Duration::from_hours(1);
/// An address that could not be connected to is tried last for so long, twice as long after each further failure.
const FAILURE_REST_MIN: Duration = Duration::from_secs(1);
const FAILURE_REST_MAX: Duration = Duration::from_mins(1);
/// Dials of late (see [`Demand::load`]) that keep a spare at an address: twice the least.
const LOAD_OF_A_SPARE: f64 = 2.0;
/// Ports on which the server speaks first and so would greet nobody: FTP, SSH, Telnet, mail, news, rsync, MySQL,
/// Subversion, VNC, IRC.
const SERVER_FIRST_PORTS: &[u16] =
    &[21, 22, 23, 25, 110, 119, 143, 587, 873, 2222, 2525, 3306, 3690, 4190, 5900, 5901, 5902, 5903, 6667, 33060];

/// One address.
#[derive(Debug, Default)]
pub struct Target {
    pub demand: Demand,
    /// Its spares that are ready, the oldest in front.
    pub idle: VecDeque<Token>,
    /// Its spares that are being connected.
    pub connecting: usize,
    /// Moving average.
    connect_time: Option<Duration>,
    failures: u32,
    failure_rest_until: Option<Instant>,
    /// Spares in a row that the target ended.
    deaths: u32,
    spares_rest_until: Option<Instant>,
    /// The shortest age at which it ended one of late, and when that was.
    shortest_life: Option<(Duration, Instant)>,
    /// Until when it is taken for one that speaks first.
    speaks_first_until: Option<Instant>,
    /// The operator wants so many spares until then.
    warm: Option<(usize, Instant)>,
    /// Asked for since the table last came by.
    pub(super) is_fresh: bool,
    /// When it was asked for last.
    pub(super) asked: Option<Instant>,
}

/// What a dial to an address may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A spare is there.
    Ready,
    /// It was connected to last time, or nobody tried.
    Sound,
    /// It could not be connected to last time, and is to be tried again.
    Doubtful,
    /// It could not be connected to of late.
    Resting,
}

impl Target {
    /// A connection came about in this time.
    pub fn on_connected(&mut self, connect_time: Duration) {
        self.failures = 0;
        self.failure_rest_until = None;
        // A quarter of the newest: a path that changes is followed within a few connections.
        self.connect_time = Some(self.connect_time.map_or(connect_time, |known| (known * 3 + connect_time) / 4));
    }

    /// Connecting failed.
    pub fn on_failed(&mut self, now: Instant) {
        let rest = (FAILURE_REST_MIN * 2_u32.saturating_pow(self.failures.min(16))).min(FAILURE_REST_MAX);
        self.failures += 1;
        self.failure_rest_until = Some(now + rest);
    }

    /// The target ended or broke a spare of this age.
    pub fn on_spare_died(&mut self, age: Duration, now: Instant) {
        let known = self.shortest_life.filter(|(_, seen)| now.saturating_duration_since(*seen) < REST);
        self.shortest_life = Some(known.filter(|(known, _)| *known <= age).unwrap_or((age, now)));
        self.deaths += 1;
        if self.deaths >= DEATHS_MAX {
            self.spares_rest_until = Some(now + REST);
        }
    }

    /// A spare was handed out alive.
    pub fn on_spare_used(&mut self) {
        self.deaths = 0;
    }

    /// The target sent something before anybody asked.
    pub fn on_spoke_first(&mut self, now: Instant) {
        self.speaks_first_until = Some(now + SPEECH_MEMORY);
    }

    /// A session was given a connection to it.
    pub fn on_dialled(&mut self, now: Instant, warm_for: Duration) {
        self.demand.note(now);
        if let Some((_, until)) = self.warm.as_mut().filter(|(_, until)| now < *until) {
            *until = now + warm_for;
        }
    }

    /// The operator wants `count` spares until `until`, or for longer if it is dialled.
    pub fn keep_warm(&mut self, count: usize, until: Instant) {
        self.warm = Some((count, until));
    }

    /// How old a spare may be when it is handed out.
    pub fn usable(&self, now: Instant) -> Duration {
        let known = self.shortest_life.filter(|(_, seen)| now.saturating_duration_since(*seen) < REST);
        known.map_or(HAND_OUT_AGE_MAX, |(age, _)| (age / 2).min(HAND_OUT_AGE_MAX))
    }

    /// Spares that should be ready or on their way. `usable` is how long one may wait.
    pub fn wanted(&self, port: u16, now: Instant, usable: Duration) -> usize {
        let lasts = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if lasts(self.spares_rest_until) || lasts(self.failure_rest_until) {
            return 0;
        }
        let named = self.named_spares(now);
        if named == 0 && (lasts(self.speaks_first_until) || SERVER_FIRST_PORTS.contains(&port)) {
            return 0;
        }
        self.demand.wanted(now, self.connect_time.unwrap_or_default(), usable).max(named)
    }

    /// Spares that the operator wants now.
    pub fn named_spares(&self, now: Instant) -> usize {
        self.warm.filter(|&(_, until)| now < until).map_or(0, |(count, _)| count)
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        if self.failure_rest_until.is_some_and(|until| now < until) {
            Standing::Resting
        } else if !self.idle.is_empty() {
            Standing::Ready
        } else if self.failures > 0 {
            Standing::Doubtful
        } else {
            Standing::Sound
        }
    }

    /// The expected time to connect, made longer by the load that there is already. So an address that is twice as far
    /// gets half the dials. Where there is a spare, the load that keeps it does not count. So demand goes there first,
    /// and as much of it as would keep another spare goes elsewhere.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let free = if self.idle.is_empty() { 0.0 } else { 1.0 + LOAD_OF_A_SPARE };
        let load = (1.0 + self.demand.load(now) - free).max(0.0);
        // What was measured includes a turn of ours, busy or not. Addresses that differ by less are equally far.
        self.connect_time.map_or(0.0, |time| (time + TURN).as_secs_f64()) * load
    }

    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        !self.idle.is_empty() || self.connecting > 0 || self.named_spares(now) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_demand(start: Instant) -> Target {
        let mut target = Target::default();
        for dial in 0..20 {
            target.demand.note(start + Duration::from_secs(dial));
        }
        target
    }

    #[test]
    fn a_target_that_ends_two_spares_in_a_row_rests() {
        let start = Instant::now();
        let mut target = in_demand(start);
        let now = start + Duration::from_secs(19);
        target.on_spare_died(Duration::from_secs(20), now);
        target.on_spare_used();
        target.on_spare_died(Duration::from_secs(12), now);
        assert_eq!(target.wanted(443, now, target.usable(now)), 1);
        target.on_spare_died(Duration::from_secs(14), now);
        assert_eq!(target.wanted(443, now, target.usable(now)), 0);
        assert_eq!(target.usable(now), Duration::from_secs(6), "half the shortest age at which it ended one");
        assert_eq!(target.usable(now + REST), HAND_OUT_AGE_MAX);
    }

    #[test]
    fn who_speaks_first_gets_no_spare() {
        let start = Instant::now();
        let mut target = in_demand(start);
        let now = start + Duration::from_secs(19);
        assert_eq!(target.wanted(22, now, HAND_OUT_AGE_MAX), 0);
        assert_eq!(target.wanted(8022, now, HAND_OUT_AGE_MAX), 1);
        target.on_spoke_first(now);
        assert_eq!(target.wanted(8022, now, HAND_OUT_AGE_MAX), 0);
        target.keep_warm(2, now + Duration::from_secs(1));
        assert_eq!(target.wanted(8022, now, HAND_OUT_AGE_MAX), 2, "the operator knows");
        let later = now + SPEECH_MEMORY;
        for dial in 0..20 {
            target.demand.note(later + Duration::from_secs(dial));
        }
        let later = later + Duration::from_secs(19);
        assert_eq!(target.wanted(8022, later, HAND_OUT_AGE_MAX), 1, "it may have changed");
    }

    #[test]
    fn a_failure_means_rest_longer_each_time_and_success_ends_it() {
        let start = Instant::now();
        let mut target = in_demand(start);
        let now = start + Duration::from_secs(19);
        target.on_failed(now);
        target.on_failed(now);
        assert_eq!(target.wanted(443, now + Duration::from_millis(1900), HAND_OUT_AGE_MAX), 0);
        assert_eq!(target.wanted(443, now + Duration::from_millis(2100), HAND_OUT_AGE_MAX), 1);
        target.on_failed(now);
        target.on_connected(Duration::from_millis(1));
        assert_eq!(target.wanted(443, now, HAND_OUT_AGE_MAX), 1);
    }

    #[test]
    fn a_named_target_is_kept_warm_for_its_time() {
        let start = Instant::now();
        let mut target = Target::default();
        target.keep_warm(2, start + Duration::from_secs(300));
        assert_eq!(target.wanted(22, start, HAND_OUT_AGE_MAX), 2);
        target.on_dialled(start + Duration::from_secs(200), Duration::from_secs(300));
        assert_eq!(target.wanted(22, start + Duration::from_secs(499), HAND_OUT_AGE_MAX), 2);
        assert_eq!(target.wanted(22, start + Duration::from_secs(500), HAND_OUT_AGE_MAX), 0);
        target.on_dialled(start + Duration::from_secs(501), Duration::from_secs(300));
        assert_eq!(
            target.wanted(22, start + Duration::from_secs(501), HAND_OUT_AGE_MAX),
            0,
            "it is one like others now"
        );
    }
}
