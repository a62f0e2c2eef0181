//! Who always holds the beginning of something lets others in all the same.

use std::sync::Arc;

use vless_rust::io::buffer_memory::BufferMemory;
use vless_rust::io::buffer_pool::BufferPool;

use crate::plans::{Kind, frame, packet};
use crate::sim::outlet::End;
use crate::sim::peer::Op;
use crate::sim::plan::header;
use crate::sim::run::Run;
use crate::sim::socket::Manners;
use crate::sim::world::{Plan, USER, World};

/// As long as there is memory for two of their beginnings.
const PACKET_BYTES: usize = 60_000;
const HOLDERS: usize = 3;
const PACKETS: usize = 60;

/// What each of them may receive while somebody waits: the bound of 128 KiB between two moments in which it holds nothing,
/// and a packet behind it.
const BYTES_BESIDE_MAX: usize = HOLDERS * (2 * (128 << 10) + 2 * PACKET_BYTES);

pub(crate) fn request(kind: Kind) -> Vec<u8> {
    if kind == Kind::Mux { header(USER, &[], 3, 0, &[]) } else { header(USER, &[], 2, 1000, &[1, 192, 0, 2, 7]) }
}

pub(crate) fn wire(kind: Kind, is_first: bool, payload: &[u8]) -> Vec<u8> {
    if kind == Kind::Mux { frame(1, 1000, is_first, payload) } else { packet(payload) }
}

/// A client that never pauses, and whose pieces end inside packets.
pub(crate) fn holder(kind: Kind) -> Plan {
    let mut client = vec![Op::Header(request(kind))];
    let payload = vec![7; PACKET_BYTES];
    let stream: Vec<u8> = (0..PACKETS).flat_map(|number| wire(kind, number == 0, &payload)).collect();
    let (first, rest) = stream.split_at(PACKET_BYTES / 2);
    client.push(Op::Say(first.to_vec()));
    client.extend(rest.chunks(PACKET_BYTES).map(|piece| Op::Say(piece.to_vec())));
    Plan { client, client_manners: Manners { arrive_max: 9000, ..Manners::smooth() }, ..Plan::quiet(None) }
}

/// What this client said has reached its target.
pub(crate) fn is_heard(run: &Run) -> bool {
    let net = run.outlets.first().map(|outlet| &outlet.end);
    matches!(net, Some(End::Udp(_, net)) if !net.borrow().sent.is_empty())
}

fn received(world: &World) -> usize {
    world.runs[..HOLDERS].iter().map(|run| run.client.link.borrow().received).sum()
}

#[test]
fn a_newcomer_waits_for_a_bounded_number_of_bytes_of_those_who_always_hold_a_beginning() {
    for kind in [Kind::Datagrams, Kind::Mux] {
        let mut world = World::new(1, false);
        world.scarcity.is_known = true;
        world.pool = BufferPool::with_memory(Arc::new(BufferMemory::for_relays_only(0, 1)));
        for _ in 0..HOLDERS {
            world.admit(holder(kind));
        }
        while world.pool.may_begin() || received(&world) < HOLDERS * PACKET_BYTES {
            assert!(world.step());
        }
        let newcomer = world.admit(Plan {
            client: vec![Op::Header(request(kind)), Op::Say(wire(kind, true, b"hello"))],
            ..Plan::quiet(None)
        });
        let before = received(&world);
        while !is_heard(&world.runs[newcomer]) {
            assert!(world.step(), "{kind:?}: nothing goes on");
            let beside = received(&world) - before;
            assert!(beside <= BYTES_BESIDE_MAX, "{kind:?}: {beside} bytes of the others, and it still waits");
        }
    }
}
