//! The names by which a client knows the peers of a UDP socket: which names were resolved, and what the client called
//! each peer that it has sent to.
//!
//! - A peer is called what the client called it last.
//! - A peer that answers from another port, or was never spoken to, is called by a name that was resolved to its
//!   address. The name that the socket was opened for comes first. Without such a name the peer is called by its
//!   address.
//! - Both lists are bounded and forget what was not used for the longest time. They never forget the name that the
//!   socket was opened for.
//! - All sockets of the process share a bound on the memory of their names, too. A socket that gets none of it goes on
//!   with a few names, and looks others up again.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::{Host, Target};
use super::Outgoing;
use crate::io::buffer_pool::{BufferPool, NamesCharge};

/// Names remembered per socket.
pub(super) const NAMES_MAX: usize = 64;
/// Peers whose names are remembered per socket.
const PEERS_MAX: usize = 64;
/// What an entry counts besides its name: its place in a list that may be half empty, and the allocation of the name.
const ENTRY_BYTES: usize = 128;
/// How long a name that could not be resolved is not asked for again.
pub(super) const FAILED_RETRY: Duration = Duration::from_secs(5);

pub(super) struct Names {
    initial: Option<Box<str>>,
    /// The last used behind.
    looked_up: VecDeque<Name>,
    /// The last used in front.
    peers: VecDeque<Peer>,
    /// The memory of both lists, and of the names in datagrams that wait.
    charge: NamesCharge,
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

struct Peer {
    address: SocketAddr,
    /// `None`: the client gave its address.
    name: Option<Box<str>>,
}

/// Where a datagram goes.
pub(super) enum Location {
    At(SocketAddr),
    Asked,
    Unknown,
    /// The name has no address, or none that the policy lets through.
    Nowhere,
}

impl Names {
    pub(super) fn new(initial: &Target) -> Self {
        Self {
            initial: name_in(initial).map(Into::into),
            looked_up: VecDeque::new(),
            peers: VecDeque::new(),
            charge: NamesCharge::default(),
        }
    }

    /// Counts a datagram that waits for this target. False: there is no room for it.
    pub(super) fn begin_waiting(&mut self, target: &Target, pool: &BufferPool) -> bool {
        self.charge.take(entry_bytes(name_in(target)), pool)
    }

    /// A datagram waits for this target no more.
    pub(super) fn end_waiting(&mut self, target: &Target) {
        self.charge.give_back(entry_bytes(name_in(target)));
    }

    /// Names being resolved.
    pub(super) fn asked(&self) -> usize {
        self.looked_up.iter().filter(|name| matches!(name.state, NameState::Asked)).count()
    }

    pub(super) fn locate(&self, to: &Target, now: Instant) -> Location {
        match &to.host {
            Host::Ip(ip) => Location::At(SocketAddr::new(*ip, to.port)),
            Host::Name(_) if to.is_reserved_name() => Location::Nowhere,
            Host::Name(wanted) => {
                match self.looked_up.iter().rfind(|name| name.name == *wanted).map(|name| &name.state) {
                    Some(NameState::Known(ip)) => Location::At(SocketAddr::new(*ip, to.port)),
                    Some(NameState::Asked) => Location::Asked,
                    Some(NameState::FailedAt(at)) if now.saturating_duration_since(*at) < FAILED_RETRY => {
                        Location::Nowhere
                    }
                    Some(NameState::FailedAt(_)) | None => Location::Unknown,
                }
            }
        }
    }

    /// A name is to be resolved. Makes room for it if need be. False: there is none, and the name stays unknown.
    pub(super) fn remember_asked(&mut self, target: &Target, out: &Outgoing<'_>) -> bool {
        let Some(asked) = name_in(target) else { return true };
        if let Some(known) = self.looked_up.iter().position(|known| *known.name == *asked) {
            self.forget_name(known);
        }
        if self.looked_up.len() >= NAMES_MAX {
            self.forget_oldest_name();
        }
        while !self.charge.take(entry_bytes(Some(asked)), out.pool) {
            out.counters.udp_names_forgotten.add(1);
            if !self.forget_oldest_name() && !self.forget_oldest_peer() {
                return false;
            }
        }
        self.looked_up.push_back(Name { name: asked.into(), state: NameState::Asked });
        true
    }

    /// Forgets the name that was not used for the longest time and may go. False if there is none.
    fn forget_oldest_name(&mut self) -> bool {
        let initial = self.initial.as_deref();
        let may_go = |name: &Name| {
            !matches!(name.state, NameState::Asked) && initial.is_none_or(|initial| *name.name != *initial)
        };
        let oldest = self.looked_up.iter().position(may_go);
        oldest.is_some_and(|oldest| self.forget_name(oldest))
    }

    fn forget_name(&mut self, place: usize) -> bool {
        let forgotten = self.looked_up.remove(place);
        forgotten.is_some_and(|name| {
            self.charge.give_back(entry_bytes(Some(&name.name)));
            true
        })
    }

