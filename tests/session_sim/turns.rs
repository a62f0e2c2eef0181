//! What a session may take of its worker: time, buffers, pipes.

use std::time::Duration;

use vless_rust::io::splice::PipePool;
use vless_rust::session::allowance::TURN_BYTES_MAX;
use vless_rust::session::close::CloseReason;

use super::sim::peer::{Op, SeenEnd};
use super::sim::plan::request;
use super::sim::socket::Manners;
use super::sim::tls::ClientTls;
use super::sim::world::{Plan, World};
use super::{KINDS, relaying, say, world_of};

/// A session whose connections take everything at once.
fn wide(kind: Option<ClientTls>, pipes: bool) -> World {
    let mut world = World::new(1, kind.is_some());
    world.pipes = pipes.then(PipePool::new);
    let mut plan = Plan::quiet(kind.map(ClientTls::config));
    plan.client = vec![Op::WaitOpen, Op::Header(request())];
    plan.client_manners = Manners { window: 1 << 30, ..Manners::smooth() };
    plan.target_manners = plan.client_manners.clone();
    world.admit(plan);
    world.pass(Duration::ZERO);
    world
}

#[test]
fn endless_data_is_moved_in_turns_of_bounded_size() {
    for kind in KINDS {
        for pipes in [false, true] {
            let mut world = wide(kind, pipes);
            let (upload, answer) = (world.rng.bytes(4 << 20), world.rng.bytes(4 << 20));
            world.client(0, [Op::Say(upload), Op::Fin]);
            world.target(0, [Op::Say(answer), Op::Fin]);
            assert_eq!(world.ended(0), Some(CloseReason::Finished));
            let run = &world.runs[0];
            assert!(run.agains >= 4, "{kind:?}: {} turns", run.agains);
            // Received and sent, in both directions, each with one read beyond the budget, and TLS around it.
            let most = 4 * (TURN_BYTES_MAX + (256 << 10));
            assert!(run.longest_turn <= most, "{kind:?}: {} bytes in a turn", run.longest_turn);
            world.verify();
        }
    }
}

#[test]
fn a_limit_lets_through_what_it_says_and_the_rest_later() {
    const BYTES: usize = 300_000;
    for kind in KINDS {
        for pipes in [false, true] {
            let mut world = wide(kind, pipes);
            world.bytes_per_ms.set(Some(1000));
            let started = world.now;
            let (upload, answer) = (world.rng.bytes(BYTES), world.rng.bytes(BYTES));
            world.runs[0].client.script.extend([Op::Say(upload), Op::Fin]);
            world.runs[0].target.script.extend([Op::Say(answer), Op::Fin]);
            world.pass(Duration::from_millis(100));
            let record = |world: &World| (world.counters.uplink_bytes.value(), world.counters.downlink_bytes.value());
            let (up, down) = record(&world);
            assert!((50_000..=101_000).contains(&up), "{kind:?}: {up} bytes up");
            assert!((50_000..=101_000).contains(&down), "{kind:?}: {down} bytes down");
            world.run();
            assert!(world.now - started >= Duration::from_millis(295), "{kind:?}: over too soon");
            assert_eq!(record(&world), (BYTES as u64, BYTES as u64), "{kind:?}");
            world.verify();
        }
    }
}

#[test]
fn an_opening_is_read_in_turns_too() {
    for kind in KINDS {
        let mut world = World::new(1, kind.is_some());
        let mut plan = Plan::quiet(kind.map(ClientTls::config));
        plan.client = vec![Op::WaitOpen, Op::Header(request())];
        // As many reads as bytes, and never a blocked one in between.
        plan.client_manners = Manners { recv_max: 1, ..Manners::smooth() };
        world.admit(plan);
        world.pass(Duration::ZERO);
        assert!(world.runs[0].connected && world.runs[0].agains > 0, "{kind:?}");
        world.client(0, [Op::Fin]);
        world.target(0, [Op::Fin]);
        world.verify();
    }
}

#[test]
fn only_bytes_that_came_as_they_are_count_as_unchanged() {
    for kind in KINDS {
        // The first payload comes in one record with the header.
        let opening = [&request()[..], b"early"].concat();
        let mut world = world_of(kind, [Op::WaitOpen, Op::Header(opening), say(b" and late"), Op::Fin]);
        world.pass(Duration::ZERO);
        world.target(0, [say(b"answer"), Op::Fin]);
        world.runs[0].client.said.splice(0..0, *b"early");
        let record = world.runs[0].record.as_ref().expect("it has ended");
        for moved in [record.uplink, record.downlink] {
            assert!(moved.payload_bytes > 0);
            assert_eq!(moved.unchanged_bytes, if kind.is_some() { 0 } else { moved.payload_bytes }, "{kind:?}");
        }
        world.verify();
    }
}

#[test]
fn a_session_in_which_nothing_waits_holds_no_buffer() {
    for kind in KINDS {
        let mut world = relaying(kind);
        let (upload, answer) = (world.rng.bytes(100_000), world.rng.bytes(100_000));
        world.client(0, [Op::Say(upload)]);
        world.target(0, [Op::Say(answer)]);
        assert_eq!(world.pool.held(), 0);
    }
}

