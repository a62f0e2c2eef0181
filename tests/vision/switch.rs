//! Leaving TLS: when each direction does, and that no byte is lost, doubled or moved there.

use std::net::TcpListener;

use vless_rust::session::close::CloseReason;

use crate::support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, data, data_stream, record, server_hello};
use crate::support::server::VISION;
use crate::support::vision_client::{ADDONS, CONTINUE, DIRECT, END, How, Phase, VisionClient, request};
use crate::support::wait_until;
use crate::{Talk, Target, server};

const PHASES: [Phase; 3] = [Phase::Padded, Phase::Tls, Phase::Raw];

/// How the inner connection must be for the downlink to come out in `phase`, and what brings it there.
fn down_plan(phase: Phase) -> (Inner, Vec<u8>) {
    match phase {
        // No application data: the handshake goes on and on.
        Phase::Padded => (Inner::Tls13, record(0x16, 500)),
        Phase::Tls => (Inner::Tls12, data(500)),
        Phase::Raw => (Inner::Tls13, data(500)),
    }
}

#[test]
fn each_direction_leaves_tls_by_itself() {
    for up in PHASES {
        for down in PHASES {
            let server = server();
            let (inner, content) = down_plan(down);
            let mut talk = Talk::shaken(&server, inner);
            talk.bring_up(up);
            talk.say_down(&content);
            assert_eq!(talk.client.down.phase, down);
            for _ in 0..3 {
                talk.say_up(&data(4000));
                talk.say_down(&content);
            }
            talk.end_up();
            talk.say_down(&content);
            talk.end_down();
            server.closed_for(CloseReason::Finished);
            let totals = server.totals();
            let direct = (totals.uplinks_direct, totals.downlinks_direct);
            assert_eq!(direct, ((up == Phase::Raw).into(), (down == Phase::Raw).into()), "{up:?} {down:?}");
        }
    }
}

#[test]
fn either_direction_may_leave_tls_first() {
    for up_first in [true, false] {
        let server = server();
        let mut talk = Talk::shaken(&server, Inner::Tls13);
        for is_uplink in [up_first, !up_first] {
            if is_uplink {
                talk.bring_up(Phase::Raw);
            } else {
                talk.say_down(&data(900));
                assert_eq!(talk.client.down.phase, Phase::Raw);
            }
            talk.say_up(&data(100));
        }
        talk.say_down(&data(100));
        talk.end_down();
        talk.end_up();
        server.closed_for(CloseReason::Finished);
    }
}

#[test]
fn raw_bytes_in_the_segment_of_the_direct_record_follow_its_content() {
    for raw_bytes in [1, 4, 5, 6, 1000, 70_000, 300_000] {
        let server = server();
        let mut talk = Talk::shaken(&server, Inner::Tls13);
        let (content, raw) = (data(300), data_stream(raw_bytes)[..raw_bytes].to_vec());
        let block = talk.client.up.block(DIRECT, &content, 500);
        talk.client.up.send_wire(&[talk.client.up.seal(&block), raw.clone()].concat());
        talk.target.expect(&content);
        talk.target.expect(&raw);
        talk.up_phase = Phase::Raw;
        talk.end_up();
    }
}

#[test]
fn many_records_and_raw_bytes_in_one_segment_are_told_apart() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    let (mut wire, mut expected) = (Vec::new(), Vec::new());
    for index in 0..20 {
        let content = data(40 + usize::from(index));
        let block = talk.client.up.block(if index == 19 { DIRECT } else { CONTINUE }, &content, index);
        wire.extend(talk.client.up.seal(&block));
        expected.extend(content);
    }
    // Inner records look like outer ones.
    for index in 0..20 {
        wire.extend(data(60 + index));
        expected.extend(data(60 + index));
    }
    talk.client.up.send_wire(&wire);
    talk.target.expect(&expected);
    // It is counted behind the turn that sent the bytes.
    wait_until("the switch is counted", || server.totals().uplinks_direct == 1);
}

#[test]
fn a_direct_block_may_end_inside_an_inner_record() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    let content = data(1000);
    let (head, tail) = content.split_at(3);
    talk.client.up.send_block(DIRECT, head, 9);
    talk.target.expect(head);
    talk.client.up.send_wire(tail);
    talk.target.expect(tail);
}

#[test]
fn what_follows_direct_in_its_record_is_content() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    let block = talk.client.up.block(DIRECT, b"block ", 60);
    let sealed = talk.client.up.seal(&[&block, &b"same record "[..]].concat());
    talk.client.up.send_wire(&[&sealed, &b"raw"[..]].concat());
    talk.target.expect(b"block same record raw");
}

#[test]
fn the_first_block_may_be_direct() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = VisionClient::connect(&server, How::with(VISION));
    let header = request(&VISION, ADDONS, 1, listener.local_addr().unwrap());
    let block = client.up.block(DIRECT, b"padded ", 300);
    let sealed = client.up.seal(&[header, block].concat());
    client.up.send_wire(&[&sealed, &b"raw"[..]].concat());
    let mut target = Target::accept(&listener);
    target.expect(b"padded raw");
    client.up.send_wire(b" and more");
    target.expect(b" and more");
    let totals = server.totals();
    assert_eq!((totals.uplinks_direct, totals.uplink_padding_bytes), (1, 16 + 5 + 300));
}

