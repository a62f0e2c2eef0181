//! One UDP socket of a session and the names its client calls peers by.
//!
//! - A client may address every datagram differently, by address or by name.
//! - A name is resolved once per socket. What comes from its address is reported as coming from the name, because that
//!   is all the client knows.
//! - A few datagrams for a name that is being resolved wait. What does not fit is dropped and counted, as networks do.

mod names;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::names::{Location, Names};
use super::books::Books;
use super::{Target, UdpSettings};
use crate::io::buffer_pool::{BufferPool, Loan, PooledBuf};
use crate::io::datagram::{DatagramSocket, RecvFrom, SendTo};
use crate::stats::Counters;

/// Names of one socket being resolved at the same time.
const ASKED_MAX: usize = 8;
/// Datagrams, and bytes of them, that wait for names per socket.
const WAITING_MAX: usize = 64;
const WAITING_BYTES_MAX: usize = 16 << 10;
/// The most bytes of datagrams that are sent together. Longer ones do not fit an ordinary packet.
const RUN_DATAGRAM_BYTES_MAX: usize = 1472;
const DNS_PORT: u16 = 53;
/// The idle time of a socket that has only spoken to name servers, which is done soon.
const DNS_TIMEOUT: Duration = Duration::from_secs(30);

/// A UDP socket, or the wait for one.
pub(super) struct UdpLeg<D> {
    socket: Option<D>,
    /// An event came and the socket was not found empty since.
    pub(super) readable: bool,
    /// Where datagrams go that name no destination.
    initial: Target,
    names: Names,
    /// Datagrams that wait for a name or for the socket: where they go, and how long they are.
    waiting: VecDeque<(Target, usize)>,
    /// What they carry, one behind the other.
    held: Option<PooledBuf>,
    is_dns: bool,
    /// The kernel does not take several datagrams at once.
    is_one_by_one: bool,
    moved_at: Instant,
}

/// What a socket had to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A datagram of so many bytes, maybe none, from there.
    Datagram(usize, SocketAddr),
    /// One that is not for the client.
    Refused,
}

/// What sending needs besides the datagram.
pub(super) struct Outgoing<'a> {
    pub(super) now: Instant,
    pub(super) counters: &'a Counters,
    pub(super) books: &'a mut Books,
    pub(super) pool: &'a BufferPool,
}

impl<D: DatagramSocket> UdpLeg<D> {
    pub(super) fn new(initial: Target, now: Instant) -> Self {
        Self {
            socket: None,
            readable: false,
            is_one_by_one: false,
            is_dns: initial.port == DNS_PORT,
            names: Names::new(&initial),
            initial,
            waiting: VecDeque::new(),
            held: None,
            moved_at: now,
        }
    }

