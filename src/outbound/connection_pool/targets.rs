//! The addresses that a worker knows, what they have in common, and the order of those of one name.
//!
//! The number of addresses is bounded. To make room, the table forgets one that nobody asked for since it last went
//! round. In time it forgets all that nobody asks for any more.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::target::{Standing, Target};

/// Addresses known at the same time, per worker.
pub const TARGETS_MAX: usize = 1024;
/// Entries that are looked at to make room for one.
const EVICTION_STEPS: usize = 8;
/// An address with more ports than this in the table looks like a port scan.
const PORTS_MAX: u16 = 8;
/// An address that nobody dialled for so long is forgotten.
const MEMORY: Duration = Duration::from_mins(10);

/// The addresses known to a worker.
#[derive(Debug, Default)]
pub struct Targets {
    known: HashMap<SocketAddr, Target>,
    /// All known addresses, in the order in which they are considered for being forgotten.
    round: VecDeque<SocketAddr>,
    /// How many ports of an address are known.
    ports: HashMap<IpAddr, u16>,
}

impl Targets {
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn find(&mut self, address: SocketAddr) -> Option<&mut Target> {
        self.known.get_mut(&address)
    }

    /// The entry of `address`, made if there is none. `None` where the table is full of addresses in use.
    pub fn entry(&mut self, address: SocketAddr, now: Instant) -> Option<&mut Target> {
        self.forget_one(now);
        if !self.known.contains_key(&address) {
            if self.known.len() >= TARGETS_MAX && !self.make_room(now) {
                return None;
            }
            self.known.insert(address, Target::default());
            self.round.push_back(address);
            *self.ports.entry(address.ip()).or_default() += 1;
        }
        let target = self.known.get_mut(&address)?;
        target.is_fresh = true;
        target.asked = Some(now);
        Some(target)
    }

    /// So many ports of one address are dialled that it looks like a scan.
    pub fn looks_scanned(&self, ip: IpAddr) -> bool {
        self.ports.get(&ip).is_some_and(|&ports| ports > PORTS_MAX)
    }

    /// What a dial to `address` may expect.
    pub fn standing(&self, address: SocketAddr, now: Instant) -> Standing {
        self.known.get(&address).map_or(Standing::Sound, |target| target.standing(now))
    }

    /// Puts the addresses of a name, all of one family, into the order in which they should be tried. The least cost
    /// comes first, then those that are doubtful while another has a spare, last those that failed of late.
    pub fn order(&self, addresses: &mut [IpAddr], port: u16, now: Instant) {
        let find = |ip: &IpAddr| self.known.get(&SocketAddr::new(*ip, port));
        let standing = |ip: &IpAddr| find(ip).map_or(Standing::Sound, |target| target.standing(now));
        let has_spare = addresses.iter().any(|ip| standing(ip) == Standing::Ready);
        let rank = |ip: &IpAddr| {
            let class = match standing(ip) {
                Standing::Resting => 2,
                Standing::Doubtful if has_spare => 1,
                _ => 0,
            };
            // What is not known is as good as the best, so that it becomes known.
            (class, find(ip).map_or(0.0, |target| target.cost(now)))
        };
        addresses.sort_by(|one, other| rank(one).partial_cmp(&rank(other)).unwrap_or(Ordering::Equal));
    }

    /// Forgets the address whose turn it is if nobody asked for it for long, so that what it once did does not count
    /// for ever. Every dial takes the round on by one.
    fn forget_one(&mut self, now: Instant) {
        let Some(address) = self.round.pop_front() else { return };
        let is_old = |asked: Instant| now.saturating_duration_since(asked) >= MEMORY;
        let target = self.known.get(&address);
        if target.is_some_and(|target| target.asked.is_some_and(is_old) && !target.is_in_use(now)) {
            self.forget(address);
        } else {
            self.round.push_back(address);
        }
    }

    /// Forgets one address, the first on the round that nobody asked for since it last came up.
    fn make_room(&mut self, now: Instant) -> bool {
        for _ in 0..EVICTION_STEPS {
            let Some(address) = self.round.pop_front() else { return false };
            let Some(target) = self.known.get_mut(&address) else { continue };
            // Demand that may still become steady is not forgotten for a stranger.
            let is_recent = target.is_fresh && target.demand.load(now) > 1.0;
            target.is_fresh = false;
            if is_recent || target.is_in_use(now) {
                self.round.push_back(address);
                continue;
            }
            self.forget(address);
            return true;
        }
        false
    }

    /// Drops an address that was taken out of the round.
    fn forget(&mut self, address: SocketAddr) {
        self.known.remove(&address);
        if let Some(ports) = self.ports.get_mut(&address.ip()) {
            *ports -= 1;
            if *ports == 0 {
                self.ports.remove(&address.ip());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::from(n.to_be_bytes()), 443)
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_in_demand() {
        let start = Instant::now();
        let mut targets = Targets::default();
        for n in 0..100_000_u32 {
            let now = start + Duration::from_millis(u64::from(n) * 2);
            targets.entry(address(1_000_000 + n), now).unwrap().demand.note(now);
            if n % 100 == 0 {
                targets.entry(address(1), now).unwrap().demand.note(now);
            }
        }
        assert_eq!((targets.len(), targets.round.len()), (TARGETS_MAX, TARGETS_MAX));
        assert!(targets.find(address(1)).unwrap().demand.load(start + Duration::from_secs(200)) > 40.0);
        assert_eq!(targets.ports.len(), TARGETS_MAX);
    }

    #[test]
    fn many_ports_of_one_address_look_like_a_scan() {
        let start = Instant::now();
        let mut targets = Targets::default();
        let ip = IpAddr::from([192, 0, 2, 1]);
        for port in 1..=PORTS_MAX {
            targets.entry(SocketAddr::new(ip, port), start);
            assert!(!targets.looks_scanned(ip));
        }
        targets.entry(SocketAddr::new(ip, 1000), start);
        assert!(targets.looks_scanned(ip));
        // One port goes on being dialled.
        for dial in 0..100 {
            targets.entry(SocketAddr::new(ip, 1), start + MEMORY / 80 * dial);
        }
        assert!(!targets.looks_scanned(ip));
        assert_eq!((targets.len(), targets.round.len(), targets.ports[&ip]), (1, 1, 1));
    }

    #[test]
    fn dials_are_spread_by_connect_time_and_failures() {
        let start = Instant::now();
        let mut targets = Targets::default();
        let ips = [1, 2, 3].map(|n| address(n).ip());
        for (n, connect_ms) in [(1, 10), (2, 20), (3, 10)] {
            targets.entry(address(n), start).unwrap().on_connected(Duration::from_millis(connect_ms));
        }
        targets.entry(address(3), start).unwrap().on_failed(start);
        let mut dials = [0; 3];
        for dial in 0..300 {
            let now = start + Duration::from_millis(dial);
            let mut order = ips;
            targets.order(&mut order, 443, now);
            assert_eq!(order[2], ips[2], "the one that failed comes last");
            dials[ips.iter().position(|ip| *ip == order[0]).unwrap()] += 1;
            targets.entry(SocketAddr::new(order[0], 443), now).unwrap().demand.note(now);
        }
        assert_eq!((dials[0] / 10, dials[1] / 10), (19, 10), "{dials:?}");
        let mut order = [ips[0], address(9).ip()];
        targets.order(&mut order, 443, start);
        assert_eq!(order[0], address(9).ip(), "an unknown address is tried");
    }
}
