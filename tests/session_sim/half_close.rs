//! One direction ends and the other goes on.

use std::time::Duration;

use vless_rust::session::close::CloseReason;

use super::sim::peer::{Op, SeenEnd};
use super::sim::tls::ClientTls;
use super::{KINDS, relaying, say};

#[test]
fn a_client_that_half_closes_still_gets_a_late_and_long_answer() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.client(0, [say(b"GET"), Op::CloseNotify, Op::Fin]);
        assert_eq!(world.runs[0].target.seen_end, Some(SeenEnd::Fin));
        world.pass(Duration::from_secs(29));
        let answer = world.rng.bytes(3 << 20);
        world.target(0, [Op::Say(answer), Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::Finished));
        assert_eq!(world.runs[0].client.heard.len(), 2 + (3 << 20));
        world.verify();
    }
}

#[test]
fn a_target_that_half_closes_still_gets_the_rest_of_the_upload() {
    for kind in KINDS {
        let mut world = relaying(kind);
        world.target(0, [say(b"early answer"), Op::Fin]);
        assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Fin));
        for _ in 0..4 {
            world.pass(Duration::from_secs(29));
            let part = world.rng.bytes(300_000);
            world.client(0, [Op::Say(part)]);
        }
        world.client(0, [Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::Finished));
        assert_eq!(world.runs[0].target.heard.len(), 1_200_000);
        world.verify();
    }
}

#[test]
fn close_notify_alone_ends_the_uplink() {
    for kind in [ClientTls::NEW, ClientTls::OLD] {
        let mut world = relaying(Some(kind));
        world.client(0, [say(b"question"), Op::CloseNotify]);
        assert_eq!(world.runs[0].target.seen_end, Some(SeenEnd::Fin));
        world.target(0, [say(b"answer"), Op::Fin]);
        assert_eq!(world.runs[0].client.heard, b"\0\0answer");
        assert_eq!(world.ended(0), None, "lingers until the client closes");
        world.client(0, [Op::Fin]);
        assert_eq!(world.ended(0), Some(CloseReason::Finished));
        world.verify();
    }
}

#[test]
fn what_follows_close_notify_is_not_payload() {
    let mut world = relaying(Some(ClientTls::NEW));
    world.client(0, [say(b"question"), Op::CloseNotify, Op::Raw(b"\x17\x03\x03\0\x05extra".to_vec()), Op::Fin]);
    world.target(0, [Op::Fin]);
    assert_eq!(world.runs[0].target.heard, b"question");
    assert_eq!(world.ended(0), Some(CloseReason::Finished));
    world.verify();
}

#[test]
fn a_target_that_closes_without_a_byte_yields_the_response_header_and_an_end() {
    for kind in KINDS {
        let mut world = relaying(kind);
        assert!(world.runs[0].client.heard.is_empty());
        world.target(0, [Op::Fin]);
        let client = &world.runs[0].client;
        assert_eq!((&client.heard[..], client.seen_end), (&[0, 0][..], Some(SeenEnd::Fin)));
        assert_eq!(client.seen_close_notify, kind.is_some());
        world.client(0, [Op::Fin]);
        world.verify();
    }
}

#[test]
fn an_end_in_the_middle_of_a_record_is_no_end() {
    for kind in [ClientTls::NEW, ClientTls::OLD] {
        let mut world = relaying(Some(kind));
        world.runs[0].reasons = vec![CloseReason::Truncated];
        world.client(0, [say(b"whole"), Op::Torn(b"torn".to_vec()), Op::Fin]);
        assert_eq!(world.runs[0].target.heard, b"whole");
        assert_eq!(world.runs[0].target.seen_end, Some(SeenEnd::Reset));
        world.verify();
    }
}
