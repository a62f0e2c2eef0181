//! A connection that breaks on one side breaks on the other.

use std::time::Duration;

use vless_rust::session::close::CloseReason;

use super::sim::peer::{Op, SeenEnd};
use super::sim::plan::request;
use super::sim::socket::{Closed, Manners};
use super::sim::tls::ClientTls;
use super::sim::world::{Plan, World};
use super::{KINDS, relaying, say};

#[test]
fn a_reset_by_the_client_resets_the_target() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.runs[0].reasons = vec![CloseReason::ClientReset];
        world.client(0, [say(b"abc")]);
        world.client(0, [Op::Reset]);
        assert_eq!(world.runs[0].target.seen_end, Some(SeenEnd::Reset));
        world.verify();
    }
}

#[test]
fn a_reset_by_the_target_resets_the_client() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.runs[0].reasons = vec![CloseReason::TargetReset];
        world.target(0, [say(b"half of the ans")]);
        world.target(0, [Op::Reset]);
        assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Reset));
        assert_eq!(world.runs[0].client.heard, b"\0\0half of the ans");
        world.verify();
    }
}

#[test]
fn what_arrived_before_a_reset_is_sent_on() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.runs[0].reasons = vec![CloseReason::ClientReset];
        // The reset is there before our code looks.
        let client = &mut world.runs[0].client;
        client.script.push_back(say(b"last words"));
        assert!(client.act(world.now));
        while client.link.borrow_mut().arrive() {}
        world.client(0, [Op::Reset]);
        assert_eq!(world.runs[0].target.link.borrow().going, b"last words");
        world.verify();
    }
}

/// The reset is found by sending, which takes the error away from whoever receives afterwards.
#[test]
fn a_reset_that_sending_finds_is_not_an_end_of_stream_for_receiving() {
    for kind in KINDS {
        for seed in 0..20 {
            let mut world = World::new(seed, kind.is_some());
            let mut plan = Plan::quiet(kind.map(ClientTls::config));
            plan.reasons = vec![CloseReason::TargetReset];
            plan.client = vec![Op::WaitOpen, Op::Header(request())];
            plan.target = vec![say(b"half of the ans")];
            world.admit(plan);
            world.pass(Duration::ZERO);
            // Both arrive before our code runs again.
            let run = &mut world.runs[0];
            run.client.script.push_back(say(b"upload"));
            assert!(run.client.act(world.now));
            while run.client.link.borrow_mut().arrive() {}
            run.target.link.borrow_mut().peer_reset = true;
            assert!(run.target.link.borrow_mut().arrive());
            world.settle();
            let run = &world.runs[0];
            assert_eq!(run.client.link.borrow().closed, Some(Closed::Reset), "{kind:?} {seed}");
            assert!(!run.client.link.borrow().shut && !run.client.seen_close_notify);
            world.verify();
        }
    }
}

#[test]
fn an_answer_that_ended_before_its_target_broke_is_delivered_whole() {
    for kind in KINDS {
        for seed in 0..20 {
            let mut world = World::new(seed, kind.is_some());
            let mut plan = Plan::quiet(kind.map(ClientTls::config));
            plan.reasons = vec![CloseReason::TargetReset];
            plan.client = vec![Op::WaitOpen, Op::Header(request())];
            world.admit(plan);
            world.pass(Duration::ZERO);
            let run = &mut world.runs[0];
            run.client.script.push_back(say(b"upload"));
            assert!(run.client.act(world.now));
            run.target.script.extend([say(b"413"), Op::Fin]);
            while run.target.act(world.now) {}
            while run.client.link.borrow_mut().arrive() {}
            while run.target.link.borrow_mut().arrive() {}
            run.target.link.borrow_mut().peer_reset = true;
            assert!(run.target.link.borrow_mut().arrive());
            world.settle();
            world.client(0, [Op::Fin]);
            assert_eq!(world.runs[0].client.heard, b"\0\x00413", "{kind:?} {seed}");
            assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Fin));
            world.verify();
        }
    }
}

#[test]
fn a_client_that_resets_while_its_target_is_dialled_ends_the_session() {
    for kind in KINDS {
        let mut world = World::new(1, kind.is_some());
        let mut plan = Plan::quiet(kind.map(ClientTls::config));
        plan.client = vec![Op::WaitOpen, Op::Header(request()), say(b"payload")];
        plan.dial_time = Duration::from_secs(5);
        plan.reasons = vec![CloseReason::ClientReset];
        world.admit(plan);
        world.pass(Duration::from_secs(1));
        world.client(0, [Op::Reset]);
        assert_eq!(world.ended(0), Some(CloseReason::ClientReset));
        world.verify();
    }
}

#[test]
fn a_client_that_resets_after_its_half_close_ends_the_session_at_once() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.runs[0].reasons = vec![CloseReason::ClientReset];
        world.client(0, [say(b"question"), Op::CloseNotify]);
        if kind.is_none() {
            world.client(0, [Op::Fin]);
        }
        world.client(0, [Op::Reset]);
        assert_eq!(world.ended(0), Some(CloseReason::ClientReset));
        world.verify();
    }
}

#[test]
fn a_broken_record_is_answered_with_an_alert_that_the_client_gets() {
    for kind in [ClientTls::NEW, ClientTls::OLD] {
        let mut world = relaying(Some(kind));
        world.runs[0].reasons = vec![CloseReason::TlsFailed];
        world.client(0, [say(b"good"), Op::Spoilt(b"bad".to_vec())]);
        let client = &world.runs[0].client;
        assert_eq!(
            client.tls.as_ref().and_then(|tls| tls.error.clone()),
            Some(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac))
        );
        assert_eq!(world.runs[0].target.link.borrow().going, b"good");
        assert_eq!(world.runs[0].target.seen_end, Some(SeenEnd::Reset));
        // The client has not closed its side: the server listens on for a while, so that closing resets nothing.
        world.pass(Duration::from_secs(6));
        world.verify();
    }
}

#[test]
fn a_broken_record_after_our_close_notify_ends_the_session() {
    for kind in [ClientTls::NEW, ClientTls::OLD] {
        let mut world = relaying(Some(kind));
        world.runs[0].reasons = vec![CloseReason::TlsFailed];
        world.target(0, [Op::Fin]);
        world.client(0, [Op::Spoilt(b"bad".to_vec())]);
        assert_eq!(world.ended(0), Some(CloseReason::TlsFailed));
        world.verify();
    }
}

#[test]
fn a_pipe_whose_sink_broke_is_given_back_while_the_answer_is_delivered() {
    let mut world = World::new(1, false);
    world.pipes = Some(vless_rust::io::splice::PipePool::new());
    let mut plan = Plan::quiet(None);
    plan.target_manners = Manners { window: 40_000, ..Manners::smooth() };
    plan.client = vec![Op::Header(request())];
    plan.target = vec![Op::StopReading];
    plan.reasons = vec![CloseReason::TargetReset];
    world.admit(plan);
    world.pass(Duration::ZERO);
    let upload = world.rng.bytes(200_000);
    world.client(0, [Op::Say(upload)]);
    assert_eq!(world.pipes.as_ref().unwrap().in_use(), 1);
    world.target(0, [say(b"answer"), Op::Fin]);
    world.target(0, [Op::Reset]);
    assert_eq!(world.pipes.as_ref().unwrap().in_use(), 0);
    assert_eq!(world.ended(0), None);
    world.client(0, [Op::Fin]);
    assert_eq!(world.runs[0].client.heard, b"\0\0answer");
    world.verify();
}
