//! Clients that are not admitted: how many there are, who has been one for the longest time, and who of them must go.
//!
//! A client that means it is through its opening in no time, so the oldest is the one that is missed least. Clients are
//! shed for memory, for room, and when they are more than their part.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Schedule;
use super::baggage::Baggage;
use super::lent::Lent;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::io::token::Token;
use crate::session::close::CloseReason;

/// How long a client may take before it gives way to others: round trips over a bad network.
pub const OPENING_GRACE: Duration = Duration::from_secs(2);

/// Clients that are not admitted, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// Among them some that were admitted or have ended since.
    queue: VecDeque<(Token, Instant)>,
    /// Those that are not admitted yet.
    waiting: usize,
}

impl Openings {
    pub(super) fn enter(&mut self, token: Token, now: Instant) {
        self.queue.push_back((token, now));
        self.waiting += 1;
    }

    /// One of them was admitted or has ended.
    pub(super) fn leave(&mut self) {
        self.waiting -= 1;
    }
}

impl<S: Socket, D: DatagramSocket, B: Baggage> Schedule<S, D, B> {
    /// Clients that are not admitted yet.
    pub fn openings(&self) -> usize {
        self.openings.waiting
    }

    /// Cuts the client that has been waiting to be admitted for the longest time. False if there is none, or if it came
    /// within the [`OPENING_GRACE`].
    pub fn shed_oldest_opening(&mut self, lent: &mut Lent<'_>) -> bool {
        self.tidy_openings();
        match self.openings.queue.front() {
            Some(&(token, since)) if since + OPENING_GRACE <= lent.now => {
                self.cut(token, CloseReason::OpeningShed, lent)
            }
            _ => false,
        }
    }

    /// When clients that are not admitted hold more than their share of the memory, the oldest holders are cut until
    /// half of it is free.
    pub(super) fn shed_for_memory(&mut self, lent: &mut Lent<'_>) {
        self.tidy_openings();
        let (held_bytes, share_bytes) = lent.pool.opening_bytes();
        if held_bytes <= share_bytes {
            return;
        }
        for place in 0..self.openings.queue.len() {
            if lent.pool.opening_bytes().0 <= share_bytes / 2 {
                return;
            }
            let Some(&(token, _)) = self.openings.queue.get(place) else { return };
            if self.roster.get(token).is_some_and(|slot| slot.session.opening_holder_since().is_some()) {
                self.cut(token, CloseReason::OpeningShed, lent);
            }
        }
    }

    /// Forgets those who wait no more: who came first, and all of them when they are more than the others.
    fn tidy_openings(&mut self) {
        let roster = &self.roster;
        let waits = |(token, _): &(Token, Instant)| roster.get(*token).is_some_and(|slot| slot.opening);
        while self.openings.queue.front().is_some_and(|opening| !waits(opening)) {
            self.openings.queue.pop_front();
        }
        if self.openings.queue.len() > 2 * self.openings.waiting + 64 {
            self.openings.queue.retain(waits);
        }
    }
}