#[test]
fn content_does_not_wait_for_its_padding_and_direct_does() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    let content = data(1000);
    let block = talk.client.up.block(DIRECT, &content, 500);
    let (first, rest) = block.split_at(600);
    talk.client.up.send_tls(first);
    talk.target.expect(&content[..595]);
    let (second, third) = rest.split_at(500);
    talk.client.up.send_tls(second);
    talk.target.expect(&content[595..]);
    // While padding is missing the other direction goes on.
    talk.say_down(&record(0x16, 300));
    assert_eq!(server.totals().uplinks_direct, 0);
    talk.client.up.send_wire(&[talk.client.up.seal(third), data(5)].concat());
    talk.target.expect(&data(5));
    talk.up_phase = Phase::Raw;
    talk.say_up(&data(5));
    wait_until("the switch is counted", || server.totals().uplinks_direct == 1);
}

#[test]
fn every_byte_may_come_in_a_record_of_its_own() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = VisionClient::connect(&server, How::with(VISION));
    let mut plaintext = request(&VISION, ADDONS, 1, listener.local_addr().unwrap());
    plaintext.extend(client.up.block(CONTINUE, b"one ", 3));
    plaintext.extend(client.up.block(CONTINUE, b"", 0));
    plaintext.extend(client.up.block(DIRECT, b"two ", 2));
    let mut wire: Vec<u8> = plaintext.iter().flat_map(|&byte| client.up.seal(&[byte])).collect();
    wire.extend(b"raw");
    client.up.send_wire(&wire);
    Target::accept(&listener).expect(b"one two raw");
}

#[test]
fn blocks_and_records_are_unrelated() {
    let server = server();
    let mut talk = Talk::begin(&server);
    let up = &mut talk.client.up;
    let longest = vec![b'b'; 65_535];
    let plaintext = [
        up.block(CONTINUE, b"a", 5),
        up.block(CONTINUE, b"", 900),
        up.block(CONTINUE, b"", 0),
        up.block(CONTINUE, &longest, 65_535),
        up.block(END, b"c", 0),
        b"d".to_vec(),
    ]
    .concat();
    up.send_tls(&plaintext);
    talk.target.expect(&[&b"a"[..], &longest, b"cd"].concat());
    talk.up_phase = Phase::Tls;
    talk.say_up(b"still inside TLS");
    assert_eq!(server.totals().uplinks_direct, 0);
}

#[test]
fn a_stream_without_the_user_id_is_content() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = VisionClient::connect(&server, How::with(VISION));
    client.up.send_tls(&request(&VISION, ADDONS, 1, listener.local_addr().unwrap()));
    let mut target = Target::accept(&listener);
    // Its beginning looks like the id, and comes alone.
    client.up.send_tls(&VISION[..7]);
    client.up.send_tls(b"-- but it is not");
    target.expect(b"uses vi-- but it is not");
}

#[test]
fn an_unknown_command_ends_the_session_behind_the_content() {
    let server = server();
    let mut talk = Talk::begin(&server);
    let right = talk.client.up.block(CONTINUE, b"before", 10);
    let wrong = talk.client.up.block(3, b"never", 0);
    talk.client.up.send_tls(&[right, wrong].concat());
    talk.target.expect(b"before");
    talk.target.expect_reset();
    server.closed_for(CloseReason::BadPadding);
}

#[test]
fn a_key_update_behind_the_downlinks_switch_is_not_answered() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    talk.say_down(&data(800));
    for _ in 0..50 {
        talk.client.up.send_key_update();
        talk.say_up(&data(20));
        talk.say_down(&data(20));
    }
    talk.bring_up(Phase::Raw);
    talk.end_up();
    talk.end_down();
    server.closed_for(CloseReason::Finished);
}

#[test]
fn a_key_update_before_the_downlinks_switch_is_answered_inside_tls() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    talk.client.up.send_key_update();
    talk.say_up(&data(20));
    talk.say_down(&data(800));
    assert_eq!(talk.client.down.phase, Phase::Raw);
    talk.say_down(&data(800));
}

#[test]
fn the_downlink_waits_for_the_uplinks_first_encrypted_record() {
    let server = server();
    let mut talk = Talk::begin(&server);
    talk.say_down(&server_hello(Inner::Tls13));
    // The certificate flight.
    talk.say_down(&data(3000));
    assert_eq!(talk.client.down.phase, Phase::Padded);
    talk.say_up(&data(53));
    talk.say_down(&data(300));
    assert_eq!(talk.client.down.phase, Phase::Raw);
}

/// A client may leave TLS in front of its Finished, which then comes raw and is not seen.
#[test]
fn the_downlink_leaves_tls_although_the_finished_comes_raw() {
    for beginning in [0, 3] {
        let server = server();
        let mut talk = Talk::begin(&server);
        talk.say_down(&[&server_hello(Inner::Tls13), CHANGE_CIPHER_SPEC, &data(2000)].concat());
        let finished = data(53);
        let (in_block, raw) = finished.split_at(beginning);
        talk.client.up.send_block(DIRECT, in_block, 10);
        talk.client.up.send_wire(raw);
        talk.target.expect(&finished);
        talk.say_down(&data(300));
        assert_eq!(talk.client.down.phase, Phase::Raw);
    }
}

#[test]
fn a_download_whose_reads_never_begin_at_a_record_leaves_tls_too() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    let stream = data_stream(400_000);
    talk.say_down(&record(0x16, 2000)[..1000]);
    talk.say_down(&[&record(0x16, 2000)[1000..], &stream[..9000]].concat());
    // Each piece ends inside a record, so each next one begins inside one.
    for piece in stream[9000..350_000].chunks(17_000) {
        talk.say_down(piece);
    }
    assert_eq!(talk.client.down.phase, Phase::Raw);
    assert!(talk.client.down.blocks.len() < 60, "{} blocks", talk.client.down.blocks.len());
    talk.say_down(&stream[350_000..]);
}
