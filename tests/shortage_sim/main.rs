//! Sessions of all three relays where memory and descriptors are short, by seed, on the scheduler of the server.
//!
//! Streams, datagrams and Mux connections share memory for three smallest steps. Sessions of others take even that away
//! for some seconds, and descriptors. Some clients stall, some break off. Time moves only when nothing else can happen, so
//! whoever waits for what it holds itself, or is forgotten in a queue, ends by a deadline, with bytes missing.
//!
//! - Whoever is not the one that stalls or breaks off delivers every byte, and every datagram that was not counted as
//!   dropped, and ends in order.
//! - Whoever waits for memory that there is goes on within a bounded number of turns.
//! - The memory lent never exceeds the limit by more than the documented constant.
//!
//! `SIM_SESSIONS=100000` with `--release` runs that many sessions, `SIM_SEED=17` runs one seed again.

#[path = "../support/sim/mod.rs"]
mod sim;

mod holders;
mod plans;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use plans::{Kind, Talk};
use sim::outlet::End;
use sim::run::Run;
use sim::tls::ClientTls;
use sim::verify::verify;
use sim::world::World;
use vless_rust::io::buffer_memory::{BufferMemory, OVERSHOOT_BYTES_MAX};
use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::session::Timeouts;
use vless_rust::session::close::CloseReason;

/// Seeds of an everyday run.
const SEEDS: u64 = 256;
/// Sessions of one seed at the most.
const SESSIONS_MAX: usize = 12;

/// Longer than everybody together holds memory who stalls, or takes it away.
const PATIENCE: Duration = Duration::from_secs(4000);

/// What the sessions of some seeds have come to.
#[derive(Default)]
struct Sum {
    sessions: usize,
    /// Of these, the ones that had to wait for memory.
    waits: u64,
    /// Datagrams said by whoever is orderly, both ways, and those that did not arrive.
    datagrams: usize,
    dropped: usize,
    fed_turns_most: usize,
    over_bytes_most: usize,
}

/// A world of sessions that are short of everything, and what they are to say.
fn scarce_world(seed: u64) -> (World, Vec<Talk>, Arc<BufferMemory>) {
    let tls = seed.is_multiple_of(2);
    let mut world = World::new(seed, tls);
    let memory = Arc::new(BufferMemory::for_relays_only(0));
    world.pool = BufferPool::with_memory(Arc::clone(&memory));
    world.scarcity.times_left = world.rng.below(12);
    world.scarcity.is_known = true;
    world.settings.timeouts = Timeouts {
        tls_handshake: PATIENCE,
        first_byte: PATIENCE,
        request: PATIENCE,
        idle: PATIENCE,
        half_close: PATIENCE,
        write_stall: Duration::from_secs(60),
    };
    world.settings.udp.timeout = PATIENCE;
    let config = ClientTls::NEW.config();
    let count = world.rng.up_to(SESSIONS_MAX);
    let talks = (0..count).map(|number| {
        let mut rng = world.rng.fork();
        let talk = Talk::random(number, &mut rng, world.now + PATIENCE / 2);
        world.admit(talk.plan(&mut rng, tls.then(|| config.clone())));
        talk
    });
    let talks = talks.collect();
    (world, talks, memory)
}

