//! Packets and frames where buffer memory is short: nobody waits for what it holds itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use vless_rust::io::buffer_memory::BufferMemory;
use vless_rust::io::buffer_pool::{BufferPool, Loan};
use vless_rust::io::endpoint::Readiness;
use vless_rust::session::{Leg, Wish};

use super::sockets::{Datagrams, Net};
use super::{USER, World};

pub(crate) const TARGET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 1000);

/// Far more packets than a turn's work sends.
const PACKETS: usize = 5000;

/// A world with very little buffer memory, whose client has sent `opening` and has what it asked for.
pub(crate) fn opened(opening: &[u8]) -> (World, Rc<RefCell<Net>>) {
    let mut world = World::new(1);
    world.pool = BufferPool::with_memory(Arc::new(BufferMemory::new(6000, 1)));
    world.client.borrow_mut().room = usize::MAX;
    let net = Rc::new(RefCell::new(Net::default()));
    world.script = VecDeque::new();
    hear(&mut world, opening);
    loop {
        match world.wishes.pop_front() {
            Some(Wish::Resolve { leg, target }) => {
                world.call(|session, cx| session.on_resolved(leg, &target, Ok(TARGET), cx));
            }
            Some(Wish::BindUdp { leg, .. }) => {
                let socket = Datagrams(Rc::clone(&net));
                world.call(|session, cx| session.on_bound(leg, Ok(socket), cx));
            }
            Some(wish) => panic!("wished for {wish:?}"),
            None if !world.turn() => break,
            None => {}
        }
    }
    (world, net)
}

/// The client sends `bytes`, and the session hears of it.
fn hear(world: &mut World, bytes: &[u8]) {
    world.client.borrow_mut().incoming.extend(bytes);
    let client = Rc::clone(&world.client);
    world.event(Leg::Client, &client);
}

/// There is memory for one step and no more. Then packets arrive together with an answer: the turn's work does not suffice
/// for all of them, and the answer waits for memory that the others still hold.
fn work_runs_out_beside_a_shortage(opening: &[u8], packets: &[u8], leg: Leg) -> (World, usize) {
    let (mut world, net) = opened(opening);
    while world.turn() {}
    let mut lent = Vec::new();
    while world.pool.may_begin() {
        lent.push(world.pool.take(1, Loan::Waiting));
    }
    lent.pop();
    assert!(world.pool.may_begin());
    let sent_before = net.borrow().sent.len();
    net.borrow_mut().incoming.push_back((b"answer".to_vec(), TARGET));
    world.client.borrow_mut().incoming.extend(packets);
    world.client.borrow_mut().wants_read = false;
    world.tell(Leg::Client, Readiness { readable: true, ..Readiness::default() });
    world.tell(leg, Readiness { readable: true, ..Readiness::default() });
    assert!(world.turn());
    assert!(!world.pool.may_begin(), "the packets that wait for their turn hold what there is");
    while world.turn() {}
    let sent = net.borrow().sent.len() - sent_before;
    drop(lent);
    (world, sent)
}

#[test]
fn a_datagram_relay_never_waits_for_the_packets_it_holds() {
    let opening = [&[0], &USER[..], &[0, 2, 3, 0xe8, 1, 10, 0, 0, 1], b"\0\x01w"].concat();
    let (world, sent) = work_runs_out_beside_a_shortage(&opening, &b"\0\x01x".repeat(PACKETS), Leg::Target);
    assert_eq!(sent, PACKETS);
    assert!(world.client.borrow().sent.ends_with(b"\0\x06answer"));
    assert_eq!(world.pool.held(), 0);
}

#[test]
fn a_mux_relay_never_waits_for_the_frames_it_holds() {
    let new = [&[0, 12, 0, 1, 1, 1, 2, 3, 0xe8, 1, 10, 0, 0, 1], &b"\0\x01w"[..]].concat();
    let opening = [&[0], &USER[..], &[0, 3], &new].concat();
    let frame = [0, 4, 0, 1, 2, 1, 0, 1, b'x'];
    let (world, sent) = work_runs_out_beside_a_shortage(&opening, &frame.repeat(PACKETS), Leg::Sub(0));
    assert_eq!(sent, PACKETS);
    assert!(world.client.borrow().sent.ends_with(b"\0\x06answer"));
    assert_eq!(world.pool.held(), 0);
}

/// Data for a session that does not exist is answered by an End each. More of those than may wait stop the uplink, which
/// holds the memory that the answer of another session waits for.
#[test]
fn a_mux_relay_never_waits_for_the_ends_it_owes() {
    let new = [&[0, 12, 0, 1, 1, 1, 2, 3, 0xe8, 1, 10, 0, 0, 1], &b"\0\x01w"[..]].concat();
    let opening = [&[0], &USER[..], &[0, 3], &new].concat();
    let astray = [0, 4, 0, 9, 2, 1, 0, 1, b'x'];
    let (world, _) = work_runs_out_beside_a_shortage(&opening, &astray.repeat(PACKETS), Leg::Sub(0));
    let client = world.client.borrow();
    let ends = client.sent.windows(6).filter(|frame| *frame == [0, 4, 0, 9, 3, 0]).count();
    assert_eq!(ends, PACKETS);
    assert!(client.sent.windows(8).any(|bytes| bytes == b"\0\x06answer"));
    assert_eq!(world.pool.held(), 0);
}

/// Lengths that are owed take memory that counts nowhere. So a session writes down few of them at a time, however long
/// its turn. It may have two in one of the worker's, the second because it moved much in the first.
#[test]
fn frames_of_many_lengths_are_filled_a_few_at_a_time() {
    const LENGTHS_MAX: usize = 2 * 256;
    let to = [0x03, 0xe8, 1, 10, 0, 0, 1];
    let datagrams = [&[0], &USER[..], &[0, 2], &to, b"\0\x01w"].concat();
    let mux = [&[0], &USER[..], &[0, 3, 0, 12, 0, 1, 1, 1, 2], &to, b"\0\x01w"].concat();
    for (opening, leg) in [(datagrams, Leg::Target), (mux, Leg::Sub(0))] {
        let (mut world, net) = opened(&opening);
        while world.turn() {}
        net.borrow_mut().incoming.extend((0..PACKETS).map(|number| (vec![7; 1 + number % 2], TARGET)));
        world.tell(leg, Readiness { readable: true, ..Readiness::default() });
        let mut most = 0;
        loop {
            // Nobody else speaks, so turns are as long as they get.
            world.now += Duration::from_secs(1);
            let before = net.borrow().incoming.len();
            if !world.turn() {
                break;
            }
            most = most.max(before - net.borrow().incoming.len());
        }
        assert!(net.borrow().incoming.is_empty(), "{leg:?}: some wait for nothing");
        assert!((LENGTHS_MAX / 2..=LENGTHS_MAX).contains(&most), "{leg:?}: {most} in a turn");
    }
}
