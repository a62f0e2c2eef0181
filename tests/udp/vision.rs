//! XUDP inside TLS and Vision, as clients with that flow send it: blocks and frames know nothing of each other's cuts.

use vless_rust::session::close::CloseReason;

use crate::harness::{at, end, hear, keep, keep_to, new_tcp, new_udp, peer};
use crate::support::server::{Options, Server, VISION};
use crate::support::vision_client::{ADDONS, CONTINUE, END, How, Phase, VisionClient, request};
use crate::support::wait_until;

/// A client whose request for command 3 goes out together with the first block, which carries `first`.
fn open(server: &Server, first: &[u8]) -> VisionClient {
    let mut client = VisionClient::connect(server, How::with(VISION));
    let mut opening = request(&VISION, ADDONS, 3, "127.0.0.1:9".parse().unwrap());
    // Command 3 has no destination.
    opening.truncate(opening.len() - 7);
    opening.extend(client.up.block(CONTINUE, first, 100));
    client.up.send_tls(&opening);
    client
}

#[test]
fn frames_are_cut_by_blocks_anywhere_and_answers_come_in_blocks() {
    let server = Server::start(Options::tls());
    let peers = ["127.0.0.1", "127.0.0.2"].map(peer);
    let addresses = peers.each_ref().map(|peer| at(peer.local_addr().unwrap()));
    let frames = [
        new_udp(0, &addresses[0], b"globalid", b"first"),
        keep_to(0, &addresses[1], &[2; 1200]),
        keep(0, b""),
        keep(0, b"third"),
    ]
    .concat();
    let mut client = open(&server, &frames[..3]);
    for piece in frames[3..].chunks(100) {
        client.up.send_block(CONTINUE, piece, 17);
    }
    let (first, source) = hear(&peers[0]);
    assert_eq!((first, hear(&peers[1]).0), (b"first".to_vec(), vec![2; 1200]));
    assert_eq!((hear(&peers[0]).0, hear(&peers[0]).0), (Vec::new(), b"third".to_vec()));
    for (peer, address) in peers.iter().zip(&addresses) {
        peer.send_to(b"answer", source).unwrap();
        client.down.expect(&keep_to(0, address, b"answer"));
    }
    assert!(client.down.blocks.iter().all(|block| block.padding_bytes <= 1500));

    // Without padding it goes on, in both directions.
    client.up.send_block(END, &keep_to(0, &addresses[1], b"last block"), 5);
    client.up.send_tls(&[keep_to(0, &addresses[0], b"plain"), keep(0, b"records")].concat());
    assert_eq!(hear(&peers[1]).0, b"last block");
    assert_eq!((hear(&peers[0]).0, hear(&peers[0]).0), (b"plain".to_vec(), b"records".to_vec()));
    for number in 0..40_u8 {
        peers[1].send_to(&vec![number; 1000], source).unwrap();
        client.down.expect(&keep_to(0, &addresses[1], &vec![number; 1000]));
    }
    assert_eq!(client.down.phase, Phase::Tls, "padding ends, TLS does not");
    wait_until("all is counted", || server.user(&VISION).udp_downlink_packets == 42);
    let user = server.user(&VISION);
    assert_eq!((user.udp_uplink_packets, user.uplink_bytes), (7, 5 + 1200 + 5 + 10 + 5 + 7));
    client.up.send_tls(&end(0));
    client.up.send_wire(&client.up.close_notify());
    client.up.finish();
    client.down.expect_end();
    server.closed_for(CloseReason::Finished);
}

#[test]
fn tcp_sessions_are_refused_there() {
    let server = Server::start(Options::tls());
    let mut client = open(&server, &new_tcp(1, &at("127.0.0.1:9".parse().unwrap()), b"x"));
    client.down.expect_end();
    drop(client);
    server.closed_for(CloseReason::FlowRefused);
}
