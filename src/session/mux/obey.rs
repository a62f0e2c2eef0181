//! The uplink of a Mux connection: the client's frames, obeyed in order and whole.

use std::sync::Arc;

use super::super::allowance::{PACKET_COST_BYTES, TURN_BYTES_MAX};
use super::super::channel::{Channel, Pulled, Turn};
use super::super::permits::MuxPermit;
use super::super::tcp_leg::TcpLeg;
use super::super::udp_leg::{Outgoing, UdpLeg};
use super::super::{CloseReason, Context, Flow, GlobalId, Leg, Target, Wish};
use super::{Mux, Opening, SESSIONS_MAX, Sub, SubLeg, leg_deadline};
use crate::io::buf::Buf;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::protocol::mux::{self, Frame, Network, Status};

/// Wishes of one turn; whoever reaches it goes on in the next.
const WISHES_MAX: usize = 16;
/// Memory of what waits for all of a connection's TCP targets together; beyond, the client is not read any more.
const HELD_BYTES_MAX: usize = 4 << 20;
/// UDP sockets under way to sessions that have ended meanwhile.
const ORPHANS_MAX: usize = 64;
/// Bytes of End frames that wait before the client's frames are not read any more.
const CONTROL_BYTES_MAX: usize = 4096;

/// What became of a frame.
#[derive(Debug, PartialEq)]
pub(super) enum Obeyed {
    Yes,
    /// Not yet: something must leave first.
    Later,
    /// Not in this turn.
    NextTurn,
    /// Not before there is buffer memory for what its target does not take.
    Starved,
    Never(CloseReason),
}

/// What a frame asks for that opens a session.
struct Asked {
    network: Network,
    target: Target,
    global_id: Option<GlobalId>,
}

impl<S: Socket, D: DatagramSocket> Mux<S, D> {
    pub(super) fn uplink(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let mut budget = TURN_BYTES_MAX;
        while budget > 0 {
            match channel.pull(&mut self.payload_waits, &mut cx.means) {
                Pulled::Payload(received) => budget = budget.saturating_sub(received),
                Pulled::Blocked => return Turn::Wait,
                Pulled::Starved => return Turn::Starved,
                Pulled::End if channel.uplink.has_output() => {
                    // In the middle of a frame.
                    self.reset_targets();
                    return Turn::Close(CloseReason::Truncated);
                }
                Pulled::End => return self.end_by_eof(cx),
                Pulled::Failed => return Turn::Abort(CloseReason::ClientReset),
                Pulled::Broken(error) => return Turn::Broken(error),
            }
            let (_, payload) = cx.means.scratch.parts();
            // Out of the scratch memory while its frames are obeyed, which may need the rest of it.
            let mut payload = std::mem::replace(payload, Buf::new(0));
            let obeyed = self.obey_all(&mut payload, &mut budget, cx);
            *cx.means.scratch.parts().1 = payload;
            channel.keep(&cx.means);
            match obeyed {
                Obeyed::Yes => {}
                // Nobody receives from a client that has to wait, so only its event tells that it is gone.
                Obeyed::Later | Obeyed::Starved if channel.client.broken => {
                    return Turn::Abort(CloseReason::ClientReset);
                }
                Obeyed::Later => {
                    self.payload_waits = true;
                    return Turn::Wait;
                }
                Obeyed::NextTurn => {
                    self.payload_waits = true;
                    return Turn::Again;
                }
                Obeyed::Starved => {
                    self.payload_waits = true;
                    return Turn::Starved;
                }
                Obeyed::Never(reason) => {
                    self.reset_targets();
                    return Turn::Close(reason);
                }
            }
        }
        Turn::Again
    }

    /// Obeys whole frames off the front of `payload`.
    pub(super) fn obey_all(&mut self, payload: &mut Buf, budget: &mut usize, cx: &mut Context<'_>) -> Obeyed {
        if self.opening == Opening::Xudp {
            match mux::is_xudp(payload.bytes()) {
                None => return Obeyed::Yes,
                Some(false) => return Obeyed::Never(CloseReason::FlowRefused),
                Some(true) => self.opening = Opening::Any,
            }
        }
        loop {
            if self.control.len() > CONTROL_BYTES_MAX {
                return Obeyed::Later;
            }
            if *budget == 0 || cx.wishes.len() >= WISHES_MAX || self.orphaned_binds.len() >= ORPHANS_MAX {
                return Obeyed::NextTurn;
            }
            match mux::decode(payload.bytes()) {
                Ok(None) => return Obeyed::Yes,
                Ok(Some((frame, length))) => match self.obey(frame, cx) {
                    Obeyed::Yes => {
                        payload.consume(length);
                        *budget = budget.saturating_sub(PACKET_COST_BYTES);
                    }
                    other => return other,
                },
                Err(error) => {
                    log::debug!("user {}: {error:?}", self.user.email);
                    return Obeyed::Never(CloseReason::BadFrame);
                }
            }
        }
    }

    fn obey(&mut self, frame: Frame<'_>, cx: &mut Context<'_>) -> Obeyed {
        match frame.status {
            Status::New { network, target, global_id } => {
                self.open(frame.id, Asked { network, target, global_id }, frame.payload.unwrap_or_default(), cx)
            }
            Status::Keep { target } => match (self.by_id.get(&frame.id), frame.payload) {
                (_, None) => Obeyed::Yes,
                (Some(&sub), Some(payload)) => self.pass_on(sub, target.as_ref(), payload, cx),
                (None, Some(_)) => {
                    cx.counters.mux_frames_astray.add(1);
                    self.control.extend(mux::end(frame.id, false));
                    Obeyed::Yes
                }
            },
            Status::End { .. } => {
                if let Some(sub) = self.by_id.get(&frame.id) {
                    self.end_by_client(*sub, cx);
                }
                Obeyed::Yes
            }
            Status::KeepAlive => Obeyed::Yes,
        }
    }

