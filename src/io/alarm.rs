//! One lazy wake-up of one thing in the worker's timer wheel.
//!
//! The wheel cannot take an entry out again. So an owner whose deadline comes nearer arms a second entry. An `Alarm`
//! remembers the entry that counts. The others come out and are dropped instead of being armed over and over.

use std::time::{Duration, Instant};

use super::moment::Moment;
use super::token::Token;
use crate::io::timer::TimerWheel;

/// No entry is armed further ahead. The wheel visits entries beyond one round of it too early, and those would be taken
/// for stale.
const AHEAD_MAX: Duration = Duration::from_mins(1);

/// The earliest armed wake-up, if any.
#[derive(Debug, Default)]
pub struct Alarm {
    armed: Option<Moment>,
}

impl Alarm {
    /// Makes `token` come out of the wheel at `deadline` or earlier (a minute from now at the latest).
    pub fn arm(&mut self, deadline: Instant, token: Token, timers: &mut TimerWheel<Token>, now: Instant) {
        let at = deadline.min(now + AHEAD_MAX);
        if self.armed.is_none_or(|armed| at < Instant::from(armed)) {
            self.armed = Some(at.into());
            timers.arm(token, at);
        }
    }

    /// Whether the entry that came out is the one that counts. If so, the owner does what is due and arms again.
    pub fn fired(&mut self, now: Instant) -> bool {
        let counts = self.armed.is_some_and(|armed| Instant::from(armed) <= now);
        if counts {
            self.armed = None;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::Kind;
    use super::*;

    #[test]
    fn an_entry_that_was_overtaken_is_dropped() {
        let start = Instant::now();
        let mut timers = TimerWheel::new(start);
        let token = Token::new(Kind::Dial, 0, 0, 0);
        let mut alarm = Alarm::default();
        alarm.arm(start + Duration::from_secs(2), token, &mut timers, start);
        alarm.arm(start + Duration::from_secs(1), token, &mut timers, start);
        alarm.arm(start + Duration::from_secs(3), token, &mut timers, start);
        let mut due = Vec::new();
        timers.expire(start + Duration::from_secs(4), &mut due);
        assert_eq!(due, [token; 2], "the third came too late to be armed");
        assert!(alarm.fired(start + Duration::from_secs(1)));
        assert!(!alarm.fired(start + Duration::from_secs(2)));
    }

    #[test]
    fn a_far_deadline_wakes_within_a_minute() {
        let start = Instant::now();
        let mut timers = TimerWheel::new(start);
        let mut alarm = Alarm::default();
        alarm.arm(start + Duration::from_mins(10), Token::new(Kind::Dial, 0, 0, 0), &mut timers, start);
        assert!(!alarm.fired(start + Duration::from_secs(59)));
        assert!(alarm.fired(start + Duration::from_mins(1)));
    }
}
