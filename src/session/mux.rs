//! A session that carries many: Mux.cool and XUDP (command 3, VLESS-4).
//!
//! XUDP is the case of one UDP session with the number 0. Every session inside has a leg of its own towards its target.
//! Frames of the client are obeyed in order and whole; one that cannot be obeyed yet (its target takes no more, too much
//! is wished for) stops the reading of the client, which is all the flow control the protocol has.
//!
//! Invariants: at most [`SESSIONS_MAX`] sessions, each with at most one chunk waiting; what is to be said to the client
//! apart from data waits in a list that is checked before each frame. Every session that the server ends is ended with
//! one End frame, one that the client ended with none.

mod fill;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use super::channel::{Channel, Ledger, Pulled, Traffic, Turn};
use super::tcp_leg::TcpLeg;
use super::transfer::{TURN_BYTES_MAX, Transfer};
use super::udp_leg::{Outgoing, UdpLeg};
use super::{CloseReason, Context, Flow, GlobalId, Leg, SessionSettings, Target, User, Wish};
use crate::io::buf::Buf;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::{Readiness, Socket};
use crate::protocol::mux::{self, Frame, Network, Status};

/// Sessions in one connection.
pub const SESSIONS_MAX: usize = 1024;
/// Wishes of one turn; whoever reaches it goes on in the next.
const WISHES_MAX: usize = 16;
/// Memory of what waits for all of a connection's TCP targets together; beyond, the client is not read any more.
const HELD_BYTES_MAX: usize = 4 << 20;
/// UDP sockets under way to sessions that have ended meanwhile.
const ORPHANS_MAX: usize = 64;
/// Bytes of End frames that wait before the client's frames are not read any more.
const CONTROL_BYTES_MAX: usize = 4096;
/// The relay of one client and all its sessions.
pub(super) struct Mux<S, D> {
    user: Arc<User>,
    opening: Opening,
    subs: Slab<Sub<S, D>>,
    by_id: HashMap<u16, usize>,
    /// Sessions whose sockets may have something.
    ready: VecDeque<usize>,
    /// Sessions that ended before the UDP socket they wished for came.
    orphaned_binds: Vec<usize>,
    /// Frames without payload for the client.
    control: Vec<u8>,
    payload_waits: bool,
    ledger: Ledger,
    traffic: Traffic,
    /// What of it the counters know.
    counted: Traffic,
    /// The earliest deadline of all sessions, or earlier: activity moves deadlines without telling.
    next_check: Instant,
    /// When the last session ended.
    empty_since: Instant,
}

/// What the first frame must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Anything.
    Any,
    /// XUDP: the only use of the command without Vision's padding that an account with Vision has.
    Xudp,
}

struct Sub<S, D> {
    id: u16,
    leg: SubLeg<S, D>,
    global_id: Option<GlobalId>,
    /// It stands in the list of those whose sockets may have something.
    is_ready: bool,
}

enum SubLeg<S, D> {
    Tcp(TcpLeg<S>),
    Udp(Box<UdpLeg<D>>),
}

/// What became of a frame.
enum Obeyed {
    Yes,
    /// Not yet: something must leave first.
    Later,
    /// Not in this turn.
    NextTurn,
    Never(CloseReason),
}

/// Why the server ends a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    InOrder,
    WithError,
}

