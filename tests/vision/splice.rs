//! Raw bytes through kernel pipes and through memory: the same bytes, counted to the last one.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;

use vless_rust::session::close::CloseReason;
use vless_rust::stats::Totals;

use crate::Talk;
use crate::support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, client_hello, data, data_stream, record, server_hello};
use crate::support::server::{Options, Server, VISION};
use crate::support::vision_client::{DIRECT, How, Phase};
use crate::support::wait_until;

const BULK_BYTES: usize = 24 << 20;

/// So much that a session holds bytes when the buffers of a lazy client's connection are full.
const STALL_BYTES: usize = 3 << 20;

/// A client that takes little while it does not read, so that the server is left with the bytes.
fn lazy() -> How {
    How { recv_buffer_bytes: 4096, ..How::with(VISION) }
}

/// Sends [`BULK_BYTES`] each way at the same time in a session that is direct both ways, ends it, and looks whether
/// every byte is in its place in the counters.
fn carry_bulk(options: Options) -> Totals {
    let server = Server::start(options);
    let Talk { mut client, mut target, .. } = Talk::direct(&server);
    let stream = data_stream(BULK_BYTES);
    let (up, target_says) = (&client.up, target.again());
    thread::scope(|scope| {
        scope.spawn(|| {
            up.send_wire(&stream);
            up.finish();
        });
        scope.spawn(|| {
            target.expect(&stream);
            target.expect_end();
        });
        scope.spawn(|| {
            target_says.say(&stream);
            target_says.finish();
        });
        client.down.expect(&stream);
        client.down.expect_end();
    });
    let record = server.closed_for(CloseReason::Finished);

    let totals = server.totals();
    // What was said before is in `Talk::direct`.
    let bulk = stream.len() as u64;
    let up_padded = (client_hello().len() + 6 + data(53).len() + data(333).len()) as u64;
    let down_padded: u64 = client.down.blocks.iter().map(|block| block.content_bytes as u64).sum();
    let user = server.user(&VISION);
    assert_eq!((user.uplink_bytes, user.downlink_bytes), (up_padded + bulk, down_padded + bulk));
    assert_eq!((totals.uplink_bytes, totals.downlink_bytes), (user.uplink_bytes, user.downlink_bytes));
    assert_eq!((totals.uplink_unchanged_bytes, totals.downlink_unchanged_bytes), (bulk, bulk));
    assert_eq!(totals.downlink_padding_bytes, client.down.around_bytes());
    // The user id, three block headers, and the padding of `open`, `say_up` and `bring_up`.
    assert_eq!(totals.uplink_padding_bytes, 16 + 3 * 5 + 100 + 30 + 77);
    assert_eq!((totals.uplinks_direct, totals.downlinks_direct, totals.vision_requests), (1, 1, 1));
    let (up, down) = (record.uplink, record.downlink);
    assert_eq!((up.payload_bytes, down.payload_bytes), (user.uplink_bytes, user.downlink_bytes));
    assert_eq!((up.unchanged_bytes, down.unchanged_bytes), (bulk, bulk));
    assert_eq!((up.spliced_bytes, down.spliced_bytes), (totals.uplink_spliced_bytes, totals.downlink_spliced_bytes));
    assert_eq!(totals.pipes_held, 0);
    totals
}

#[test]
fn bulk_is_spliced_both_ways_and_counted_to_the_byte() {
    let totals = carry_bulk(Options::tls());
    let least = BULK_BYTES as u64 * 9 / 10;
    assert!(totals.uplink_spliced_bytes > least, "{}", totals.uplink_spliced_bytes);
    assert!(totals.downlink_spliced_bytes > least, "{}", totals.downlink_spliced_bytes);
}

#[test]
fn without_splice_the_same_bytes_are_copied() {
    let totals = carry_bulk(Options { splice: false, ..Options::tls() });
    assert_eq!((totals.uplink_spliced_bytes, totals.downlink_spliced_bytes), (0, 0));
}

#[test]
fn small_messages_are_copied_behind_the_switch() {
    let server = Server::start(Options::tls());
    let mut talk = Talk::direct(&server);
    for _ in 0..50 {
        talk.say_up(&data(1000));
        talk.say_down(&data(1000));
    }
    let totals = server.totals();
    assert_eq!((totals.uplink_spliced_bytes, totals.downlink_spliced_bytes), (0, 0));
}

#[test]
fn bulk_may_follow_the_direct_record_in_the_same_write() {
    let server = Server::start(Options::tls());
    let mut talk = Talk::shaken(&server, Inner::Tls13);
    let stream = data_stream(4 << 20);
    let block = talk.client.up.block(DIRECT, &data(99), 1000);
    let wire = [&talk.client.up.seal(&block)[..], &stream].concat();
    let (up, target) = (&talk.client.up, &mut talk.target);
    thread::scope(|scope| {
        scope.spawn(|| up.send_wire(&wire));
        target.expect(&data(99));
        target.expect(&stream);
    });
    talk.up_phase = Phase::Raw;
    talk.end_up();
    talk.end_down();
    let record = server.closed_for(CloseReason::Finished);
    assert_eq!(record.uplink.unchanged_bytes, stream.len() as u64);
    assert!(record.uplink.spliced_bytes > 3 << 20, "{}", record.uplink.spliced_bytes);
}

