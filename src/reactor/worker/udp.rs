//! UDP sockets for sessions: new ones, and those that move here or away by their Global ID.

use std::io;
use std::sync::Arc;

use super::Worker;
use super::base::Base;
use crate::io::sockopt::is_shortage;
use crate::io::token::Token;
use crate::outbound::bound_socket::BoundSocket;
use crate::outbound::global_ids::Holder;
use crate::outbound::udp::OutboundUdp;
use crate::reactor::inbox::Word;
use crate::reactor::legs::leg_of;
use crate::reactor::timers::Timer;
use crate::session::permits::{MuxPermit, UdpPermit};
use crate::session::{BindFailure, GlobalId, Leg, User};

impl Worker {
    /// A UDP socket for the leg that `token` names: the one with this Global ID if there is one, else a new one.
    pub(super) fn bind_udp(
        &mut self,
        token: Token,
        user: &Arc<User>,
        id: Option<GlobalId>,
    ) -> Result<OutboundUdp, BindFailure> {
        let ids = Arc::clone(&self.base.shared.global_ids);
        let holder = Holder { worker: self.base.number, token };
        let key = id.map(|id| (user.id, id));
        let taken_over = match key.and_then(|key| ids.take_over(key, holder)) {
            None => None,
            Some((bound, claim, previous)) => {
                if let (Some(previous), Some((_, id))) = (previous, key) {
                    self.tell_previous(previous, id);
                }
                // A reload may have chosen another address of ours since.
                (bound.source() == self.base.rules.dial.bind).then_some((bound, Some(claim)))
            }
        };
        let (bound, claim) = if let Some(taken_over) = taken_over {
            self.base.counters.udp_sockets_migrated.add(1);
            taken_over
        } else {
            let bound = self.bind_new_udp(token, user)?;
            let claim = key.and_then(|key| ids.enter(key, holder, &bound));
            (bound, claim)
        };
        if claim.is_some() {
            let grace = self.base.rules.session.udp.global_id_grace;
            self.base.arm(Timer::SweepGlobalIds, self.base.now + grace);
        }
        let judge = self.targets.dialer.judge();
        let registry = self.targets.registry(self.poll.registry());
        registry
            .and_then(|registry| OutboundUdp::watch(bound, claim, judge, &registry, token))
            .map_err(|error| failed(&self.base, &error))
    }

    /// A new socket; where descriptors have run out, others give way.
    fn bind_new_udp(&mut self, token: Token, user: &Arc<User>) -> Result<Arc<BoundSocket>, BindFailure> {
        loop {
            let (permit, mux_permit) = permit(&self.base, token, user)?;
            match BoundSocket::bind(self.base.rules.dial.bind, permit, mux_permit) {
                Ok(bound) => return Ok(Arc::new(bound)),
                Err(error) if is_shortage(&error) && self.make_room() => {}
                Err(error) => return Err(failed(&self.base, &error)),
            }
        }
    }

    /// A session's UDP socket has moved to another connection.
    fn tell_previous(&mut self, previous: Holder, id: GlobalId) {
        if previous.worker == self.base.number {
            self.lose_udp(previous.token, id);
        } else {
            // If it is not told, it keeps a session for nothing until that is idle for too long.
            self.base.tell(previous.worker, Word::LoseUdp(previous.token, id));
        }
    }

    pub(super) fn lose_udp(&mut self, token: Token, id: GlobalId) {
        let mut lent = self.stock.lend(&mut self.base);
        self.schedule.call(token, &mut lent, |session, cx| session.on_udp_taken(leg_of(token), id, cx));
    }
}

/// The rights to one more socket, if need be in exchange for one that waits for its client to come back.
fn permit(base: &Base, token: Token, user: &Arc<User>) -> Result<(UdpPermit, Option<MuxPermit>), BindFailure> {
    let sockets_max = base.rules.session.udp.sockets_per_user_max;
    let permit = take_or_give_up(base, user, || UdpPermit::take(user, sockets_max)).ok_or_else(|| {
        base.counters.udp_sockets_refused.add(1);
        BindFailure::Limit
    })?;
    if !matches!(leg_of(token), Leg::Sub(_)) {
        return Ok((permit, None));
    }
    let mux_sockets = &base.shared.mux_sockets;
    let mux_permit = take_or_give_up(base, user, || MuxPermit::take(mux_sockets, user)).ok_or_else(|| {
        base.counters.mux_sockets_refused.add(1);
        BindFailure::Limit
    })?;
    Ok((permit, Some(mux_permit)))
}

/// What another worker took in between is no reason to refuse, as long as there are more to give up.
fn take_or_give_up<T>(base: &Base, user: &User, take: impl Fn() -> Option<T>) -> Option<T> {
    loop {
        let taken = take();
        if taken.is_some() || !base.shared.global_ids.give_up_oldest(user.id) {
            return taken;
        }
    }
}

fn failed(base: &Base, error: &io::Error) -> BindFailure {
    base.counters.udp_sockets_failed.add(1);
    log::debug!("no UDP socket: {error}");
    BindFailure::NoResources
}
