//! What sessions wish for: dials, look-ups and UDP sockets, and telling them what came of it.

use std::mem;

use super::{CLIENT_LEG, STREAM_INTEREST, SUB_LEG, TARGET_LEG, Worker, session_leg};
use crate::io::token::Token;
use crate::outbound::dial::{DialId, Finished, Resolved};
use crate::session::close::CloseReason;
use crate::session::{Leg, Wish};

impl Worker {
    /// Does what sessions wish for and tells them what came of it, until nothing is left; an answer may bring new wishes.
    pub(super) fn serve_wishes(&mut self) {
        loop {
            if let Some((token, wish)) = self.wishes.pop_front() {
                self.serve_wish(token, wish);
            } else if self.dialer.is_short() {
                self.serve_short_dials();
            } else if let Some(finished) = self.dialer.take_finished() {
                self.on_dialled(finished);
            } else if let Some(resolved) = self.dialer.take_resolved() {
                self.on_resolved(&resolved);
            } else {
                return;
            }
        }
    }

    fn serve_wish(&mut self, session: Token, wish: Wish) {
        if self.slot(session).is_none() {
            return;
        }
        match wish {
            Wish::Dial { leg, target } => {
                let owner = session.with_leg(leg_number(leg));
                let (dialer, mut cx) = self.dial_context();
                let dial = dialer.dial(owner, &target, &mut cx);
                self.sessions[session.index()].dials.push((owner.leg(), dial));
            }
            Wish::Resolve { leg, target } => {
                let owner = session.with_leg(leg_number(leg));
                let (dialer, mut cx) = self.dial_context();
                let dial = dialer.resolve(owner, &target, &mut cx);
                self.sessions[session.index()].dials.push((owner.leg(), dial));
            }
            Wish::BindUdp { leg, user, global_id } => {
                let result = self.bind_udp(session.with_leg(leg_number(leg)), &user, global_id);
                self.with_session(session, |session, cx| session.on_bound(leg, result, cx));
            }
            Wish::Cancel { leg } => self.cancel_dials(session, leg_number(leg)),
        }
    }

    fn cancel_dials(&mut self, session: Token, leg: usize) {
        let Some(slot) = self.slot(session) else { return };
        let cancelled: Vec<_> = slot.dials.extract_if(.., |(of, _)| *of == leg).collect();
        let (dialer, mut cx) = self.dial_context();
        for (_, dial) in cancelled {
            dialer.cancel(dial, &mut cx);
        }
    }

    fn on_dialled(&mut self, Finished { owner, dial, result }: Finished) {
        if !self.forget_dial(owner, dial) {
            return;
        }
        let leg = session_leg(owner);
        match result {
            Ok(dialed) => {
                let timings = &self.counters.timings;
                let dials = if dialed.is_spare { &timings.dial_pool } else { &timings.dial_new };
                dials.record(dialed.connect_time);
                let mut socket = dialed.socket;
                // Registering anew reports readiness that was reported to the dialler already.
                match self.poll.registry().reregister(&mut socket, owner.into(), STREAM_INTEREST) {
                    Ok(()) => {
                        self.note_target(owner);
                        self.with_session(owner, |session, cx| session.on_connected(leg, socket, cx));
                    }
                    Err(error) => {
                        log::error!("cannot watch a connected socket: {error}");
                        self.cut(owner.index(), CloseReason::Internal);
                    }
                }
            }
            Err(error) => {
                let failure = error.into();
                self.with_session(owner, |session, cx| session.on_dial_failed(leg, failure, cx));
            }
        }
    }

    fn on_resolved(&mut self, resolved: &Resolved) {
        if self.forget_dial(resolved.owner, resolved.dial) {
            let leg = session_leg(resolved.owner);
            let result = resolved.result.map_err(Into::into);
            self.with_session(resolved.owner, |session, cx| session.on_resolved(leg, &resolved.target, result, cx));
        }
    }

    /// A dial has ended; false when its session has, too.
    fn forget_dial(&mut self, owner: Token, dial: DialId) -> bool {
        let Some(slot) = self.slot(owner) else { return false };
        slot.dials.retain(|(_, under_way)| *under_way != dial);
        if slot.dials.is_empty() {
            slot.dials = Vec::new();
        }
        true
    }

    /// A session has a connection to its target; one that carries many (Mux) counts once.
    fn note_target(&mut self, owner: Token) {
        let first = self.slot(owner).is_some_and(|slot| !mem::replace(&mut slot.has_target, true));
        self.counters.targets_connected.add(u64::from(first));
    }
}

fn leg_number(leg: Leg) -> usize {
    match leg {
        Leg::Client => CLIENT_LEG,
        Leg::Target => TARGET_LEG,
        Leg::Sub(sub) => SUB_LEG + usize::from(sub),
    }
}
