//! What gives way when descriptors run out: spares first, then attempts that have had their time.
//!
//! Sessions are planned with one socket for their target. A dial that races several addresses holds up to four, which is
//! fine while nobody else needs them.

use std::mem;

use super::{Dial, Dialer};
use crate::stats::Counters;

impl Dialer {
    /// Frees descriptors for something that cannot do without, spares first; false if there was nothing to give up. If there
    /// were no spares, the other workers are to be asked for theirs ([`Dialer::take_shortage`]).
    pub fn make_room(&mut self, counters: &Counters) -> bool {
        let had_spares = self.give_up_spares(counters);
        self.is_short |= !had_spares && self.pool.is_enabled();
        had_spares || self.give_up_slow_attempts()
    }

    /// Descriptors ran out since the last call, and there was no spare to close.
    pub fn take_shortage(&mut self) -> bool {
        mem::take(&mut self.is_short)
    }

    /// Of each dial the latest attempt stays: those before it had a delay of the race for themselves and got no answer.
    fn give_up_slow_attempts(&mut self) -> bool {
        let given_up: usize = self.dials.iter_mut().map(|(_, dial)| dial.keep_latest_attempt()).sum();
        given_up > 0
    }
}

impl Dial {
    fn keep_latest_attempt(&mut self) -> usize {
        let latest = self.attempts.iter().map(|attempt| attempt.leg).max();
        let before = self.attempts.len();
        self.attempts.retain(|attempt| Some(attempt.leg) == latest);
        let given_up = before - self.attempts.len();
        self.race.on_attempts_given_up(given_up);
        given_up
    }
}