    /// The client's stream ended in order, and with it every session as if the client had ended it.
    pub(super) fn end_by_eof(&mut self, cx: &mut Context<'_>) -> Turn {
        self.is_client_gone = true;
        for sub in 0..self.subs.capacity() {
            self.end_by_client(sub, cx);
        }
        self.control = Vec::new();
        self.outlive_client(cx)
    }

    fn open(&mut self, id: u16, asked: Asked, payload: &[u8], cx: &mut Context<'_>) -> Obeyed {
        let Asked { network, target, global_id } = asked;
        if network == Network::Tcp && self.user.flow == Flow::Vision {
            return Obeyed::Never(CloseReason::FlowRefused);
        }
        if network == Network::Tcp && !payload.is_empty() {
            if self.held_bytes > HELD_BYTES_MAX {
                return Obeyed::Later;
            }
            if self.must_wait_for_memory(cx) {
                return Obeyed::Starved;
            }
        }
        if let Some(sub) = self.by_id.get(&id) {
            self.end_by_client(*sub, cx);
        }
        let is_nowhere = target.is_reserved_name() || (network == Network::Tcp && target.port == 0);
        if self.subs.len() >= SESSIONS_MAX || is_nowhere {
            cx.counters.mux_sessions_refused.add(1);
            self.control.extend(mux::end(id, true));
            return Obeyed::Yes;
        }
        // A UDP socket's is taken where the socket is made, which may exist already.
        let mut permit = None;
        if network == Network::Tcp {
            permit = MuxPermit::take(cx.mux_sockets, &self.user);
            if permit.is_none() {
                cx.counters.mux_sockets_refused.add(1);
                cx.counters.mux_sessions_refused.add(1);
                self.control.extend(mux::end(id, true));
                return Obeyed::Yes;
            }
        }
        cx.counters.mux_sessions_opened.add(1);
        let now = cx.means.now;
        let entry = self.subs.vacant_entry();
        let sub = entry.key();
        let leg = match network {
            Network::Tcp => {
                let mut leg = TcpLeg::new(permit, now);
                leg.send(payload, &mut self.traffic, &cx.means);
                cx.wishes.push(Wish::Dial { leg: Leg::Sub(sub as u16), target });
                SubLeg::Tcp(leg)
            }
            Network::Udp => {
                let leg = Leg::Sub(sub as u16);
                let mut udp = UdpLeg::new(target, now);
                cx.wishes.push(Wish::BindUdp { leg, user: Arc::clone(&self.user), global_id });
                let mut out = Outgoing { now, counters: cx.counters, traffic: &mut self.traffic, pool: cx.means.pool };
                if let Some(target) = udp.send(None, payload, &mut out) {
                    cx.wishes.push(Wish::Resolve { leg, target });
                }
                SubLeg::Udp(Box::new(udp))
            }
        };
        if let SubLeg::Tcp(leg) = &leg {
            self.held_bytes += leg.held_bytes();
        }
        entry.insert(Sub { id, leg, global_id, is_ready: false });
        self.by_id.insert(id, sub);
        self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
        Obeyed::Yes
    }

    /// Nothing more may be kept for targets before some of it has left. A connection that keeps nothing for any target need
    /// not wait: the frames it has not obeyed are memory, too, and would otherwise wait for themselves.
    fn must_wait_for_memory(&self, cx: &Context<'_>) -> bool {
        self.held_bytes > 0 && !cx.means.pool.may_begin()
    }

    fn pass_on(&mut self, sub: usize, to: Option<&Target>, payload: &[u8], cx: &mut Context<'_>) -> Obeyed {
        let is_full = self.held_bytes > HELD_BYTES_MAX;
        let must_wait = self.must_wait_for_memory(cx);
        let Some(one) = self.subs.get_mut(sub) else { return Obeyed::Yes };
        match &mut one.leg {
            SubLeg::Tcp(_) if is_full => return Obeyed::Later,
            SubLeg::Tcp(leg) => {
                if !leg.has_room(payload.len()) {
                    return Obeyed::Later;
                }
                if leg.must_keep() && must_wait {
                    return Obeyed::Starved;
                }
                self.with_tcp(sub, |leg, traffic| leg.send(payload, traffic, &cx.means));
                if self.subs.get(sub).is_some_and(|one| matches!(&one.leg, SubLeg::Tcp(leg) if leg.is_readable())) {
                    self.mark_ready(sub);
                }
                // It may be stalled from now on.
                self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
            }
            // The socket comes before the next turn.
            SubLeg::Udp(leg) if !leg.is_bound() => return Obeyed::NextTurn,
            SubLeg::Udp(leg) => {
                let mut out = Outgoing {
                    now: cx.means.now,
                    counters: cx.counters,
                    traffic: &mut self.traffic,
                    pool: cx.means.pool,
                };
                if let Some(target) = leg.send(to, payload, &mut out) {
                    cx.wishes.push(Wish::Resolve { leg: Leg::Sub(sub as u16), target });
                }
            }
        }
        Obeyed::Yes
    }
}
