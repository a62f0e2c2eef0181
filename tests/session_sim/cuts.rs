//! What a session says of itself, and its end from outside, in each of its states.

use std::time::Duration;

use vless_rust::session::close::CloseReason;
use vless_rust::session::view::{Mode, State};

use super::sim::peer::Op;
use super::sim::plan::request;
use super::sim::tls::ClientTls;
use super::sim::world::World;
use super::{KINDS, relaying, say, world_of};

/// Looks at the only session of `world`, and cuts it.
fn assert_is_cut(mut world: World, state: State, mode: Mode) {
    let view = world.view(0).expect("it is alive");
    assert_eq!((view.state, view.mode), (state, mode), "{view:?}");
    let is_known = matches!(state, State::Dialling | State::Relaying | State::HalfClosed);
    assert_eq!(view.user.as_deref(), is_known.then_some("known"), "{view:?}");
    assert_eq!(view.target.is_some(), is_known, "{view:?}");
    world.cut(0, CloseReason::Shutdown);
    assert!(world.ended(0).is_some(), "{state:?} goes on");
    world.runs[0].reasons = vec![world.ended(0).unwrap()];
    world.settle();
    assert_eq!(world.pool.held(), 0);
}

#[test]
fn every_state_can_be_seen_and_cut() {
    for kind in KINDS {
        let mode = if kind.is_some() { Mode::Tls } else { Mode::Plain };
        if kind.is_some() {
            assert_is_cut(world_of(kind, []), State::Handshake, mode);
        }
        assert_is_cut(world_of(kind, [Op::WaitOpen]), State::FirstByte, mode);
        let beginning = request()[..5].to_vec();
        assert_is_cut(world_of(kind, [Op::WaitOpen, Op::Header(beginning)]), State::Request, mode);
        assert_is_cut(world_of(kind, [Op::WaitOpen, Op::Header(request())]), State::Dialling, mode);
        assert_is_cut(relaying(kind), State::Relaying, mode);
        let mut half_closed = relaying(kind);
        half_closed.client(0, [say(b"question"), Op::Fin]);
        assert_is_cut(half_closed, State::HalfClosed, mode);
        let refused = world_of(kind, [Op::WaitOpen, Op::Header(vec![9; 30])]);
        assert_is_cut(refused, State::Lingering, mode);
    }
}

#[test]
fn a_view_counts_what_was_delivered() {
    let mut world = relaying(Some(ClientTls::NEW));
    world.client(0, [say(b"question")]);
    world.target(0, [say(b"the answer")]);
    world.pass(Duration::from_secs(3));
    let view = world.view(0).unwrap();
    assert_eq!((view.uplink_bytes, view.downlink_bytes), (8, 10));
    assert!(view.age >= Duration::from_secs(3));
}
