//! One accepted client from first byte to last.
//!
//! A [`Session`] is told what happened (`on_*`) and answers what it wants next ([`Next`], and wishes in [`Context`]).
//! It owns the client's socket, the protocol stack behind it and a transfer per direction; it opens the conversation
//! (`opening`), then leaves it to one of three relays: a stream to one target (`stream`), the datagrams of one target
//! (`datagrams`), or frames for many targets (`mux`). It decides when to stop, ends in good order (`ending`), and has
//! what it achieved counted (`progress`). It knows no poll, no thread and no clock.

pub mod allowance;
mod channel;
pub mod close;
mod datagrams;
mod ending;
pub mod mux;
mod opening;
pub mod permits;
mod progress;
mod settings;
mod stream;
mod tcp_leg;
pub mod transfer;
mod transforms;
mod udp_leg;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use self::channel::{Channel, Turn};
use self::close::{CloseReason, broken};
use self::datagrams::Datagrams;
use self::ending::LINGER;
use self::mux::Mux;
pub use self::settings::{SessionSettings, Timeouts, UdpSettings};
use self::transfer::Transfer;
pub use self::words::{BindFailure, Context, DialFailure, Leg, Next, SessionRecord, Wish};
use crate::inbound::Inbound;
pub use crate::inbound::tls::TlsAcceptor;
pub use crate::inbound::users::{User, Users};
use crate::io::buffer_pool::OpeningCharge;
use crate::io::datagram::{DatagramSocket, NoDatagrams};
use crate::io::socket::{Endpoint, Readiness, Socket};
pub use crate::protocol::addons::Flow;
pub use crate::protocol::address::{Host, Target};
pub use crate::protocol::mux::GlobalId;
use crate::stats::SessionPermit;

/// One accepted client.
pub struct Session<S, D = NoDatagrams> {
    client: Endpoint<S>,
    target: Option<Endpoint<S>>,
    relay: Relay<S, D>,
    inbound: Inbound,
    uplink: Transfer,
    downlink: Transfer,
    phase: Phase,
    phase_since: Instant,
    accepted_at: Instant,
    client_address: SocketAddr,
    account: Option<Account>,
}

/// Known once the request was accepted.
struct Account {
    user: Arc<User>,
    /// Counts the session as one of the user's.
    _permit: SessionPermit,
    /// `None` where every session inside has its own.
    target: Option<Target>,
    flow: Flow,
}

/// What happens once the request was accepted.
enum Relay<S, D> {
    /// One byte stream to one target.
    Stream,
    Datagrams(Box<Datagrams<D>>),
    Mux(Box<Mux<S, D>>),
}

