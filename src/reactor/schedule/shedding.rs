//! Clients that are not admitted: how many there are, who has been one for the longest time, and who of them must go.
//!
//! They are strangers in every phase: in their opening, passed on to a fallback, or refused and listened to a little
//! longer. A client that means it is through its opening in no time, so the oldest is the one that is missed least.
//! Clients are shed for memory, for room, and when they are more than their part. Without want nobody is shed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Schedule;
use super::baggage::Baggage;
use super::lent::Lent;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::io::token::Token;
use crate::session::close::CloseReason;

/// How long a client may take to say who it is before it gives way to others: round trips over a bad network.
pub const OPENING_GRACE: Duration = Duration::from_secs(2);

/// Clients that are not admitted, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// Among them some that were admitted or have ended since.
    queue: VecDeque<(Token, Instant)>,
    /// Those that are not admitted.
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
    /// Clients that are not admitted, in whatever phase.
    pub fn openings(&self) -> usize {
        self.openings.waiting
    }

    /// Cuts the stranger that came first. Who may still turn out to be a user has the [`OPENING_GRACE`], and who has a
    /// user's request that waits for memory stays. False if nobody is left to cut.
    pub fn shed_oldest_opening(&mut self, lent: &mut Lent<'_>) -> bool {
        self.tidy_openings();
        let may_go = |&&(token, since): &&(Token, Instant)| {
            self.roster.get(token).is_some_and(|slot| {
                let has_had_its_time = since + OPENING_GRACE <= lent.now && !slot.session.awaits_admission();
                slot.stranger && (has_had_its_time || !slot.opening)
            })
        };
        let oldest = self.openings.queue.iter().find(may_go).map(|&(token, _)| token);
        oldest.is_some_and(|token| self.cut(token, CloseReason::OpeningShed, lent))
    }

    /// When clients that are not admitted hold more than their share of the memory, the oldest holders are cut until
    /// half of it is free. Users whose request waits for memory go last, and only until the share is kept.
    pub(super) fn shed_for_memory(&mut self, lent: &mut Lent<'_>) {
        let (held_bytes, share_bytes) = lent.pool.opening_bytes();
        if held_bytes <= share_bytes {
            return;
        }
        self.tidy_openings();
        self.shed_holders(share_bytes / 2, false, lent);
        self.shed_holders(share_bytes, true, lent);
    }

    /// Cuts the oldest of those who hold memory, users that wait for admission or strangers, until `goal_bytes` are
    /// held.
    fn shed_holders(&mut self, goal_bytes: usize, are_users: bool, lent: &mut Lent<'_>) {
        for place in 0..self.openings.queue.len() {
            if lent.pool.opening_bytes().0 <= goal_bytes {
                return;
            }
            let Some(&(token, _)) = self.openings.queue.get(place) else { return };
            let goes = self.roster.get(token).is_some_and(|slot| {
                slot.session.holds_strangers_memory() && slot.session.awaits_admission() == are_users
            });
            if goes {
                self.cut(token, CloseReason::OpeningShed, lent);
            }
        }
    }

    /// Forgets those who wait no more: who came first, and all of them when they are more than the others.
    fn tidy_openings(&mut self) {
        let roster = &self.roster;
        let waits = |(token, _): &(Token, Instant)| roster.get(*token).is_some_and(|slot| slot.stranger);
        while self.openings.queue.front().is_some_and(|opening| !waits(opening)) {
            self.openings.queue.pop_front();
        }
        if self.openings.queue.len() > 2 * self.openings.waiting + 64 {
            self.openings.queue.retain(waits);
        }
    }
}
