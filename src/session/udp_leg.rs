//! One UDP socket of a session and the names its client calls peers by.
//!
//! A client may address every datagram differently, by address or by name. A name is resolved once per socket, and what
//! comes from its address is reported as coming from the name, because that is all the client knows. Datagrams for a
//! name that is being resolved wait, few of them; what does not fit is dropped and counted, as networks do.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::Traffic;
use super::{Host, Target, UdpSettings, User};
use crate::io::datagram::{DatagramSocket, RecvFrom, SendTo};
use crate::stats::Counters;

/// Names remembered per socket.
const NAMES_MAX: usize = 64;
/// Names of one socket being resolved at the same time.
const ASKED_MAX: usize = 8;
/// Datagrams, and bytes of them, that wait for names per socket.
const WAITING_MAX: usize = 64;
const WAITING_BYTES_MAX: usize = 64 << 10;
/// For how long a name that could not be resolved is not asked for again.
const FAILED_RETRY: Duration = Duration::from_secs(5);
/// A socket that has only spoken to name servers is done soon.
const DNS_PORT: u16 = 53;
const DNS_TIMEOUT: Duration = Duration::from_secs(30);

/// The right to one UDP socket out of those a user may have in the whole process; given back when dropped.
#[derive(Debug)]
pub struct UdpPermit {
    user: Arc<User>,
}

impl UdpPermit {
    /// `None` when `user` has `sockets_max` already.
    pub fn take(user: &Arc<User>, sockets_max: usize) -> Option<Self> {
        user.counters.take_udp_socket(sockets_max).then(|| Self { user: Arc::clone(user) })
    }
}

impl Drop for UdpPermit {
    fn drop(&mut self) {
        self.user.counters.give_udp_socket();
    }
}

/// A UDP socket, or the wait for one.
pub(super) struct UdpLeg<D> {
    socket: Option<D>,
    /// An event came and the socket was not found empty since.
    pub(super) readable: bool,
    /// Where datagrams go that name no destination.
    initial: Target,
    names: VecDeque<Name>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    is_dns: bool,
    moved_at: Instant,
}

struct Name {
    name: Box<str>,
    state: NameState,
}

enum NameState {
    Asked,
    Known(IpAddr),
    FailedAt(Instant),
}

struct Waiting {
    target: Target,
    payload: Box<[u8]>,
}

/// What sending needs besides the datagram.
pub(super) struct Outgoing<'a> {
    pub(super) now: Instant,
    pub(super) counters: &'a Counters,
    pub(super) traffic: &'a mut Traffic,
}

impl<D: DatagramSocket> UdpLeg<D> {
    pub(super) fn new(initial: Target, now: Instant) -> Self {
        Self {
            socket: None,
            readable: false,
            is_dns: initial.port == DNS_PORT,
            initial,
            names: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            moved_at: now,
        }
    }

    pub(super) fn is_bound(&self) -> bool {
        self.socket.is_some()
    }

    /// Answers to look-ups are still to come.
    pub(super) fn is_asking(&self) -> bool {
        self.asked() > 0
    }

    /// When it has been idle for too long, unless something moves before.
    pub(super) fn deadline(&self, settings: &UdpSettings) -> Instant {
        self.moved_at + if self.is_dns { settings.timeout.min(DNS_TIMEOUT) } else { settings.timeout }
    }

    /// The socket is there: sends what waited for it. New sockets may hold datagrams already (a Global ID's does).
    pub(super) fn on_bound(&mut self, socket: D, out: &mut Outgoing<'_>) {
        self.socket = Some(socket);
        self.readable = true;
        self.moved_at = out.now;
        self.send_waiting(out);
    }

    /// A name was resolved, or could not be.
    pub(super) fn on_resolved(&mut self, target: &Target, address: Option<IpAddr>, out: &mut Outgoing<'_>) {
        let Host::Name(wanted) = &target.host else { return };
        let Some(name) = self.names.iter_mut().find(|name| name.name == *wanted) else { return };
        name.state = address.map_or(NameState::FailedAt(out.now), NameState::Known);
        self.send_waiting(out);
    }