fn simulate(seed: u64, sum: &mut Sum) {
    let (mut world, talks, memory) = scarce_world(seed);
    let limit = memory.lent_bytes_max();
    world.run_watching(|| {
        let over = memory.lent_bytes().saturating_sub(limit);
        assert!(over <= OVERSHOOT_BYTES_MAX, "{over} bytes more than the limit");
        sum.over_bytes_most = sum.over_bytes_most.max(over);
    });
    assert_eq!((memory.lent_bytes(), world.pool.held()), (0, 0), "memory is kept");
    let (said_before, dropped_before) = (sum.datagrams, sum.dropped);
    for (number, talk) in talks.iter().enumerate() {
        let run = &mut world.runs[number];
        run.client.hear_rest();
        for outlet in &mut run.outlets {
            if let End::Tcp(_, peer) = &mut outlet.end {
                peer.hear_rest();
            }
        }
        run.target.hear_rest();
        if let Err(fault) = check(talk, &world.runs[number], sum) {
            panic!("session {number}, {:?}: {fault}\n{}", talk.kind, world.describe());
        }
    }
    let dropped = sum.dropped - dropped_before;
    let counted = world.counters.udp_dropped_no_room.value() as usize;
    assert!(
        dropped <= counted,
        "{dropped} of {} datagrams are missing, {counted} counted",
        sum.datagrams - said_before
    );
    sum.sessions += talks.len();
    sum.waits += world.counters.buffer_waits.value();
    let fed_turns_most = world.runs.iter().map(|run| run.fed_turns_most).max().unwrap_or(0);
    assert!(fed_turns_most <= talks.len() + 1, "{fed_turns_most} turns for memory that there was");
    sum.fed_turns_most = sum.fed_turns_most.max(fed_turns_most);
}

/// Says what is wrong with a session that has ended.
fn check(talk: &Talk, run: &Run, sum: &mut Sum) -> Result<(), String> {
    let record = run.record.as_ref().ok_or("never ended")?;
    if !(run.reasons.contains(&record.reason) || run.was_short && record.reason == CloseReason::NoResources) {
        return Err("ended for the wrong reason (a timeout may be a lost wake-up)".to_owned());
    }
    match &talk.kind {
        Kind::Stream if record.reason == CloseReason::NoResources => Ok(()),
        Kind::Stream => verify(run, false),
        Kind::Datagrams | Kind::Mux => talk.check_packets(run, record, sum),
    }
}

/// Runs seeds until there were [`SEEDS`] of them and so many sessions.
fn simulate_sessions(wanted: usize) -> Sum {
    let mut sum = Sum::default();
    let mut failed = Vec::new();
    let one = env::var("SIM_SEED").ok().map(|text| text.parse::<u64>().expect("a number"));
    let mut seed = one.unwrap_or(0);
    while (seed < SEEDS || sum.sessions < wanted || one.is_some()) && failed.len() < 10 {
        if panic::catch_unwind(AssertUnwindSafe(|| simulate(seed, &mut sum))).is_err() {
            eprintln!("failed: SIM_SEED={seed}");
            failed.push(seed);
        }
        if one.is_some() {
            break;
        }
        seed += 1;
    }
    assert!(failed.is_empty(), "run again with SIM_SEED set to one of {failed:?}");
    sum
}

#[test]
fn every_session_goes_on_and_nobody_is_forgotten_where_memory_and_descriptors_are_short() {
    let wanted = env::var("SIM_SESSIONS").map_or(0, |text| text.parse().expect("a number"));
    let sum = simulate_sessions(wanted);
    if env::var("SIM_SEED").is_err() {
        assert!(sum.waits > sum.sessions as u64 / 2, "hardly anybody ever waited");
        assert!(sum.dropped * 4 < sum.datagrams, "{} of {} datagrams were dropped", sum.dropped, sum.datagrams);
    }
    println!(
        "{} sessions, {} waits, {} of {} datagrams dropped, at most {} turns and {} bytes over the limit",
        sum.sessions, sum.waits, sum.dropped, sum.datagrams, sum.fed_turns_most, sum.over_bytes_most
    );
}

/// What the simulation is for: a wake-up that is lost is found here, too.
#[test]
fn a_session_that_is_forgotten_is_found() {
    let found = (0..64).find(|&seed| {
        let (mut world, talks, _memory) = scarce_world(seed);
        world.plant = Some(sim::world::Plant::TurnLost);
        panic::catch_unwind(AssertUnwindSafe(|| {
            world.run();
            for (number, talk) in talks.iter().enumerate() {
                check(talk, &world.runs[number], &mut Sum::default()).unwrap();
            }
        }))
        .is_err()
    });
    assert!(found.is_some(), "a turn that is lost does no harm");
}
