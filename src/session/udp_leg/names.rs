//! The names by which a client knows the peers of a UDP socket: which names were resolved, and what the client called
//! each peer that it has sent to.
//!
//! - A peer is called what the client called it last.
//! - A peer that answers from another port, or was never spoken to, is called by a name that was resolved to its
//!   address. The name that the socket was opened for comes first. Without such a name the peer is called by its
//!   address.
//! - Both lists are bounded and forget what was not used for the longest time. They never forget the name that the
//!   socket was opened for.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::{Host, Target};

/// Names remembered per socket.
pub(super) const NAMES_MAX: usize = 64;
/// Peers whose names are remembered per socket.
const PEERS_MAX: usize = 64;
/// How long a name that could not be resolved is not asked for again.
pub(super) const FAILED_RETRY: Duration = Duration::from_secs(5);

pub(super) struct Names {
    initial: Option<Box<str>>,
    /// The last used behind.
    looked_up: VecDeque<Name>,
    /// The last used in front.
    peers: VecDeque<Peer>,
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
        Self { initial: name_in(initial).map(Into::into), looked_up: VecDeque::new(), peers: VecDeque::new() }
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

    /// A name is being resolved. Makes room for it if need be.
    pub(super) fn remember_asked(&mut self, target: &Target) {
        let Some(asked) = name_in(target) else { return };
        self.looked_up.retain(|known| *known.name != *asked);
        if self.looked_up.len() >= NAMES_MAX {
            let initial = self.initial.as_deref();
            let may_go = |name: &Name| {
                !matches!(name.state, NameState::Asked) && initial.is_none_or(|initial| *name.name != *initial)
            };
            if let Some(oldest) = self.looked_up.iter().position(may_go) {
                self.looked_up.remove(oldest);
            }
        }
        self.looked_up.push_back(Name { name: asked.into(), state: NameState::Asked });
    }

    /// A name was resolved, or could not be; false when nobody asked for it.
    pub(super) fn on_resolved(&mut self, target: &Target, address: Option<IpAddr>, now: Instant) -> bool {
        let wanted = |name: &&mut Name| Some(&*name.name) == name_in(target);
        let Some(name) = self.looked_up.iter_mut().find(wanted) else { return false };
        name.state = address.map_or(NameState::FailedAt(now), NameState::Known);
        true
    }

    /// The client has sent to `address`, which it calls `target`.
    pub(super) fn note_sent(&mut self, address: SocketAddr, target: &Target) {
        let name = name_in(target);
        if self.peers.front().is_some_and(|last| last.address == address && last.name.as_deref() == name) {
            return;
        }
        let known = self.peers.iter().position(|peer| peer.address == address).and_then(|at| self.peers.remove(at));
        let mut peer = known.unwrap_or(Peer { address, name: None });
        if peer.name.as_deref() != name {
            peer.name = name.map(Into::into);
        }
        self.peers.truncate(PEERS_MAX - 1);
        self.peers.push_front(peer);
        if let Some(at) = self.looked_up.iter().position(|known| Some(&*known.name) == name)
            && let Some(used) = self.looked_up.remove(at)
        {
            self.looked_up.push_back(used);
        }
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
    use super::*;

    fn literal(text: &str) -> Target {
        address(text).into()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn learn(names: &mut Names, name: &str, ip: &str) {
        let target = named(name, 1);
        names.remember_asked(&target);
        assert!(names.on_resolved(&target, ip.parse().ok(), Instant::now()));
    }

    #[test]
    fn a_peer_is_called_what_the_client_called_it_last() {
        let (here, there) = ("192.0.2.1:1", "192.0.2.1:2");
        let mut names = Names::new(&named("one.test", 1));
        learn(&mut names, "one.test", "192.0.2.1");
        learn(&mut names, "two.test", "192.0.2.1");
        names.note_sent(address(here), &named("one.test", 1));
        names.note_sent(address(there), &named("two.test", 2));
        assert_eq!(names.name_of(address(here)), named("one.test", 1));
        assert_eq!(names.name_of(address(there)), named("two.test", 2));
        names.note_sent(address(there), &literal(there));
        assert_eq!(names.name_of(address(there)), literal(there));
        names.note_sent(address(there), &named("one.test", 2));
        assert_eq!(names.name_of(address(there)), named("one.test", 2));
        assert_eq!(names.peers.len(), 2);
    }

    #[test]
    fn another_port_of_an_address_goes_by_the_first_name_or_else_the_last_used() {
        let mut names = Names::new(&named("one.test", 1));
        for name in ["two.test", "one.test", "three.test"] {
            learn(&mut names, name, "192.0.2.1");
        }
        assert_eq!(names.name_of(address("192.0.2.1:9")), named("one.test", 9));
        learn(&mut names, "four.test", "192.0.2.4");
        learn(&mut names, "five.test", "192.0.2.4");
        names.note_sent(address("192.0.2.4:1"), &named("four.test", 1));
        assert_eq!(names.name_of(address("192.0.2.4:9")), named("four.test", 9));
        assert_eq!(names.name_of(address("192.0.2.5:9")), literal("192.0.2.5:9"));
    }

    #[test]
    fn the_first_name_stays_and_of_the_others_those_in_use() {
        let mut names = Names::new(&named("first.test", 1));
        for name in ["first.test", "used.test", "unused.test"] {
            learn(&mut names, name, "192.0.2.1");
        }
        for number in 0..1000_u16 {
            learn(&mut names, &format!("n{number}.test"), "192.0.2.9");
            // Two ports in turn, so that neither is always the last.
            names.note_sent(SocketAddr::new("192.0.2.1".parse().unwrap(), number % 2), &named("used.test", number % 2));
            names.note_sent(SocketAddr::new("192.0.2.9".parse().unwrap(), number), &named("n.test", number));
        }
        assert_eq!((names.looked_up.len(), names.peers.len()), (NAMES_MAX, PEERS_MAX));
        let is_known = |name| matches!(names.locate(&named(name, 1), Instant::now()), Location::At(_));
        assert!(is_known("first.test") && is_known("used.test") && !is_known("unused.test"));
    }
}
