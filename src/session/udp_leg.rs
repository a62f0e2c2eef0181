//! One UDP socket of a session and the names its client calls peers by.
//!
//! A client may address every datagram differently, by address or by name. A name is resolved once per socket, and what
//! comes from its address is reported as coming from the name, because that is all the client knows. Datagrams for a
//! name that is being resolved wait, few of them; what does not fit is dropped and counted, as networks do.

mod names;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use self::names::{Location, Names};
use super::channel::Traffic;
use super::{Target, UdpSettings};
use crate::io::buffer_pool::{BufferPool, Loan, PooledBuf};
use crate::io::datagram::{DatagramSocket, RecvFrom, SendTo};
use crate::stats::Counters;

/// Names of one socket being resolved at the same time.
const ASKED_MAX: usize = 8;
/// Datagrams, and bytes of them, that wait for names per socket.
const WAITING_MAX: usize = 64;
const WAITING_BYTES_MAX: usize = 16 << 10;
/// A socket that has only spoken to name servers is done soon.
/// Longer datagrams do not fit an ordinary packet and are never sent together.
const RUN_DATAGRAM_BYTES_MAX: usize = 1472;
const DNS_PORT: u16 = 53;
/// Stands for a source that does not matter.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
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

/// What sending needs besides the datagram.
pub(super) struct Outgoing<'a> {
    pub(super) now: Instant,
    pub(super) counters: &'a Counters,
    pub(super) traffic: &'a mut Traffic,
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

    /// It was idle for so long that its client is not expected back.
    pub(super) fn retire(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.retire();
        }
    }

    pub(super) fn is_bound(&self) -> bool {
        self.socket.is_some()
    }

    /// Answers to look-ups are still to come.
    pub(super) fn is_asking(&self) -> bool {
        self.names.asked() > 0
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
        if self.names.on_resolved(target, address, out.now) {
            self.send_waiting(out);
        }
    }

    /// Sends one datagram, now or when its destination is known. Returns a target whose name is to be resolved.
    #[must_use]
    pub(super) fn send(&mut self, to: Option<&Target>, payload: &[u8], out: &mut Outgoing<'_>) -> Option<Target> {
        if payload.is_empty() {
            return None;
        }
        match self.names.locate(to.unwrap_or(&self.initial), out.now) {
            Location::At(address) if self.socket.is_some() => self.transmit(address, to, payload, out),
            Location::At(_) | Location::Asked => {
                let to = to.unwrap_or(&self.initial).clone();
                self.wait(to, payload, out);
            }
            Location::Unknown if self.names.asked() < ASKED_MAX => {
                let to = to.unwrap_or(&self.initial).clone();
                self.names.remember_asked(&to);
                self.wait(to.clone(), payload, out);
                return Some(to);
            }
            Location::Unknown => out.counters.udp_dropped_no_room.add(1),
            Location::Nowhere => out.counters.udp_dropped_unresolved.add(1),
        }
        None
    }

    /// Sends equally long datagrams to the initial destination, together where that goes; false, and none was sent, where it
    /// does not.
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
                self.names.note_sent(address, &self.initial);
                for datagram in run {
                    out.traffic.sent_packet(datagram.len());
                }
                true
            }
            SendTo::Refused | SendTo::Failed => false,
            SendTo::NotTogether => {
                self.is_one_by_one = true;
                false
            }
        }
    }

    /// The next datagram and who it is from; `None` when there is none. One that is not for the client has no length.
    pub(super) fn recv(&mut self, into: &mut [u8], counters: &Counters, now: Instant) -> Option<(usize, SocketAddr)> {
        let socket = self.socket.as_mut().filter(|_| self.readable)?;
        match socket.recv_from(into) {
            RecvFrom::Datagram(length, source) => {
                self.moved_at = now;
                Some((length, source))
            }
            RecvFrom::Refused => {
                counters.udp_dropped_by_policy.add(1);
                Some((0, NOWHERE))
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
        if (is_full && !self.waiting.is_empty()) || !self.hold(payload, out) {
            return out.counters.udp_dropped_no_room.add(1);
        }
        self.waiting.push_back((target, payload.len()));
    }

    /// Keeps a payload behind those that wait; false where there is no memory for it.
    fn hold(&mut self, payload: &[u8], out: &Outgoing<'_>) -> bool {
        if self.held.as_mut().is_some_and(|held| held.append(payload)) {
            return true;
        }
        if !out.pool.may_begin() {
            return false;
        }
        let mut all = out.pool.take(self.held.as_ref().map_or(0, |held| held.len()) + payload.len(), Loan::Waiting);
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
        let Some(held) = self.held.take() else { return };
        let mut rest = held.bytes();
        for (target, length) in std::mem::take(&mut self.waiting) {
            let (payload, later) = rest.split_at(length);
            rest = later;
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
                self.names.note_sent(to, target.unwrap_or(&self.initial));
                out.traffic.sent_packet(payload.len());
            }
            SendTo::Refused => out.counters.udp_dropped_by_policy.add(1),
            SendTo::Failed | SendTo::NotTogether => out.counters.udp_dropped_by_kernel.add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Host;
    use std::sync::Arc;

    use super::names::FAILED_RETRY;
    use super::*;
    use crate::io::buffer_memory::BufferMemory;

    /// Remembers what was sent where.
    #[derive(Default)]
    struct Sent(Vec<(Vec<u8>, SocketAddr)>);

    impl DatagramSocket for Sent {
        fn recv_from(&mut self, _: &mut [u8]) -> RecvFrom {
            RecvFrom::Blocked
        }

        fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> SendTo {
            self.0.push((bytes.to_vec(), to));
            SendTo::Sent
        }
    }

    struct Bench {
        leg: UdpLeg<Sent>,
        counters: Counters,
        traffic: Traffic,
        pool: BufferPool,
        now: Instant,
    }

    impl Bench {
        fn new(initial: &Target) -> Self {
            let now = Instant::now();
            let leg = UdpLeg::new(initial.clone(), now);
            Self { leg, counters: Counters::new(0), traffic: Traffic::default(), pool: BufferPool::new(), now }
        }

        fn bound(initial: &Target) -> Self {
            let mut bench = Self::new(initial);
            bench.with(|leg, out| leg.on_bound(Sent::default(), out));
            bench
        }

        fn with<T>(&mut self, call: impl FnOnce(&mut UdpLeg<Sent>, &mut Outgoing<'_>) -> T) -> T {
            let mut out =
                Outgoing { now: self.now, counters: &self.counters, traffic: &mut self.traffic, pool: &self.pool };
            call(&mut self.leg, &mut out)
        }

        fn send(&mut self, to: &Target, payload: &[u8]) -> Option<Target> {
            self.with(|leg, out| leg.send(Some(to), payload, out))
        }

        fn resolve(&mut self, target: &Target, address: &str) {
            let ip = address.parse().ok();
            self.with(|leg, out| leg.on_resolved(target, ip, out));
        }

        fn waiting_bytes(&self) -> usize {
            self.leg.held.as_ref().map_or(0, |held| held.len())
        }

        fn sent(&self) -> &[(Vec<u8>, SocketAddr)] {
            &self.leg.socket.as_ref().unwrap().0
        }
    }

    fn name(text: &str, port: u16) -> Target {
        Target { host: Host::Name(text.into()), port }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_asked_for_once_and_what_waited_goes_to_its_address_in_order() {
        let mut bench = Bench::bound(&name("a.test", 1));
        assert_eq!(bench.send(&name("a.test", 1), b"1"), Some(name("a.test", 1)));
        assert_eq!(bench.send(&name("a.test", 2), b"2"), None);
        assert!(bench.leg.is_asking() && bench.sent().is_empty());
        bench.resolve(&name("a.test", 1), "192.0.2.1");
        bench.send(&name("a.test", 1), b"3");
        let expected = [("1", 1), ("2", 2), ("3", 1)]
            .map(|(text, port)| (text.as_bytes().to_vec(), SocketAddr::new("192.0.2.1".parse().unwrap(), port)));
        assert_eq!(bench.sent(), expected);
        assert_eq!(bench.leg.name_of(address("192.0.2.1:77")), name("a.test", 77));
        assert_eq!(bench.leg.name_of(address("192.0.2.2:77")), address("192.0.2.2:77").into());
    }

    #[test]
    fn datagrams_wait_for_the_socket() {
        let mut bench = Bench::new(&address("192.0.2.1:9").into());
        assert_eq!(bench.with(|leg, out| leg.send(None, b"early", out)), None);
        bench.with(|leg, out| leg.on_bound(Sent::default(), out));
        assert_eq!(bench.sent(), [(b"early".to_vec(), address("192.0.2.1:9"))]);
    }

    #[test]
    fn a_name_without_address_drops_what_waits_and_is_asked_for_again_later() {
        let mut bench = Bench::bound(&name("a.test", 1));
        bench.send(&name("a.test", 1), b"x");
        bench.resolve(&name("a.test", 1), "no address");
        assert_eq!(bench.send(&name("a.test", 1), b"y"), None);
        assert_eq!((bench.counters.udp_dropped_unresolved.value(), bench.waiting_bytes()), (2, 0));
        bench.now += FAILED_RETRY;
        assert_eq!(bench.send(&name("a.test", 1), b"z"), Some(name("a.test", 1)));
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        let mut bench = Bench::bound(&name("a.test", 1));
        for _ in 0..WAITING_MAX + 10 {
            bench.send(&name("a.test", 1), b"x");
        }
        assert_eq!((bench.leg.waiting.len(), bench.counters.udp_dropped_no_room.value()), (WAITING_MAX, 10));
        let mut bench = Bench::bound(&name("a.test", 1));
        for _ in 0..3 {
            bench.send(&name("a.test", 1), &[0; 7000]);
        }
        assert_eq!((bench.waiting_bytes(), bench.counters.udp_dropped_no_room.value()), (14_000, 1));
    }

    #[test]
    fn what_waits_for_several_names_counts_as_buffer_memory_and_goes_when_its_name_is_known() {
        let mut bench = Bench::bound(&name("a.test", 1));
        for number in 0..6_u8 {
            bench.send(&name(if number % 2 == 0 { "a.test" } else { "b.test" }, 1), &[number; 1000]);
        }
        assert_eq!(bench.pool.held_bytes(), 64 << 10);
        bench.resolve(&name("a.test", 1), "192.0.2.1");
        assert_eq!((bench.sent().len(), bench.waiting_bytes()), (3, 3000));
        bench.resolve(&name("b.test", 1), "192.0.2.2");
        let sent: Vec<_> = bench.sent().iter().map(|(payload, _)| (payload[0], payload.len())).collect();
        assert_eq!(sent, [0, 2, 4, 1, 3, 5].map(|number| (number, 1000)));
        assert_eq!(bench.pool.held_bytes(), 0);

        bench.pool = BufferPool::with_memory(Arc::new(BufferMemory::new(0, 1)));
        bench.send(&name("c.test", 1), b"no memory");
        assert_eq!((bench.counters.udp_dropped_no_room.value(), bench.waiting_bytes()), (1, 0));
    }

    #[test]
    fn a_hundred_thousand_names_are_bounded_under_way_and_remembered() {
        let mut bench = Bench::bound(&name("a.test", 1));
        let asked = (0..100).filter(|number| bench.send(&name(&format!("n{number}.test"), 1), b"x").is_some()).count();
        assert_eq!(asked, ASKED_MAX);
        for number in 0..ASKED_MAX {
            bench.resolve(&name(&format!("n{number}.test"), 1), "192.0.2.9");
        }
        for number in 0..100_000 {
            let target = name(&format!("m{number}.test"), 1);
            assert!(bench.send(&target, b"x").is_some());
            bench.resolve(&target, "192.0.2.1");
        }
        assert!(bench.send(&name("m99999.test", 1), b"x").is_none(), "the latest are known");
        assert!(bench.send(&name("n0.test", 1), b"x").is_some(), "the oldest are forgotten");
    }

    #[test]
    fn a_socket_that_only_spoke_to_name_servers_is_done_soon() {
        let settings = UdpSettings::default();
        let mut bench = Bench::bound(&address("192.0.2.1:53").into());
        let started = bench.now;
        assert_eq!(bench.leg.deadline(&settings), started + DNS_TIMEOUT);
        bench.now += Duration::from_secs(9);
        bench.send(&address("192.0.2.1:53").into(), b"query");
        assert_eq!(bench.leg.deadline(&settings), bench.now + DNS_TIMEOUT);
        bench.send(&address("192.0.2.1:443").into(), b"hello");
        assert_eq!(bench.leg.deadline(&settings), bench.now + settings.timeout);
    }
}
