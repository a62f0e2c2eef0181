//! The pool on simulated sockets and a simulated clock: its rules one by one, and its books after a million sessions.

mod names;

use std::collections::HashSet;
use std::io;

use super::*;
use crate::io::random::Random;

const SETTINGS: PoolSettings = PoolSettings {
    spares_per_target_max: 10,
    spares_max: 50,
    idle_max: Duration::from_secs(300),
    lifetime_max: Duration::from_secs(1800),
    connect_timeout: Duration::from_secs(10),
    health_check_interval: Duration::from_secs(30),
    warm_up_spares: 2,
};

const CONNECT_TIME: Duration = Duration::from_millis(20);

/// A network of targets that accept everybody, unless told otherwise.
#[derive(Default)]
struct Network {
    opened: u64,
    /// Sockets whose target has ended them, and those in which bytes of the target wait.
    ended: HashSet<u64>,
    speaking: HashSet<u64>,
    /// Connects that were started and not reported as done, with their tokens.
    pending: Vec<(u64, Token)>,
    refuses: bool,
    forbidden: bool,
}

#[derive(Debug)]
struct Wire {
    id: u64,
    address: SocketAddr,
}

impl Connector for Network {
    type Socket = Wire;

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<Wire> {
        self.opened += 1;
        self.pending.push((self.opened, token));
        Ok(Wire { id: self.opened, address })
    }

    fn watch(&mut self, _: &mut Wire, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn state(&mut self, _: &Wire) -> ConnectState {
        if self.refuses { ConnectState::Failed } else { ConnectState::Connected }
    }

    fn look(&mut self, socket: &Wire) -> Waiting {
        if self.ended.contains(&socket.id) {
            Waiting::Ended
        } else if self.speaking.contains(&socket.id) {
            Waiting::Bytes
        } else {
            Waiting::Nothing
        }
    }

    fn permits(&self, _: SocketAddr) -> bool {
        !self.forbidden
    }
}

struct World {
    pool: ConnectionPool<Wire>,
    network: Network,
    counters: Counters,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let (pool, now) = (ConnectionPool::new(Some(SETTINGS)), Instant::now());
        Self { pool, network: Network::default(), counters: Counters::new(0), now }
    }

    fn with<R>(&mut self, call: impl FnOnce(&mut ConnectionPool<Wire>, &mut PoolContext<'_, Network>) -> R) -> R {
        let mut cx = PoolContext { connector: &mut self.network, now: self.now, counters: &self.counters };
        call(&mut self.pool, &mut cx)
    }

    /// A session's dial, as the dialer does it.
    fn dial(&mut self, address: SocketAddr) -> Option<Wire> {
        let spare = self.with(|pool, cx| pool.take(address, cx));
        let connect_time = spare.is_none().then_some(CONNECT_TIME);
        self.with(|pool, cx| pool.on_dialled(address, connect_time, cx));
        let counter = if spare.is_some() { &self.counters.pool_hits } else { &self.counters.pool_misses };
        counter.add(1);
        spare
    }

    /// Lets every connect under way end.
    fn connect(&mut self) {
        for (_, token) in std::mem::take(&mut self.network.pending) {
            self.with(|pool, cx| pool.on_event(token, cx));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.with(ConnectionPool::on_tick);
        self.connect();
    }

    /// Dials often enough for a spare to be there.
    fn demand(&mut self, address: SocketAddr) {
        for _ in 0..6 {
            self.dial(address);
            self.connect();
            self.pass(Duration::from_secs(1));
        }
    }

    fn idle(&self) -> u64 {
        self.counters.spares_idle.value()
    }

    /// What was created is ready, handed out or closed, and nothing else.
    #[track_caller]
    fn assert_balanced(&self) {
        let c = &self.counters;
        let closed = [
            &c.spares_closed_by_target,
            &c.spares_closed_at_hand_over,
            &c.spares_closed_too_old,
            &c.spares_closed_unneeded,
            &c.spares_closed_for_room,
        ];
        let closed: u64 = closed.iter().map(|counter| counter.value()).sum();
        assert_eq!(c.spares_connected.value(), c.spares_idle.value() + c.pool_hits.value() + closed);
        let ended = c.spares_connected.value() + c.spare_failures.value();
        assert_eq!(c.spare_attempts.value(), ended + c.spares_connecting.value());
        assert_eq!(self.pool.len() as u64, c.spares_idle.value() + c.spares_connecting.value());
    }
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 443))
}

#[test]
fn steady_demand_is_answered_with_a_connection_nobody_used() {
    let mut world = World::new();
    world.demand(address(1));
    let first = world.dial(address(1)).expect("a spare");
    assert_eq!(first.address, address(1));
    world.connect();
    assert_ne!(world.dial(address(1)).expect("its successor").id, first.id);
    world.assert_balanced();
}

