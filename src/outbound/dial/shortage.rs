//! Dials for which there is no descriptor wait here until the worker has made room or says that there is none.
//!
//! Making room is the worker's business, because others own descriptors too. What the dialer owns gives way on the
//! worker's word: spares first, then attempts that have had their time. Sessions are planned with one socket for their
//! target. A dial that races several addresses holds up to four, which is fine while nobody else needs them.

use std::cmp::Reverse;
use std::mem;
use std::net::IpAddr;

use super::{DialError, Dialer};
use crate::io::token::Token;
use crate::outbound::context::DialContext;
use crate::outbound::resolve::{Family, ResolveError};
use crate::stats::Counters;

/// Spares closed at a time when descriptors have run out.
const SPARES_PER_SHORTAGE: usize = 16;
/// Attempts closed at a time. Looking for them goes through all dials.
const ATTEMPTS_PER_SHORTAGE: usize = 16;

/// What a dial could not do for want of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanting {
    Attempt(IpAddr),
    LookUp(Family),
}

/// What the worker says to those who wait for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// At least one descriptor was freed.
    Made,
    /// Nothing is left to give way.
    None,
}

impl Dialer {
    /// Dials wait for descriptors. The worker makes room and says so by [`Dialer::on_room`], until this is false.
    pub fn is_short(&self) -> bool {
        !self.short.is_empty()
    }

    /// Tries again what had no descriptor, or ends it. When one of them has none again, the room is used up. Those
    /// behind it wait without trying.
    pub fn on_room(&mut self, room: Room, cx: &mut DialContext<'_>) {
        let mut waiting = mem::take(&mut self.short).into_iter();
        for (token, wanting) in waiting.by_ref() {
            match (room, wanting) {
                (Room::Made, Wanting::Attempt(ip)) => self.attempt(token, ip, cx),
                (Room::Made, Wanting::LookUp(family)) => self.ask_again(token, family, cx),
                (Room::None, Wanting::Attempt(_)) => self.on_attempt_without_descriptor(token, cx),
                (Room::None, Wanting::LookUp(family)) => {
                    self.on_answer(token, family, Err(ResolveError::NoDescriptors), cx.now);
                }
            }
            self.drive(token, cx);
            self.deliver_answers(cx);
            if room == Room::Made && self.is_short() {
                break;
            }
        }
        self.short.extend(waiting);
    }

    /// Closes some spares because somebody needs descriptors. True if there were any.
    pub fn give_up_spares(&mut self, counters: &Counters) -> bool {
        self.pool.give_up(SPARES_PER_SHORTAGE, counters)
    }

    /// Closes the oldest attempt of each of the dials that have most. It had a delay of the race for itself and got no
    /// answer. Its address goes to the end of the race. False if every dial has one attempt at most.
    pub fn give_up_slow_attempts(&mut self) -> bool {
        let mut dials: Vec<_> = self.dials.iter_mut().filter(|dial| dial.attempts.len() > 1).collect();
        dials.sort_by_key(|dial| Reverse(dial.attempts.len()));
        dials.truncate(ATTEMPTS_PER_SHORTAGE);
        dials.iter_mut().filter_map(|dial| dial.give_up_oldest_attempt()).count() > 0
    }

    pub(super) fn on_attempt_without_descriptor(&mut self, token: Token, cx: &mut DialContext<'_>) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        dial.note(DialError::NoDescriptors);
        dial.race.on_attempt_failed(cx.now);
        // No other address would fare better. Attempts under way keep their chance.
        if dial.attempts.is_empty() {
            self.finish(token, Err(DialError::NoDescriptors), cx);
        }
    }
}
