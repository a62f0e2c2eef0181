//! One accepted client from first byte to last.
//!
//! A [`Session`] is told what happened (`on_*`) and answers what it wants next ([`Next`], and wishes in [`Context`]).
//!
//! - It owns the client's socket, the protocol stack behind it and a transfer per direction.
//! - It opens the conversation (`opening`), and leaves it to one of three relays: a stream to one target (`stream`),
//!   the datagrams of one target (`datagrams`), or frames for many targets (`mux`).
//! - It decides when to stop, ends in good order (`ending`), and has what it achieved counted (`progress`).
//!
//! It knows no poll, no thread and no clock.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(not(test), deny(clippy::string_slice))]

pub mod allowance;
mod announced;
mod books;
mod channel;
pub mod close;
mod datagrams;
mod delivery;
mod dialling;
mod ending;
mod falling_back;
mod intake;
pub mod mux;
mod opening;
mod party;
pub mod pause;
pub mod permits;
mod progress;
mod relay;
mod scratch;
mod settings;
mod stream;
mod tcp_leg;
pub mod transfer;
mod transforms;
mod udp_leg;
pub mod view;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use self::channel::Channel;
use self::close::CloseReason;
use self::datagrams::Datagrams;
use self::dialling::Dialling;
use self::ending::LINGER;
use self::opening::Opening;
use self::party::Party;
pub use self::party::{address_of, source_of};
use self::pause::Pause;
pub use self::progress::Undelivered;
use self::relay::Relay;
pub use self::settings::{SessionSettings, Timeouts, UdpSettings};
use self::transfer::Transfer;
pub use self::view::View;
pub use self::words::{BindFailure, Context, DialFailure, Leg, Next, SessionRecord, Wish};
use crate::inbound::Inbound;
pub use crate::inbound::fallback::{BuiltIn, Dest, Fallback, Fallbacks, Site};
pub use crate::inbound::tls::TlsAcceptor;
pub use crate::inbound::users::{User, Users};
use crate::io::buffer_pool::Loan;
use crate::io::datagram::{DatagramSocket, NoDatagrams};
use crate::io::endpoint::{Endpoint, Readiness};
use crate::io::moment::Moment;
use crate::io::socket::Socket;
pub use crate::protocol::addons::Flow;
pub use crate::protocol::address::{Host, Target};
pub use crate::protocol::cidr::{Cidr, ParseCidrError};
pub use crate::protocol::mux::GlobalId;

/// One accepted client.
pub struct Session<S, D = NoDatagrams> {
    client: Endpoint<S>,
    inbound: Inbound,
    uplink: Transfer,
    downlink: Transfer,
    phase: Phase<S, D>,
    /// When the phase, or the part of the opening, began.
    phase_since: Moment,
    accepted_at: Moment,
    /// Where the client is: at the other end of its socket, or where somebody who is believed says.
    client_address: SocketAddr,
    party: Party,
}

