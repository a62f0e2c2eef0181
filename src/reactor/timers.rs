//! What a worker wakes up for besides its sessions and dials: all of it in one list.

use std::time::Instant;

use crate::io::alarm::Alarm;
use crate::io::timer::TimerWheel;
use crate::io::token::{Kind, Token};

/// Something of the worker's own that happens at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Accepting goes on after a pause.
    Accept,
    /// Sessions that are left at the end of a drain are cut.
    Drain,
    /// UDP sockets that nobody has come back for are closed.
    SweepGlobalIds,
    /// The buffer pool gives back what nobody needs.
    Shrink,
}

impl Timer {
    const ALL: [Self; 4] = [Self::Accept, Self::Drain, Self::SweepGlobalIds, Self::Shrink];

    /// What comes out of the wheel for it. The leg is its place in [`Timer::ALL`].
    fn token(self) -> Token {
        Token::new(Kind::Worker, 0, 0, self as usize)
    }
}

/// When each timer goes off, if it does.
#[derive(Debug, Default)]
pub(super) struct Timers {
    alarms: [Alarm; Timer::ALL.len()],
}

impl Timers {
    /// Makes `timer` go off at `at`, or earlier if it was armed for earlier.
    pub(super) fn arm(&mut self, timer: Timer, at: Instant, wheel: &mut TimerWheel<Token>, now: Instant) {
        self.alarms[timer as usize].arm(at, timer.token(), wheel, now);
    }

    /// The timer that goes off with this token of [`Kind::Worker`]. `None` when it was armed anew since, or never.
    pub(super) fn fired(&mut self, token: Token, now: Instant) -> Option<Timer> {
        let timer = *Timer::ALL.get(token.leg())?;
        self.alarms[timer as usize].fired(now).then_some(timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::timer::TICK;

    #[test]
    fn each_timer_goes_off_at_its_instant_and_once() {
        let start = Instant::now();
        let (mut wheel, mut timers, mut due) = (TimerWheel::new(start), Timers::default(), Vec::new());
        for (number, timer) in Timer::ALL.into_iter().enumerate() {
            timers.arm(timer, start + Duration::from_secs(10 - number as u64), &mut wheel, start);
        }
        timers.arm(Timer::Drain, start + Duration::from_secs(2), &mut wheel, start);
        let mut fired = Vec::new();
        for second in 1..=11 {
            let now = start + Duration::from_secs(second) + TICK;
            wheel.expire(now, &mut due);
            fired.extend(due.drain(..).filter_map(|token| timers.fired(token, now)).map(|timer| (second, timer)));
        }
        let expected = [(2, Timer::Drain), (7, Timer::Shrink), (8, Timer::SweepGlobalIds), (10, Timer::Accept)];
        assert_eq!(fired, expected);
    }

    #[test]
    fn all_timers_stand_where_their_number_says() {
        assert!(Timer::ALL.iter().enumerate().all(|(place, &timer)| timer as usize == place));
    }
}
