//! The uplink of a Mux connection: the client's frames, obeyed in order.
//!
//! A frame is obeyed as soon as everything in front of its payload is there. The payload of a TCP session goes to its
//! target as it comes, so that nothing is kept of a frame that is cut. A datagram is passed on whole: its beginning is
//! kept, or, where there is no memory for that, the datagram is dropped.

use std::sync::Arc;

use super::super::allowance::PACKET_COST_BYTES;
use super::super::channel::{Channel, Pulled};
use super::super::intake::{Intake, Rest};
use super::super::pause::{Ending, Pause, Turn};
use super::super::permits::MuxPermit;
use super::super::tcp_leg::TcpLeg;
use super::super::udp_leg::{Outgoing, UdpLeg};
use super::super::{CloseReason, Context, Flow, GlobalId, Leg, Target, Wish};
use super::{ENDS_MAX, FirstFrame, Mux, SESSIONS_MAX, Sub, SubLeg, leg_deadline};
use crate::io::buf::Buf;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::protocol::mux::{self, Header, Network, Status};

/// The most wishes of one turn. A connection that has made as many goes on in the next.
const WISHES_MAX: usize = 16;
/// Memory of what waits for all of a connection's TCP targets together. Beyond, the client is not read any more.
const HELD_BYTES_MAX: usize = 4 << 20;
/// The most UDP sockets under way to sessions that have ended meanwhile.
const ORPHANS_MAX: usize = 64;

/// Where the client is in the middle of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// So many bytes that nobody needs.
    Nothing(usize),
    /// So many bytes for a TCP session.
    Stream { sub: usize, left: usize },
}

/// What stopped the obeying.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All that is there was obeyed. What is left is the beginning of something.
    Rest(Rest),
    /// There is more, and it waits.
    Pause(Pause),
}

/// What a frame asks for that opens a session.
struct Asked {
    network: Network,
    target: Target,
    global_id: Option<GlobalId>,
}

impl<S: Socket, D: DatagramSocket> Mux<S, D> {
    pub(super) fn uplink(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        loop {
            if let Some(pause) = cx.allowance.uplink.pause(channel.uplink.intake.waits()) {
                return Ok(pause);
            }
            let mut payload = match channel.pull(&mut cx.allowance.uplink, &mut cx.means)? {
                Pulled::Payload(payload) => payload,
                Pulled::Pause(pause) => return Ok(pause),
                Pulled::End if channel.uplink.intake.has_undigested() || self.inside.is_some() => {
                    // In the middle of a frame.
                    self.reset_targets();
                    return Err(Ending::InOrder(CloseReason::Truncated));
                }
                Pulled::End => return self.end_by_eof(cx),
            };
            let obeyed = self.obey_all(&mut payload, &channel.uplink.intake, cx);
            let rest = if let Ok(Stop::Rest(rest)) = obeyed { rest } else { Rest::Waits };
            channel.keep(payload, rest, &mut cx.means);
            match obeyed {
                Ok(Stop::Rest(_)) => {}
                // Nobody receives from a client that has to wait, so only its event tells that it is gone.
                Ok(Stop::Pause(Pause::Wait)) if channel.client.is_broken() => {
                    return Err(Ending::Abrupt(CloseReason::ClientReset));
                }
                Ok(Stop::Pause(pause)) => return Ok(pause),
                Err(ending) => {
                    self.reset_targets();
                    return Err(ending);
                }
            }
        }
    }

    /// Obeys what there is at the front of `payload`. `intake` says whether the beginning of a datagram may be kept.
    pub(super) fn obey_all(
        &mut self,
        payload: &mut Buf,
        intake: &Intake,
        cx: &mut Context<'_>,
    ) -> Result<Stop, Ending> {
        if self.first_frame == FirstFrame::Xudp {
            match mux::is_xudp(payload.bytes()) {
                None => return Ok(Stop::Rest(Rest::Header)),
                Some(false) => return Err(Ending::InOrder(CloseReason::FlowRefused)),
                Some(true) => self.first_frame = FirstFrame::Any,
            }
        }
        loop {
            if self.ends.len() >= ENDS_MAX {
                return Ok(Stop::Pause(Pause::Wait));
            }
            let is_busy = cx.wishes.len() >= WISHES_MAX || self.orphaned_binds.len() >= ORPHANS_MAX;
            if cx.allowance.uplink.work_bytes == 0 || is_busy {
                return Ok(Stop::Pause(Pause::Again));
            }
            let stop = match self.inside {
                Some(inside) => self.obey_payload(inside, payload, cx),
                None => self.obey_frame(payload, intake, cx)?,
            };
            if let Some(stop) = stop {
                return Ok(stop);
            }
        }
    }