enum Phase<S, D> {
    Opening(Opening),
    Dialling(Dialling<D>),
    Relaying(Relay<S, D>),
    /// Everything was said or waits for room. The client may still be sending.
    Lingering {
        reason: CloseReason,
        read_bytes: usize,
        /// The client has not been told the end yet. It follows the last byte.
        end_due: bool,
    },
    Closed(CloseReason),
}

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// A session for a client that was just accepted.
    pub fn new(client: S, client_address: SocketAddr, settings: &SessionSettings, now: Instant) -> Self {
        let inbound = settings.tls.clone().map_or_else(Inbound::plain, Inbound::tls);
        let opening = Opening::first(&inbound, settings.is_announcer(client_address.ip()));
        Self {
            client: Endpoint::new(client),
            inbound,
            uplink: Transfer::new(now),
            downlink: Transfer::new(now),
            phase: Phase::Opening(opening),
            phase_since: now.into(),
            accepted_at: now.into(),
            client_address,
            party: Party::Stranger(None),
        }
    }

    /// Something changed on one of the sockets: [`Session::note`] and a turn.
    pub fn on_ready(&mut self, leg: Leg, readiness: Readiness, cx: &mut Context<'_>) -> Next {
        self.note(leg, readiness, cx);
        self.advance(cx)
    }

    /// Something changed on one of the sockets, which the next turn will look at.
    pub fn note(&mut self, leg: Leg, readiness: Readiness, cx: &mut Context<'_>) {
        match (leg, &mut self.phase) {
            (Leg::Client, _) => self.client.note(readiness),
            (_, Phase::Relaying(relay)) => relay.on_ready(leg, readiness, cx),
            (_, _) => {}
        }
    }

    /// The next turn after [`Next::Again`], [`Next::Starved`] or [`Next::Later`].
    pub fn advance(&mut self, cx: &mut Context<'_>) -> Next {
        match self.phase {
            Phase::Opening(_) => self.open(cx),
            Phase::Dialling(_) if self.client.is_broken() => self.abort(CloseReason::ClientReset),
            Phase::Dialling(_) => Next::Wait,
            Phase::Relaying(_) => self.relay(cx),
            Phase::Lingering { .. } => self.linger(cx),
            Phase::Closed(_) => Next::Close,
        }
    }

    /// The target that was wished for is connected.
    pub fn on_connected(&mut self, leg: Leg, socket: S, cx: &mut Context<'_>) -> Next {
        match &mut self.phase {
            Phase::Dialling(Dialling::Stream | Dialling::Fallback { .. }) => {
                self.start_relay(Relay::stream(socket), cx.means.now);
            }
            Phase::Relaying(relay) => relay.on_connected(leg, socket, cx),
            _ => {}
        }
        self.advance_after_wish(cx)
    }

    /// The target that was wished for is not to be had.
    pub fn on_dial_failed(&mut self, leg: Leg, failure: DialFailure, cx: &mut Context<'_>) -> Next {
        let reason = match failure {
            DialFailure::Policy => CloseReason::PolicyRefused,
            DialFailure::Unresolved => CloseReason::TargetUnresolved,
            DialFailure::Unreachable => CloseReason::TargetUnreachable,
            DialFailure::TimedOut => CloseReason::TargetTimeout,
            DialFailure::NoResources => CloseReason::NoResources,
        };
        self.on_failed(leg, reason, cx)
    }

    /// What was wished for on this leg is not to be had.
    fn on_failed(&mut self, leg: Leg, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        let ends_session = match &mut self.phase {
            Phase::Dialling(_) => true,
            Phase::Relaying(relay) => !relay.on_failed(leg, cx),
            _ => false,
        };
        if matches!(self.phase, Phase::Dialling(Dialling::Fallback { .. })) {
            return self.end_without_fallback(cx);
        }
        if ends_session { self.refuse(reason, cx) } else { self.advance_after_wish(cx) }
    }

    /// An address of the target that was wished for, or why there is none that may be sent to.
    pub fn on_resolved(
        &mut self,
        leg: Leg,
        target: &Target,
        result: Result<SocketAddr, DialFailure>,
        cx: &mut Context<'_>,
    ) -> Next {
        match (&mut self.phase, result) {
            (Phase::Relaying(relay), result) => relay.on_resolved(leg, target, result.ok(), cx),
            (_, Err(failure)) => return self.on_dial_failed(leg, failure, cx),
            (Phase::Dialling(dialling @ Dialling::Address), Ok(address)) => {
                let Some(account) = self.party.account() else { return self.finish(CloseReason::Internal) };
                *dialling = Dialling::Socket(Box::new(Datagrams::new(target, address, cx.means.now)));
                cx.wishes.push(Wish::BindUdp { leg, user: Arc::clone(&account.user), global_id: None });
            }
            (_, Ok(_)) => {}
        }
        self.advance_after_wish(cx)
    }

    /// The UDP socket that was wished for, or why there is none.
    pub fn on_bound(&mut self, leg: Leg, result: Result<D, BindFailure>, cx: &mut Context<'_>) -> Next {
        match (&mut self.phase, result) {
            (Phase::Relaying(relay), result) => relay.on_bound(leg, result.ok(), cx),
            (Phase::Dialling(dialling @ Dialling::Socket(_)), Ok(socket)) => {
                if let Dialling::Socket(mut datagrams) = std::mem::replace(dialling, Dialling::Address) {
                    datagrams.on_bound(socket, cx);
                    self.start_relay(Relay::Datagrams(datagrams), cx.means.now);
                }
            }
            (_, Ok(_)) => {}
            (_, Err(BindFailure::Limit)) => return self.on_failed(leg, CloseReason::UdpLimit, cx),
            (_, Err(BindFailure::NoResources)) => return self.on_failed(leg, CloseReason::NoResources, cx),
        }
        self.advance_after_wish(cx)
    }

    /// A later connection of the same user took over the UDP socket of one of this connection's sessions.
    pub fn on_udp_taken(&mut self, leg: Leg, global_id: GlobalId, cx: &mut Context<'_>) -> Next {
        if let Phase::Relaying(relay) = &mut self.phase {
            relay.on_udp_taken(leg, global_id, cx);
        }
        self.advance_after_wish(cx)
    }

    fn advance_after_wish(&mut self, cx: &mut Context<'_>) -> Next {
        match &self.phase {
            Phase::Relaying(relay) if relay.wishes_much() => Next::Again,
            _ => self.advance(cx),
        }
    }

    /// The instant by which something must have happened. `None`: the dialler keeps the time.
    pub fn deadline(&self, settings: &SessionSettings) -> Option<Instant> {
        self.due(settings).map(|(deadline, _)| deadline)
    }

    /// The first deadline, and the reason if it passes.
    fn due(&self, settings: &SessionSettings) -> Option<(Instant, CloseReason)> {
        let phase_since = Instant::from(self.phase_since);
        match &self.phase {
            Phase::Opening(opening) => Some(opening.deadline(self.accepted_at(), phase_since, &settings.timeouts)),
            Phase::Dialling(_) => None,
            Phase::Relaying(relay) => Some(relay.deadline(&self.client, (&self.uplink, &self.downlink), settings)),
            Phase::Lingering { reason, .. } => Some((phase_since + LINGER, *reason)),
            Phase::Closed(reason) => Some((phase_since, *reason)),
        }
    }

    /// The instant given by [`Session::deadline`] may have come.
    pub fn on_timeout(&mut self, cx: &mut Context<'_>) -> Next {
        if self.due(cx.settings).is_none_or(|(deadline, _)| deadline > cx.means.now) {
            return Next::Wait;
        }
        if let Phase::Relaying(relay) = &mut self.phase
            && relay.expire(&self.downlink, cx)
        {
            return self.advance(cx);
        }
        if matches!(self.phase, Phase::Opening(Opening::FirstByte))
            && let Some(next) = self.fall_back_in_silence(cx)
        {
            return next;
        }
        self.look(cx);
        // Ending parts of it, or a look at what is under way, may have changed when and why the rest ends.
        match self.due(cx.settings) {
            Some((deadline, reason)) if deadline <= cx.means.now => self.cut(reason, cx),
            _ => Next::Wait,
        }
    }

    /// The client is not admitted yet: it is not known to be a user's.
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    /// A deadline has come. If it counts from the last progress, the kernel is asked whether there was some meanwhile.
    fn look(&mut self, cx: &Context<'_>) {
        let reason = self.due(cx.settings).map(|(_, reason)| reason);
        if matches!(reason, None | Some(CloseReason::Finished)) {
            return;
        }
        if let Phase::Relaying(relay) = &mut self.phase {
            relay.look(&self.client, (&mut self.uplink, &mut self.downlink), cx.means.now);
        }
    }

    /// The client is not a user's, or not known to be: in its opening, passed on to a fallback, or refused.
    pub fn is_stranger(&self) -> bool {
        self.party.is_stranger()
    }

    /// A user's request is complete, and waits for memory.
    pub fn awaits_admission(&self) -> bool {
        matches!(self.phase, Phase::Opening(Opening::Admission))
    }

    /// Memory of the strangers' share is kept for the client.
    pub fn holds_strangers_memory(&self) -> bool {
        let tls_holds = matches!(&self.phase, Phase::Opening(opening) if opening.holds_memory());
        let keeps_bytes = self.party.is_stranger() && (self.uplink.holds_buffers() || self.downlink.holds_buffers());
        tls_holds || keeps_bytes
    }

    /// What happened, for the access log.
    pub fn record(&self, now: Instant) -> SessionRecord {
        let reason = match self.phase {
            Phase::Closed(reason) | Phase::Lingering { reason, .. } => reason,
            _ => CloseReason::Internal,
        };
        let (traffic, account) = (self.traffic(), self.party.account());
        SessionRecord {
            client: self.client_address,
            user: account.map(|account| Arc::clone(&account.user)),
            target: account.and_then(|account| account.target.clone()),
            flow: account.map_or(Flow::None, |account| account.flow),
            uplink: traffic.uplink,
            downlink: traffic.downlink,
            age: now.saturating_duration_since(self.accepted_at()),
            reason,
        }
    }

    fn accepted_at(&self) -> Instant {
        self.accepted_at.into()
    }

    fn enter(&mut self, phase: Phase<S, D>, now: Instant) {
        self.phase = phase;
        self.phase_since = now.into();
    }

    fn start_relay(&mut self, relay: Relay<S, D>, now: Instant) {
        self.enter(Phase::Relaying(relay), now);
        self.uplink.delivery.start(now);
        self.downlink.delivery.start(now);
    }

    /// Sends what TLS says unasked. False: some of it still waits.
    fn send_unasked(&mut self, cx: &mut Context<'_>) -> bool {
        if self.inbound.has_outgoing() {
            let loan = if self.party.is_stranger() { Loan::Opening } else { Loan::Waiting };
            let mut output = cx.means.scratch.take_output();
            let write = |wire: &mut _, tally: &mut _| self.inbound.take_outgoing(wire, tally);
            self.downlink.delivery.owe_more(&mut output, loan, cx.means.pool, write);
            cx.means.scratch.give_output(output);
        }
        self.downlink.delivery.flush(&mut self.client, cx.means.now)
    }

    fn wait_or_abort(&mut self) -> Next {
        if self.downlink.delivery.end().is_some() { self.abort(CloseReason::ClientReset) } else { Next::Wait }
    }

    fn relay(&mut self, cx: &mut Context<'_>) -> Next {
        let before = self.progress();
        let Phase::Relaying(relay) = &mut self.phase else { return Next::Wait };
        let mut channel = Channel {
            client: &mut self.client,
            inbound: &mut self.inbound,
            uplink: &mut self.uplink,
            downlink: &mut self.downlink,
        };
        let turn = relay.turn(&mut channel, cx);
        self.count(before, cx);
        match turn {
            Ok(Pause::Wait) => Next::Wait,
            Ok(Pause::Later) => cx.allowance.more_at().map_or(Next::Again, Next::Later),
            Ok(Pause::Starved) => Next::Starved,
            Ok(Pause::Again) => {
                cx.counters.turns_cut_by_budget.add(1);
                Next::Again
            }
            Err(ending) => self.end(ending, cx),
        }
    }
}
#[cfg(test)]
mod tests {
    use mio::net::TcpStream;

    use super::*;

    /// There is one of these per client, idle or not.
    #[test]
    fn a_session_stays_small() {
        let bytes = size_of::<Session<TcpStream, NoDatagrams>>();
        assert!(bytes <= 472, "{bytes}");
    }
}
