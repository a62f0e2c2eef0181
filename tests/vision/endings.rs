//! How sessions end once Vision has left TLS, and before: what each side hears last, to the byte.

use std::thread;
use std::time::Duration;

use vless_rust::session::close::CloseReason;

use crate::support::inner_tls::{ALERT_BYTES, Inner, data, data_stream, record};
use crate::support::vision_client::{CONTINUE, DIRECT, Phase};
use crate::support::wait_until;
use crate::{Talk, server};

#[test]
fn nothing_of_tls_follows_the_downlinks_switch() {
    // With the uplink in each phase: TLS may still be there, and must stay silent.
    for up in [Phase::Padded, Phase::Tls, Phase::Raw] {
        let server = server();
        let mut talk = Talk::shaken(&server, Inner::Tls13);
        talk.bring_up(up);
        talk.say_down(&data(1000));
        assert_eq!(talk.client.down.phase, Phase::Raw);
        talk.say_down(&data(1000));
        talk.end_down();
        talk.say_up(&data(10));
        talk.end_up();
        server.closed_for(CloseReason::Finished);
    }
}

#[test]
fn a_target_that_ends_with_its_last_bytes_loses_none() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    // Goes direct, copies, splices and ends in one go.
    let stream = data_stream(3_000_000);
    let target = talk.target.again();
    thread::scope(|scope| {
        scope.spawn(|| {
            target.say(&stream);
            target.finish();
        });
        talk.client.down.expect(&stream);
        talk.client.down.expect_end();
    });
    assert_eq!(talk.client.down.phase, Phase::Raw);
    talk.end_up();
    server.closed_for(CloseReason::Finished);
}

#[test]
fn the_alert_at_the_end_of_a_raw_uplink_is_passed_on() {
    let server = server();
    let mut talk = Talk::direct(&server);
    // What Xray and sing-box leave behind: their outer TLS says goodbye where it is long gone.
    let alert = talk.client.up.close_notify();
    assert_eq!(alert.len(), ALERT_BYTES);
    talk.say_up(&alert);
    talk.end_up();
    talk.end_down();
    server.closed_for(CloseReason::Finished);
}

#[test]
fn each_direction_goes_on_when_the_other_has_ended() {
    for up_first in [true, false] {
        let server = server();
        let mut talk = Talk::direct(&server);
        let stream = data_stream(200_000);
        if up_first {
            talk.end_up();
            talk.say_down(&stream);
            talk.end_down();
        } else {
            talk.end_down();
            talk.say_up(&stream);
            talk.end_up();
        }
        server.closed_for(CloseReason::Finished);
    }
}

#[test]
fn a_client_that_breaks_a_raw_session_breaks_the_target() {
    let server = server();
    let Talk { client, mut target, .. } = Talk::direct(&server);
    client.up.reset_on_close();
    drop(client);
    target.expect_reset();
    server.closed_for(CloseReason::ClientReset);
}

#[test]
fn a_target_that_breaks_a_raw_session_breaks_the_client() {
    let server = server();
    let Talk { mut client, target, .. } = Talk::direct(&server);
    target.reset();
    client.down.expect_reset();
    assert_eq!(client.down.content, b"");
    server.closed_for(CloseReason::TargetReset);
}

#[test]
fn an_end_inside_a_block_is_no_orderly_end() {
    for says_goodbye in [false, true] {
        let server = server();
        let mut talk = Talk::begin(&server);
        let block = talk.client.up.block(if says_goodbye { DIRECT } else { CONTINUE }, b"all of the content", 500);
        talk.client.up.send_tls(&block[..100]);
        talk.target.expect(b"all of the content");
        if says_goodbye {
            let goodbye = talk.client.up.close_notify();
            talk.client.up.send_wire(&goodbye);
        } else {
            talk.client.up.finish();
        }
        talk.target.expect_reset();
        server.closed_for(CloseReason::Truncated);
    }
}

#[test]
fn close_notify_in_the_segment_of_the_direct_record_is_just_bytes() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    let block = talk.client.up.block(DIRECT, b"content", 50);
    let sealed = talk.client.up.seal(&block);
    let goodbye = talk.client.up.close_notify();
    talk.client.up.send_wire(&[&sealed[..], &goodbye].concat());
    talk.client.up.finish();
    talk.target.expect(b"content");
    talk.target.expect(&goodbye);
    talk.target.expect_end();
}

#[test]
fn a_broken_record_behind_the_downlinks_switch_is_not_answered() {
    let server = server();
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    talk.say_down(&data(1000));
    assert_eq!(talk.client.down.phase, Phase::Raw);
    talk.client.up.send_wire(&record(0x17, 100));
    talk.target.expect_reset();
    talk.client.down.expect_silence();
    server.closed_for(CloseReason::TlsFailed);
}

#[test]
fn a_server_that_stops_says_nothing_to_raw_clients() {
    let server = server();
    let mut talk = Talk::direct(&server);
    server.reactor().drain(Duration::ZERO);
    talk.client.down.expect_silence();
    wait_until("the worker has stopped", || server.reactor().is_stopped());
    assert_eq!(server.closes(CloseReason::Shutdown), 1);
}
