//! Sessions of all three relays where memory and descriptors are short, by seed, on the scheduler of the server.
//!
//! Streams (in some worlds through pipes), datagrams and Mux connections share memory for three smallest steps, on one
//! worker or on two. Within TLS, strangers who are passed on to a fallback are beside them. Sessions of others take
//! even that memory away for some seconds, and descriptors. Some clients stall, some break off. Time moves only when
//! nothing else can happen, so whoever waits for what it holds itself, or is forgotten in a queue, ends by a deadline,
//! with bytes missing.
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
mod workers;

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
use vless_rust::io::splice::PipePool;
use vless_rust::session::close::CloseReason;
use vless_rust::session::{Dest, Fallback, Fallbacks, Timeouts};
use workers::Worker;

/// Seeds of an everyday run.
const SEEDS: u64 = 256;
/// Sessions of one seed at the most.
const SESSIONS_MAX: usize = 12;

/// Turns in a row at the beginning of which somebody waits for memory that there is. A turn looks after those who wait
/// twice, before all others and behind them, and each time serves at least the first while there is some. So half as
/// many turns as there are sessions get to the last of them.
const FED_TURNS_MAX: usize = SESSIONS_MAX / 2;

/// Longer than everybody together holds memory who stalls, or takes it away.
const PATIENCE: Duration = Duration::from_secs(4000);

/// What the sessions of some seeds have come to.
#[derive(Default)]
struct Sum {
    sessions: usize,
    workers: usize,
    strangers: usize,
    spliced_bytes: u64,
    /// How often one of them had to wait for memory.
    waits: u64,
    /// Datagrams said by whoever is orderly, both ways, and those that did not arrive.
    datagrams: usize,
    dropped: usize,
    fed_turns_most: usize,
    over_bytes_most: usize,
}

/// Workers whose sessions are short of everything.
fn scarce_workers(seed: u64) -> (Vec<Worker>, Arc<BufferMemory>) {
    let count = if seed / 2 % 3 == 2 { 2 } else { 1 };
    let memory = Arc::new(BufferMemory::for_relays_only(0, count));
    let workers = (0..count).map(|number| scarce_worker(seed, number, SESSIONS_MAX / count, &memory));
    (workers.collect(), memory)
}

fn scarce_worker(seed: u64, number: usize, sessions_max: usize, memory: &Arc<BufferMemory>) -> Worker {
    let tls = seed.is_multiple_of(2);
    let mut world = World::new(seed ^ ((number as u64) << 32), tls);
    world.pool = BufferPool::with_memory(Arc::clone(memory));
    world.pipes = (seed / 6).is_multiple_of(2).then(PipePool::new);
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
    if tls {
        // Within TLS a request comes whole. Whose request is cut is taken for a stranger where there is a fallback.
        let (name, alpn, path) = <(String, String, String)>::default();
        let fallback = Fallback { name, alpn, path, dest: Dest::Tcp("fallback".into(), 80), proxy_header: None };
        world.settings.fallbacks = Arc::new(Fallbacks::new([fallback]));
    }
    let config = ClientTls::NEW.config();
    let count = world.rng.up_to(sessions_max);
    let talks = (0..count).map(|number| {
        let mut rng = world.rng.fork();
        let talk = Talk::random(number, &mut rng, tls, world.now + PATIENCE / 2);
        world.admit(talk.plan(&mut rng, tls.then(|| config.clone())));
        talk
    });
    let talks = talks.collect();
    Worker { world, talks }
}

fn simulate(seed: u64, sum: &mut Sum) {
    let (mut workers, memory) = scarce_workers(seed);
    let (limit, overshoot) = (memory.lent_bytes_max(), workers.len() * OVERSHOOT_BYTES_MAX);
    workers::run(&mut workers, || {
        let over = memory.lent_bytes().saturating_sub(limit);
        assert!(over <= overshoot, "{over} bytes more than the limit");
        sum.over_bytes_most = sum.over_bytes_most.max(over);
    });
    assert_eq!(memory.lent_bytes(), 0, "memory is kept");
    sum.sessions += workers.iter().map(|worker| worker.talks.len()).sum::<usize>();
    for Worker { world, talks } in &mut workers {
        judge(world, talks, sum);
        let fed_turns_most = world.runs.iter().map(|run| run.fed_turns_most).max().unwrap_or(0);
        assert!(fed_turns_most <= FED_TURNS_MAX, "{fed_turns_most} turns for memory that there was");
        sum.fed_turns_most = sum.fed_turns_most.max(fed_turns_most);
    }
    sum.workers += workers.len();
}

/// What has come of the sessions of one worker.
fn judge(world: &mut World, talks: &[Talk], sum: &mut Sum) {
    assert_eq!((world.pool.held(), world.pool.opening_bytes().0), (0, 0), "memory is kept");
    assert_eq!(world.pipes.as_ref().map_or(0, PipePool::in_use), 0, "pipes are kept");
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
        let record = world.runs[number].record.as_ref();
        sum.spliced_bytes += record.map_or(0, |record| record.uplink.spliced_bytes + record.downlink.spliced_bytes);
        sum.strangers += usize::from(talk.kind == Kind::Stranger);
    }
    let dropped = sum.dropped - dropped_before;
    let counted = world.counters.udp_dropped_no_room.value() as usize;
    assert!(
        dropped <= counted,
        "{dropped} of {} datagrams are missing, {counted} counted",
        sum.datagrams - said_before
    );
    sum.waits += world.counters.buffer_waits.value();
}

/// Says what is wrong with a session that has ended.
fn check(talk: &Talk, run: &Run, sum: &mut Sum) -> Result<(), String> {
    let record = run.record.as_ref().ok_or("never ended")?;
    let is_short = matches!(record.reason, CloseReason::NoResources | CloseReason::FallbackUnreachable);
    if !(run.reasons.contains(&record.reason) || run.was_short && is_short) {
        return Err("ended for the wrong reason (a timeout may be a lost wake-up)".to_owned());
    }
    match &talk.kind {
        Kind::Stream if record.reason == CloseReason::NoResources => Ok(()),
        Kind::Stream => verify(run, false),
        Kind::Stranger => talk.check_stranger(run, record),
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
        assert!(sum.workers > 0 && sum.strangers > 0 && sum.spliced_bytes > 0, "something was never tried");
        assert!(sum.dropped * 4 < sum.datagrams, "{} of {} datagrams were dropped", sum.dropped, sum.datagrams);
    }
    println!(
        "{} sessions ({} strangers) on {} workers, {} waits, {} bytes spliced, {} of {} datagrams dropped, at most {} \
         turns and {} bytes over the limit",
        sum.sessions,
        sum.strangers,
        sum.workers,
        sum.waits,
        sum.spliced_bytes,
        sum.dropped,
        sum.datagrams,
        sum.fed_turns_most,
        sum.over_bytes_most
    );
}

/// What the simulation is for: a wake-up that is lost is found here, too.
#[test]
fn a_session_that_is_forgotten_is_found() {
    let found = (0..64).find(|&seed| {
        let (mut workers, _memory) = scarce_workers(seed);
        for worker in &mut workers {
            worker.world.plant = Some(sim::world::Plant::TurnLost);
        }
        panic::catch_unwind(AssertUnwindSafe(|| {
            workers::run(&mut workers, || {});
            for Worker { world, talks } in &workers {
                for (number, talk) in talks.iter().enumerate() {
                    check(talk, &world.runs[number], &mut Sum::default()).unwrap();
                }
            }
        }))
        .is_err()
    });
    assert!(found.is_some(), "a turn that is lost does no harm");
}
