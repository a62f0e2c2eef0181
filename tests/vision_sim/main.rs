//! Whole Vision sessions on scripted, edge-triggered sockets in virtual time: random ones by seed, with and without
//! kernel pipes, and the switch with every cut of the bytes around it.
//!
//! `SIM_SEEDS=5000` runs more seeds than the usual 256, `SIM_SEED=17` runs one again.

#[path = "../support/sim/mod.rs"]
mod sim;
#[path = "../support/mod.rs"]
mod support;

mod plan;
mod resets;
mod switch;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use sim::peer::Op;
use sim::tls::ClientTls;
use sim::vision::{DIRECT, Phase, VisionPeer};
use sim::world::{Plan, VISION_USER, World};
use support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, client_hello, data, server_hello};
use vless_rust::io::splice::PipePool;
use vless_rust::session::close::CloseReason;

/// What all simulated sessions together have come to, so that no seed runs for nothing.
#[derive(Debug, Default)]
struct Reached {
    uplinks_direct: u64,
    downlinks_direct: u64,
    spliced_bytes: u64,
    padded_to_the_end: u64,
}

/// Admits a Vision client.
fn admit(world: &mut World, plan: Plan) -> usize {
    let number = world.admit(plan);
    let rng = world.rng.fork();
    world.runs[number].client.vision = Some(VisionPeer::new(VISION_USER, rng));
    number
}

/// A world with one Vision session over smooth connections whose inner handshake is done; it is padded both ways.
fn shaken(splice: bool) -> World {
    let mut world = World::new(1, true);
    world.pipes = splice.then(PipePool::new);
    admit(&mut world, Plan::quiet(Some(ClientTls::NEW.config())));
    world.client(0, [Op::WaitOpen, Op::Open(plan::request(), client_hello())]);
    world.pass(Duration::ZERO);
    world.target(0, [Op::Say([&server_hello(Inner::Tls13), CHANGE_CIPHER_SPEC].concat())]);
    world.client(0, [Op::Say(data(53))]);
    assert_eq!(world.runs[0].target.heard, [client_hello(), data(53)].concat());
    world
}

/// The same, with both directions raw.
fn direct(splice: bool) -> World {
    let mut world = shaken(splice);
    world.client(0, [Op::Block(DIRECT, data(90))]);
    world.target(0, [Op::Say(data(300))]);
    assert_eq!(phases(&world), (Phase::Raw, Phase::Raw));
    world
}

fn phases(world: &World) -> (Phase, Phase) {
    let vision = world.runs[0].client.vision.as_ref().unwrap();
    (vision.up, vision.down)
}

/// A world of some sessions, decided by the seed. `splice` changes nothing else.
fn simulate(seed: u64, splice: bool, spurious: bool, reached: &mut Reached) {
    let mut world = World::new(seed, true);
    world.spurious = spurious;
    world.settings.read_bytes_max = world.rng.pick(&[4096, 16 << 10, 64 << 10, 128 << 10]);
    world.settings.vision_seed = world.rng.pick(&[[900, 500, 900, 256], [0, 0, 0, 0], [1, 9000, 1, 9000]]);
    world.pipes = splice.then(PipePool::new);
    let fragment = world.rng.pick(&[None, None, Some(64), Some(600), Some(5000)]);
    let config = ClientTls { tls13: true, fragment, post_quantum: false }.config();
    for _ in 0..world.rng.up_to(3) {
        let mut rng = world.rng.fork();
        let plan = plan::random(&mut rng, config.clone(), world.now);
        admit(&mut world, plan);
    }
    world.run();
    world.verify();
    verify_counters(&world);
    let counters = &world.counters;
    reached.uplinks_direct += counters.uplinks_direct.value();
    reached.downlinks_direct += counters.downlinks_direct.value();
    reached.spliced_bytes += counters.uplink_spliced_bytes.value() + counters.downlink_spliced_bytes.value();
    reached.padded_to_the_end += world
        .runs
        .iter()
        .filter(|run| run.client.vision.as_ref().is_some_and(|vision| vision.down == Phase::Padded))
        .count() as u64;
    assert!(splice || counters.uplink_spliced_bytes.value() + counters.downlink_spliced_bytes.value() == 0);
}

/// Where every session went well, both ends know what must have been counted.
fn verify_counters(world: &World) {
    let finished = |run: &sim::run::Run| run.record.as_ref().map(|record| record.reason) == Some(CloseReason::Finished);
    if !world.runs.iter().all(|run| finished(run) && run.reasons == [CloseReason::Finished]) {
        return;
    }
    let visions = || world.runs.iter().map(|run| run.client.vision.as_ref().unwrap());
    let counters = &world.counters;
    let direct = |phase| u64::from(phase == Phase::Raw);
    let sum = |of: fn(&VisionPeer) -> u64| visions().map(of).sum::<u64>();
    assert_eq!(counters.uplinks_direct.value(), visions().map(|vision| direct(vision.up)).sum::<u64>());
    assert_eq!(counters.downlinks_direct.value(), visions().map(|vision| direct(vision.down)).sum::<u64>());
    assert_eq!(counters.uplink_padding_bytes.value(), sum(|vision| vision.up_padding));
    assert_eq!(counters.downlink_padding_bytes.value(), sum(|vision| vision.down_padding));
    assert!(counters.uplink_spliced_bytes.value() <= counters.uplink_unchanged_bytes.value());
    assert!(counters.downlink_spliced_bytes.value() <= counters.downlink_unchanged_bytes.value());
}

fn seeds() -> Vec<u64> {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    number("SIM_SEED").map_or_else(|| (0..number("SIM_SEEDS").unwrap_or(256)).collect(), |seed| vec![seed])
}

fn simulate_all(spurious: bool) -> Reached {
    let mut failed = Vec::new();
    let mut reached = Reached::default();
    for seed in seeds() {
        // Both ways; where events come from nowhere, one of them.
        let ways = if spurious { &[seed.is_multiple_of(2)][..] } else { &[true, false] };
        for &splice in ways {
            let reached = AssertUnwindSafe(&mut reached);
            if panic::catch_unwind(move || simulate(seed, splice, spurious, { reached }.0)).is_err() {
                eprintln!("failed: SIM_SEED={seed}, splice {splice}");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "run again with SIM_SEED set to one of {failed:?}");
    reached
}

#[test]
fn random_sessions_deliver_every_byte_and_end_as_they_should() {
    let reached = simulate_all(false);
    if seeds().len() >= 256 {
        let enough = reached.uplinks_direct > 100 && reached.downlinks_direct > 100;
        assert!(enough && reached.spliced_bytes > 1 << 20 && reached.padded_to_the_end > 20, "{reached:?}");
    }
}

#[test]
fn events_that_nothing_caused_do_no_harm() {
    simulate_all(true);
}
