//! From the first byte to the first answer.

use std::time::Duration;

use vless_rust::session::close::CloseReason;
use vless_rust::session::{DialFailure, Host};

use super::sim::peer::{Op, SeenEnd};
use super::sim::plan::{header, name, request};
use super::sim::socket::Manners;
use super::sim::tls::ClientTls;
use super::sim::world::{Plan, USER, VISION_USER, World};
use super::{KINDS, relaying, say, world_of};

const VISION: &[u8] = b"\x0a\x10xtls-rprx-vision";

#[test]
fn a_refused_request_is_answered_with_an_end_and_no_vless_byte() {
    let site = name("example.com");
    let mut unknown = USER;
    unknown[0] ^= 1;
    let refused = [
        (header(unknown, &[], 1, 443, &site), CloseReason::UnknownUser),
        ([&[1][..], &request()[1..]].concat(), CloseReason::NotVless),
        (header(USER, &[], 1, 443, &[4, 1, 2, 3, 4]), CloseReason::BadRequest),
        (header(USER, &[], 1, 443, &name("")), CloseReason::BadRequest),
        (header(USER, &[], 1, 443, &name("ex ample")), CloseReason::BadRequest),
        (header(USER, &[], 1, 0, &site), CloseReason::BadRequest),
        (header(USER, &[0x0a], 1, 443, &site), CloseReason::BadRequest),
        (header(USER, &[], 4, 443, &site), CloseReason::CommandRefused),
        (header(USER, VISION, 1, 443, &site), CloseReason::FlowRefused),
        (header(USER, b"\x0a\x04none", 1, 443, &site), CloseReason::FlowRefused),
        (header(VISION_USER, &[], 1, 443, &site), CloseReason::FlowRefused),
        (header(VISION_USER, VISION, 2, 443, &site), CloseReason::FlowRefused),
        (header(USER, &[], 1, 443, &name("sp.packet-addr.v2fly.arpa")), CloseReason::ReservedName),
    ];
    for kind in KINDS {
        for (header, reason) in &refused {
            let mut world = world_of(kind, [Op::WaitOpen, Op::Header(header.clone()), say(b"payload")]);
            assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Fin), "{kind:?} {reason:?}");
            world.client(0, [Op::Fin]);
            assert_eq!(world.ended(0), Some(*reason), "{kind:?}");
            let run = &mut world.runs[0];
            run.reasons = vec![*reason];
            // None of it was for a target.
            run.client.said.clear();
            assert!(run.wished.is_none() && run.client.heard.is_empty());
            assert_eq!(run.client.seen_close_notify, kind.is_some());
            world.verify();
        }
    }
}

#[test]
fn vision_without_tls13_is_refused() {
    for kind in [None, Some(ClientTls::OLD)] {
        let request = header(VISION_USER, VISION, 1, 443, &name("example.com"));
        let mut world = world_of(kind, [Op::WaitOpen, Op::Header(request), Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::FlowRefused));
        world.runs[0].reasons = vec![CloseReason::FlowRefused];
        world.verify();
    }
}

#[test]
fn a_refused_client_in_the_middle_of_its_upload_sees_an_end_and_not_a_reset() {
    for kind in KINDS {
        let mut world = world_of(kind, [Op::WaitOpen, Op::Header(vec![7; 19])]);
        let upload = world.rng.bytes(100_000);
        for _ in 0..5 {
            world.client(0, [Op::Say(upload.clone())]);
        }
        assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Fin));
        assert_eq!(world.ended(0), None);
        world.client(0, [Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::NotVless));
        assert_eq!(world.runs[0].client.link.borrow().closed, Some(super::sim::socket::Closed::InOrder));
    }
}