#[test]
fn a_session_whose_peers_take_nothing_holds_one_buffer_per_direction() {
    for kind in KINDS {
        let mut world = relaying(kind);
        let (upload, answer) = (world.rng.bytes(2 << 20), world.rng.bytes(2 << 20));
        world.client(0, [Op::StopReading]);
        world.target(0, [Op::StopReading, Op::Say(answer)]);
        world.client(0, [Op::Say(upload)]);
        // Uplink within TLS: the rest of a record beside the decoded bytes.
        assert!(world.pool.held() <= 2 + usize::from(kind.is_some()), "{}", world.pool.held());
        assert!(world.runs[0].target.link.borrow().received < 1 << 20, "back-pressure");
        world.cut(0, CloseReason::Shutdown);
        world.runs[0].reasons = vec![CloseReason::Shutdown];
        world.verify();
    }
}

#[test]
fn bulk_that_passes_unchanged_goes_through_pipes() {
    let mut world = wide(None, true);
    let (upload, answer) = (world.rng.bytes(3 << 20), world.rng.bytes(3 << 20));
    world.client(0, [Op::Say(upload), Op::Fin]);
    world.target(0, [Op::Say(answer), Op::Fin]);
    let record = world.runs[0].record.clone().unwrap();
    assert!(record.uplink.spliced_bytes > 2 << 20, "{:?}", record.uplink);
    assert!(record.downlink.spliced_bytes > 2 << 20, "{:?}", record.downlink);
    world.verify();
}

#[test]
fn nothing_is_spliced_within_tls() {
    let mut world = wide(Some(ClientTls::NEW), true);
    let (upload, answer) = (world.rng.bytes(1 << 20), world.rng.bytes(1 << 20));
    world.client(0, [Op::Say(upload), Op::Fin]);
    world.target(0, [Op::Say(answer), Op::Fin]);
    let record = world.runs[0].record.clone().unwrap();
    assert_eq!((record.uplink.spliced_bytes, record.downlink.spliced_bytes), (0, 0));
    world.verify();
}

#[test]
fn payload_beside_the_request_counts_as_what_it_is() {
    for kind in KINDS {
        let mut world = world_of(kind, [Op::WaitOpen, Op::Header([&request()[..], b"early"].concat())]);
        world.pass(Duration::ZERO);
        let counted = (world.counters.uplink_bytes.value(), world.counters.uplink_unchanged_bytes.value());
        assert_eq!(counted, (5, if kind.is_none() { 5 } else { 0 }), "{kind:?}");
    }
}

#[test]
fn a_session_that_is_cut_says_goodbye() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.target(0, [say(b"x")]);
        world.cut(0, CloseReason::Shutdown);
        world.runs[0].reasons = vec![CloseReason::Shutdown];
        world.settle();
        let client = &world.runs[0].client;
        assert_eq!((client.seen_end, client.seen_close_notify), (Some(SeenEnd::Fin), kind.is_some()));
        world.verify();
    }
}

/// Nothing waits with us at that moment, but the kernel has more of the target.
#[test]
fn a_client_that_is_cut_in_the_middle_of_a_stream_sees_a_reset() {
    for kind in KINDS {
        let mut world = wide(kind, false);
        let answer = world.rng.bytes(3 << 20);
        world.runs[0].target.script.push_back(Op::Say(answer));
        while !world.runs[0].again {
            assert!(world.step());
        }
        assert_eq!(world.pool.held(), 0);
        world.cut(0, CloseReason::Shutdown);
        world.runs[0].reasons = vec![CloseReason::Shutdown];
        world.settle();
        let client = &world.runs[0].client;
        assert_eq!((client.seen_end, client.seen_close_notify), (Some(SeenEnd::Reset), false));
        world.verify();
    }
}

#[test]
fn key_updates_are_answered_and_cost_no_payload() {
    let mut world = relaying(Some(ClientTls::NEW));
    for number in 0..50_u8 {
        world.client(0, [Op::KeyUpdate, say(&[number; 3])]);
        world.target(0, [Op::Say(vec![number; 7])]);
    }
    world.client(0, [Op::Fin]);
    world.target(0, [Op::Fin]);
    assert_eq!(world.runs[0].target.heard.len(), 150);
    world.verify();
}

/// What a refused client still sends is thrown away in turns, too.
#[test]
fn a_refused_client_is_listened_to_in_turns() {
    for kind in KINDS {
        let mut world = World::new(1, kind.is_some());
        let mut plan = Plan::quiet(kind.map(ClientTls::config));
        plan.client = vec![Op::WaitOpen, Op::Header(vec![9; 30])];
        plan.client_manners = Manners { window: 1 << 30, ..Manners::smooth() };
        world.admit(plan);
        world.pass(Duration::ZERO);
        let more = world.rng.bytes(700_000);
        world.client(0, [Op::Say(more)]);
        let run = &world.runs[0];
        assert!(run.agains >= 2, "{kind:?}: {} turns", run.agains);
        assert!(run.longest_turn <= 512 << 10, "{kind:?}: {} bytes in a turn", run.longest_turn);
        world.client(0, [Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::NotVless));
    }
}
