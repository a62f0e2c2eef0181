//! UDP sockets for sessions: new ones, and those that move here or away by their Global ID.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use mio::Registry;

use super::{SUB_LEG, SWEEP_LEG, Worker, session_leg, worker_token};
use crate::io::sockopt::is_shortage;
use crate::io::token::Token;
use crate::outbound::bound_socket::BoundSocket;
use crate::outbound::global_ids::{GRACE, Holder};
use crate::outbound::udp::OutboundUdp;
use crate::reactor::inbox::Request;
use crate::session::permits::{MuxPermit, UdpPermit};
use crate::session::{BindFailure, GlobalId, User};

impl Worker {
    /// A UDP socket for the leg that `token` names: the one with this Global ID if there is one, else a new one.
    pub(super) fn bind_udp(
        &mut self,
        token: Token,
        user: &Arc<User>,
        id: Option<GlobalId>,
    ) -> Result<OutboundUdp, BindFailure> {
        let ids = Arc::clone(&self.shared.global_ids);
        let holder = Holder { worker: self.number, token };
        let key = id.map(|id| (user.id, id));
        let (bound, claim) = if let Some((bound, claim, previous)) = key.and_then(|key| ids.take_over(key, holder)) {
            self.counters.udp_sockets_migrated.add(1);
            if let (Some(previous), Some((_, id))) = (previous, key) {
                self.tell_previous(previous, id);
            }
            (bound, Some(claim))
        } else {
            let bound = self.bind_new_udp(token, user)?;
            let claim = key.and_then(|key| ids.enter(key, holder, &bound));
            (bound, claim)
        };
        if claim.is_some() {
            self.sweep_alarm.arm(self.now + GRACE, worker_token(SWEEP_LEG), &mut self.timers, self.now);
        }
        let judge = self.dialer.judge();
        let registry = self.registry().map_err(|error| self.udp_failed(&error))?;
        OutboundUdp::watch(bound, claim, judge, &registry, token).map_err(|error| self.udp_failed(&error))
    }

    /// A new socket; where descriptors have run out, spares are the first to go.
    fn bind_new_udp(&mut self, token: Token, user: &Arc<User>) -> Result<Arc<BoundSocket>, BindFailure> {
        loop {
            let (permit, mux_permit) = self.permit_udp(token, user)?;
            match BoundSocket::bind(self.rules.dial.bind, permit, mux_permit) {
                Ok(bound) => return Ok(Arc::new(bound)),
                Err(error) if is_shortage(&error) && self.make_room() => {}
                Err(error) => return Err(self.udp_failed(&error)),
            }
        }
    }

    /// The rights to one more socket, if need be in exchange for one that waits for its client to come back.
    fn permit_udp(&self, token: Token, user: &Arc<User>) -> Result<(UdpPermit, Option<MuxPermit>), BindFailure> {
        let sockets_max = self.rules.session.udp.sockets_per_user_max;
        let permit = self.take_or_give_up(user, || UdpPermit::take(user, sockets_max)).ok_or_else(|| {
            self.counters.udp_sockets_refused.add(1);
            BindFailure::Limit
        })?;
        if token.leg() < SUB_LEG {
            return Ok((permit, None));
        }
        let mux_sockets = &self.shared.mux_sockets;
        let mux_permit = self.take_or_give_up(user, || MuxPermit::take(mux_sockets, user)).ok_or_else(|| {
            self.counters.mux_sockets_refused.add(1);
            BindFailure::Limit
        })?;
        Ok((permit, Some(mux_permit)))
    }

    fn take_or_give_up<T>(&self, user: &User, take: impl Fn() -> Option<T>) -> Option<T> {
        take().or_else(|| if self.shared.global_ids.give_up_oldest(user.id) { take() } else { None })
    }

    pub(super) fn udp_failed(&self, error: &io::Error) -> BindFailure {
        self.counters.udp_sockets_failed.add(1);
        log::debug!("no UDP socket: {error}");
        BindFailure::NoResources
    }

    pub(super) fn registry(&mut self) -> io::Result<Rc<Registry>> {
        if let Some(registry) = &self.registry {
            return Ok(Rc::clone(registry));
        }
        let registry = Rc::new(self.poll.registry().try_clone()?);
        self.registry = Some(Rc::clone(&registry));
        Ok(registry)
    }

    /// A session's UDP socket has moved to another connection.
    pub(super) fn tell_previous(&mut self, previous: Holder, id: GlobalId) {
        if previous.worker == self.number {
            return self.lose_udp(previous.token, id);
        }
        let inboxes = self.shared.inboxes.read().unwrap_or_else(PoisonError::into_inner);
        let inbox = inboxes.get(previous.worker).cloned();
        drop(inboxes);
        if let Some(inbox) = inbox {
            // Not told, it reads what the new one should; that is datagrams lost, until it ends.
            inbox.ask(Request::LoseUdp(previous.token, id));
        }
    }

    pub(super) fn lose_udp(&mut self, token: Token, id: GlobalId) {
        if self.slot(token).is_some() {
            self.with_session(token, |session, cx| session.on_udp_taken(session_leg(token), id, cx));
        }
    }

    pub(super) fn sweep_global_ids(&mut self) {
        if self.sweep_alarm.fired(self.now) && self.shared.global_ids.sweep(self.now) {
            self.sweep_alarm.arm(self.now + GRACE, worker_token(SWEEP_LEG), &mut self.timers, self.now);
        }
    }
}
