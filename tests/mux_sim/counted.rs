//! What counts of packets: each that the client's socket has taken to its last byte, at whatever moment the end comes.

use std::cell::RefCell;
use std::rc::Rc;

use vless_rust::io::endpoint::Readiness;
use vless_rust::session::Leg;
use vless_rust::session::close::CloseReason;

use super::shortage::{TARGET, opened};
use super::sockets::Net;
use super::{USER, World};

const DATAGRAMS: usize = 10;

/// The target sends [`DATAGRAMS`] of 100 bytes, the client takes `taken` whole packets of `packet_bytes` and a part of the
/// next, and then it breaks off.
fn assert_counts_what_was_taken(opening: &[u8], leg: Leg, packet_bytes: usize, taken: usize) {
    let (mut world, net): (World, Rc<RefCell<Net>>) = opened(opening);
    while world.turn() {}
    world.client.borrow_mut().room = "\0\0".len() + taken * packet_bytes + packet_bytes / 2;
    for _ in 0..DATAGRAMS {
        net.borrow_mut().incoming.push_back((vec![7; 100], TARGET));
    }
    world.tell(leg, Readiness { readable: true, ..Readiness::default() });
    while world.turn() {}
    world.client.borrow_mut().is_reset = true;
    let client = Rc::clone(&world.client);
    world.tell(Leg::Client, Readiness { readable: true, writable: true, broken: true, ..Readiness::default() });
    assert!(world.turn());
    assert_eq!(client.borrow().sent.len(), 2 + taken * packet_bytes + packet_bytes / 2);
    let record = world.record.unwrap();
    assert_eq!(record.reason, CloseReason::ClientReset);
    let counted = (world.counters.udp_downlink_packets.value(), world.counters.downlink_bytes.value());
    assert_eq!(counted, (taken as u64, 100 * taken as u64));
    assert_eq!(record.downlink.payload_bytes, 100 * taken as u64);
}

#[test]
fn the_last_batch_of_datagrams_counts_as_far_as_it_was_taken() {
    let opening = [&[0], &USER[..], &[0, 2, 3, 0xe8, 1, 10, 0, 0, 1], b"\0\x01w"].concat();
    for taken in [0, 1, 7] {
        assert_counts_what_was_taken(&opening, Leg::Target, 2 + 100, taken);
    }
}

#[test]
fn the_last_batch_of_frames_counts_as_far_as_it_was_taken() {
    let new = [&[0, 12, 0, 1, 1, 1, 2, 3, 0xe8, 1, 10, 0, 0, 1], &b"\0\x01w"[..]].concat();
    let opening = [&[0], &USER[..], &[0, 3], &new].concat();
    for taken in [0, 1, 7] {
        assert_counts_what_was_taken(&opening, Leg::Sub(0), 2 + 12 + 2 + 100, taken);
    }
}
