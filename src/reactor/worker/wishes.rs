//! What sessions wish for: dials, look-ups and UDP sockets. Sessions are told what came of it. And what their end
//! leaves to do is done.

use std::io;
use std::mem;

use super::{STREAM_INTEREST, Worker};
use crate::io::token::Token;
use crate::outbound::dial::{DialId, Dialed, Finished, Resolved, Room};
use crate::outbound::local_stream;
use crate::reactor::legs::{leg_of, with_leg};
use crate::session::close::CloseReason;
use crate::session::{Dest, DialFailure, Host, Leg, Target, Wish};

impl Worker {
    /// Does what sessions wish for and tells them what came of it, until nothing is left. An answer may bring new
    /// wishes.
    pub(super) fn serve_wishes(&mut self) {
        loop {
            self.bury();
            if let Some((token, wish)) = self.schedule.take_wish() {
                self.serve_wish(token, wish);
            } else if self.targets.dialer.is_short() {
                let room = if self.make_room() { Room::Made } else { Room::None };
                let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
                dialer.on_room(room, &mut cx);
            } else if let Some(finished) = self.targets.dialer.take_finished() {
                self.on_dialled(finished);
            } else if let Some(resolved) = self.targets.dialer.take_resolved() {
                self.on_resolved(&resolved);
            } else {
                return;
            }
        }
    }

    /// Does what is left to do for sessions that have ended.
    pub(super) fn bury(&mut self) {
        while let Some(closed) = self.schedule.take_closed() {
            let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
            for (_, dial) in &closed.baggage.dials {
                dialer.cancel(*dial, &mut cx);
            }
            if closed.baggage.has_target {
                self.base.counters.targets_connected.sub(1);
            }
            self.base.shared.close_session();
            if closed.record.reason == CloseReason::OpeningShed {
                self.base.warn_of_shortage(format_args!(
                    "clients that are not admitted are too many or hold too much: the oldest are cut"
                ));
            }
            self.base.rules.observer.on_closed(closed.record);
            // A descriptor is free again, so there is no need to wait out the pause.
            self.door.end_pause();
        }
    }

    fn serve_wish(&mut self, session: Token, wish: Wish) {
        match wish {
            Wish::Enter { client } => self.let_in(session, client),
            Wish::Dial { leg, target } => {
                let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
                let dial = dialer.dial(with_leg(session, leg), &target, &mut cx);
                self.note_dial(session, leg, dial);
            }
            Wish::DialFallback { leg, fallback } => self.dial_fallback(session, leg, &fallback.dest),
            Wish::Resolve { leg, target } => {
                let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
                let dial = dialer.resolve(with_leg(session, leg), &target, &mut cx);
                self.note_dial(session, leg, dial);
            }
            Wish::BindUdp { leg, user, global_id } => {
                let result = self.bind_udp(with_leg(session, leg), &user, global_id);
                let mut lent = self.stock.lend(&mut self.base);
                self.schedule.call(session, &mut lent, |session, cx| session.on_bound(leg, result, cx));
            }
            Wish::Cancel { leg } => self.cancel_dials(session, leg),
        }
    }

    /// A fallback is a target like others, or a Unix socket or a site of ours, which answer at once.
    fn dial_fallback(&mut self, session: Token, leg: Leg, dest: &Dest) {
        if let Dest::Tcp(host, port) = dest {
            let host = host.parse().map_or_else(|_| Host::Name(host.clone()), Host::Ip);
            let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
            let dial = dialer.dial_fallback(with_leg(session, leg), &Target { host, port: *port }, &mut cx);
            return self.note_dial(session, leg, dial);
        }
        let connected = local_stream::connect_to(dest).unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into()));
        let watched = connected.and_then(|mut socket| {
            self.poll.registry().register(&mut socket, with_leg(session, leg).into(), STREAM_INTEREST)?;
            Ok(socket)
        });
        if watched.is_ok() {
            self.note_target(session);
        }
        let mut lent = self.stock.lend(&mut self.base);
        self.schedule.call(session, &mut lent, |session, cx| match watched {
            Ok(socket) => session.on_connected(leg, socket, cx),
            Err(error) => {
                log::debug!("the fallback's socket: {error}");
                session.on_dial_failed(leg, DialFailure::Unreachable, cx)
            }
        });
    }

    fn note_dial(&mut self, session: Token, leg: Leg, dial: Option<DialId>) {
        if let Some(dial) = dial {
            if let Some(errands) = self.schedule.baggage(session) {
                errands.dials.push((leg, dial));
            }
        } else {
            let mut lent = self.stock.lend(&mut self.base);
            let failure = DialFailure::NoResources;
            self.schedule.call(session, &mut lent, |session, cx| session.on_dial_failed(leg, failure, cx));
        }
    }

    fn cancel_dials(&mut self, session: Token, leg: Leg) {
        let Some(errands) = self.schedule.baggage(session) else { return };
        let cancelled: Vec<_> = errands.dials.extract_if(.., |(of, _)| *of == leg).collect();
        let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
        for (_, dial) in cancelled {
            dialer.cancel(dial, &mut cx);
        }
    }

    fn on_dialled(&mut self, Finished { owner, dial, result }: Finished) {
        if !self.forget_dial(owner, dial) {
            return;
        }
        let leg = leg_of(owner);
        match result {
            Ok(dialed) => self.hand_over(owner, leg, dialed),
            Err(error) => {
                let (failure, mut lent) = (error.into(), self.stock.lend(&mut self.base));
                self.schedule.call(owner, &mut lent, |session, cx| session.on_dial_failed(leg, failure, cx));
            }
        }
    }

    fn hand_over(&mut self, owner: Token, leg: Leg, dialed: Dialed) {
        let timings = &self.base.counters.timings;
        let dials = if dialed.is_spare { &timings.dial_pool } else { &timings.dial_new };
        dials.record(dialed.connect_time);
        let mut socket = dialed.socket;
        // Registering anew reports readiness that was reported to the dialler already.
        let watched = self.poll.registry().reregister(&mut socket, owner.into(), STREAM_INTEREST);
        if let Err(error) = watched {
            log::error!("cannot watch a connected socket: {error}");
            self.schedule.cut(owner, CloseReason::Internal, &mut self.stock.lend(&mut self.base));
            return;
        }
        self.note_target(owner);
        let mut lent = self.stock.lend(&mut self.base);
        self.schedule.call(owner, &mut lent, |session, cx| session.on_connected(leg, socket, cx));
    }

    fn on_resolved(&mut self, resolved: &Resolved) {
        if self.forget_dial(resolved.owner, resolved.dial) {
            let leg = leg_of(resolved.owner);
            let result = resolved.result.map_err(Into::into);
            let mut lent = self.stock.lend(&mut self.base);
            self.schedule
                .call(resolved.owner, &mut lent, |session, cx| session.on_resolved(leg, &resolved.target, result, cx));
        }
    }

    /// A dial has ended. False when its session has, too.
    fn forget_dial(&mut self, owner: Token, dial: DialId) -> bool {
        let Some(errands) = self.schedule.baggage(owner) else { return false };
        errands.dials.retain(|(_, under_way)| *under_way != dial);
        if errands.dials.is_empty() {
            errands.dials = Vec::new();
        }
        true
    }

    /// A session has a connection to its target. A session with many (Mux) counts once.
    fn note_target(&mut self, owner: Token) {
        let first = self.schedule.baggage(owner).is_some_and(|errands| !mem::replace(&mut errands.has_target, true));
        self.base.counters.targets_connected.add(u64::from(first));
    }
}
