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
    books: Books,
    pool: BufferPool,
    now: Instant,
}

impl Bench {
    fn new(initial: &Target) -> Self {
        let now = Instant::now();
        let leg = UdpLeg::new(initial.clone(), now);
        Self { leg, counters: Counters::new(0), books: Books::default(), pool: BufferPool::new(), now }
    }

    fn bound(initial: &Target) -> Self {
        let mut bench = Self::new(initial);
        bench.with(|leg, out| leg.on_bound(Sent::default(), out));
        bench
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut UdpLeg<Sent>, &mut Outgoing<'_>) -> T) -> T {
        let mut out = Outgoing { now: self.now, counters: &self.counters, books: &mut self.books, pool: &self.pool };
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
    let mut all = Vec::new();
    while bench.pool.has_room(4096) {
        all.push(bench.pool.take(1, Loan::Waiting));
    }
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