    /// Passes on, or throws away, what there is of the payload that the client is in the middle of.
    fn obey_payload(&mut self, inside: Inside, payload: &mut Buf, cx: &mut Context<'_>) -> Option<Stop> {
        let (Inside::Nothing(left) | Inside::Stream { left, .. }) = inside;
        let there = left.min(payload.len());
        let (taken, still) = match inside {
            Inside::Nothing(_) => (there, Inside::Nothing(left - there)),
            Inside::Stream { sub, .. } => {
                let taken = self.pass_on(sub, payload.bytes().get(..there)?, cx);
                (taken, Inside::Stream { sub, left: left - taken })
            }
        };
        payload.consume(taken);
        self.inside = (taken < left).then_some(still);
        match self.inside {
            None => None,
            Some(_) if taken < there => Some(Stop::Pause(Pause::Wait)),
            Some(_) => Some(Stop::Rest(Rest::Header)),
        }
    }

    /// Obeys the frame at the front of `payload`: a datagram as a whole, of others everything but the payload.
    fn obey_frame(&mut self, payload: &mut Buf, intake: &Intake, cx: &mut Context<'_>) -> Result<Option<Stop>, Ending> {
        let (header, header_len) = match mux::decode_header(payload.bytes()) {
            Ok(None) => return Ok(Some(Stop::Rest(Rest::Header))),
            Ok(Some(decoded)) => decoded,
            Err(error) => {
                log::debug!("user {}: {error:?}", self.user.email);
                return Err(Ending::InOrder(CloseReason::BadFrame));
            }
        };
        let payload_len = header.payload_len.map_or(0, usize::from);
        let datagram = payload.bytes().get(header_len..header_len + payload_len);
        let mut obeyed_len = header_len;
        if self.is_datagram(&header) {
            if datagram.is_none() && intake.may_keep_part(header_len + payload_len, cx.means.pool) {
                return Ok(Some(Stop::Rest(Rest::Part(header_len + payload_len))));
            }
            let datagram = datagram.filter(|_| header.payload_len.is_some());
            if let Some(pause) = self.obey_datagram(header, datagram, cx) {
                return Ok(Some(Stop::Pause(pause)));
            }
            if datagram.is_some() {
                obeyed_len += payload_len;
            } else if payload_len > 0 {
                cx.counters.udp_dropped_no_room.add(1);
                self.inside = Some(Inside::Nothing(payload_len));
            }
        } else {
            let sub = self.obey_header(header, cx)?;
            let inside = sub.map_or(Inside::Nothing(payload_len), |sub| Inside::Stream { sub, left: payload_len });
            self.inside = (payload_len > 0).then_some(inside);
        }
        payload.consume(obeyed_len);
        cx.allowance.uplink.work(PACKET_COST_BYTES);
        Ok(None)
    }

    /// The payload is one datagram.
    fn is_datagram(&self, header: &Header) -> bool {
        match &header.status {
            Status::New { network, .. } => *network == Network::Udp,
            Status::Keep { .. } => {
                let sub = self.by_id.get(&header.id).and_then(|&sub| self.subs.get(sub));
                sub.is_some_and(|sub| matches!(sub.leg, SubLeg::Udp(_)))
            }
            Status::End { .. } | Status::KeepAlive | Status::BadNew { .. } | Status::BadKeep { .. } => false,
        }
    }

    /// Obeys a frame of a UDP session. Tells what it waits for.
    fn obey_datagram(&mut self, header: Header, datagram: Option<&[u8]>, cx: &mut Context<'_>) -> Option<Pause> {
        match header.status {
            Status::New { network, target, global_id } => {
                self.open(header.id, Asked { network, target, global_id }, datagram, cx);
                None
            }
            Status::Keep { target } => {
                let sub = *self.by_id.get(&header.id)?;
                let SubLeg::Udp(leg) = &mut self.subs.get_mut(sub)?.leg else { return None };
                if !leg.is_bound() {
                    // The socket comes before the next turn.
                    return Some(Pause::Again);
                }
                let (now, counters, pool) = (cx.means.now, cx.counters, cx.means.pool);
                let mut out = Outgoing { now, counters, books: &mut self.books, pool };
                if let Some(target) = leg.send(target.as_ref(), datagram?, &mut out) {
                    cx.wishes.push(Wish::Resolve { leg: Leg::Sub(sub as u16), target });
                }
                None
            }
            _ => None,
        }
    }

