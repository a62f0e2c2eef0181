//! The order and the measure of a turn.
//!
//! A session that moves little goes before one that moves much, because its work is short and somebody waits for it.
//! Nobody goes first for ever. Every queue is served in the order of arrival. A session that does much in a turn is one
//! of those that move much in the next, and these get their part of every turn.

use std::time::Duration;

use super::Schedule;
use super::baggage::Baggage;
use super::lent::Lent;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::io::token::Token;
use crate::session::Session;
use crate::session::allowance::TURN_BYTES_MAX;

/// Work of a turn, in bytes, for those who move much, while others have something to say now and then. It is the time
/// for which these others wait.
pub const TURN_WORK_BYTES: usize = 256 << 10;

/// The same while nobody else has said anything for a while. Every turn asks the kernel what has happened, so long
/// turns cost less per byte. Whoever breaks the silence waits for one of these, and then for short ones.
pub const QUIET_TURN_WORK_BYTES: usize = 2 << 20;

/// Without a word of others for so long, turns are long.
const QUIET_AFTER: Duration = Duration::from_millis(20);

/// Work in one direction of any other session: what comes with a request, or the beginning of much.
pub const LIGHT_SHARE_BYTES: usize = 64 << 10;

/// Sessions that are opened in a turn. A handshake takes as long as a hundred kilobytes.
const OPENINGS_PER_TURN: usize = 16;

/// Sessions whose deadline has come that are looked at in a turn.
const DUE_PER_TURN: usize = 64;

impl<S: Socket, D: DatagramSocket, B: Baggage> Schedule<S, D, B> {
    /// Somebody could go on at once.
    pub fn is_busy(&self, lent: &Lent<'_>) -> bool {
        let is_fed = self.starved.alive() > 0 && lent.pool.may_serve_waiting(lent.now);
        !self.ready.is_empty() || !self.due.is_empty() || is_fed
    }

    /// A turn for those who wait for memory and find some, who move little, who are being opened, and whose deadline
    /// has come. Each of them goes on once.
    pub fn serve_urgent(&mut self, lent: &mut Lent<'_>) {
        self.serve_starved(lent);
        if !self.ready.light.is_empty() || !self.ready.openings.is_empty() {
            self.spoken_at = Some(lent.now);
        }
        for _ in 0..self.ready.light.len() {
            if let Some(token) = self.ready.light.pop_front() {
                self.take_turn(token, LIGHT_SHARE_BYTES, lent);
            }
        }
        for _ in 0..self.ready.openings.len().min(OPENINGS_PER_TURN) {
            if let Some(token) = self.ready.openings.pop_front() {
                self.take_turn(token, LIGHT_SHARE_BYTES, lent);
            }
        }
        for _ in 0..self.due.len().min(DUE_PER_TURN) {
            if let Some(token) = self.due.pop_front() {
                self.call(token, lent, Session::on_timeout);
            }
        }
    }

    /// A turn for those who move much, one after the other, until the turn's work is done. The others go on in the
    /// next.
    pub fn serve_bulk(&mut self, lent: &mut Lent<'_>) {
        let is_quiet = self.spoken_at.is_none_or(|at| at + QUIET_AFTER <= lent.now);
        let (turn_bytes, share_bytes) =
            if is_quiet { (QUIET_TURN_WORK_BYTES, TURN_BYTES_MAX) } else { (TURN_WORK_BYTES, TURN_WORK_BYTES) };
        let mut work = 0;
        for _ in 0..self.ready.bulk.len() {
            if work >= turn_bytes {
                break;
            }
            if let Some(token) = self.ready.bulk.pop_front() {
                work += self.take_turn(token, share_bytes, lent);
            }
        }
        self.serve_starved(lent);
    }

    /// Wakes those who wait for buffer memory, one after the other, while there is some, for half of a turn's work.
    fn serve_starved(&mut self, lent: &mut Lent<'_>) {
        if self.starved.alive() == 0 {
            return;
        }
        let roster = &self.roster;
        self.starved.tidy(|token| roster.contains(token));
        // The first of them may have ended since.
        lent.pool.let_wait(self.starved.since());
        lent.pool.look(lent.now);
        let mut work = 0;
        for _ in 0..self.starved.len() {
            if work >= TURN_WORK_BYTES / 2 || !lent.pool.may_serve_waiting(lent.now) {
                return;
            }
            let Some(token) = self.starved.take() else { return };
            if let Some(slot) = self.roster.get_mut(token) {
                slot.starved = false;
                self.starved.leave();
                lent.pool.let_waiter_begin();
                work += self.call_with(token, LIGHT_SHARE_BYTES, lent, Session::advance);
            }
        }
    }

    /// The turn of one that was queued. A stranger may hold more after it.
    fn take_turn(&mut self, token: Token, share_bytes: usize, lent: &mut Lent<'_>) -> usize {
        let Some(slot) = self.roster.get_mut(token) else { return 0 };
        slot.queued = false;
        let work = self.call_with(token, share_bytes, lent, Session::advance);
        self.shed_for_memory(lent);
        work
    }
}