impl<S: Socket, D: DatagramSocket> Mux<S, D> {
    pub(super) fn new(user: Arc<User>, opening: Opening, now: Instant) -> Self {
        Self {
            user,
            opening,
            subs: Slab::new(),
            by_id: HashMap::new(),
            ready: VecDeque::new(),
            orphaned_binds: Vec::new(),
            control: Vec::new(),
            payload_waits: true,
            ledger: Ledger::default(),
            traffic: Traffic::default(),
            counted: Traffic::default(),
            next_check: now,
            empty_since: now,
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What had been counted until now, when the rest is.
    pub(super) fn take_counted(&mut self) -> Traffic {
        std::mem::replace(&mut self.counted, self.traffic)
    }

    /// The socket of one session may have something, or take something.
    pub(super) fn on_ready(&mut self, sub: usize, readiness: Readiness, cx: &Context<'_>) {
        let Some(one) = self.subs.get_mut(sub) else { return };
        match &mut one.leg {
            SubLeg::Tcp(leg) => {
                leg.note(readiness);
                leg.flush(&mut self.traffic, &cx.means);
            }
            SubLeg::Udp(leg) => leg.readable |= readiness.readable,
        }
        self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
        self.mark_ready(sub);
    }

    pub(super) fn on_connected(&mut self, sub: usize, socket: S, cx: &Context<'_>) {
        if let Some(Sub { leg: SubLeg::Tcp(leg), .. }) = self.subs.get_mut(sub) {
            leg.on_connected(socket, &mut self.traffic, &cx.means);
            self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
            self.mark_ready(sub);
        }
    }

    /// The answer to a wish for a UDP socket: there is one for each, in their order.
    pub(super) fn on_bound(&mut self, sub: usize, socket: Option<D>, cx: &mut Context<'_>) {
        if let Some(place) = self.orphaned_binds.iter().position(|&of| of == sub) {
            // Meant for a session that is gone; another may have its place now.
            self.orphaned_binds.remove(place);
            return;
        }
        let Some(socket) = socket else {
            self.on_failed(sub, cx);
            // The wish was answered: no socket follows.
            self.orphaned_binds.retain(|&of| of != sub);
            return;
        };
        if let Some(Sub { leg: SubLeg::Udp(leg), .. }) = self.subs.get_mut(sub) {
            let mut out = Outgoing { now: cx.means.now, counters: cx.counters, traffic: &mut self.traffic };
            leg.on_bound(socket, &mut out);
            self.mark_ready(sub);
        }
    }

    /// Neither a connection nor a socket is to be had for this session.
    pub(super) fn on_failed(&mut self, sub: usize, cx: &mut Context<'_>) {
        cx.counters.mux_sessions_failed.add(1);
        self.end(sub, Ending::WithError, cx);
    }

    pub(super) fn on_resolved(&mut self, sub: usize, target: &Target, ip: Option<IpAddr>, cx: &Context<'_>) {
        if let Some(Sub { leg: SubLeg::Udp(leg), .. }) = self.subs.get_mut(sub) {
            let mut out = Outgoing { now: cx.means.now, counters: cx.counters, traffic: &mut self.traffic };
            leg.on_resolved(target, ip, &mut out);
        }
    }

    /// Another connection took this session's socket over, by its Global ID.
    pub(super) fn on_taken(&mut self, sub: usize, global_id: GlobalId, cx: &mut Context<'_>) {
        if self.subs.get(sub).is_some_and(|one| one.global_id == Some(global_id)) {
            self.end(sub, Ending::InOrder, cx);
        }
    }

    /// The client's connection broke: its targets are to see that, and not a proper end of what they were sent.
    pub(super) fn reset_targets(&mut self) {
        for (_, one) in &mut self.subs {
            if let SubLeg::Tcp(leg) = &mut one.leg {
                leg.reset();
            }
        }
    }

    /// When something must be looked at, and why the whole connection ends if that is what it comes to.
    pub(super) fn deadline(&self, settings: &SessionSettings, downlink: &Transfer) -> (Instant, CloseReason) {
        let mut first = if self.subs.is_empty() {
            (self.empty_since + settings.timeouts.idle, CloseReason::Idle)
        } else {
            (self.next_check, CloseReason::Idle)
        };
        if let Some(stalled) = downlink.stalled_since().map(|since| since + settings.timeouts.write_stall)
            && stalled < first.0
        {
            first = (stalled, CloseReason::WriteStall);
        }
        first
    }

    /// Ends the sessions whose time is over; false when it is the connection's.
    pub(super) fn expire(&mut self, downlink: &Transfer, cx: &mut Context<'_>) -> bool {
        let now = cx.means.now;
        if downlink.stalled_since().is_some_and(|since| since + cx.settings.timeouts.write_stall <= now) {
            return false;
        }
        if self.subs.is_empty() {
            return self.empty_since + cx.settings.timeouts.idle > now;
        }
        let mut next = now + cx.settings.timeouts.idle;
        for sub in 0..self.subs.capacity() {
            let Some(deadline) = leg_deadline(self.subs.get(sub), cx.settings) else { continue };
            if deadline <= now {
                self.end(sub, Ending::InOrder, cx);
            } else {
                next = next.min(deadline);
            }
        }
        self.next_check = next;
        true
    }

    /// Moves what can be moved within one turn's budget.
    pub(super) fn turn(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let uplink = self.uplink(channel, cx);
        if !matches!(uplink, Turn::Wait | Turn::Again | Turn::Starved) {
            return uplink;
        }
        let before = (self.subs.len(), self.control.len());
        match self.downlink(channel, cx) {
            // What the next frame waited for may just have gone.
            Turn::Wait if self.payload_waits && (self.subs.len() < before.0 || self.control.len() < before.1) => {
                Turn::Again
            }
            Turn::Wait => uplink,
            turn => turn,
        }
    }

    fn uplink(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let mut budget = TURN_BYTES_MAX;
        while budget > 0 {
            match channel.pull(&mut self.payload_waits, &mut cx.means) {
                Pulled::Payload => {}
                Pulled::Blocked => return Turn::Wait,
                Pulled::Starved => return Turn::Starved,
                Pulled::End => return Turn::Close(CloseReason::Finished),
                Pulled::Failed => return Turn::Abort(CloseReason::ClientReset),
                Pulled::Broken(error) => return Turn::Broken(error),
            }
            let (_, payload) = cx.means.scratch.parts();
            // Out of the scratch memory while its frames are obeyed, which may need the rest of it.
            let mut payload = std::mem::replace(payload, Buf::new(0));
            budget = budget.saturating_sub(payload.len());
            let obeyed = self.obey_all(&mut payload, cx);
            *cx.means.scratch.parts().1 = payload;
            channel.keep(&cx.means);
            match obeyed {
                Obeyed::Yes => {}
                Obeyed::Later => {
                    self.payload_waits = true;
                    return Turn::Wait;
                }
                Obeyed::NextTurn => {
                    self.payload_waits = true;
                    return Turn::Again;
                }
                Obeyed::Never(reason) => return Turn::Close(reason),
            }
        }
        Turn::Again
    }

    /// Obeys whole frames off the front of `payload`.
    fn obey_all(&mut self, payload: &mut Buf, cx: &mut Context<'_>) -> Obeyed {
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
            if cx.wishes.len() >= WISHES_MAX || self.orphaned_binds.len() >= ORPHANS_MAX {
                return Obeyed::NextTurn;
            }
            match mux::decode(payload.bytes()) {
                Ok(None) => return Obeyed::Yes,
                Ok(Some((frame, length))) => match self.obey(frame, cx) {
                    Obeyed::Yes => payload.consume(length),
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
                self.open(frame.id, network, target, global_id, frame.payload.unwrap_or_default(), cx)
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

    fn open(
        &mut self,
        id: u16,
        network: Network,
        target: Target,
        global_id: Option<GlobalId>,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) -> Obeyed {
        if network == Network::Tcp && self.user.flow == Flow::Vision {
            return Obeyed::Never(CloseReason::FlowRefused);
        }
        if network == Network::Tcp && !payload.is_empty() && self.held_bytes() > HELD_BYTES_MAX {
            return Obeyed::Later;
        }
        if let Some(sub) = self.by_id.get(&id) {
            self.end_by_client(*sub, cx);
        }
        if self.subs.len() >= SESSIONS_MAX || target.is_reserved_name() {
            cx.counters.mux_sessions_refused.add(1);
            self.control.extend(mux::end(id, true));
            return Obeyed::Yes;
        }
        cx.counters.mux_sessions_opened.add(1);
        let now = cx.means.now;
        let entry = self.subs.vacant_entry();
        let sub = entry.key();
        let leg = match network {
            Network::Tcp => {
                let mut leg = TcpLeg::new(now);
                leg.send(payload, &mut self.traffic, &cx.means);
                cx.wishes.push(Wish::Dial { leg: Leg::Sub(sub as u16), target });
                SubLeg::Tcp(leg)
            }
            Network::Udp => {
                let leg = Leg::Sub(sub as u16);
                let mut udp = UdpLeg::new(target, now);
                cx.wishes.push(Wish::BindUdp { leg, user: Arc::clone(&self.user), global_id });
                let mut out = Outgoing { now, counters: cx.counters, traffic: &mut self.traffic };
                if let Some(target) = udp.send(None, payload, &mut out) {
                    cx.wishes.push(Wish::Resolve { leg, target });
                }
                SubLeg::Udp(Box::new(udp))
            }
        };
        entry.insert(Sub { id, leg, global_id, is_ready: false });
        self.by_id.insert(id, sub);
        self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
        Obeyed::Yes
    }

    fn pass_on(&mut self, sub: usize, to: Option<&Target>, payload: &[u8], cx: &mut Context<'_>) -> Obeyed {
        let is_full = self.held_bytes() > HELD_BYTES_MAX;
        let Some(one) = self.subs.get_mut(sub) else { return Obeyed::Yes };
        match &mut one.leg {
            SubLeg::Tcp(_) if is_full => return Obeyed::Later,
            SubLeg::Tcp(leg) => {
                if !leg.has_room(payload.len()) {
                    return Obeyed::Later;
                }
                leg.send(payload, &mut self.traffic, &cx.means);
                if leg.is_readable() {
                    self.mark_ready(sub);
                }
            }
            // The socket comes before the next turn.
            SubLeg::Udp(leg) if !leg.is_bound() => return Obeyed::NextTurn,
            SubLeg::Udp(leg) => {
                let mut out = Outgoing { now: cx.means.now, counters: cx.counters, traffic: &mut self.traffic };
                if let Some(target) = leg.send(to, payload, &mut out) {
                    cx.wishes.push(Wish::Resolve { leg: Leg::Sub(sub as u16), target });
                }
            }
        }
        Obeyed::Yes
    }

    /// Memory of what waits for TCP targets.
    fn held_bytes(&self) -> usize {
        let of = |one: &Sub<S, D>| if let SubLeg::Tcp(leg) = &one.leg { leg.held_bytes() } else { 0 };
        self.subs.iter().map(|(_, one)| of(one)).sum()
    }

    /// The client ended a session, or took its number for another.
    fn end_by_client(&mut self, sub: usize, cx: &mut Context<'_>) {
        let Some(one) = self.subs.get_mut(sub) else { return };
        self.by_id.remove(&one.id);
        if let SubLeg::Tcp(leg) = &mut one.leg
            && (leg.is_connected() || leg.has_pending())
        {
            // What it sent before is not lost: it leaves first.
            leg.end_uplink(&mut self.traffic, &cx.means);
            if !leg.is_over() {
                self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
                return self.mark_ready(sub);
            }
        }
        self.remove(sub, cx);
    }

    /// The server ends a session, and says so to a client that does not know.
    fn end(&mut self, sub: usize, ending: Ending, cx: &mut Context<'_>) {
        let Some(one) = self.subs.get(sub) else { return };
        if self.by_id.get(&one.id) == Some(&sub) {
            self.by_id.remove(&one.id);
            self.control.extend(mux::end(one.id, ending == Ending::WithError));
        }
        self.remove(sub, cx);
    }

    fn remove(&mut self, sub: usize, cx: &mut Context<'_>) {
        let Some(one) = self.subs.try_remove(sub) else { return };
        if matches!(&one.leg, SubLeg::Udp(leg) if !leg.is_bound()) {
            self.orphaned_binds.push(sub);
        }
        let is_awaited = match &one.leg {
            SubLeg::Tcp(leg) => !leg.is_connected(),
            SubLeg::Udp(leg) => leg.is_asking(),
        };
        if is_awaited {
            cx.wishes.push(Wish::Cancel { leg: Leg::Sub(sub as u16) });
        }
        if self.subs.is_empty() {
            self.empty_since = cx.means.now;
        }
    }

    fn mark_ready(&mut self, sub: usize) {
        if let Some(one) = self.subs.get_mut(sub)
            && !std::mem::replace(&mut one.is_ready, true)
        {
            self.ready.push_back(sub);
        }
    }

    fn check_by(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline
            && (deadline < self.next_check || self.subs.len() == 1)
        {
            self.next_check = deadline;
        }
    }
}

fn leg_deadline<S: Socket, D: DatagramSocket>(sub: Option<&Sub<S, D>>, settings: &SessionSettings) -> Option<Instant> {
    match &sub?.leg {
        SubLeg::Tcp(leg) => leg.deadline(&settings.timeouts),
        SubLeg::Udp(leg) => Some(leg.deadline(&settings.udp)),
    }
}