    /// Obeys everything of a frame but its payload, which is for the session that this returns, if for any.
    fn obey_header(&mut self, header: Header, cx: &mut Context<'_>) -> Result<Option<usize>, Ending> {
        match header.status {
            Status::New { .. } if self.user.flow == Flow::Vision => {
                return Err(Ending::InOrder(CloseReason::FlowRefused));
            }
            Status::New { network, target, global_id } => {
                return Ok(self.open(header.id, Asked { network, target, global_id }, None, cx));
            }
            Status::BadNew { error } => {
                log::debug!("user {}: session {}: {error:?}", self.user.email, header.id);
                self.end_old(header.id, cx);
                self.refuse(header.id, cx);
            }
            Status::BadKeep { error } => {
                log::debug!("user {}: session {}: {error:?}", self.user.email, header.id);
                cx.counters.udp_dropped_unresolved.add(1);
            }
            Status::Keep { .. } if header.payload_len.is_some() => {
                let sub = self.by_id.get(&header.id).copied();
                if sub.is_none() {
                    cx.counters.mux_frames_astray.add(1);
                    self.ends.push(mux::end(header.id, false));
                }
                return Ok(sub);
            }
            Status::End { .. } => {
                if let Some(sub) = self.by_id.get(&header.id) {
                    self.end_by_client(*sub, cx);
                }
            }
            Status::Keep { .. } | Status::KeepAlive => {}
        }
        Ok(None)
    }

    /// The client's stream ended in order, and with it every session as if the client had ended it.
    pub(super) fn end_by_eof(&mut self, cx: &mut Context<'_>) -> Turn {
        self.is_client_gone = true;
        for sub in 0..self.subs.capacity() {
            self.end_by_client(sub, cx);
        }
        self.ends = Vec::new();
        self.outlive_client(cx)
    }

    /// The client uses a number for a new session: the old one is over, and nothing more is said about it.
    fn end_old(&mut self, id: u16, cx: &mut Context<'_>) {
        if let Some(sub) = self.by_id.get(&id) {
            self.end_by_client(*sub, cx);
        }
        self.ends.retain(|end| mux::ended_id(end) != id);
    }

    /// There will be no session of this number.
    fn refuse(&mut self, id: u16, cx: &Context<'_>) {
        cx.counters.mux_sessions_refused.add(1);
        self.ends.push(mux::end(id, true));
    }

    /// Opens a session, for UDP with its first datagram. Returns its place, if there is one.
    fn open(&mut self, id: u16, asked: Asked, datagram: Option<&[u8]>, cx: &mut Context<'_>) -> Option<usize> {
        let Asked { network, target, global_id } = asked;
        self.end_old(id, cx);
        let is_nowhere = target.is_reserved_name() || (network == Network::Tcp && target.port == 0);
        if self.subs.len() >= SESSIONS_MAX || is_nowhere {
            self.refuse(id, cx);
            return None;
        }
        let now = cx.means.now;
        let leg = match network {
            Network::Tcp => {
                // A UDP socket's permit is taken where the socket is made, which may exist already.
                let Some(permit) = MuxPermit::take(cx.mux_sockets, &self.user) else {
                    cx.counters.mux_sockets_refused.add(1);
                    self.refuse(id, cx);
                    return None;
                };
                SubLeg::Tcp(Box::new(TcpLeg::new(Some(permit), now)))
            }
            Network::Udp => SubLeg::Udp(Box::new(UdpLeg::new(target.clone(), now))),
        };
        cx.counters.mux_sessions_opened.add(1);
        let sub = self.subs.insert(Sub { id, leg, global_id, is_ready: false });
        self.by_id.insert(id, sub);
        let leg = Leg::Sub(sub as u16);
        match &mut self.subs.get_mut(sub)?.leg {
            SubLeg::Tcp(_) => cx.wishes.push(Wish::Dial { leg, target }),
            SubLeg::Udp(udp) => {
                cx.wishes.push(Wish::BindUdp { leg, user: Arc::clone(&self.user), global_id });
                let mut out = Outgoing { now, counters: cx.counters, books: &mut self.books, pool: cx.means.pool };
                if let Some(target) = datagram.and_then(|datagram| udp.send(None, datagram, &mut out)) {
                    cx.wishes.push(Wish::Resolve { leg, target });
                }
            }
        }
        self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
        Some(sub)
    }

    /// Passes bytes of the client on to a TCP session. Returns how many of them its target took, or could be kept for
    /// it. The others stay where they are, and nobody waits for memory with them: they wait for the target.
    fn pass_on(&mut self, sub: usize, bytes: &[u8], cx: &Context<'_>) -> usize {
        let may_keep = self.held_bytes <= HELD_BYTES_MAX;
        let taken = self.with_tcp(sub, |leg, books| {
            let taken = leg.take(bytes, may_keep, books, &cx.means);
            (taken, leg.is_readable())
        });
        let Some((taken, is_readable)) = taken else { return bytes.len() };
        if is_readable {
            self.mark_ready(sub);
        }
        // It may be stalled from now on.
        self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
        taken
    }
}