    /// Whether it was idle for so long that its client is not expected back.
    pub(super) fn retire(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.retire();
        }
    }

    pub(super) fn is_bound(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether answers to look-ups are still to come.
    pub(super) fn is_asking(&self) -> bool {
        self.names.asked() > 0
    }

    /// When it has been idle for too long, unless something moves before.
    pub(super) fn deadline(&self, settings: &UdpSettings) -> Instant {
        self.moved_at + if self.is_dns { settings.timeout.min(DNS_TIMEOUT) } else { settings.timeout }
    }

    /// Takes the socket, and sends what waited for it. It may hold datagrams already: that of a Global ID does.
    pub(super) fn on_bound(&mut self, socket: D, out: &mut Outgoing<'_>) {
        self.socket = Some(socket);
        self.readable = true;
        self.moved_at = out.now;
        self.send_waiting(out);
    }

    /// A name was resolved, or could not be.
    pub(super) fn on_resolved(&mut self, target: &Target, address: Option<IpAddr>, out: &mut Outgoing<'_>) {
        if self.names.on_resolved(target, address, out.now) {
            self.send_waiting(out);
        }
    }

    /// Sends one datagram, now or once its destination is known. Returns a target whose name is to be resolved.
    #[must_use]
    pub(super) fn send(&mut self, to: Option<&Target>, payload: &[u8], out: &mut Outgoing<'_>) -> Option<Target> {
        match self.names.locate(to.unwrap_or(&self.initial), out.now) {
            Location::At(address) if self.socket.is_some() => self.transmit(address, to, payload, out),
            Location::At(_) | Location::Asked => {
                let to = to.unwrap_or(&self.initial).clone();
                self.wait(to, payload, out);
            }
            Location::Unknown if self.names.asked() < ASKED_MAX => {
                let to = to.unwrap_or(&self.initial).clone();
                if self.names.remember_asked(&to, out) {
                    self.wait(to.clone(), payload, out);
                    return Some(to);
                }
                out.counters.udp_dropped_no_room.add(1);
            }
            Location::Unknown => out.counters.udp_dropped_no_room.add(1),
            Location::Nowhere => out.counters.udp_dropped_unresolved.add(1),
        }
        None
    }

    /// Sends equally long datagrams to the initial destination together. False: the kernel does not take that, and none
    /// was sent.
    pub(super) fn send_run(&mut self, run: &[IoSlice<'_>], out: &mut Outgoing<'_>) -> bool {
        let length = run.first().map_or(0, |datagram| datagram.len());
        if self.is_one_by_one || !(1..=RUN_DATAGRAM_BYTES_MAX).contains(&length) {
            return false;
        }
        let Location::At(address) = self.names.locate(&self.initial, out.now) else { return false };
        let Some(socket) = &mut self.socket else { return false };
        match socket.send_run(run, length as u16, address) {
            SendTo::Sent => {
                self.moved_at = out.now;
                self.is_dns &= address.port() == DNS_PORT;
                self.names.note_sent(address, &self.initial, out);
                for datagram in run {
                    out.books.sent_packet(datagram.len());
                }
                true
            }
            SendTo::Refused | SendTo::Undecided | SendTo::Failed => false,
            SendTo::NotTogether => {
                self.is_one_by_one = true;
                false
            }
        }
    }

    /// The next datagram: how long it is and who it is from, or that the destination policy kept it away. `None` when
    /// there is none.
    pub(super) fn recv(&mut self, into: &mut [u8], counters: &Counters, now: Instant) -> Option<Heard> {
        let socket = self.socket.as_mut().filter(|_| self.readable)?;
        match socket.recv_from(into) {
            RecvFrom::Datagram(length, source) => {
                self.moved_at = now;
                Some(Heard::Datagram(length, source))
            }
            RecvFrom::Refused => {
                counters.udp_dropped_by_policy.add(1);
                Some(Heard::Refused)
            }
            RecvFrom::Undecided => {
                counters.udp_dropped_undecided.add(1);
                Some(Heard::Refused)
            }
            RecvFrom::Blocked => {
                self.readable = false;
                None
            }
        }
    }

    /// How the client knows the peer at `source`.
    pub(super) fn name_of(&self, source: SocketAddr) -> Target {
        self.names.name_of(source)
    }

    fn wait(&mut self, target: Target, payload: &[u8], out: &Outgoing<'_>) {
        let held = self.held.as_ref().map_or(0, |held| held.len());
        // The first one may be of any length.
        let is_full = self.waiting.len() >= WAITING_MAX || held + payload.len() > WAITING_BYTES_MAX;
        if (is_full && !self.waiting.is_empty()) || !self.names.begin_waiting(&target, out.pool) {
            return out.counters.udp_dropped_no_room.add(1);
        }
        if !self.hold(payload, out) {
            self.names.end_waiting(&target);
            return out.counters.udp_dropped_no_room.add(1);
        }
        self.waiting.push_back((target, payload.len()));
    }

    /// Keeps a payload behind those that wait. False: there is no memory for it.
    fn hold(&mut self, payload: &[u8], out: &Outgoing<'_>) -> bool {
        if payload.is_empty() || self.held.as_mut().is_some_and(|held| held.append(payload)) {
            return true;
        }
        let bytes = self.held.as_ref().map_or(0, |held| held.len()) + payload.len();
        if !out.pool.has_room(BufferPool::buffer_bytes(bytes)) {
            return false;
        }
        let mut all = out.pool.take(bytes, Loan::Waiting);
        let earlier = self.held.take();
        let fits = earlier.is_none_or(|earlier| all.append(earlier.bytes())) && all.append(payload);
        self.held = Some(all);
        fits
    }

    /// Sends what can be sent of what waits, and drops what never can.
    fn send_waiting(&mut self, out: &mut Outgoing<'_>) {
        if self.socket.is_none() {
            return;
        }
        let held = self.held.take();
        let mut rest = held.as_ref().map_or(&[][..], |held| held.bytes());
        for (target, length) in std::mem::take(&mut self.waiting) {
            let Some((payload, later)) = rest.split_at_checked(length) else { return };
            rest = later;
            self.names.end_waiting(&target);
            match self.names.locate(&target, out.now) {
                Location::Asked => self.wait(target, payload, out),
                Location::At(address) => self.transmit(address, Some(&target), payload, out),
                Location::Unknown | Location::Nowhere => out.counters.udp_dropped_unresolved.add(1),
            }
        }
    }

    fn transmit(&mut self, to: SocketAddr, target: Option<&Target>, payload: &[u8], out: &mut Outgoing<'_>) {
        let Some(socket) = &mut self.socket else { return };
        self.moved_at = out.now;
        match socket.send_to(payload, to) {
            SendTo::Sent => {
                self.is_dns &= to.port() == DNS_PORT;
                self.names.note_sent(to, target.unwrap_or(&self.initial), out);
                out.books.sent_packet(payload.len());
            }
            SendTo::Refused => out.counters.udp_dropped_by_policy.add(1),
            SendTo::Undecided => out.counters.udp_dropped_undecided.add(1),
            SendTo::Failed | SendTo::NotTogether => out.counters.udp_dropped_by_kernel.add(1),
        }
    }
}

#[cfg(test)]
mod tests;