#[test]
fn targets_visited_once_get_no_spare() {
    let mut world = World::new();
    for n in 0..5000 {
        world.dial(address(n));
        world.pass(Duration::from_millis(3));
    }
    assert_eq!(world.network.opened, 0);
}

#[test]
fn spares_are_gone_soon_after_demand() {
    let mut world = World::new();
    world.demand(address(1));
    assert_eq!(world.idle(), 1);
    for _ in 0..17 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.pool.len(), 0);
    assert!(world.network.opened <= 7, "at most one was renewed: {}", world.network.opened);
    world.assert_balanced();
}

#[test]
fn a_spare_that_is_too_old_is_not_handed_out() {
    let mut world = World::new();
    world.demand(address(1));
    world.now += target::HAND_OUT_AGE_MAX + Duration::from_millis(1);
    assert!(world.dial(address(1)).is_none());
    assert_eq!(world.counters.spares_closed_too_old.value(), 1);
    world.assert_balanced();
}

#[test]
fn a_spare_that_died_unnoticed_is_found_at_hand_over() {
    let mut world = World::new();
    world.demand(address(1));
    let opened = world.network.opened;
    world.network.ended.insert(opened);
    assert!(world.dial(address(1)).is_none());
    assert_eq!(world.counters.spares_closed_at_hand_over.value(), 1);
    world.assert_balanced();
}

#[test]
fn a_target_that_ends_spares_is_left_alone() {
    let mut world = World::new();
    world.demand(address(1));
    for round in 0..20 {
        let opened = world.network.opened;
        world.network.ended.extend(0..=opened);
        for token in world.pool.spares.tokens() {
            world.with(|pool, cx| pool.on_event(token.with_leg(SPARE_LEG), cx));
        }
        world.dial(address(1));
        world.pass(Duration::from_secs(1));
        assert!(world.network.opened <= 8, "round {round}: {}", world.network.opened);
    }
    world.assert_balanced();
}

#[test]
fn an_end_that_comes_together_with_the_connection_is_seen() {
    let mut world = World::new();
    world.network.ended.extend(0..100);
    world.demand(address(1));
    assert_eq!((world.idle(), world.counters.spares_closed_by_target.value()), (0, 1));
    assert_eq!(world.network.opened, 1, "what lives so short is of no use");
    world.assert_balanced();
}

#[test]
fn a_target_that_speaks_first_keeps_its_bytes_and_gets_no_more_spares() {
    let mut world = World::new();
    world.demand(address(1));
    let opened = world.network.opened;
    world.network.speaking.insert(opened);
    world.pass(Duration::from_millis(100));
    let token = world.pool.spares.tokens()[0].with_leg(SPARE_LEG);
    world.with(|pool, cx| pool.on_event(token, cx));
    assert_eq!(world.dial(address(1)).expect("bytes that nobody read are fine").id, opened);
    world.pass(Duration::from_secs(1));
    assert!(world.dial(address(1)).is_none());
    assert_eq!(world.network.opened, opened);
}

#[test]
fn what_the_policy_keeps_private_gets_no_spare() {
    let mut world = World::new();
    world.network.forbidden = true;
    world.demand(address(1));
    assert_eq!(world.network.opened, 0);
}

#[test]
fn an_address_on_which_many_ports_are_dialled_gets_no_spare() {
    let mut world = World::new();
    for _ in 0..10 {
        for port in 1000..1020 {
            world.dial(SocketAddr::new(address(1).ip(), port));
        }
        world.pass(Duration::from_secs(1));
    }
    // The first few ports cannot be told from an ordinary server's on the first round; nothing is dialled thrice by
    // then.
    assert_eq!(world.network.opened, 0);
}

#[test]
fn a_refused_spare_means_a_pause() {
    let mut world = World::new();
    world.network.refuses = true;
    world.demand(address(1));
    assert!(world.network.opened <= 4, "{}", world.network.opened);
    assert_eq!(world.counters.spare_failures.value(), world.network.opened);
    world.assert_balanced();
}

#[test]
fn a_connect_that_hangs_is_given_up() {
    let mut world = World::new();
    world.demand(address(1));
    world.dial(address(1));
    assert_eq!(world.counters.spares_connecting.value(), 1);
    world.now += SETTINGS.connect_timeout;
    world.with(ConnectionPool::on_tick);
    assert_eq!(world.counters.spares_connecting.value(), 0);
    world.assert_balanced();
}

