//! The switch with every cut of the bytes around it.

use vless_rust::session::close::CloseReason;

use crate::sim::peer::Op;
use crate::sim::vision::{DIRECT, Phase};
use crate::sim::world::World;
use crate::support::inner_tls::data;
use crate::{direct, phases, shaken};

/// Ends a session in order and checks everything.
fn finish(world: &mut World) {
    world.client(0, [Op::Fin]);
    world.target(0, [Op::Fin]);
    assert_eq!(world.ended(0), Some(CloseReason::Finished), "{}", world.describe());
    world.verify();
}

#[test]
fn raw_bytes_may_come_with_the_direct_record_at_every_offset() {
    for splice in [true, false] {
        let mut cut = 0;
        loop {
            let mut world = shaken(splice);
            let (content, raw) = (data(20), data(30));
            let client = &mut world.runs[0].client;
            let before = client.link.borrow().coming.len();
            client.script.extend([Op::Block(DIRECT, content), Op::Say(raw)]);
            while client.act(world.now) {}
            let sent = client.link.borrow().coming.len() - before;
            // So many bytes arrive, our code looks, and then the rest comes.
            client.link.borrow_mut().manners.arrive_max = 1;
            for _ in 0..cut {
                assert!(client.link.borrow_mut().arrive());
            }
            let held_back = client.link.borrow_mut().coming.split_off(before + cut);
            world.settle();
            let client = &mut world.runs[0].client;
            client.link.borrow_mut().coming.extend(held_back);
            client.link.borrow_mut().manners.arrive_max = 1 << 30;
            world.settle();
            assert_eq!(world.runs[0].target.heard, world.runs[0].client.said, "cut at {cut}");
            finish(&mut world);
            cut += 1;
            if cut > sent {
                break;
            }
        }
        assert!(cut > 60);
    }
}

#[test]
fn the_downlinks_switch_may_be_held_up_at_every_offset() {
    for splice in [true, false] {
        for room in 0.. {
            let mut world = shaken(splice);
            world.client(0, [Op::StopReading]);
            let link = world.runs[0].client.link.clone();
            let before = link.borrow().going.len();
            assert_eq!(before, link.borrow().peer_read);
            link.borrow_mut().manners.window = room;
            // The DIRECT block and raw bytes in one batch, then more raw bytes behind them.
            world.target(0, [Op::Say([data(20), data(30)[..10].to_vec()].concat())]);
            world.target(0, [Op::Say(data(30)[10..].to_vec()), Op::Say(data(40_000))]);
            let held_up = link.borrow().going.len() - before == room;
            link.borrow_mut().manners.window = 256 << 10;
            world.client(0, [Op::StartReading]);
            assert_eq!(phases(&world).1, Phase::Raw);
            assert_eq!(world.runs[0].client.heard[2..], world.runs[0].target.said, "room {room}");
            finish(&mut world);
            // Beyond the DIRECT record and the first raw bytes nothing new happens.
            if room > 1500 || !held_up {
                assert!(room > 1000);
                break;
            }
        }
    }
}

#[test]
fn every_byte_may_arrive_alone_around_the_switch() {
    let mut world = shaken(true);
    world.runs[0].client.link.borrow_mut().manners.recv_max = 1;
    world.runs[0].target.link.borrow_mut().manners.send_max = 1;
    world.client(0, [Op::Block(DIRECT, data(700)), Op::Say(data(900)), Op::Say(data(5))]);
    assert_eq!(world.runs[0].target.heard, world.runs[0].client.said);
    finish(&mut world);
}

#[test]
fn bulk_behind_the_switch_goes_through_pipes() {
    let mut world = direct(true);
    for _ in 0..10 {
        world.client(0, [Op::Say(data(16_000)), Op::Say(data(16_000)), Op::Say(data(16_000))]);
        world.target(0, [Op::Say(data(16_000)), Op::Say(data(16_000)), Op::Say(data(16_000))]);
    }
    assert!(world.counters.uplink_spliced_bytes.value() > 0);
    assert!(world.counters.downlink_spliced_bytes.value() > 0);
    finish(&mut world);
}
