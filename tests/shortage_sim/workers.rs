//! Workers that share the memory: they go on one beside the other, and none takes everything from another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vless_rust::io::buffer_memory::{BufferMemory, DEFERENCE, STEP_BYTES};
use vless_rust::io::buffer_pool::BufferPool;

use crate::holders::{holder, is_heard, request, wire};
use crate::plans::{Kind, Talk};
use crate::sim::peer::Op;
use crate::sim::scarcity::Scarcity;
use crate::sim::world::{Plan, STARVED_RETRY, World};

/// Clients of one worker: as many as there is memory for, or some more who wait.
const CROWDS: [usize; 2] = [2, 6];
/// What happens at that worker between two looks of the other: enough for each of them to pass on a packet.
const STEPS_BETWEEN_LOOKS: usize = 400;

/// How long somebody may wait at a worker where nothing else happens. Once it has waited for so much longer than the
/// first of the others, who may have come just before it, these leave it what they give back. They complete what they
/// have begun, and it looks.
const WAIT_MAX: Duration = DEFERENCE.saturating_mul(2).saturating_add(STARVED_RETRY.saturating_mul(2));

/// One worker, and what its sessions are to say.
pub(crate) struct Worker {
    pub(crate) world: World,
    pub(crate) talks: Vec<Talk>,
}

/// Runs until every session of every worker has ended, with a look at everything that happens.
pub(crate) fn run(workers: &mut [Worker], mut watch: impl FnMut()) {
    while workers.iter().any(|worker| worker.world.lives()) {
        let (first, count) = (workers[0].world.rng.below(workers.len()), workers.len());
        let is_done = (0..count).any(|shift| workers[(first + shift) % count].world.step());
        if !is_done {
            let next = workers.iter().filter_map(|worker| worker.world.next_at()).min();
            let Some(next) = next else {
                assert!(!workers.iter().any(|worker| worker.world.lives()), "nothing can ever happen again");
                break;
            };
            // A worker is late by up to a tick.
            let late = Duration::from_micros(workers[0].world.rng.below(1000) as u64);
            pass_to(workers.iter_mut().map(|worker| &mut worker.world), next + late);
        }
        watch();
    }
    for worker in workers {
        worker.world.scarcity = Scarcity::default();
    }
}

fn pass_to<'a>(worlds: impl IntoIterator<Item = &'a mut World>, now: Instant) {
    for world in worlds {
        world.pass_to(now);
    }
}

#[test]
fn who_waits_at_a_quiet_worker_has_its_turn_beside_a_crowd_at_another() {
    for (kind, crowd) in [Kind::Datagrams, Kind::Mux].into_iter().flat_map(|kind| CROWDS.map(|crowd| (kind, crowd))) {
        let memory = Arc::new(BufferMemory::for_relays_only(0, 2));
        let [mut busy, mut quiet] = [1, 2].map(|seed| {
            let mut world = World::new(seed, false);
            world.scarcity.is_known = true;
            world.pool = BufferPool::with_memory(Arc::clone(&memory));
            world
        });
        for _ in 0..crowd {
            busy.admit(holder(kind));
        }
        let newcomer = quiet.admit(Plan {
            client: vec![Op::Header(request(kind)), Op::Say(wire(kind, true, b"hello"))],
            ..Plan::quiet(None)
        });
        let waits = |world: &World| (0..crowd).filter(|&number| world.is_starved(number)).count();
        while busy.pool.has_room(STEP_BYTES) || waits(&busy) < usize::from(crowd > CROWDS[0]) {
            assert!(busy.step());
        }
        quiet.settle();
        assert!(quiet.is_starved(newcomer), "{kind:?}: it never waits");
        let since = quiet.now;
        while !is_heard(&quiet.runs[newcomer]) {
            for _ in 0..STEPS_BETWEEN_LOOKS {
                assert!(busy.step(), "{kind:?}: the crowd has nothing to say any more");
            }
            while busy.turn() {}
            let now = busy.now.max(quiet.now) + STARVED_RETRY;
            pass_to([&mut busy, &mut quiet], now);
            quiet.settle();
            assert!(quiet.now - since <= WAIT_MAX, "{kind:?}, {crowd}: it has waited for {:?}", quiet.now - since);
        }
    }
}
