//! What the service manager hears: that the server serves, how many sessions it has, and that every worker turns.
//!
//! Invariant: the watchdog is fed only while every worker has turned of late. A worker without clients sleeps, so each
//! is woken, and has until half of the manager's patience is over to have turned.

use std::time::{Duration, Instant};

use crate::app::notify::Notifier;
use crate::reactor::Handle;

/// How often the line for people is renewed at the most.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// The watchdog is fed so many times within the manager's patience.
const FEEDS: u32 = 3;

/// What the service manager was told, and when.
pub(super) struct Heart {
    notifier: Notifier,
    pulse: Option<Pulse>,
    fed_at: Option<Instant>,
    said: Option<(Instant, String)>,
}

impl Heart {
    pub(super) fn new(notifier: Notifier, workers: usize, now: Instant) -> Self {
        let pulse = notifier.watchdog().map(|watchdog| Pulse::new(workers, watchdog / 2, now));
        Self { notifier, pulse, fed_at: None, said: None }
    }

    pub(super) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Looks at the workers and feeds the watchdog, as it is due at `now`. The number of a worker that has just been
    /// found to be stuck.
    pub(super) fn beat(&mut self, handle: &Handle, now: Instant) -> Option<usize> {
        let watchdog = self.notifier.watchdog()?;
        let (mut stuck, mut is_new) = (None, false);
        if let Some(pulse) = &mut self.pulse {
            let was_well = pulse.stuck.is_none();
            pulse.look(handle.counters().iter().map(|worker| worker.timings.turn.values().count()), now);
            (stuck, is_new) = (pulse.stuck, was_well);
            handle.wake();
        }
        if stuck.is_none() && self.fed_at.is_none_or(|at| now.saturating_duration_since(at) >= watchdog / FEEDS) {
            self.fed_at = Some(now);
            self.notifier.alive();
        }
        stuck.filter(|_| is_new)
    }

    /// The workers end one by one from now on, and none of them has to turn any more.
    pub(super) fn stopping(&mut self) {
        self.pulse = None;
        self.notifier.stopping();
    }

    /// The process `successor` is the service from now on; nobody wants to hear of this one any more.
    pub(super) fn hand_over(&mut self, successor: u32) {
        self.notifier.successor(successor);
        (self.notifier, self.pulse) = (Notifier::default(), None);
    }

    /// Says how it stands, if that has changed and was not said just now.
    pub(super) fn say(&mut self, text: impl FnOnce() -> String, now: Instant) {
        let is_due = |(at, _): &(Instant, String)| now.saturating_duration_since(*at) >= STATUS_INTERVAL;
        if !self.notifier.is_heard() || !self.said.as_ref().is_none_or(is_due) {
            return;
        }
        let text = text();
        if self.said.as_ref().is_none_or(|(_, said)| *said != text) {
            self.notifier.status(&text);
            self.said = Some((now, text));
        }
    }
}

/// When each worker has turned last.
struct Pulse {
    /// Turns of each worker so far, and when that number was new.
    seen: Vec<(u64, Instant)>,
    patience: Duration,
    /// The first worker that has not turned within the patience.
    stuck: Option<usize>,
}

impl Pulse {
    fn new(workers: usize, patience: Duration, now: Instant) -> Self {
        Self { seen: vec![(0, now); workers], patience, stuck: None }
    }

    fn look(&mut self, turns: impl Iterator<Item = u64>, now: Instant) {
        for (seen, turns) in self.seen.iter_mut().zip(turns) {
            if seen.0 != turns {
                *seen = (turns, now);
            }
        }
        let is_stuck = |(_, at): &(u64, Instant)| now.saturating_duration_since(*at) > self.patience;
        self.stuck = self.seen.iter().position(is_stuck);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_turn_is_found_and_forgiven_when_it_does() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(3, Duration::from_secs(4), start);
        pulse.look([1, 1, 1].into_iter(), at(1));
        assert_eq!(pulse.stuck, None);
        pulse.look([2, 1, 2].into_iter(), at(5));
        assert_eq!(pulse.stuck, None, "within its patience");
        pulse.look([3, 1, 3].into_iter(), at(6));
        assert_eq!(pulse.stuck, Some(1));
        pulse.look([4, 2, 4].into_iter(), at(7));
        assert_eq!(pulse.stuck, None);
    }

    #[test]
    fn a_worker_that_never_turned_is_found_too() {
        let start = Instant::now();
        let mut pulse = Pulse::new(2, Duration::from_secs(4), start);
        pulse.look([5, 0].into_iter(), start + Duration::from_secs(5));
        assert_eq!(pulse.stuck, Some(1));
    }
}
