//! A session that carries many: Mux.cool and XUDP (command 3, VLESS-4).
//!
//! - XUDP is the case of one UDP session with the number 0.
//! - Every session inside has a leg of its own towards its target.
//! - Frames of the client are obeyed in order and whole. A frame that cannot be obeyed yet (its target takes no more,
//!   too much is wished for) stops the reading of the client. The protocol has no other flow control.
//! - At most [`SESSIONS_MAX`] sessions exist, each with at most one chunk waiting.
//! - What is to be said to the client apart from data waits in a list. Its length is checked before each frame.
//! - A session that the server ends is ended with one End frame, one that the client ended with none.

mod fill;
mod obey;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use self::obey::Inside;
use super::books::Books;
use super::channel::Channel;
use super::pause::{Pause, Turn};
use super::tcp_leg::TcpLeg;
use super::transfer::Transfer;
use super::udp_leg::{Outgoing, UdpLeg};
use super::{CloseReason, Context, GlobalId, Leg, SessionSettings, Target, User, Wish};
use crate::io::datagram::DatagramSocket;
use crate::io::endpoint::Readiness;
use crate::io::socket::Socket;
use crate::protocol::mux;

/// Sessions in one connection.
pub const SESSIONS_MAX: usize = 1024;

/// End frames that wait before the client's frames are not read any more.
const ENDS_MAX: usize = 680;

/// The relay of one client and all its sessions.
pub(super) struct Mux<S, D> {
    user: Arc<User>,
    first_frame: FirstFrame,
    subs: Slab<Sub<S, D>>,
    by_id: HashMap<u16, usize>,
    /// Memory of what waits for TCP targets.
    held_bytes: usize,
    /// Sessions whose sockets may have something.
    ready: VecDeque<usize>,
    /// Sessions that ended before the UDP socket they wished for came.
    orphaned_binds: Vec<usize>,
    /// End frames for the client that were not filled yet.
    ends: Vec<[u8; mux::END_BYTES]>,
    /// The client is in the middle of a frame's payload.
    inside: Option<Inside>,
    /// The client's stream ended in order. What it sent before still goes out to its targets.
    is_client_gone: bool,
    pub(super) books: Books,
    /// The earliest deadline of all sessions, or an earlier instant: activity moves deadlines without telling.
    next_check: Instant,
    /// When the last session ended.
    empty_since: Instant,
}

/// What the first frame must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstFrame {
    /// Anything.
    Any,
    /// XUDP: the only use of the command without Vision's padding that an account with Vision has.
    Xudp,
}

struct Sub<S, D> {
    id: u16,
    leg: SubLeg<S, D>,
    global_id: Option<GlobalId>,
    /// It is in the list of sessions whose sockets may have something.
    is_ready: bool,
}

enum SubLeg<S, D> {
    Tcp(Box<TcpLeg<S>>),
    Udp(Box<UdpLeg<D>>),
}

/// Why the server ends a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SubEnd {
    InOrder,
    WithError,
}

