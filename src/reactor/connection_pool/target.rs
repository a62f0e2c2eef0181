//! What is known of the addresses that were dialled: demand, connect times, failures, what became of their spares.
//!
//! Pure: no socket and no clock. The number of addresses is bounded; the table forgets those nobody asked for since it
//! last went round.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::demand::{Demand, TURN};

/// Addresses known at the same time, per worker.
pub const TARGETS_MAX: usize = 1024;
/// Entries that are looked at to make room for one.
const EVICTION_STEPS: usize = 8;

/// A spare is handed out while it is at most so old: web servers close silent connections after 20 to 60 s, and a spare
/// that dies at hand-over fails a request that would have worked.
pub const HAND_OUT_AGE_MAX: Duration = Duration::from_secs(15);
/// After so many spares in a row that the target ended, it gets none for [`REST`]. What it did is remembered as long: a
/// server that was restarted is not held to it for ever.
const DEATHS_MAX: u32 = 2;
const REST: Duration = Duration::from_mins(5);
/// An address that could not be connected to is tried last for so long, twice as long after each further failure.
const FAILURE_REST_MIN: Duration = Duration::from_secs(1);
const FAILURE_REST_MAX: Duration = Duration::from_mins(1);
/// Dials of late (see [`Demand::load`]) that keep a spare at an address: twice the least.
const LOAD_OF_A_SPARE: f64 = 2.0;
/// An address with more ports than this in the table looks like a port scan.
const PORTS_MAX: u16 = 8;
/// Ports on which the server speaks first and so would greet nobody: FTP, SSH, Telnet, mail, news, MySQL, VNC.
const SERVER_FIRST_PORTS: &[u16] =
    &[21, 22, 23, 25, 110, 119, 143, 587, 2222, 2525, 3306, 4190, 5900, 5901, 5902, 5903, 33060];

/// One address.
#[derive(Debug, Default)]
pub struct Target {
    pub demand: Demand,
    /// Indexes of its spares that are ready, the oldest in front.
    pub idle: VecDeque<usize>,
    /// Its spares that are being connected.
    pub connecting: usize,
    /// Moving average.
    connect_time: Option<Duration>,
    failures: u32,
    failure_rest_until: Option<Instant>,
    /// Spares in a row that the target ended.
    deaths: u32,
    spares_rest_until: Option<Instant>,
    /// The shortest age at which it ended one of late, and when that was.
    shortest_life: Option<(Duration, Instant)>,
    speaks_first: bool,
    /// The operator wants so many spares until then.
    warm: Option<(usize, Instant)>,
    /// Asked for since the table last came by.
    is_fresh: bool,
}

/// What a dial to an address may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A spare is there.
    Ready,
    /// It was connected to last time, or nobody tried.
    Sound,
    /// It could not be connected to last time, and is to be tried again.
    Doubtful,
    /// It could not be connected to of late.
    Resting,
}

impl Target {
    /// A connection came about in this time.
    pub fn on_connected(&mut self, connect_time: Duration) {
        self.failures = 0;
        self.failure_rest_until = None;
        // A quarter of the newest: a path that changes is followed within a few connections.
        self.connect_time = Some(self.connect_time.map_or(connect_time, |known| (known * 3 + connect_time) / 4));
    }

    /// Connecting failed.
    pub fn on_failed(&mut self, now: Instant) {
        let rest = (FAILURE_REST_MIN * 2_u32.saturating_pow(self.failures.min(16))).min(FAILURE_REST_MAX);
        self.failures += 1;
        self.failure_rest_until = Some(now + rest);
    }

    /// The target ended or broke a spare of this age.
    pub fn on_spare_died(&mut self, age: Duration, now: Instant) {
        let known = self.shortest_life.filter(|(_, seen)| now.saturating_duration_since(*seen) < REST);
        self.shortest_life = Some(known.filter(|(known, _)| *known <= age).unwrap_or((age, now)));
        self.deaths += 1;
        if self.deaths >= DEATHS_MAX {
            self.spares_rest_until = Some(now + REST);
        }
    }

    /// A spare was handed out alive.
    pub fn on_spare_used(&mut self) {
        self.deaths = 0;
    }

    /// The target sent something before anybody asked.
    pub fn on_spoke_first(&mut self) {
        self.speaks_first = true;
    }

    /// The operator wants `count` spares until `until`.
    pub fn keep_warm(&mut self, count: usize, until: Instant) {
        self.warm = Some((count, until));
    }

    /// How old a spare may be when it is handed out.
    pub fn usable(&self, now: Instant) -> Duration {
        let known = self.shortest_life.filter(|(_, seen)| now.saturating_duration_since(*seen) < REST);
        known.map_or(HAND_OUT_AGE_MAX, |(age, _)| (age / 2).min(HAND_OUT_AGE_MAX))
    }