/// Some servers write header and body of a record apart, and a path may cut anywhere.
#[test]
fn hellos_in_pieces_go_direct_and_are_spliced_like_whole_ones() {
    let (hello, answer) = (client_hello(), server_hello(Inner::Tls13));
    let stream = data_stream(4 << 20);
    for (up_bytes, down_bytes) in [(hello.len(), 5), (5, 5), (hello.len(), 1), (60, 1), (1, 1)] {
        let server = Server::start(Options::tls());
        let mut talk = Talk::begin_with(&server, How::with(VISION), &hello[..up_bytes]);
        for piece in hello[up_bytes..].chunks(if up_bytes == 5 { hello.len() } else { up_bytes }) {
            talk.say_up(piece);
        }
        let (header, body) = answer.split_at(down_bytes);
        talk.say_down(header);
        for piece in body.chunks(if down_bytes == 5 { body.len() } else { down_bytes }) {
            talk.say_down(piece);
        }
        talk.say_down(&[CHANGE_CIPHER_SPEC, &record(0x16, 2000)].concat());
        talk.say_up(&[CHANGE_CIPHER_SPEC, &data(53)].concat());
        talk.say_down(&data(700));
        assert_eq!(talk.client.down.phase, Phase::Raw, "pieces of {up_bytes} and {down_bytes} bytes");
        let (target, down) = (&talk.target, &mut talk.client.down);
        thread::scope(|scope| {
            scope.spawn(|| target.say(&stream));
            down.expect(&stream);
        });
        talk.end_down();
        talk.end_up();
        let record = server.closed_for(CloseReason::Finished);
        assert_eq!(record.downlink.unchanged_bytes, stream.len() as u64);
        assert!(record.downlink.spliced_bytes > 3 << 20, "{}", record.downlink.spliced_bytes);
    }
}

#[test]
fn when_pipes_run_out_the_rest_is_copied() {
    const SESSIONS: usize = 70;
    const PIPES: u64 = 64;
    let server = Server::start(Options::tls());
    let stream = data_stream(STALL_BYTES);
    let talks: Vec<_> = (0..SESSIONS).map(|_| Talk::direct_with(&server, lazy())).collect();
    thread::scope(|scope| {
        for talk in &talks {
            let target = talk.target.again();
            let stream = &stream;
            scope.spawn(move || target.say(stream));
        }
        wait_until("every session holds bytes that its client does not take", || {
            let totals = server.totals();
            totals.pipes_held + totals.buffers_held >= SESSIONS as u64
        });
        let totals = server.totals();
        // Fewer if the kernel grants this user no more.
        assert!(totals.pipes_held > 0 && totals.pipes_held <= PIPES, "{} pipes", totals.pipes_held);
        assert!(totals.buffers_held >= SESSIONS as u64 - PIPES, "{} buffers", totals.buffers_held);
        for mut talk in talks {
            let stream = &stream;
            scope.spawn(move || {
                talk.client.down.expect(stream);
                talk.end_down();
                talk.end_up();
            });
        }
    });
    let records = server.closed(SESSIONS);
    assert!(records.iter().all(|record| record.reason == CloseReason::Finished));
    server.wait_until_empty();
    assert_eq!(server.totals().pipes_held, 0);
}

#[test]
fn a_stalled_reader_gets_every_byte_when_it_reads_again() {
    for splice in [true, false] {
        let server = Server::start(Options { splice, ..Options::tls() });
        let mut talk = Talk::direct_with(&server, lazy());
        let stream = data_stream(STALL_BYTES);
        let (target, down) = (&talk.target, &mut talk.client.down);
        thread::scope(|scope| {
            scope.spawn(|| target.say(&stream));
            wait_until("the session holds bytes", || {
                let totals = server.totals();
                if splice { totals.pipes_held > 0 } else { totals.buffers_held > 0 }
            });
            down.expect(&stream);
        });
        talk.end_down();
        talk.end_up();
        server.closed_for(CloseReason::Finished);
        assert_eq!(server.totals().downlink_spliced_bytes > 0, splice);
    }
}

/// Splice does not pass urgent data, and takes what stands behind it for no data or for the end.
#[test]
fn urgent_data_stops_splicing_and_nothing_else() {
    let stream = data_stream(4 << 20);
    let (first, second) = stream.split_at(2 << 20);
    for (splice, ends) in [(true, true), (true, false), (false, true)] {
        let server = Server::start(Options { splice, ..Options::tls() });
        let mut talk = Talk::direct(&server);
        let (up, target_says) = (&talk.client.up, talk.target.again());
        let say_urgently = |socket: &TcpStream| {
            let mut socket = socket;
            socket.write_all(first).unwrap();
            socket2::SockRef::from(socket).send_out_of_band(b"!").unwrap();
            socket.write_all(second).unwrap();
            if ends {
                socket.shutdown(Shutdown::Write).unwrap();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| say_urgently(up.wire()));
            scope.spawn(|| say_urgently(&target_says.0));
            scope.spawn(|| talk.target.expect(&stream));
            talk.client.down.expect(&stream);
        });
        if !ends {
            talk.client.up.finish();
            talk.target.finish();
        }
        talk.target.expect_end();
        talk.client.down.expect_end();
        let record = server.closed_for(CloseReason::Finished);
        assert_eq!(record.uplink.unchanged_bytes, stream.len() as u64);
        assert_eq!(record.downlink.unchanged_bytes, stream.len() as u64);
    }
}
