//! Each deadline at its time and not before, with its reason.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use vless_rust::session::close::CloseReason;

use super::sim::peer::{Op, SeenEnd};
use super::sim::plan::request;
use super::sim::socket::{Closed, Link, Manners};
use super::sim::tls::ClientTls;
use super::sim::world::{Plan, TIMEOUTS, World};
use super::{KINDS, relaying, say, world_of};

/// How exactly the timer wheel keeps time: a tick, and what a worker is late.
const SLACK: Duration = Duration::from_millis(20);

/// The session lives until `after` from now and then ends with `reason`.
fn assert_ends(world: &mut World, after: Duration, reason: CloseReason) {
    world.pass(after.saturating_sub(SLACK));
    assert_eq!(world.ended(0), None, "too early for {reason:?}\n{}", world.describe());
    world.pass(2 * SLACK);
    assert_eq!(world.ended(0), Some(reason), "{}", world.describe());
    world.runs[0].reasons = vec![reason];
    world.verify();
}

/// A client that reads nothing has left, and the kernel holds the whole answer for it and tells how much of it is taken.
fn answered(kind: Option<ClientTls>) -> (World, Rc<RefCell<Link>>) {
    let mut world = relaying(kind);
    let answer = world.rng.bytes(100_000);
    world.client(0, [say(b"question"), Op::StopReading, Op::Fin]);
    world.target(0, [Op::Say(answer)]);
    let client = world.runs[0].client.link.clone();
    client.borrow_mut().tells = true;
    (world, client)
}

/// The client does something, or the target.
fn speak(world: &mut World, as_client: bool, op: Op) {
    if as_client {
        world.client(0, [op]);
    } else {
        world.target(0, [op]);
    }
}

#[test]
fn a_handshake_has_its_time_and_bytes_do_not_prolong_it() {
    for fragment in [None, Some(64)] {
        let kind = ClientTls { fragment, ..ClientTls::NEW };
        let mut world = world_of(Some(kind), []);
        world.pass(Duration::from_secs(6));
        // The beginning of a record.
        world.client(0, [Op::Raw(b"\x16\x03\x01\x02\0\x01\0".to_vec())]);
        assert_ends(
            &mut world,
            TIMEOUTS.tls_handshake.saturating_sub(Duration::from_secs(6)),
            CloseReason::HandshakeTimeout,
        );
    }
}

#[test]
fn the_first_byte_has_its_time_from_the_end_of_the_handshake() {
    for kind in [ClientTls::NEW, ClientTls::OLD] {
        let mut world = world_of(Some(kind), []);
        world.pass(Duration::from_secs(8));
        world.client(0, [Op::WaitOpen]);
        assert_ends(&mut world, TIMEOUTS.first_byte, CloseReason::FirstByteTimeout);
        assert!(world.runs[0].client.seen_close_notify);
    }
    let mut world = world_of(None, []);
    assert_ends(&mut world, TIMEOUTS.first_byte, CloseReason::FirstByteTimeout);
}

#[test]
fn a_request_has_its_time_from_its_first_byte_and_further_bytes_do_not_prolong_it() {
    for kind in KINDS {
        let mut world = world_of(kind, [Op::WaitOpen]);
        world.pass(Duration::from_secs(50));
        for &byte in &request()[..4] {
            world.client(0, [Op::Header(vec![byte])]);
            world.pass(Duration::from_secs(2));
        }
        assert_ends(&mut world, TIMEOUTS.request.saturating_sub(Duration::from_secs(8)), CloseReason::RequestTimeout);
    }
}

#[test]
fn a_dial_may_take_as_long_as_the_dialler_likes() {
    for kind in KINDS {
        let mut world = World::new(1, kind.is_some());
        let mut plan = Plan::quiet(kind.map(ClientTls::config));
        plan.client = vec![Op::WaitOpen, Op::Header(request())];
        plan.dial_time = Duration::from_secs(1000);
        world.admit(plan);
        world.pass(Duration::from_secs(1000) + SLACK);
        assert!(world.runs[0].connected);
        // Idle time counts from here.
        assert_ends(&mut world, TIMEOUTS.idle.saturating_sub(SLACK), CloseReason::Idle);
    }
}

#[test]
fn an_idle_relay_ends_after_its_time() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.pass(Duration::from_secs(200));
        world.client(0, [say(b"x")]);
        world.pass(Duration::from_secs(200));
        world.target(0, [say(b"y")]);
        assert_ends(&mut world, TIMEOUTS.idle, CloseReason::Idle);
        let client = &world.runs[0].client;
        assert_eq!((client.seen_end, client.seen_close_notify), (Some(SeenEnd::Fin), kind.is_some()));
    }
}

#[test]
fn one_direction_that_moves_keeps_a_relay_alive() {
    for kind in KINDS {
        for uplink in [true, false] {
            let mut world = relaying(kind);
            for _ in 0..10 {
                world.pass(Duration::from_secs(290));
                speak(&mut world, uplink, say(b"x"));
            }
            assert_ends(&mut world, TIMEOUTS.idle, CloseReason::Idle);
        }
    }
}

