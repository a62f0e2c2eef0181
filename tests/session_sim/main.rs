//! Whole sessions on scripted, edge-triggered sockets in virtual time: random ones by seed, and single behaviours.
//!
//! `SIM_SEEDS=5000` runs more seeds than the usual 256, `SIM_SEED=17` runs one again.

#[path = "../support/sim/mod.rs"]
mod sim;

mod cuts;
mod fairness;
mod half_close;
mod memory;
mod opening;
mod resets;
mod stalls;
mod timeouts;
mod turns;
mod unrest;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use sim::peer::Op;
use sim::plan::request;
use sim::tls::ClientTls;
use sim::world::{Plan, Plant, World};
use vless_rust::io::splice::PipePool;

/// The kinds of client that single behaviours are tried with: plain, TLS 1.3, TLS 1.2.
const KINDS: [Option<ClientTls>; 3] = [None, Some(ClientTls::NEW), Some(ClientTls::OLD)];

/// A world with one session of this kind, in which the client has done `client` and nobody anything else.
fn world_of(kind: Option<ClientTls>, client: impl IntoIterator<Item = Op>) -> World {
    let mut world = World::new(1, kind.is_some());
    world.admit(Plan::quiet(kind.map(ClientTls::config)));
    world.client(0, client);
    world
}

/// A world with one session of this kind that is relaying, and has not moved a byte yet.
fn relaying(kind: Option<ClientTls>) -> World {
    let mut world = world_of(kind, [Op::WaitOpen, Op::Header(request())]);
    world.pass(Duration::ZERO);
    assert!(world.runs[0].connected);
    world
}

fn say(text: &[u8]) -> Op {
    Op::Say(text.to_vec())
}

/// A world of some sessions over one kind of client, decided by the seed.
fn simulate(seed: u64, spurious: bool) -> World {
    let mut world = random_world(seed, spurious);
    world.run();
    world.verify();
    world
}

/// Sessions that were admitted to a world of the seed's choice, and have not done anything yet.
fn random_world(seed: u64, spurious: bool) -> World {
    crowded_world(seed, spurious, 4)
}

/// The same with up to so many sessions.
fn crowded_world(seed: u64, spurious: bool, sessions_max: usize) -> World {
    let tls = !seed.is_multiple_of(4);
    let mut world = World::new(seed, tls);
    world.spurious = spurious;
    world.settings.read_bytes_max = world.rng.pick(&[4096, 16 << 10, 64 << 10, 128 << 10]);
    world.pipes = world.rng.percent(50).then(PipePool::new);
    let kind = ClientTls {
        tls13: world.rng.percent(70),
        fragment: world.rng.pick(&[None, None, Some(64), Some(600), Some(5000)]),
        post_quantum: world.rng.percent(10),
    };
    let config = kind.config();
    for _ in 0..world.rng.up_to(sessions_max) {
        let mut rng = world.rng.fork();
        let plan = Plan::random(&mut rng, tls.then(|| config.clone()), world.now);
        world.admit(plan);
    }
    world
}

fn seeds() -> Vec<u64> {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    number("SIM_SEED").map_or_else(|| (0..number("SIM_SEEDS").unwrap_or(256)).collect(), |seed| vec![seed])
}

fn simulate_all(spurious: bool) {
    let mut failed = Vec::new();
    for seed in seeds() {
        if panic::catch_unwind(AssertUnwindSafe(|| simulate(seed, spurious))).is_err() {
            eprintln!("failed: SIM_SEED={seed}");
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "run again with SIM_SEED set to one of {failed:?}");
}

#[test]
fn random_sessions_deliver_every_byte_and_end_as_they_should() {
    simulate_all(false);
}

#[test]
fn events_that_nothing_caused_do_no_harm() {
    simulate_all(true);
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..20 {
        let [first, second] = [simulate(seed, false), simulate(seed, false)];
        assert_eq!(first.steps, second.steps, "SIM_SEED={seed}");
        for (one, other) in first.runs.iter().zip(&second.runs) {
            let [one, other] = [one, other].map(|run| run.record.clone().unwrap());
            assert_eq!((one.age, one.reason, one.uplink), (other.age, other.reason, other.uplink), "SIM_SEED={seed}");
        }
    }
}

/// What a simulation is for. Events that nothing caused would hide most of these.
#[test]
fn a_wake_up_that_is_lost_is_found() {
    for plant in [Plant::WritableLost, Plant::TurnLost] {
        let found = (0..64).find(|&seed| {
            let mut world = random_world(seed, false);
            world.plant = Some(plant);
            panic::catch_unwind(AssertUnwindSafe(|| {
                world.run();
                world.verify();
            }))
            .is_err()
        });
        assert!(found.is_some(), "{plant:?} does no harm");
    }
}