    /// Forgets the peer that was not sent to for the longest time. False if there is none.
    fn forget_oldest_peer(&mut self) -> bool {
        let forgotten = self.peers.pop_back();
        forgotten.is_some_and(|peer| {
            self.charge.give_back(entry_bytes(peer.name.as_deref()));
            true
        })
    }

    /// A name was resolved, or could not be. False when nobody asked for it.
    pub(super) fn on_resolved(&mut self, target: &Target, address: Option<IpAddr>, now: Instant) -> bool {
        let wanted = |name: &&mut Name| Some(&*name.name) == name_in(target);
        let Some(name) = self.looked_up.iter_mut().find(wanted) else { return false };
        name.state = address.map_or(NameState::FailedAt(now), NameState::Known);
        true
    }

    /// The client has sent to `address`, which it calls `target`.
    pub(super) fn note_sent(&mut self, address: SocketAddr, target: &Target, out: &Outgoing<'_>) {
        let name = name_in(target);
        if self.peers.front().is_some_and(|last| last.address == address && last.name.as_deref() == name) {
            return;
        }
        if let Some(at) = self.looked_up.iter().position(|known| Some(&*known.name) == name)
            && let Some(used) = self.looked_up.remove(at)
        {
            self.looked_up.push_back(used);
        }
        let known = self.peers.iter().position(|peer| peer.address == address).and_then(|at| self.peers.remove(at));
        if let Some(known) = &known {
            self.charge.give_back(entry_bytes(known.name.as_deref()));
        }
        let unchanged = known.filter(|known| known.name.as_deref() == name);
        let peer = unchanged.unwrap_or_else(|| Peer { address, name: name.map(Into::into) });
        if self.peers.len() >= PEERS_MAX {
            self.forget_oldest_peer();
        }
        while !self.charge.take(entry_bytes(name), out.pool) {
            out.counters.udp_names_forgotten.add(1);
            if !self.forget_oldest_peer() {
                return;
            }
        }
        self.peers.push_front(peer);
    }