#[test]
fn a_half_closed_relay_ends_when_nothing_moves_in_the_other_direction() {
    for kind in KINDS {
        for client_first in [true, false] {
            let mut world = relaying(kind);
            world.pass(Duration::from_secs(100));
            speak(&mut world, client_first, Op::Fin);
            for _ in 0..5 {
                world.pass(Duration::from_secs(25));
                speak(&mut world, !client_first, say(b"x"));
            }
            assert_ends(&mut world, TIMEOUTS.half_close, CloseReason::HalfCloseTimeout);
        }
    }
}

#[test]
fn a_client_that_takes_nothing_ends_the_relay_although_its_upload_moves() {
    for kind in KINDS {
        let mut world = relaying(kind);
        let answer = world.rng.bytes(1 << 20);
        world.client(0, [Op::StopReading]);
        world.target(0, [Op::Say(answer)]);
        world.pass(Duration::from_secs(60));
        world.client(0, [say(b"upload")]);
        assert_ends(&mut world, TIMEOUTS.write_stall.saturating_sub(Duration::from_secs(60)), CloseReason::WriteStall);
        assert_eq!(world.runs[0].client.link.borrow().closed, Some(Closed::Reset), "half an answer looks whole");
    }
}

#[test]
fn a_target_that_takes_nothing_ends_the_relay() {
    for kind in KINDS {
        let mut world = relaying(kind);
        let upload = world.rng.bytes(1 << 20);
        world.target(0, [Op::StopReading]);
        world.client(0, [Op::Say(upload)]);
        world.pass(Duration::from_secs(60));
        world.target(0, [say(b"answer")]);
        assert_ends(&mut world, TIMEOUTS.write_stall.saturating_sub(Duration::from_secs(60)), CloseReason::WriteStall);
        assert_eq!(world.runs[0].target.link.borrow().closed, Some(Closed::Reset), "half an upload looks whole");
    }
}

#[test]
fn a_client_that_takes_bytes_slowly_is_not_stalled() {
    for kind in KINDS {
        let mut world = World::new(1, kind.is_some());
        let mut plan = Plan::quiet(kind.map(ClientTls::config));
        plan.client = vec![Op::WaitOpen, Op::Header(request())];
        plan.client_manners = Manners { window: 10_000, ..Manners::smooth() };
        world.admit(plan);
        world.pass(Duration::ZERO);
        let answer = world.rng.bytes(100_000);
        world.client(0, [Op::StopReading]);
        world.target(0, [Op::Say(answer), Op::Fin]);
        let client = world.runs[0].client.link.clone();
        while world.runs[0].target.link.borrow().received < 100_000 {
            let wire = client.borrow_mut().peer_takes(8_000);
            world.runs[0].client.hear(&wire);
            world.pass(Duration::from_secs(110));
            assert_eq!(world.ended(0), None, "{kind:?}");
        }
        world.client(0, [Op::StartReading, Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::Finished));
        world.verify();
    }
}

#[test]
fn a_refused_client_that_does_not_close_is_dropped() {
    for kind in KINDS {
        let mut world = world_of(kind, [Op::WaitOpen, Op::Header(vec![9; 40])]);
        assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Fin));
        assert_ends(&mut world, Duration::from_secs(5), CloseReason::NotVless);
    }
}

/// The kernel takes everything at once and delivers it bit by bit, which only the kernel knows.
#[test]
fn what_the_peer_takes_slowly_from_the_kernel_is_progress() {
    for kind in KINDS {
        let (mut world, client) = answered(kind);
        for _ in 0..20 {
            let wire = client.borrow_mut().peer_takes(1000);
            assert_eq!(wire.len(), 1000, "the kernel took more than that");
            world.runs[0].client.hear(&wire);
            world.pass(Duration::from_secs(25));
            assert_eq!(world.ended(0), None, "{kind:?}");
        }
        // Nothing more is taken, which the second look tells.
        world.pass(2 * TIMEOUTS.half_close);
        assert_eq!(world.ended(0), Some(CloseReason::HalfCloseTimeout), "{kind:?}");
        assert_eq!(world.runs[0].record.as_ref().unwrap().downlink.payload_bytes, 100_000, "the kernel took it");
    }
}

/// Out of descriptors, nobody can ask the kernel for a while. That says nothing of the peer, and is no reason to cut it.
#[test]
fn a_slow_reader_of_whom_nobody_can_say_anything_has_the_time_once_more() {
    for kind in KINDS {
        let (mut world, client) = answered(kind);
        for _ in 0..3 {
            client.borrow_mut().is_short = true;
            world.pass(TIMEOUTS.half_close);
            assert_eq!(world.ended(0), None, "{kind:?}: the shortage was taken for a standstill");
            client.borrow_mut().is_short = false;
            for _ in 0..2 {
                let wire = client.borrow_mut().peer_takes(1000);
                world.runs[0].client.hear(&wire);
                world.pass(TIMEOUTS.half_close);
                assert_eq!(world.ended(0), None, "{kind:?}");
            }
        }
        // The shortage lasts: the wait has an end all the same. The last look may just have been.
        client.borrow_mut().is_short = true;
        world.pass(3 * TIMEOUTS.half_close);
        assert_eq!(world.ended(0), Some(CloseReason::HalfCloseTimeout), "{kind:?}");
    }
}
