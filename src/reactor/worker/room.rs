//! Descriptors: what gives way to those who cannot do without one.

use std::sync::PoisonError;
use std::time::Duration;

use super::Worker;
use crate::outbound::dial::Room;
use crate::reactor::inbox::Request;

/// How often other workers are asked to close spares while descriptors are short.
const SHORTAGE_SHARE_INTERVAL: Duration = Duration::from_millis(20);

impl Worker {
    /// Frees descriptors: spares go first, then attempts that have had their time. False if nothing was left to give way.
    pub(super) fn make_room(&mut self) -> bool {
        if self.dialer.give_up_spares(&self.counters) {
            return true;
        }
        self.ask_others_for_room();
        self.dialer.give_up_slow_attempt()
    }

    /// Makes room for dials that wait for it.
    pub(super) fn serve_short_dials(&mut self) {
        while self.dialer.is_short() {
            let room = if self.make_room() { Room::Made } else { Room::None };
            let (dialer, mut cx) = self.dial_context();
            dialer.on_room(room, &mut cx);
        }
    }

    /// There was no spare to close here: the others close some of theirs for the next who need a descriptor. They are not
    /// asked again before they had the time to.
    fn ask_others_for_room(&mut self) {
        let is_due = self.shortage_shared_at.is_none_or(|at| self.now >= at + SHORTAGE_SHARE_INTERVAL);
        if self.rules.dial.pool.is_none() || !is_due {
            return;
        }
        self.shortage_shared_at = Some(self.now);
        let inboxes = self.shared.inboxes.read().unwrap_or_else(PoisonError::into_inner);
        for (_, inbox) in inboxes.iter().enumerate().filter(|&(number, _)| number != self.number) {
            inbox.ask(Request::GiveUpSpares);
        }
    }
}
