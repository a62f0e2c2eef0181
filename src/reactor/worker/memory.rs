//! Buffer memory: who waits for it, who must go so that others have some, and giving back what a peak left.

use std::time::Duration;

use slab::Slab;

use super::{SHRINK_LEG, Slot, Worker, worker_token};
use crate::io::token::Token;
use crate::session::Session;
use crate::session::close::CloseReason;

/// How often a grown buffer pool gives back what nobody needed in the meantime.
const SHRINK_INTERVAL: Duration = Duration::from_secs(10);

impl Worker {
    /// Wakes those who wait for buffer memory, one after the other, while there is some.
    pub(super) fn serve_starved(&mut self) {
        if self.starved.len() > 2 * self.starved_sessions {
            let sessions = &self.sessions;
            self.starved.retain(|token| is_alive(sessions, *token));
        }
        for _ in 0..self.starved.len() {
            if !self.pool.may_begin() {
                let waiting = self.starved_sessions;
                return self.warn_of_shortage(format_args!(
                    "{waiting} sessions wait for buffer memory (performance.buffer_memory_max)"
                ));
            }
            let Some(token) = self.starved.pop_front() else { return };
            if let Some(slot) = self.slot(token) {
                slot.starved = false;
                self.starved_sessions -= 1;
                self.with_session(token, Session::advance);
            }
        }
    }

    /// When clients that are no users yet hold more than their share, the oldest are cut until half of it is free: those
    /// who mean it are through their openings in no time.
    pub(super) fn shed_openings(&mut self) {
        let (held_bytes, share) = self.pool.opening_bytes();
        if held_bytes <= share {
            return;
        }
        let holders = self.sessions.iter().filter_map(|(index, slot)| {
            let since = slot.session.opening_holder_since()?;
            Some((since, index))
        });
        let mut holders: Vec<_> = holders.collect();
        holders.sort_unstable();
        self.warn_of_shortage(format_args!(
            "clients that are not admitted yet hold {held_bytes} bytes: the oldest are cut"
        ));
        for (_, index) in holders {
            if self.pool.opening_bytes().0 <= share / 2 {
                return;
            }
            self.cut(index, CloseReason::OpeningShed);
        }
    }

    /// While the buffer pool is larger than it was made, it is asked from time to time to give some back.
    pub(super) fn watch_growth(&mut self) {
        if self.pool.is_grown() {
            let at = self.now + SHRINK_INTERVAL;
            self.shrink_alarm.arm(at, worker_token(SHRINK_LEG), &mut self.timers, self.now);
        }
    }
}

fn is_alive(sessions: &Slab<Slot>, token: Token) -> bool {
    sessions.get(token.index()).is_some_and(|slot| slot.generation == token.generation())
}
