//! A session as others see it, in the list of live sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Flow, Phase, Session, User};
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::stats::Ledger;

/// What a live session looks like at one instant.
#[derive(Clone, Debug)]
pub struct View {
    pub client: SocketAddr,
    /// What the user was called when the session began. `None` before a request was accepted.
    pub user: Option<String>,
    /// What is counted for the user, whatever he is called by now.
    pub ledger: Option<Arc<Ledger>>,
    /// The target as the client named it. `None` before a request was accepted, and where many are inside.
    pub target: Option<String>,
    pub flow: Flow,
    pub state: State,
    pub mode: Mode,
    /// Payload bytes that were delivered so far.
    pub uplink_bytes: u64,
    pub downlink_bytes: u64,
    /// Since it was accepted.
    pub age: Duration,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Handshake,
    FirstByte,
    Request,
    Dialling,
    Relaying,
    /// One direction has ended.
    HalfClosed,
    Lingering,
    Closed,
}

/// How a session carries its payload at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Without TLS.
    Plain,
    Tls,
    /// TLS with Vision's padding, or behind it.
    Vision,
    /// Vision has left TLS in at least one direction.
    Direct,
    /// Bytes went through a kernel pipe.
    Splice,
    Udp,
    Mux,
}

impl State {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 8] = [
        Self::Handshake,
        Self::FirstByte,
        Self::Request,
        Self::Dialling,
        Self::Relaying,
        Self::HalfClosed,
        Self::Lingering,
        Self::Closed,
    ];

    /// The word used in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::FirstByte => "first_byte",
            Self::Request => "request",
            Self::Dialling => "dialling",
            Self::Relaying => "relaying",
            Self::HalfClosed => "half_closed",
            Self::Lingering => "lingering",
            Self::Closed => "closed",
        }
    }
}

impl Mode {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 7] = [Self::Plain, Self::Tls, Self::Vision, Self::Direct, Self::Splice, Self::Udp, Self::Mux];

    /// The word used in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::Vision => "vision",
            Self::Direct => "direct",
            Self::Splice => "splice",
            Self::Udp => "udp",
            Self::Mux => "mux",
        }
    }
}

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// The session as it is now.
    pub fn view(&self, now: Instant) -> View {
        let account = self.party.account();
        let traffic = self.traffic();
        View {
            client: self.client_address,
            user: account.map(|account| account.user.email.clone()),
            ledger: account.map(|account| Arc::clone(&account.user.ledger)),
            target: account
                .and_then(|account| account.target.as_ref())
                .map(ToString::to_string)
                .or_else(|| self.party.fallback()),
            flow: account.map_or(Flow::None, |account| account.flow),
            state: self.state(),
            mode: self.mode(),
            uplink_bytes: traffic.uplink.payload_bytes,
            downlink_bytes: traffic.downlink.payload_bytes,
            age: now.saturating_duration_since(self.accepted_at()),
        }
    }

    /// Where the client is.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Whose session it is. `None` before a request was accepted.
    pub fn user(&self) -> Option<&Arc<User>> {
        self.party.account().map(|account| &account.user)
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        let has_ended = self.uplink.delivery.end().is_some() || self.downlink.delivery.end().is_some();
        match &self.phase {
            Phase::Opening(opening) => opening.state(),
            Phase::Dialling(_) => State::Dialling,
            Phase::Relaying(_) if has_ended => State::HalfClosed,
            Phase::Relaying(_) => State::Relaying,
            Phase::Lingering { .. } => State::Lingering,
            Phase::Closed(_) => State::Closed,
        }
    }

    /// How it carries its payload.
    pub fn mode(&self) -> Mode {
        if let Phase::Relaying(relay) = &self.phase
            && let Some(mode) = relay.mode()
        {
            return mode;
        }
        let is_spliced = [&self.uplink, &self.downlink].iter().any(|one| one.delivery.moved().spliced_bytes > 0);
        let is_vision = self.party.account().is_some_and(|account| account.flow == Flow::Vision);
        let is_direct = self.inbound.is_uplink_direct() || self.inbound.is_downlink_direct();
        match (is_vision, self.inbound.is_tls()) {
            _ if is_spliced => Mode::Splice,
            (true, _) if is_direct => Mode::Direct,
            (true, _) => Mode::Vision,
            (false, true) => Mode::Tls,
            (false, false) => Mode::Plain,
        }
    }
}
