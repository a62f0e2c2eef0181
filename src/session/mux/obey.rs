//! The uplink of a Mux connection: the client's frames, obeyed in order and whole.

use std::sync::Arc;

use super::super::allowance::PACKET_COST_BYTES;
use super::super::channel::{Channel, Pulled};
use super::super::pause::{Ending, Pause, Turn};
use super::super::permits::MuxPermit;
use super::super::tcp_leg::TcpLeg;
use super::super::udp_leg::{Outgoing, UdpLeg};
use super::super::{CloseReason, Context, Flow, GlobalId, Leg, Target, Wish};
use super::{FirstFrame, Mux, SESSIONS_MAX, Sub, SubLeg, leg_deadline};
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

/// What came of obeying: all frames that are there were obeyed, or what the next one waits for.
pub(super) type Obeyed = Result<Option<Pause>, Ending>;

/// What a frame asks for that opens a session.
struct Asked {
    network: Network,
    target: Target,
    global_id: Option<GlobalId>,
}

impl<S: Socket, D: DatagramSocket> Mux<S, D> {
    pub(super) fn uplink(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        loop {
            if let Some(pause) = cx.allowance.uplink.pause() {
                return Ok(pause);
            }
            let mut payload = match channel.pull(&mut cx.allowance.uplink, &mut cx.means)? {
                Pulled::Payload(payload) => payload,
                Pulled::Pause(pause) => return Ok(pause),
                Pulled::End if channel.uplink.intake.has_undigested() => {
                    // In the middle of a frame.
                    self.reset_targets();
                    return Err(Ending::InOrder(CloseReason::Truncated));
                }
                Pulled::End => return self.end_by_eof(cx),
            };
            let obeyed = self.obey_all(&mut payload, cx);
            channel.keep(payload, matches!(obeyed, Ok(Some(_))), &mut cx.means);
            match obeyed {
                Ok(None) => {}
                // Nobody receives from a client that has to wait, so only its event tells that it is gone.
                Ok(Some(Pause::Wait | Pause::Starved)) if channel.client.broken => {
                    return Err(Ending::Abrupt(CloseReason::ClientReset));
                }
                Ok(Some(pause)) => return Ok(pause),
                Err(ending) => {
                    self.reset_targets();
                    return Err(ending);
                }
            }
        }
    }

    /// Obeys whole frames off the front of `payload`.
    pub(super) fn obey_all(&mut self, payload: &mut Buf, cx: &mut Context<'_>) -> Obeyed {
        if self.first_frame == FirstFrame::Xudp {
            match mux::is_xudp(payload.bytes()) {
                None => return Ok(None),
                Some(false) => return Err(Ending::InOrder(CloseReason::FlowRefused)),
                Some(true) => self.first_frame = FirstFrame::Any,
            }
        }
        loop {
            if self.control.len() > CONTROL_BYTES_MAX {
                return Ok(Some(Pause::Wait));
            }
            let is_busy = cx.wishes.len() >= WISHES_MAX || self.orphaned_binds.len() >= ORPHANS_MAX;
            if cx.allowance.uplink.work_bytes == 0 || is_busy {
                return Ok(Some(Pause::Again));
            }
            match mux::decode(payload.bytes()) {
                Ok(None) => return Ok(None),
                Ok(Some((frame, length))) => {
                    if let Some(pause) = self.obey(frame, cx)? {
                        return Ok(Some(pause));
                    }
                    payload.consume(length);
                    cx.allowance.uplink.work(PACKET_COST_BYTES);
                }
                Err(error) => {
                    log::debug!("user {}: {error:?}", self.user.email);
                    return Err(Ending::InOrder(CloseReason::BadFrame));
                }
            }
        }
    }