    /// Spares that should be ready or on their way; `usable` is how long one may wait.
    pub fn wanted(&self, port: u16, now: Instant, usable: Duration) -> usize {
        let is_resting = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if self.speaks_first || is_resting(self.spares_rest_until) || is_resting(self.failure_rest_until) {
            return 0;
        }
        let named = self.named_spares(now);
        if named == 0 && SERVER_FIRST_PORTS.contains(&port) {
            return 0;
        }
        self.demand.wanted(now, self.connect_time.unwrap_or_default(), usable).max(named)
    }

    /// Spares that the operator wants now.
    pub fn named_spares(&self, now: Instant) -> usize {
        self.warm.filter(|&(_, until)| now < until).map_or(0, |(count, _)| count)
    }

    fn standing(&self, now: Instant) -> Standing {
        if self.failure_rest_until.is_some_and(|until| now < until) {
            Standing::Resting
        } else if !self.idle.is_empty() {
            Standing::Ready
        } else if self.failures > 0 {
            Standing::Doubtful
        } else {
            Standing::Sound
        }
    }

    /// The expected time to connect, made longer by the load that there is already: an address that is twice as far gets
    /// half the dials. Where there is a spare, the load that keeps it does not count: what demand there is goes there
    /// first, and as much of it as would keep another spare goes elsewhere.
    fn cost(&self, now: Instant) -> f64 {
        let free = if self.idle.is_empty() { 0.0 } else { 1.0 + LOAD_OF_A_SPARE };
        let load = (1.0 + self.demand.load(now) - free).max(0.0);
        // What was measured includes a turn of ours, busy or not: addresses that differ by less are equally far.
        self.connect_time.map_or(0.0, |time| (time + TURN).as_secs_f64()) * load
    }

    fn is_in_use(&self, now: Instant) -> bool {
        !self.idle.is_empty() || self.connecting > 0 || self.named_spares(now) > 0
    }
}

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

    /// The entry of `address`, made if there is none; `None` where the table is full of addresses in use.
    pub fn entry(&mut self, address: SocketAddr, now: Instant) -> Option<&mut Target> {
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

    /// Puts the addresses of a name, all of one family, into the order in which they should be tried: the least cost
    /// first, then those that are doubtful while another has a spare, last those that failed of late.
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
            self.known.remove(&address);
            if let Some(ports) = self.ports.get_mut(&address.ip()) {
                *ports -= 1;
                if *ports == 0 {
                    self.ports.remove(&address.ip());
                }
            }
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::from(n.to_be_bytes()), 443)
    }

    fn in_demand(start: Instant) -> Target {
        let mut target = Target::default();
        for dial in 0..20 {
            target.demand.note(start + Duration::from_secs(dial));
        }
        target
    }

    #[test]
    fn a_target_that_ends_two_spares_in_a_row_rests() {
        let start = Instant::now();
        let mut target = in_demand(start);
        let now = start + Duration::from_secs(19);
        target.on_spare_died(Duration::from_secs(20), now);
        target.on_spare_used();
        target.on_spare_died(Duration::from_secs(12), now);
        assert_eq!(target.wanted(443, now, target.usable(now)), 1);
        target.on_spare_died(Duration::from_secs(14), now);
        assert_eq!(target.wanted(443, now, target.usable(now)), 0);
        assert_eq!(target.usable(now), Duration::from_secs(6), "half the shortest age at which it ended one");
        assert_eq!(target.usable(now + REST), HAND_OUT_AGE_MAX);
    }

    #[test]
    fn who_speaks_first_gets_no_spare() {
        let start = Instant::now();
        let mut target = in_demand(start);
        let now = start + Duration::from_secs(19);
        assert_eq!(target.wanted(22, now, HAND_OUT_AGE_MAX), 0);
        assert_eq!(target.wanted(8022, now, HAND_OUT_AGE_MAX), 1);
        target.on_spoke_first();
        assert_eq!(target.wanted(8022, now, HAND_OUT_AGE_MAX), 0);
    }

    #[test]
    fn a_failure_means_rest_longer_each_time_and_success_ends_it() {
        let start = Instant::now();
        let mut target = in_demand(start);
        let now = start + Duration::from_secs(19);
        target.on_failed(now);
        target.on_failed(now);
        assert_eq!(target.wanted(443, now + Duration::from_millis(1900), HAND_OUT_AGE_MAX), 0);
        assert_eq!(target.wanted(443, now + Duration::from_millis(2100), HAND_OUT_AGE_MAX), 1);
        target.on_failed(now);
        target.on_connected(Duration::from_millis(1));
        assert_eq!(target.wanted(443, now, HAND_OUT_AGE_MAX), 1);
    }

    #[test]
    fn a_named_target_is_kept_warm_for_its_time() {
        let start = Instant::now();
        let mut target = Target::default();
        target.keep_warm(2, start + Duration::from_secs(300));
        assert_eq!(target.wanted(22, start, HAND_OUT_AGE_MAX), 2);
        assert_eq!(target.wanted(22, start + Duration::from_secs(300), HAND_OUT_AGE_MAX), 0);
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