enum Phase {
    Handshake {
        /// What TLS keeps of a message that is not whole.
        held: Option<OpeningCharge>,
    },
    FirstByte,
    Request,
    /// The request is complete, but there is no memory for what came with it.
    Admission,
    Dialling,
    Relay,
    /// All was said or waits for room; the client may still be sending.
    Lingering {
        reason: CloseReason,
        read_bytes: usize,
        /// The client was not told the end yet: it follows the last byte.
        end_due: bool,
    },
    Closed(CloseReason),
}

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// A session for a client that was just accepted.
    pub fn new(client: S, client_address: SocketAddr, settings: &SessionSettings, now: Instant) -> Self {
        let inbound = settings.tls.clone().map_or_else(Inbound::plain, Inbound::tls);
        Self {
            client: Endpoint::new(client),
            target: None,
            relay: Relay::Stream,
            phase: if inbound.is_open() { Phase::FirstByte } else { Phase::Handshake { held: None } },
            inbound,
            uplink: Transfer::new(now),
            downlink: Transfer::new(now),
            phase_since: now,
            accepted_at: now,
            client_address,
            account: None,
        }
    }

    /// Something changed on one of the sockets.
    pub fn on_ready(&mut self, leg: Leg, readiness: Readiness, cx: &mut Context<'_>) -> Next {
        match leg {
            Leg::Client => self.client.note(readiness),
            Leg::Target => match &mut self.relay {
                Relay::Datagrams(datagrams) => datagrams.on_readable(),
                _ => {
                    if let Some(target) = &mut self.target {
                        target.note(readiness);
                    }
                }
            },
            Leg::Sub(sub) => {
                if let Relay::Mux(mux) = &mut self.relay {
                    mux.on_ready(sub.into(), readiness, cx);
                }
            }
        }
        self.advance(cx)
    }

    /// The next turn after [`Next::Again`].
    pub fn advance(&mut self, cx: &mut Context<'_>) -> Next {
        match self.phase {
            Phase::Handshake { .. } | Phase::FirstByte | Phase::Request => self.open(cx),
            Phase::Admission => self.retry_admission(cx),
            Phase::Dialling if self.client.broken => self.abort(CloseReason::ClientReset),
            Phase::Dialling => Next::Wait,
            Phase::Relay => self.relay(cx),
            Phase::Lingering { .. } => self.linger(cx),
            Phase::Closed(_) => Next::Close,
        }
    }

    /// The target that was wished for is connected.
    pub fn on_connected(&mut self, leg: Leg, socket: S, cx: &mut Context<'_>) -> Next {
        match (leg, &mut self.relay) {
            (Leg::Sub(sub), Relay::Mux(mux)) => mux.on_connected(sub.into(), socket, cx),
            (Leg::Target, Relay::Stream) if matches!(self.phase, Phase::Dialling) => {
                let mut target = Endpoint::new(socket);
                // A connection that was just established takes bytes; if it should not, sending tells.
                target.writable = true;
                self.target = Some(target);
                self.start_relay(cx.means.now);
            }
            _ => {}
        }
        self.advance_after_wish(cx)
    }

    /// The target that was wished for cannot be had.
    pub fn on_dial_failed(&mut self, leg: Leg, failure: DialFailure, cx: &mut Context<'_>) -> Next {
        if let (Leg::Sub(sub), Relay::Mux(mux)) = (leg, &mut self.relay) {
            mux.on_failed(sub.into(), cx);
            return self.advance_after_wish(cx);
        }
        let reason = match failure {
            DialFailure::Policy => CloseReason::PolicyRefused,
            DialFailure::Unresolved => CloseReason::TargetUnresolved,
            DialFailure::Unreachable => CloseReason::TargetUnreachable,
            DialFailure::TimedOut => CloseReason::TargetTimeout,
            DialFailure::NoResources => CloseReason::NoResources,
        };
        self.refuse(reason, cx)
    }

    /// An address of the target that was wished for, or why there is none that may be sent to.
    pub fn on_resolved(
        &mut self,
        leg: Leg,
        target: &Target,
        result: Result<SocketAddr, DialFailure>,
        cx: &mut Context<'_>,
    ) -> Next {
        match (leg, &mut self.relay, result) {
            (Leg::Sub(sub), Relay::Mux(mux), result) => {
                mux.on_resolved(sub.into(), target, result.ok().map(|address| address.ip()), cx);
            }
            (_, Relay::Mux(_), _) => {}
            (leg, _, Err(failure)) => return self.on_dial_failed(leg, failure, cx),
            (leg, relay, Ok(address)) => {
                let Some(account) = &self.account else { return self.finish(CloseReason::Internal) };
                *relay = Relay::Datagrams(Box::new(Datagrams::new(target, address, cx.means.now)));
                cx.wishes.push(Wish::BindUdp { leg, user: Arc::clone(&account.user), global_id: None });
            }
        }
        self.advance_after_wish(cx)
    }

    /// The UDP socket that was wished for, or why there is none.
    pub fn on_bound(&mut self, leg: Leg, result: Result<D, BindFailure>, cx: &mut Context<'_>) -> Next {
        match (leg, &mut self.relay, result) {
            (Leg::Sub(sub), Relay::Mux(mux), result) => mux.on_bound(sub.into(), result.ok(), cx),
            (_, Relay::Datagrams(datagrams), Ok(socket)) if matches!(self.phase, Phase::Dialling) => {
                datagrams.on_bound(socket, cx);
                self.start_relay(cx.means.now);
            }
            (_, _, Ok(_)) => {}
            (_, _, Err(BindFailure::Limit)) => return self.refuse(CloseReason::UdpLimit, cx),
            (_, _, Err(BindFailure::NoResources)) => return self.refuse(CloseReason::NoResources, cx),
        }
        self.advance_after_wish(cx)
    }

    /// A later connection of the same user took the UDP socket of one of this connection's sessions over.
    pub fn on_udp_taken(&mut self, leg: Leg, global_id: GlobalId, cx: &mut Context<'_>) -> Next {
        if let (Leg::Sub(sub), Relay::Mux(mux)) = (leg, &mut self.relay) {
            mux.on_taken(sub.into(), global_id, cx);
        }
        self.advance_after_wish(cx)
    }

    /// The next turn after the answer to a wish. That of a Mux connection comes later: a turn makes more wishes than one, so
    /// whoever has them answered at once would never come to an end of them.
    fn advance_after_wish(&mut self, cx: &mut Context<'_>) -> Next {
        if matches!(self.relay, Relay::Mux(_)) { Next::Again } else { self.advance(cx) }
    }

    /// The instant by which something must have happened; `None` while the dialler keeps the time.
    pub fn deadline(&self, settings: &SessionSettings) -> Option<Instant> {
        let timeouts = &settings.timeouts;
        Some(match self.phase {
            Phase::Handshake { .. } => self.accepted_at + timeouts.tls_handshake,
            Phase::FirstByte => self.phase_since + timeouts.first_byte,
            Phase::Request | Phase::Admission => self.phase_since + timeouts.request,
            Phase::Dialling => return None,
            Phase::Relay => self.relay_deadline(settings).0,
            Phase::Lingering { .. } => self.phase_since + LINGER,
            Phase::Closed(_) => self.phase_since,
        })
    }

    /// The instant given by [`Session::deadline`] may have come.
    pub fn on_timeout(&mut self, cx: &mut Context<'_>) -> Next {
        let due = self.deadline(cx.settings).is_some_and(|deadline| deadline <= cx.means.now);
        if !due {
            return Next::Wait;
        }
        if let (Phase::Relay, Relay::Mux(mux)) = (&self.phase, &mut self.relay)
            && mux.expire(&self.downlink, cx)
        {
            return self.advance(cx);
        }
        let reason = match self.phase {
            Phase::Handshake { .. } => CloseReason::HandshakeTimeout,
            Phase::FirstByte => CloseReason::FirstByteTimeout,
            Phase::Request | Phase::Admission => CloseReason::RequestTimeout,
            Phase::Dialling => return Next::Wait,
            Phase::Relay => self.relay_deadline(cx.settings).1,
            Phase::Lingering { reason, .. } | Phase::Closed(reason) => reason,
        };
        self.cut(reason, cx)
    }

    /// Ends the session now, whatever it is doing; TLS still says goodbye if the client takes it at once.
    pub fn cut(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        // Whoever is owed bytes must not take this for the end of the stream, wherever they are.
        let target_waits = self.uplink.owes_bytes() || (self.uplink.end().is_none() && self.client.readable);
        let target_has_more = self.target.as_ref().is_some_and(|target| target.readable);
        let client_waits = self.downlink.owes_bytes() || (self.downlink.end().is_none() && target_has_more);
        if !client_waits && self.downlink.end().is_none() {
            self.inbound.close();
            let inbound = &mut self.inbound;
            self.downlink.queue(&mut cx.means, |wire, tally| inbound.take_outgoing(wire, tally));
            self.downlink.flush(&mut self.client, &mut cx.means);
        }
        if client_waits || self.downlink.owes_bytes() {
            self.client.socket.reset_on_close();
        }
        if let Some(target) = &mut self.target
            && target_waits
        {
            target.socket.reset_on_close();
        }
        if let Relay::Mux(mux) = &mut self.relay
            && target_waits
        {
            mux.reset_targets();
        }
        self.count_rest(cx);
        self.finish(reason)
    }

    /// When the client was accepted, if memory is kept for it although it is not admitted.
    pub fn opening_holder_since(&self) -> Option<Instant> {
        let tls_holds = matches!(self.phase, Phase::Handshake { held: Some(_) });
        let holds = tls_holds || self.uplink.holds_opening() || self.downlink.holds_opening();
        holds.then_some(self.accepted_at)
    }

    /// What happened, for the access log.
    pub fn record(&self, now: Instant) -> SessionRecord {
        let reason = match self.phase {
            Phase::Closed(reason) | Phase::Lingering { reason, .. } => reason,
            _ => CloseReason::Internal,
        };
        let traffic = self.traffic();
        SessionRecord {
            client: self.client_address,
            user: self.account.as_ref().map(|account| Arc::clone(&account.user)),
            target: self.account.as_ref().and_then(|account| account.target.clone()),
            flow: self.account.as_ref().map_or(Flow::None, |account| account.flow),
            uplink: traffic.uplink,
            downlink: traffic.downlink,
            age: now.saturating_duration_since(self.accepted_at),
            reason,
        }
    }

    /// The sockets, for whoever registers them.
    pub fn client_socket(&mut self) -> &mut S {
        &mut self.client.socket
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.phase_since = now;
    }

    fn start_relay(&mut self, now: Instant) {
        self.enter(Phase::Relay, now);
        self.uplink.start(now);
        self.downlink.start(now);
    }

    /// Sends what TLS has to say during the opening; false when some of it still waits.
    fn send_unasked(&mut self, cx: &mut Context<'_>) -> bool {
        if self.inbound.has_outgoing() {
            let inbound = &mut self.inbound;
            self.downlink.queue(&mut cx.means, |wire, tally| inbound.take_outgoing(wire, tally));
        }
        self.downlink.flush(&mut self.client, &mut cx.means)
    }

    fn wait_or_abort(&mut self) -> Next {
        if self.downlink.end().is_some() { self.abort(CloseReason::ClientReset) } else { Next::Wait }
    }

    fn relay(&mut self, cx: &mut Context<'_>) -> Next {
        let mut before = self.progress();
        let mut channel = Channel {
            client: &mut self.client,
            inbound: &mut self.inbound,
            uplink: &mut self.uplink,
            downlink: &mut self.downlink,
        };
        let turn = match &mut self.relay {
            Relay::Stream => return self.relay_stream(cx),
            Relay::Datagrams(datagrams) => datagrams.turn(&mut channel, cx),
            Relay::Mux(mux) => mux.turn(&mut channel, cx),
        };
        match &mut self.relay {
            Relay::Stream => {}
            Relay::Datagrams(datagrams) => before.traffic = datagrams.take_counted(),
            Relay::Mux(mux) => before.traffic = mux.take_counted(),
        }
        self.count(before, cx);
        match turn {
            Turn::Wait => Next::Wait,
            Turn::Starved => Next::Starved,
            Turn::Again => {
                cx.counters.turns_cut_by_budget.add(1);
                Next::Again
            }
            Turn::Close(reason) => self.refuse(reason, cx),
            Turn::Abort(reason) => self.abort(reason),
            Turn::Broken(error) => {
                log::debug!("{}: {error}", self.client_address);
                // The alert is the last thing the client hears; a reset would overtake it.
                self.send_unasked(cx);
                if let Relay::Mux(mux) = &mut self.relay {
                    mux.reset_targets();
                }
                self.finish(broken(&error))
            }
        }
    }

    /// The first of the relay's deadlines, and the reason if it passes.
    fn relay_deadline(&self, settings: &SessionSettings) -> (Instant, CloseReason) {
        match &self.relay {
            Relay::Stream => self.stream_deadline(&settings.timeouts),
            Relay::Datagrams(datagrams) => datagrams.deadline(settings, &self.downlink),
            Relay::Mux(mux) => mux.deadline(settings, &self.downlink),
        }
    }
}