    fn obey(&mut self, frame: Frame<'_>, cx: &mut Context<'_>) -> Obeyed {
        match frame.status {
            Status::New { network, target, global_id } => {
                let asked = Asked { network, target, global_id };
                self.open(frame.id, asked, frame.payload.unwrap_or_default(), cx)
            }
            Status::Keep { target } => match (self.by_id.get(&frame.id), frame.payload) {
                (_, None) => Ok(None),
                (Some(&sub), Some(payload)) => Ok(self.pass_on(sub, target.as_ref(), payload, cx)),
                (None, Some(_)) => {
                    cx.counters.mux_frames_astray.add(1);
                    self.control.extend(mux::end(frame.id, false));
                    Ok(None)
                }
            },
            Status::End { .. } => {
                if let Some(sub) = self.by_id.get(&frame.id) {
                    self.end_by_client(*sub, cx);
                }
                Ok(None)
            }
            Status::KeepAlive => Ok(None),
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
            return Err(Ending::InOrder(CloseReason::FlowRefused));
        }
        if network == Network::Tcp && !payload.is_empty() {
            if self.held_bytes > HELD_BYTES_MAX {
                return Ok(Some(Pause::Wait));
            }
            if self.must_wait_for_memory(cx) {
                return Ok(Some(Pause::Starved));
            }
        }
        if let Some(sub) = self.by_id.get(&id) {
            self.end_by_client(*sub, cx);
        }
        let is_nowhere = target.is_reserved_name() || (network == Network::Tcp && target.port == 0);
        if self.subs.len() >= SESSIONS_MAX || is_nowhere {
            cx.counters.mux_sessions_refused.add(1);
            self.control.extend(mux::end(id, true));
            return Ok(None);
        }
        // A UDP socket's is taken where the socket is made, which may exist already.
        let mut permit = None;
        if network == Network::Tcp {
            permit = MuxPermit::take(cx.mux_sockets, &self.user);
            if permit.is_none() {
                cx.counters.mux_sockets_refused.add(1);
                cx.counters.mux_sessions_refused.add(1);
                self.control.extend(mux::end(id, true));
                return Ok(None);
            }
        }
        cx.counters.mux_sessions_opened.add(1);
        let now = cx.means.now;
        let entry = self.subs.vacant_entry();
        let sub = entry.key();
        let leg = match network {
            Network::Tcp => {
                let mut leg = TcpLeg::new(permit, now);
                leg.send(payload, &mut self.books, &cx.means);
                cx.wishes.push(Wish::Dial { leg: Leg::Sub(sub as u16), target });
                SubLeg::Tcp(leg)
            }
            Network::Udp => {
                let leg = Leg::Sub(sub as u16);
                let mut udp = UdpLeg::new(target, now);
                cx.wishes.push(Wish::BindUdp { leg, user: Arc::clone(&self.user), global_id });
                let mut out = Outgoing { now, counters: cx.counters, books: &mut self.books, pool: cx.means.pool };
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
        Ok(None)
    }

    /// Nothing more may be kept for targets before some of it has left. A connection that keeps nothing for any target need
    /// not wait: the frames it has not obeyed are memory, too, and would otherwise wait for themselves.
    fn must_wait_for_memory(&self, cx: &Context<'_>) -> bool {
        self.held_bytes > 0 && !cx.means.pool.may_begin()
    }

    fn pass_on(&mut self, sub: usize, to: Option<&Target>, payload: &[u8], cx: &mut Context<'_>) -> Option<Pause> {
        let is_full = self.held_bytes > HELD_BYTES_MAX;
        let must_wait = self.must_wait_for_memory(cx);
        let one = self.subs.get_mut(sub)?;
        match &mut one.leg {
            SubLeg::Tcp(_) if is_full => return Some(Pause::Wait),
            SubLeg::Tcp(leg) => {
                if !leg.has_room(payload.len()) {
                    return Some(Pause::Wait);
                }
                if leg.must_keep() && must_wait {
                    return Some(Pause::Starved);
                }
                self.with_tcp(sub, |leg, books| leg.send(payload, books, &cx.means));
                if self.subs.get(sub).is_some_and(|one| matches!(&one.leg, SubLeg::Tcp(leg) if leg.is_readable())) {
                    self.mark_ready(sub);
                }
                // It may be stalled from now on.
                self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
            }
            // The socket comes before the next turn.
            SubLeg::Udp(leg) if !leg.is_bound() => return Some(Pause::Again),
            SubLeg::Udp(leg) => {
                let mut out =
                    Outgoing { now: cx.means.now, counters: cx.counters, books: &mut self.books, pool: cx.means.pool };
                if let Some(target) = leg.send(to, payload, &mut out) {
                    cx.wishes.push(Wish::Resolve { leg: Leg::Sub(sub as u16), target });
                }
            }
        }
        None
    }
}