#[test]
fn a_refused_client_over_a_full_connection_still_gets_close_notify_before_the_end() {
    for kind in [ClientTls::NEW, ClientTls::OLD] {
        for half_closes in [true, false] {
            let mut world = World::new(1, true);
            let mut plan = Plan::quiet(Some(kind.config()));
            plan.client_manners = Manners { window: 20, ..Manners::smooth() };
            plan.client = vec![Op::WaitOpen, Op::Header(request())];
            plan.dial = Err(DialFailure::Unreachable);
            plan.dial_time = Duration::from_secs(1);
            plan.reasons = vec![CloseReason::TargetUnreachable];
            world.admit(plan);
            world.settle();
            world.client(0, [Op::StopReading]);
            if half_closes {
                world.client(0, [Op::Fin]);
            }
            world.pass(Duration::from_secs(2));
            assert_eq!(world.ended(0), None);
            world.client(0, [Op::StartReading]);
            assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Fin));
            assert!(world.runs[0].client.seen_close_notify);
            world.client(0, [Op::Fin]);
            world.verify();
        }
    }
}

#[test]
fn a_client_gets_its_ticket_although_the_target_is_silent() {
    // The header comes with the end of the handshake, so that the ticket is made when the target is already dialled.
    let mut world = world_of(Some(ClientTls::NEW), [Op::Header(request())]);
    world.pass(Duration::ZERO);
    let run = &world.runs[0];
    assert!(run.connected && run.client.heard.is_empty());
    assert_eq!(run.client.tls.as_ref().unwrap().tickets(), 1);
}

#[test]
fn a_client_that_comes_back_resumes() {
    for kind in [ClientTls::NEW, ClientTls::OLD] {
        let config = kind.config();
        let mut world = World::new(1, true);
        for number in 0..2 {
            world.admit(Plan::quiet(Some(config.clone())));
            world.client(number, [Op::Header(request()), say(b"question"), Op::Fin]);
            world.pass(Duration::ZERO);
            world.target(number, [say(b"answer"), Op::Fin]);
            assert_eq!(world.runs[number].client.tls.as_ref().unwrap().is_resumed(), number == 1);
        }
        world.verify();
    }
}

#[test]
fn each_failed_dial_has_its_reason_and_no_vless_byte() {
    let failures = [
        (DialFailure::Policy, CloseReason::PolicyRefused),
        (DialFailure::Unresolved, CloseReason::TargetUnresolved),
        (DialFailure::Unreachable, CloseReason::TargetUnreachable),
        (DialFailure::TimedOut, CloseReason::TargetTimeout),
        (DialFailure::NoResources, CloseReason::NoResources),
    ];
    for kind in KINDS {
        for (failure, reason) in failures {
            let mut world = World::new(1, kind.is_some());
            let mut plan = Plan::quiet(kind.map(ClientTls::config));
            plan.client = vec![Op::WaitOpen, Op::Header(request()), say(b"GET"), Op::WaitEnd, Op::Fin];
            plan.dial = Err(failure);
            plan.reasons = vec![reason];
            world.admit(plan);
            world.run();
            assert!(world.runs[0].client.heard.is_empty());
            world.verify();
        }
    }
}

#[test]
fn what_is_not_tls_is_refused_without_an_answer_that_looks_like_us() {
    let mut world = world_of(Some(ClientTls::NEW), [Op::Raw(b"GET / HTTP/1.1\r\n\r\n".to_vec()), Op::HangUp]);
    assert_eq!(world.ended(0), Some(CloseReason::TlsFailed));
    // At most an alert: seven bytes.
    assert!(world.runs[0].client.link.borrow().going.len() <= 7);
    world.runs[0].reasons = vec![CloseReason::TlsFailed];
    world.verify();
}

#[test]
fn a_client_that_leaves_before_its_request_is_complete_is_not_an_error() {
    for kind in KINDS {
        let mut world = world_of(kind, [Op::WaitOpen, Op::Header(request()[..20].to_vec()), Op::CloseNotify, Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::ClientLeft));
        world.runs[0].reasons = vec![CloseReason::ClientLeft];
        world.verify();
    }
}

#[test]
fn the_header_may_come_one_byte_per_record() {
    for kind in KINDS {
        let bytes = request().into_iter().map(|byte| Op::Header(vec![byte]));
        let mut world = world_of(kind, [Op::WaitOpen].into_iter().chain(bytes));
        world.pass(Duration::ZERO);
        let target = world.runs[0].wished.as_ref().unwrap();
        assert_eq!((&target.host, target.port), (&Host::Name("example.com".into()), 443));
        world.client(0, [say(b"x"), Op::Fin]);
        world.target(0, [Op::Fin]);
        world.verify();
    }
}