    /// How the client knows the peer at `source`.
    pub(super) fn name_of(&self, source: SocketAddr) -> Target {
        if let Some(peer) = self.peers.iter().find(|peer| peer.address == source) {
            return peer.name.as_ref().map_or(source.into(), |name| named(name, source.port()));
        }
        let is_here = |name: &&Name| matches!(name.state, NameState::Known(ip) if ip == source.ip());
        let is_initial = |name: &&Name| self.initial.as_deref() == Some(&*name.name);
        let mut known = self.looked_up.iter().filter(is_here);
        let best = known.clone().find(is_initial).or_else(|| known.next_back());
        best.map_or(source.into(), |best| named(&best.name, source.port()))
    }
}

/// What remembering a peer or a name counts.
fn entry_bytes(name: Option<&str>) -> usize {
    ENTRY_BYTES + name.map_or(0, str::len)
}

fn name_in(target: &Target) -> Option<&str> {
    match &target.host {
        Host::Name(name) => Some(name),
        Host::Ip(_) => None,
    }
}

fn named(name: &str, port: u16) -> Target {
    Target { host: Host::Name(name.into()), port }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::books::Books;
    use super::*;
    use crate::io::buffer_memory::BufferMemory;
    use crate::stats::Counters;

    fn literal(text: &str) -> Target {
        address(text).into()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Names with all that they need besides.
    struct Bench {
        names: Names,
        counters: Counters,
        books: Books,
        pool: BufferPool,
    }

    impl Bench {
        fn new(initial: &Target) -> Self {
            let (names, pool) = (Names::new(initial), BufferPool::new());
            Self { names, counters: Counters::new(0), books: Books::default(), pool }
        }

        fn with<T>(&mut self, call: impl FnOnce(&mut Names, &Outgoing<'_>) -> T) -> T {
            let (now, counters) = (Instant::now(), &self.counters);
            call(&mut self.names, &Outgoing { now, counters, books: &mut self.books, pool: &self.pool })
        }

        fn note_sent(&mut self, address: SocketAddr, target: &Target) {
            self.with(|names, out| names.note_sent(address, target, out));
        }

        fn learn(&mut self, name: &str, ip: &str) -> bool {
            let target = named(name, 1);
            self.with(|names, out| names.remember_asked(&target, out))
                && self.names.on_resolved(&target, ip.parse().ok(), Instant::now())
        }

        fn knows(&self, name: &str) -> bool {
            matches!(self.names.locate(&named(name, 1), Instant::now()), Location::At(_))
        }
    }

    #[test]
    fn a_peer_is_called_what_the_client_called_it_last() {
        let (here, there) = ("192.0.2.1:1", "192.0.2.1:2");
        let mut bench = Bench::new(&named("one.test", 1));
        assert!(bench.learn("one.test", "192.0.2.1"));
        assert!(bench.learn("two.test", "192.0.2.1"));
        bench.note_sent(address(here), &named("one.test", 1));
        bench.note_sent(address(there), &named("two.test", 2));
        assert_eq!(bench.names.name_of(address(here)), named("one.test", 1));
        assert_eq!(bench.names.name_of(address(there)), named("two.test", 2));
        bench.note_sent(address(there), &literal(there));
        assert_eq!(bench.names.name_of(address(there)), literal(there));
        bench.note_sent(address(there), &named("one.test", 2));
        assert_eq!(bench.names.name_of(address(there)), named("one.test", 2));
        assert_eq!(bench.names.peers.len(), 2);
    }

    #[test]
    fn another_port_of_an_address_goes_by_the_first_name_or_else_the_last_used() {
        let mut bench = Bench::new(&named("one.test", 1));
        for name in ["two.test", "one.test", "three.test"] {
            assert!(bench.learn(name, "192.0.2.1"));
        }
        assert_eq!(bench.names.name_of(address("192.0.2.1:9")), named("one.test", 9));
        assert!(bench.learn("four.test", "192.0.2.4"));
        assert!(bench.learn("five.test", "192.0.2.4"));
        bench.note_sent(address("192.0.2.4:1"), &named("four.test", 1));
        assert_eq!(bench.names.name_of(address("192.0.2.4:9")), named("four.test", 9));
        assert_eq!(bench.names.name_of(address("192.0.2.5:9")), literal("192.0.2.5:9"));
    }

    #[test]
    fn the_first_name_stays_and_of_the_others_those_in_use() {
        let mut bench = Bench::new(&named("first.test", 1));
        for name in ["first.test", "used.test", "unused.test"] {
            assert!(bench.learn(name, "192.0.2.1"));
        }
        for number in 0..1000_u16 {
            assert!(bench.learn(&format!("n{number}.test"), "192.0.2.9"));
            // Two ports in turn, so that neither is always the last.
            bench.note_sent(SocketAddr::new("192.0.2.1".parse().unwrap(), number % 2), &named("used.test", number % 2));
            bench.note_sent(SocketAddr::new("192.0.2.9".parse().unwrap(), number), &named("n.test", number));
        }
        assert_eq!((bench.names.looked_up.len(), bench.names.peers.len()), (NAMES_MAX, PEERS_MAX));
        assert!(bench.knows("first.test") && bench.knows("used.test") && !bench.knows("unused.test"));
        let names = bench.names.looked_up.iter().map(|name| entry_bytes(Some(&name.name)));
        let peers = bench.names.peers.iter().map(|peer| entry_bytes(peer.name.as_deref()));
        assert_eq!(
            bench.names.charge.bytes(),
            names.chain(peers).sum::<usize>(),
            "what is counted is what is remembered"
        );
    }

    #[test]
    fn without_a_share_of_the_memory_a_socket_goes_on_with_a_few_names() {
        let mut bench = Bench::new(&named("first.test", 1));
        bench.pool = BufferPool::with_memory(Arc::new(BufferMemory::new(0, 1)));
        let long = |number: usize| format!("{number:x>250}");
        for number in 0..1000 {
            assert!(bench.learn(if number % 2 == 0 { "first.test" } else { "second.test" }, "192.0.2.1"));
            assert!(bench.learn(&long(number), "192.0.2.2"));
            bench.note_sent(SocketAddr::new("192.0.2.2".parse().unwrap(), 7), &named(&long(number), 7));
            assert_eq!(bench.names.name_of(address("192.0.2.2:7")), named(&long(number), 7));
            assert!(bench.names.charge.bytes() <= 2048);
        }
        assert!(bench.knows("first.test") && bench.counters.udp_names_forgotten.value() > 900);
        // Names that are being looked up are not forgotten: there comes a point where no other may be.
        let asked = (0..20).filter(|&number| {
            let target = named(&long(number), 9);
            bench.with(|names, out| names.remember_asked(&target, out))
        });
        assert!((2..8).contains(&asked.count()));
    }

    #[test]
    fn all_sockets_together_remember_no_more_than_their_share() {
        let memory = Arc::new(BufferMemory::new(4 << 20, 1));
        let mut benches: Vec<_> = (0..64).map(|_| Bench::new(&named("first.test", 1))).collect();
        for bench in &mut benches {
            bench.pool = BufferPool::with_memory(Arc::clone(&memory));
            for number in 0..64_u16 {
                let name = format!("{number:x>255}");
                assert!(bench.learn(&name, "192.0.2.1"));
                bench.note_sent(SocketAddr::new("192.0.2.1".parse().unwrap(), number), &named(&name, number));
                let (taken, most) = memory.names_bytes();
                assert!(taken <= most && most == 256 << 10);
            }
        }
        assert!(memory.names_bytes().0 > 200 << 10);
        assert_eq!(memory.lent_bytes(), 0, "relays lose nothing");
        drop(benches);
        assert_eq!(memory.names_bytes().0, 0);
    }
}
