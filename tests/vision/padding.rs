//! Blocks of the downlink, and when padding ends without leaving TLS. That each record is one whole block of at most
//! 8194 bytes and the first one begins with response header and user id is checked by the client in every test.

use crate::support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, client_hello, data, data_stream, server_hello};
use crate::support::server::VISION;
use crate::support::vision_client::{CONTINUE, DIRECT, END, How, Phase};
use crate::{Talk, server};

#[test]
fn tls_1_2_and_ccm_8_end_padding_inside_tls() {
    for inner in [Inner::Tls12, Inner::Ccm8] {
        let server = server();
        let mut talk = Talk::shaken(&server, inner);
        assert_eq!(talk.client.down.phase, Phase::Padded);
        talk.say_down(&data(2000));
        assert_eq!(talk.client.down.phase, Phase::Tls, "{inner:?}");
        assert_eq!(talk.client.down.blocks.last().unwrap().command, END);
        talk.say_down(&data_stream(200_000));
        assert_eq!(server.totals().downlinks_direct, 0);
    }
}

#[test]
fn plain_http_ends_padding_within_eight_chunks() {
    let server = server();
    let mut talk = Talk::begin_with(&server, How::with(VISION), b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let mut chunks = 1;
    while talk.client.down.phase == Phase::Padded {
        talk.say_up(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        talk.say_down(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        chunks += 2;
        assert!(chunks <= 8, "still padded after {chunks} chunks");
    }
    assert_eq!(talk.client.down.phase, Phase::Tls);
    assert!(talk.client.down.blocks.iter().all(|block| block.padding_bytes < 256), "short padding only");
    talk.say_down(&data_stream(100_000));
    talk.end_up();
    talk.end_down();
    let totals = server.totals();
    assert_eq!((totals.uplinks_direct, totals.downlinks_direct, totals.downlink_unchanged_bytes), (0, 0, 0));
}

#[test]
fn a_long_answer_ends_padding_at_once() {
    let server = server();
    let mut talk = Talk::begin_with(&server, How::with(VISION), b"GET / HTTP/1.1\r\n\r\n");
    talk.say_down(&vec![b'x'; 500_000]);
    assert_eq!(talk.client.down.phase, Phase::Tls);
    // Never more than the chunks that the reference pads, each of which may be cut in two.
    assert!(talk.client.down.blocks.len() <= 16, "{} blocks", talk.client.down.blocks.len());
}

#[test]
fn the_target_may_speak_first() {
    let server = server();
    let mut talk = Talk::begin_with(&server, How::with(VISION), b"");
    talk.say_down(b"220 ready\r\n");
    talk.say_up(b"EHLO example.com\r\n");
    talk.say_down(b"250 hello\r\n");
}

#[test]
fn handshakes_are_padded_to_between_900_and_1399_bytes() {
    let server = server();
    for _ in 0..20 {
        let mut talk = Talk::begin(&server);
        for content in [server_hello(Inner::Tls13), data(300), data(890)] {
            talk.say_down(&content);
            let block = talk.client.down.blocks.last().unwrap();
            let length = block.content_bytes + block.padding_bytes;
            assert_eq!((block.command, block.content_bytes), (CONTINUE, content.len()));
            assert!((900..1400).contains(&length), "{length}");
        }
        talk.say_down(&data(2000));
        assert!(talk.client.down.blocks.last().unwrap().padding_bytes < 256);
    }
}

#[test]
fn a_server_hello_in_two_pieces_is_recognised_wherever_it_is_cut() {
    let hello = server_hello(Inner::Tls13);
    let server = server();
    for cut in 1..hello.len() {
        let mut talk = Talk::begin(&server);
        talk.say_down(&hello[..cut]);
        talk.say_down(&[&hello[cut..], CHANGE_CIPHER_SPEC].concat());
        talk.say_up(&data(53));
        talk.say_down(&data(100));
        assert_eq!(talk.client.down.phase, Phase::Raw, "cut at {cut}");
        // The inner ClientHello was seen, so every piece is padded like a handshake.
        let (last, pieces) = talk.client.down.blocks.split_last().unwrap();
        assert_eq!((last.command, pieces.len()), (DIRECT, 2));
        for block in pieces {
            assert_eq!(block.command, CONTINUE);
            assert!((900..1400).contains(&(block.content_bytes + block.padding_bytes)));
        }
    }
}

#[test]
fn large_batches_become_blocks_that_clients_can_read() {
    let server = server();
    let mut talk = Talk::begin(&server);
    talk.say_down(&[server_hello(Inner::Tls13), data(16_000), data(16_000)].concat());
    assert!(talk.client.down.blocks.len() >= 4);
    talk.say_up(&data(53));
    talk.say_down(&data_stream(60_000));
    let (last, others) = talk.client.down.blocks.split_last().unwrap();
    assert_eq!(last.command, DIRECT);
    assert!(others.iter().all(|block| block.command == CONTINUE));
}

#[test]
fn a_client_gets_back_the_route_bytes_it_sent() {
    let server = server();
    let mut user = VISION;
    (user[6], user[7]) = (0xab, 0xcd);
    // The client compares the id in the downlink's first block with its own.
    let mut talk = Talk::begin_with(&server, How::with(user), &client_hello());
    talk.say_down(&server_hello(Inner::Tls13));
    assert_eq!(server.user(&VISION).sessions_total, 1);
}