    /// Sends one datagram, now or when its destination is known. Returns a target whose name is to be resolved.
    #[must_use]
    pub(super) fn send(&mut self, to: Option<&Target>, payload: &[u8], out: &mut Outgoing<'_>) -> Option<Target> {
        if payload.is_empty() {
            return None;
        }
        match self.locate(to.unwrap_or(&self.initial), out.now) {
            Location::At(address) if self.socket.is_some() => self.transmit(address, payload, out),
            Location::At(_) | Location::Asked => {
                let to = to.unwrap_or(&self.initial).clone();
                self.wait(to, payload, out.counters);
            }
            Location::Unknown if self.asked() < ASKED_MAX => {
                let to = to.unwrap_or(&self.initial).clone();
                self.remember_asked(&to);
                self.wait(to.clone(), payload, out.counters);
                return Some(to);
            }
            Location::Unknown => out.counters.udp_dropped_no_room.add(1),
            Location::Nowhere => out.counters.udp_dropped_unresolved.add(1),
        }
        None
    }

    /// The next datagram, and who it is from in the client's words; `None` when there is none.
    pub(super) fn recv(&mut self, into: &mut [u8], now: Instant) -> Option<(usize, SocketAddr)> {
        let socket = self.socket.as_mut().filter(|_| self.readable)?;
        match socket.recv_from(into) {
            RecvFrom::Datagram(length, source) => {
                self.moved_at = now;
                Some((length, source))
            }
            RecvFrom::Blocked => {
                self.readable = false;
                None
            }
        }
    }

    /// How the client knows the peer at `source`: by the name it asked for, or by its address.
    pub(super) fn name_of(&self, source: SocketAddr) -> Target {
        let known = self.names.iter().find(|name| matches!(name.state, NameState::Known(ip) if ip == source.ip()));
        match known {
            Some(name) => Target { host: Host::Name(name.name.clone()), port: source.port() },
            None => source.into(),
        }
    }

    fn locate(&self, to: &Target, now: Instant) -> Location {
        match &to.host {
            Host::Ip(ip) => Location::At(SocketAddr::new(*ip, to.port)),
            Host::Name(_) if to.is_reserved_name() => Location::Nowhere,
            Host::Name(wanted) => match self.names.iter().find(|name| name.name == *wanted).map(|name| &name.state) {
                Some(NameState::Known(ip)) => Location::At(SocketAddr::new(*ip, to.port)),
                Some(NameState::Asked) => Location::Asked,
                Some(NameState::FailedAt(at)) if now.saturating_duration_since(*at) < FAILED_RETRY => Location::Nowhere,
                Some(NameState::FailedAt(_)) | None => Location::Unknown,
            },
        }
    }

    fn asked(&self) -> usize {
        self.names.iter().filter(|name| matches!(name.state, NameState::Asked)).count()
    }

    /// Makes room for one more name, the oldest answer going first.
    fn remember_asked(&mut self, target: &Target) {
        let Host::Name(name) = &target.host else { return };
        self.names.retain(|known| known.name != *name);
        if self.names.len() >= NAMES_MAX
            && let Some(oldest) = self.names.iter().position(|name| !matches!(name.state, NameState::Asked))
        {
            self.names.remove(oldest);
        }
        self.names.push_back(Name { name: name.clone(), state: NameState::Asked });
    }

    fn wait(&mut self, target: Target, payload: &[u8], counters: &Counters) {
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes + payload.len() > WAITING_BYTES_MAX {
            return counters.udp_dropped_no_room.add(1);
        }
        self.waiting_bytes += payload.len();
        self.waiting.push_back(Waiting { target, payload: payload.into() });
    }

    /// Sends what can be sent of what waits, and drops what never can.
    fn send_waiting(&mut self, out: &mut Outgoing<'_>) {
        if self.socket.is_none() {
            return;
        }
        for _ in 0..self.waiting.len() {
            let Some(one) = self.waiting.pop_front() else { break };
            match self.locate(&one.target, out.now) {
                Location::Asked => {
                    self.waiting.push_back(one);
                    continue;
                }
                Location::At(address) => self.transmit(address, &one.payload, out),
                Location::Unknown | Location::Nowhere => out.counters.udp_dropped_unresolved.add(1),
            }
            self.waiting_bytes -= one.payload.len();
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    fn transmit(&mut self, to: SocketAddr, payload: &[u8], out: &mut Outgoing<'_>) {
        let Some(socket) = &mut self.socket else { return };
        self.moved_at = out.now;
        match socket.send_to(payload, to) {
            SendTo::Sent => {
                self.is_dns &= to.port() == DNS_PORT;
                out.traffic.sent_packet(payload.len());
            }
            SendTo::Refused => out.counters.udp_dropped_by_policy.add(1),
            SendTo::Failed => out.counters.udp_dropped_by_kernel.add(1),
        }
    }
}

enum Location {
    At(SocketAddr),
    Asked,
    Unknown,
    /// It has no address, or must not have one.
    Nowhere,
}