#[test]
fn twenty_records_in_one_read_are_all_looked_at() {
    for kind in KINDS {
        let mut world = world_of(kind, [Op::WaitOpen]);
        let client = &mut world.runs[0].client;
        client.script.push_back(Op::Header(request()));
        client.script.extend((0..20_u8).map(|number| Op::Say(vec![number; 50])));
        client.script.extend([Op::CloseNotify, Op::Fin]);
        while client.act(world.now) {}
        while client.link.borrow_mut().arrive() {}
        world.target(0, [Op::WaitEnd, say(b"answer"), Op::Fin]);
        world.run();
        assert_eq!(world.runs[0].target.heard.len(), 1000);
        world.verify();
    }
}

#[test]
fn header_and_payload_may_share_a_record_and_wait_for_the_target_together() {
    for kind in KINDS {
        for behind in [&b""[..], b"and a second one"] {
            let mut world = World::new(1, kind.is_some());
            let mut plan = Plan::quiet(kind.map(ClientTls::config));
            let first = [&request()[..], b"first payload"].concat();
            plan.client = vec![Op::WaitOpen, Op::Header(first)];
            if !behind.is_empty() {
                plan.client.push(say(behind));
            }
            plan.dial_time = Duration::from_secs(3);
            world.admit(plan);
            world.runs[0].client.said = b"first payload".to_vec();
            world.pass(Duration::from_secs(2));
            assert!(world.runs[0].wished.is_some() && !world.runs[0].connected);
            world.pass(Duration::from_secs(2));
            assert_eq!(world.runs[0].target.heard, [b"first payload", behind].concat());
            world.target(0, [say(b"answer"), Op::Fin]);
            world.client(0, [Op::Fin]);
            world.verify();
        }
    }
}

#[test]
fn the_response_header_waits_for_the_first_payload_and_shares_its_record() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.client(0, [say(b"question")]);
        world.pass(Duration::from_secs(100));
        assert_eq!(world.runs[0].target.heard, b"question");
        let before = world.runs[0].client.link.borrow().going.len();
        assert!(world.runs[0].client.heard.is_empty());
        world.target(0, [say(b"a")]);
        let client = &world.runs[0].client;
        assert_eq!((&client.heard[..], client.first_heard), (&b"\0\0a"[..], 3));
        if kind.is_none() {
            assert_eq!((before, client.link.borrow().going.len()), (0, 3));
        }
        world.client(0, [Op::Fin]);
        world.target(0, [Op::Fin]);
        world.verify();
    }
}

#[test]
fn peers_that_read_and_write_tiny_pieces_lose_nothing() {
    for kind in KINDS {
        let manners = Manners { recv_max: 1, send_max: 2, arrive_max: 1, window: 7, low_water: 3, block_chance: 20 };
        let mut world = World::new(3, kind.is_some());
        let mut plan = Plan::quiet(kind.map(ClientTls::config));
        plan.client_manners = manners.clone();
        plan.target_manners = manners;
        (plan.client_read_max, plan.target_read_max) = (1, 1);
        let (upload, answer) = (world.rng.bytes(700), world.rng.bytes(900));
        plan.client = vec![Op::Header(request()), Op::Say(upload), Op::Fin];
        plan.target = vec![Op::WaitHeard(300), Op::Say(answer), Op::WaitEnd, Op::Fin];
        world.admit(plan);
        world.run();
        world.verify();
    }
}

#[test]
fn a_client_hello_may_be_cut_over_many_records() {
    for tls13 in [true, false] {
        let kind = ClientTls { tls13, fragment: Some(40), post_quantum: tls13 };
        let mut world = relaying(Some(kind));
        world.client(0, [say(b"x"), Op::Fin]);
        world.target(0, [Op::Fin]);
        world.verify();
    }
}
