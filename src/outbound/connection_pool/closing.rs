//! Which spares are closed for other reasons than age and demand: for room, for new settings, at the end.

use super::ConnectionPool;
use crate::io::token::Token;
use crate::stats::{Counter, Counters};

impl<S> ConnectionPool<S> {
    /// Closes all spares, because none of them is what would be opened now.
    pub fn close_unneeded(&mut self, counters: &Counters) {
        for token in self.spares.tokens() {
            self.close(token, &counters.spares_closed_unneeded, counters);
        }
        self.publish(counters);
    }

    /// Changes how many spares there may be. Those beyond are closed.
    pub fn set_room(&mut self, room: usize, counters: &Counters) {
        let Some(settings) = &self.settings else { return };
        let room = if self.is_closed { 0 } else { room.min(settings.spares_max) };
        self.room = room;
        if self.spares.len() > room {
            self.give_up(self.spares.len() - room, counters);
        }
    }

    /// Closes up to `count` spares because something else needs their descriptors. True if there was one.
    pub fn give_up(&mut self, count: usize, counters: &Counters) -> bool {
        let tokens: Vec<_> = self.spares.iter().map(|(token, _)| token).take(count).collect();
        for &token in &tokens {
            self.close(token, &counters.spares_closed_for_room, counters);
        }
        if !tokens.is_empty() {
            self.publish(counters);
        }
        !tokens.is_empty()
    }

    /// Closes all spares and opens no more. Dials still count as misses.
    pub fn close_all(&mut self, counters: &Counters) {
        self.is_closed = true;
        self.set_room(0, counters);
    }

    /// Drops a spare, which closes its socket in order, and counts that. One that was not connected yet counts as a
    /// failure.
    pub(super) fn close(&mut self, token: Token, reason: &Counter, counters: &Counters) {
        let Some(spare) = self.spares.remove(token) else { return };
        if let Some(target) = self.targets.find(spare.address) {
            if spare.is_connected {
                target.idle.retain(|&one| one != token);
            } else {
                target.connecting -= 1;
            }
        }
        if spare.is_connected {
            reason.add(1);
        } else {
            self.connecting -= 1;
            counters.spare_failures.add(1);
        }
    }
}
