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
        had_spares || self.give_up_slow_attempt()
    }

    /// Descriptors ran out since the last call, and there was no spare to close.
    pub fn take_shortage(&mut self) -> bool {
        mem::take(&mut self.is_short)
    }

    /// Closes the oldest attempt of the dial that has most: it had a delay of the race for itself and got no answer. Its
    /// address goes to the end of the race.
    fn give_up_slow_attempt(&mut self) -> bool {
        let dials = self.dials.iter_mut().map(|(_, dial)| dial).filter(|dial| dial.attempts.len() > 1);
        dials.max_by_key(|dial| dial.attempts.len()).is_some_and(Dial::give_up_oldest_attempt)
    }
}

impl Dial {
    fn give_up_oldest_attempt(&mut self) -> bool {
        let oldest = self.attempts.iter().enumerate().min_by_key(|(_, attempt)| attempt.leg).map(|(place, _)| place);
        let given_up = oldest.map(|place| self.attempts.swap_remove(place));
        if let Some(attempt) = &given_up {
            self.race.on_attempt_given_up(attempt.address.ip());
        }
        given_up.is_some()
    }
}