#[test]
fn limits_hold_and_shrink() {
    let mut world = World::new();
    for _ in 0..6 {
        for n in 0..80 {
            for _ in 0..30 {
                world.dial(address(n));
            }
        }
        world.connect();
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.pool.len(), SETTINGS.spares_max);
    world.pool.set_room(10, &world.counters);
    assert_eq!(world.pool.len(), 10);
    world.pool.give_up(4, &world.counters);
    assert_eq!(world.pool.len(), 6);
    world.pool.close_all(&world.counters);
    world.demand(address(1));
    assert_eq!(world.pool.len(), 0);
    world.assert_balanced();
}

#[test]
fn a_named_target_is_warm_until_nobody_came_for_long() {
    let mut world = World::new();
    let socket = Wire { id: 1_000_000, address: address(1) };
    world.with(|pool, cx| pool.keep_warm(address(1), socket, cx));
    world.connect();
    assert_eq!(world.idle(), 2);
    for _ in 0..200 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.idle(), 2);
    assert!(world.dial(address(1)).is_some());
    for _ in 0..290 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.idle(), 2);
    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.pool.len(), 0);
    world.assert_balanced();
}

#[test]
fn a_named_target_that_speaks_first_stays_warm() {
    let mut world = World::new();
    let socket = Wire { id: 1_000_000, address: address(1) };
    world.network.speaking.extend((0..100).chain([1_000_000]));
    world.with(|pool, cx| pool.keep_warm(address(1), socket, cx));
    world.connect();
    for _ in 0..60 {
        world.pass(Duration::from_secs(1));
        assert_eq!(world.idle(), 2);
    }
    assert!(world.dial(address(1)).is_some());
    world.assert_balanced();
}

#[test]
fn the_figures_of_the_process_are_shared_out() {
    let shares: Vec<_> = (0..3).map(|worker| SETTINGS.share(worker, 3)).collect();
    let sums = [
        shares.iter().map(|share| share.spares_per_target_max).sum::<usize>(),
        shares.iter().map(|share| share.spares_max).sum(),
        shares.iter().map(|share| share.warm_up_spares).sum(),
    ];
    assert_eq!(sums, [10, 50, 2]);
}

#[test]
fn a_million_dials_never_get_a_connection_twice_or_of_another_target() {
    // In a debug build fewer, so that the everyday tests stay quick.
    let dials = std::env::var("POOL_SESSIONS").ok().and_then(|text| text.parse().ok());
    let dials = dials.unwrap_or(if cfg!(debug_assertions) { 100_000 } else { 1_000_000_u64 });
    let seed = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = Random::seeded(seed);
    let mut world = World::new();
    let mut used = HashSet::new();
    for dial in 0..dials {
        // Half of the dials go to ten busy targets, the others anywhere.
        let n = if random.below(2) == 0 { random.below(10) } else { 10 + random.below(5000) } as u16;
        if let Some(wire) = world.dial(address(n)) {
            assert_eq!(wire.address, address(n), "seed {seed}, dial {dial}");
            assert!(used.insert(wire.id), "seed {seed}, dial {dial}: used before");
            assert!(!world.network.ended.contains(&wire.id), "seed {seed}, dial {dial}: dead");
        }
        world.now += Duration::from_micros(u64::from(random.below(20_000)));
        if random.below(4) != 0 {
            world.connect();
        }
        let opened = world.network.opened;
        match random.below(10_000) {
            // Targets end connections with and without an event, and speak out of turn.
            0..=2 if opened > 0 => {
                world.network.ended.insert(opened - u64::from(random.below(opened.min(20) as u32)));
            }
            3..=5 => {
                let spare = world.pool.spares.iter().nth(random.below(20) as usize);
                if let Some((token, id)) = spare
                    .filter(|(_, spare)| spare.is_connected)
                    .map(|(token, spare)| (token.with_leg(SPARE_LEG), spare.socket.id))
                {
                    world.network.ended.insert(id);
                    world.with(|pool, cx| pool.on_event(token, cx));
                }
            }
            6..=200 => world.pass(Duration::from_secs(1)),
            201 => world.pool.set_room(random.below(60) as usize, &world.counters),
            202..=300 => world.pool.set_room(SETTINGS.spares_max, &world.counters),
            _ => {}
        }
        if dial % 1000 == 0 {
            world.assert_balanced();
        }
    }
    let hits = world.counters.pool_hits.value();
    assert_eq!(hits + world.counters.pool_misses.value(), dials);
    assert!(hits > dials / 20, "only {hits} hits");
    world.assert_balanced();
    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.pool.len(), world.idle(), world.counters.spares_connecting.value()), (0, 0, 0));
    assert!(world.pool.targets.len() <= targets::TARGETS_MAX);
    world.assert_balanced();
}
