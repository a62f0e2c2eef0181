//! A connection that breaks, in every state of the switch.

use vless_rust::io::splice::PipePool;
use vless_rust::session::close::CloseReason;

use crate::sim::peer::{Op, SeenEnd};
use crate::sim::vision::{DIRECT, END};
use crate::sim::world::World;
use crate::support::inner_tls::data;
use crate::{direct, shaken};

/// Sessions in every state: padded both ways, one way direct, both, ended padding, bytes in the pipe of either way.
fn states() -> Vec<World> {
    let mut states = Vec::new();
    for splice in [true, false] {
        states.push(shaken(splice));
        for command in [END, DIRECT] {
            let mut world = shaken(splice);
            world.client(0, [Op::Block(command, data(50))]);
            states.push(world);
        }
        let mut world = shaken(splice);
        world.target(0, [Op::Say(data(300))]);
        states.push(world);
        states.push(direct(splice));
        for is_uplink in [true, false] {
            let mut world = direct(splice);
            let run = &mut world.runs[0];
            let (from, to) = if is_uplink { (&mut run.client, &run.target) } else { (&mut run.target, &run.client) };
            to.link.borrow_mut().manners.window = 0;
            from.script.extend([Op::Say(data(16_000)), Op::Say(data(16_000)), Op::Say(data(16_000))]);
            // Out of room at once: the rest stays in a pipe or a buffer.
            while from.act(world.now) {}
            while from.link.borrow_mut().arrive() {}
            world.settle();
            let in_pipe = world.pipes.as_ref().map_or(0, PipePool::in_use);
            assert!(in_pipe > 0 || world.pool.held() > 0, "nothing is held");
            states.push(world);
        }
    }
    states
}

/// Lets both peers take bytes again: what arrived in front of a reset is sent on before it.
fn unblock(world: &mut World) {
    for peer in [&world.runs[0].client, &world.runs[0].target] {
        let mut link = peer.link.borrow_mut();
        link.manners.window = 256 << 10;
        assert_eq!(link.peer_takes(0), b"");
    }
    world.settle();
}

#[test]
fn a_reset_by_the_client_resets_the_target() {
    for (number, mut world) in states().into_iter().enumerate() {
        world.runs[0].reasons = vec![CloseReason::ClientReset];
        world.client(0, [Op::Reset]);
        unblock(&mut world);
        assert_eq!(world.ended(0), Some(CloseReason::ClientReset), "state {number}: {}", world.describe());
        assert_eq!(world.runs[0].target.seen_end, Some(SeenEnd::Reset), "state {number}");
        world.verify();
    }
}

#[test]
fn a_reset_by_the_target_resets_the_client() {
    for (number, mut world) in states().into_iter().enumerate() {
        world.runs[0].reasons = vec![CloseReason::TargetReset];
        world.target(0, [Op::Reset]);
        unblock(&mut world);
        assert_eq!(world.ended(0), Some(CloseReason::TargetReset), "state {number}: {}", world.describe());
        assert_eq!(world.runs[0].client.seen_end, Some(SeenEnd::Reset), "state {number}");
        world.verify();
    }
}

#[test]
fn a_shutdown_says_nothing_behind_the_switch() {
    for (number, mut world) in states().into_iter().enumerate() {
        world.runs[0].reasons = vec![CloseReason::Shutdown];
        world.cut(0, CloseReason::Shutdown);
        world.settle();
        assert_eq!(world.ended(0), Some(CloseReason::Shutdown), "state {number}");
        // What is heard must be what the target said.
        world.verify();
    }
}