impl<S: Socket, D: DatagramSocket> Mux<S, D> {
    /// How many bytes wait for the targets.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn new(user: Arc<User>, first_frame: FirstFrame, now: Instant) -> Self {
        Self {
            user,
            first_frame,
            subs: Slab::new(),
            by_id: HashMap::new(),
            held_bytes: 0,
            ready: VecDeque::new(),
            orphaned_binds: Vec::new(),
            ends: Vec::new(),
            inside: None,
            is_client_gone: false,
            books: Books::default(),
            next_check: now,
            empty_since: now,
        }
    }

    /// The socket of one session may have something, or take something.
    pub(super) fn on_ready(&mut self, sub: usize, readiness: Readiness, cx: &Context<'_>) {
        if let Some(Sub { leg: SubLeg::Udp(leg), .. }) = self.subs.get_mut(sub) {
            leg.readable |= readiness.readable;
        }
        self.with_tcp(sub, |leg, books| {
            leg.note(readiness);
            leg.flush(books, cx.means.now);
        });
        self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
        self.mark_ready(sub);
    }

    pub(super) fn on_connected(&mut self, sub: usize, socket: S, cx: &Context<'_>) {
        if self.with_tcp(sub, |leg, books| leg.on_connected(socket, books, cx.means.now)).is_some() {
            self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
            self.mark_ready(sub);
        }
    }

    /// Calls the leg of a TCP session for something that may change how much waits for its target.
    fn with_tcp<T>(&mut self, sub: usize, call: impl FnOnce(&mut TcpLeg<S>, &mut Books) -> T) -> Option<T> {
        let Some(Sub { leg: SubLeg::Tcp(leg), .. }) = self.subs.get_mut(sub) else { return None };
        let before = leg.held_bytes();
        let outcome = call(leg, &mut self.books);
        self.held_bytes = self.held_bytes - before + leg.held_bytes();
        Some(outcome)
    }

    /// The answer to a wish for a UDP socket: there is one for each, in their order.
    pub(super) fn on_bound(&mut self, sub: usize, socket: Option<D>, cx: &mut Context<'_>) {
        if let Some(place) = self.orphaned_binds.iter().position(|&of| of == sub) {
            // Meant for a session that is gone. Another may have its place now.
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
            let mut out =
                Outgoing { now: cx.means.now, counters: cx.counters, books: &mut self.books, pool: cx.means.pool };
            leg.on_bound(socket, &mut out);
            self.mark_ready(sub);
        }
    }

    /// No connection and no socket is to be had for this session.
    pub(super) fn on_failed(&mut self, sub: usize, cx: &mut Context<'_>) {
        cx.counters.mux_sessions_failed.add(1);
        self.end(sub, SubEnd::WithError, cx);
    }

    pub(super) fn on_resolved(&mut self, sub: usize, target: &Target, ip: Option<IpAddr>, cx: &Context<'_>) {
        if let Some(Sub { leg: SubLeg::Udp(leg), .. }) = self.subs.get_mut(sub) {
            let mut out =
                Outgoing { now: cx.means.now, counters: cx.counters, books: &mut self.books, pool: cx.means.pool };
            leg.on_resolved(target, ip, &mut out);
        }
    }

    /// Another connection took this session's socket over, by its Global ID.
    pub(super) fn on_taken(&mut self, sub: usize, global_id: GlobalId, cx: &mut Context<'_>) {
        if self.subs.get(sub).is_some_and(|one| one.global_id == Some(global_id)) {
            self.end(sub, SubEnd::InOrder, cx);
        }
    }

    /// The client's connection broke: its targets are to see that, and not a proper end of what they were sent. Those
    /// of sessions that it had ended before have got all.
    pub(super) fn reset_targets(&mut self) {
        for (_, one) in &mut self.subs {
            if let SubLeg::Tcp(leg) = &mut one.leg
                && !leg.is_ended()
            {
                leg.reset();
            }
        }
    }

    /// Everything ends: a target that is owed bytes must not take that for their end.
    pub(super) fn reset_owed_targets(&mut self) {
        for (_, one) in &mut self.subs {
            if let SubLeg::Tcp(leg) = &mut one.leg
                && leg.has_pending()
            {
                leg.reset();
            }
        }
    }

    /// When something must be looked at, and why the whole connection ends if that is what it comes to.
    pub(super) fn deadline(&self, settings: &SessionSettings, downlink: &Transfer) -> (Instant, CloseReason) {
        let mut first = if self.subs.is_empty() {
            (self.empty_since + settings.timeouts.idle, CloseReason::Idle)
        } else {
            // A look at the sessions. What ends a connection that has some can only be the client.
            (self.next_check, CloseReason::WriteStall)
        };
        if let Some(stalled) = downlink.delivery.stalled_since().map(|since| since + settings.timeouts.write_stall)
            && stalled < first.0
        {
            first = (stalled, CloseReason::WriteStall);
        }
        first
    }

    /// Ends the sessions whose time is over. False: the connection's is over.
    pub(super) fn expire(&mut self, downlink: &Transfer, cx: &mut Context<'_>) -> bool {
        let now = cx.means.now;
        if downlink.delivery.stalled_since().is_some_and(|since| since + cx.settings.timeouts.write_stall <= now) {
            return false;
        }
        if self.subs.is_empty() {
            return self.empty_since + cx.settings.timeouts.idle > now;
        }
        let mut next = now + cx.settings.timeouts.idle;
        for sub in 0..self.subs.capacity() {
            let Some(mut deadline) = leg_deadline(self.subs.get(sub), cx.settings) else { continue };
            if deadline <= now {
                deadline = self.look(sub, cx).unwrap_or(deadline);
            }
            if deadline <= now {
                self.expire_one(sub, cx);
            } else {
                next = next.min(deadline);
            }
        }
        self.next_check = next;
        true
    }

    /// Asks how the target of a session gets on whose time is over. Returns when its time is over now.
    fn look(&mut self, sub: usize, cx: &Context<'_>) -> Option<Instant> {
        if let SubLeg::Tcp(leg) = &mut self.subs.get_mut(sub)?.leg {
            leg.look(cx.means.now);
        }
        leg_deadline(self.subs.get(sub), cx.settings)
    }

    fn expire_one(&mut self, sub: usize, cx: &mut Context<'_>) {
        let Some(one) = self.subs.get_mut(sub) else { return };
        let ending = match &mut one.leg {
            SubLeg::Tcp(leg) if leg.has_pending() => SubEnd::WithError,
            SubLeg::Tcp(_) => SubEnd::InOrder,
            SubLeg::Udp(leg) => {
                leg.retire();
                SubEnd::InOrder
            }
        };
        self.end(sub, ending, cx);
    }

    /// Moves what can be moved within its share of this call.
    pub(super) fn turn(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        if self.is_client_gone {
            channel.settle(&mut cx.means);
            return self.outlive_client(cx);
        }
        let uplink = self.uplink(channel, cx)?;
        let before = (self.subs.len(), self.ends.len());
        let downlink = self.downlink(channel, cx)?;
        // What the next frame waited for may just have gone.
        let has_left = self.subs.len() < before.0 || self.ends.len() < before.1;
        if has_left && channel.uplink.intake.undigested_waits() {
            return Ok(Pause::Again);
        }
        Ok(uplink.max(downlink))
    }

    /// The client ended a session, or took its number for another.
    fn end_by_client(&mut self, sub: usize, cx: &mut Context<'_>) {
        let Some(one) = self.subs.get(sub) else { return };
        self.by_id.remove(&one.id);
        let is_over = self.with_tcp(sub, |leg, books| {
            if leg.is_connected() || leg.has_pending() {
                // What it sent before is not lost: it leaves first.
                leg.end_uplink(books, cx.means.now);
                leg.is_over()
            } else {
                true
            }
        });
        if is_over == Some(false) {
            self.check_by(leg_deadline(self.subs.get(sub), cx.settings));
            return self.mark_ready(sub);
        }
        self.remove(sub, cx);
    }

    /// The server ends a session, and says so to a client that does not know.
    fn end(&mut self, sub: usize, ending: SubEnd, cx: &mut Context<'_>) {
        let Some(one) = self.subs.get(sub) else { return };
        if self.by_id.get(&one.id) == Some(&sub) {
            self.by_id.remove(&one.id);
            self.ends.push(mux::end(one.id, ending == SubEnd::WithError));
        }
        self.remove(sub, cx);
    }

    fn remove(&mut self, sub: usize, cx: &mut Context<'_>) {
        let Some(mut one) = self.subs.try_remove(sub) else { return };
        if let Some(Inside::Stream { sub: of, left }) = self.inside
            && of == sub
        {
            self.inside = Some(Inside::Nothing(left));
        }
        if let SubLeg::Tcp(leg) = &mut one.leg {
            self.held_bytes -= leg.held_bytes();
            if leg.has_pending() {
                // Cut short, it must not look complete.
                leg.reset();
            }
        }
        if one.is_ready {
            // Its place may be taken again before anybody looks at the list.
            self.ready.retain(|&of| of != sub);
        }
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

#[cfg(test)]
mod tests;
