//! Many downloads that nobody takes hold memory and pipes. Whoever takes what it gets goes on as if there were none.

use std::sync::Arc;
use std::time::Duration;

use vless_rust::io::buffer_memory::BufferMemory;
use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::io::splice::PipePool;
use vless_rust::session::close::CloseReason;

use super::KINDS;
use super::sim::peer::Op;
use super::sim::plan::request;
use super::sim::socket::Manners;
use super::sim::tls::ClientTls;
use super::sim::world::{Plan, World};

/// A tenth of a thousand, with as much of the memory that relays have under a limit of 32 MiB.
const STALLED: usize = 100;
const MEMORY_BYTES: usize = 2 << 20;

/// More than any of the stalled ones is rid of: what its client's socket takes, and the longest read.
const ANSWER_BYTES: usize = 600_000;

/// Taken before anything is measured: nobody knows of anybody at first.
const BEGINNING_BYTES: usize = 1 << 20;
const DOWNLOAD_BYTES: usize = 4 << 20;

/// How the one who takes everything fares.
#[derive(Debug)]
struct Fare {
    receives: usize,
    spliced_bytes: u64,
}

fn admit(world: &mut World, kind: Option<ClientTls>, first: Op) -> usize {
    let mut plan = Plan::quiet(kind.map(ClientTls::config));
    plan.client = vec![Op::WaitOpen, Op::Header(request()), first];
    // Less than a turn moves, so that whoever stalls leaves much.
    plan.client_manners = Manners { window: 100_000, ..Manners::smooth() };
    // What it says is there at once.
    plan.target_manners = Manners { window: 1 << 30, ..Manners::smooth() };
    let number = world.admit(plan);
    world.pass(Duration::ZERO);
    assert!(world.runs[number].connected);
    number
}

/// Lets one session go on until its client has heard so much.
fn hear(world: &mut World, number: usize, bytes: usize) {
    loop {
        world.happens_for(number);
        let heard = world.runs[number].client.heard.len();
        if heard >= bytes {
            return;
        }
        assert!(world.turn(), "it waits behind {heard} bytes");
    }
}

fn fare(kind: Option<ClientTls>, pipes: bool, stalled: usize) -> Fare {
    let mut world = World::new(1, kind.is_some());
    let memory = Arc::new(BufferMemory::for_relays_only(MEMORY_BYTES, 1));
    world.pool = BufferPool::with_memory(Arc::clone(&memory));
    world.pipes = pipes.then(PipePool::new);
    let answer = world.rng.bytes(ANSWER_BYTES);
    for _ in 0..stalled {
        let number = admit(&mut world, kind, Op::StopReading);
        world.runs[number].target.script.push_back(Op::Say(answer.clone()));
        while world.happens_for(number) {
            assert!(world.turn());
        }
    }
    assert!(memory.lent_bytes() <= memory.lent_bytes_max());
    assert_eq!(memory.lent_bytes() > MEMORY_BYTES / 2, stalled > 0, "{} bytes held", memory.lent_bytes());

    let number = admit(&mut world, kind, Op::StartReading);
    let download = world.rng.bytes(DOWNLOAD_BYTES);
    world.runs[number].target.script.extend([Op::Say(download), Op::Fin]);
    hear(&mut world, number, BEGINNING_BYTES);
    let before = world.runs[number].target.link.borrow().receives;
    hear(&mut world, number, DOWNLOAD_BYTES);
    let receives = world.runs[number].target.link.borrow().receives - before;
    world.client(number, [Op::WaitEnd, Op::Fin]);
    world.pass(Duration::ZERO);
    assert_eq!(world.ended(number), Some(CloseReason::Finished));
    assert_eq!(world.counters.buffer_waits.value(), 0, "somebody waited for memory");
    let spliced_bytes = world.runs[number].record.as_ref().map_or(0, |record| record.downlink.spliced_bytes);

    // Those who come back to their senses get every byte.
    for number in 0..stalled {
        world.client(number, [Op::StartReading, Op::Fin]);
        world.target(number, [Op::Fin]);
    }
    world.run();
    world.verify();
    assert_eq!(memory.lent_bytes(), 0);
    Fare { receives, spliced_bytes }
}

#[test]
fn who_takes_what_it_gets_does_not_notice_those_who_take_nothing() {
    for (kind, pipes) in KINDS.into_iter().map(|kind| (kind, false)).chain([(None, true)]) {
        let (without, beside) = (fare(kind, pipes, 0), fare(kind, pipes, STALLED));
        let what = format!("{kind:?}, pipes {pipes}: {without:?} without them, {beside:?} beside them");
        assert!(beside.receives * 9 <= without.receives * 10, "{what}");
        assert!(beside.spliced_bytes + BEGINNING_BYTES as u64 >= without.spliced_bytes, "{what}");
        assert_eq!(without.spliced_bytes > 0, pipes, "{what}");
    }
}
