//! Who goes first: however much others move, whoever becomes ready waits for a bounded amount of work.

use std::time::Duration;

use vless_rust::io::splice::PipePool;
use vless_rust::reactor::schedule::{QUIET_TURN_WORK_BYTES, TURN_WORK_BYTES};
use vless_rust::session::allowance::SPLICED_PER_WORK;

use super::KINDS;
use super::sim::peer::Op;
use super::sim::plan::request;
use super::sim::socket::Manners;
use super::sim::tls::ClientTls;
use super::sim::world::{Plan, World};

const BULK_SESSIONS: usize = 16;

/// Bytes that all others move in one turn at the most: the last of them may begin just before the work is done. Each byte
/// is received and sent, and TLS puts some around it.
const TURN_BYTES_MAX: usize = around(2 * TURN_WORK_BYTES);

/// The same of bytes that are spliced, which only a session without TLS does here.
const SPLICED_TURN_BYTES_MAX: usize = SPLICED_PER_WORK * TURN_BYTES_MAX;

/// The same while nobody else has said anything for a while; a share is half of the turn.
const QUIET_TURN_BYTES_MAX: usize = around(QUIET_TURN_WORK_BYTES * 3 / 2);

/// Sessions whose targets have more to say than anybody reads in a few turns; they move much already. Behind them is one
/// more that is connected and silent.
fn busy(kind: Option<ClientTls>, pipes: bool) -> World {
    crowded(kind, pipes, BULK_SESSIONS, 2 << 20)
}

/// So many of them, whose targets have so much to say.
fn crowded(kind: Option<ClientTls>, pipes: bool, count: usize, answer_bytes: usize) -> World {
    let mut world = World::new(1, kind.is_some());
    world.pipes = pipes.then(PipePool::new);
    let manners = Manners { window: 1 << 30, ..Manners::smooth() };
    for _ in 0..=count {
        let mut plan = Plan::quiet(kind.map(ClientTls::config));
        plan.client = vec![Op::WaitOpen, Op::Header(request())];
        (plan.client_manners, plan.target_manners) = (manners.clone(), manners.clone());
        world.admit(plan);
    }
    world.pass(Duration::ZERO);
    let answer = world.rng.bytes(answer_bytes);
    assert!(world.runs.iter().all(|run| run.connected));
    for run in &mut world.runs[..count] {
        run.target.script.extend([Op::Say(answer.clone()), Op::Fin]);
    }
    for number in 0..count {
        assert!(world.happens_for(number));
    }
    // The first turn of each finds out that it moves much.
    assert!(world.turn());
    world.most_moved_in_a_turn = 0;
    world
}

const fn around(work_bytes: usize) -> usize {
    2 * work_bytes * 11 / 10
}

#[test]
fn a_new_client_is_served_in_every_turn_beside_bulk_and_turns_are_short() {
    for kind in KINDS {
        for pipes in [false, true] {
            let mut world = busy(kind, pipes);
            let newcomer = world.admit(Plan::quiet(kind.map(ClientTls::config)));
            world.runs[newcomer].client.script.extend([Op::WaitOpen, Op::Header(request())]);
            // It is let go on as soon as it can; the others go on all the while.
            let (mut turns, mut waited) = (0, 0);
            while world.runs[newcomer].wished.is_none() {
                let was_ready = world.happens_for(newcomer);
                assert!(world.turn());
                turns += 1;
                // What it was told before a turn it has heard behind it.
                waited += usize::from(was_ready && world.is_queued(newcomer));
            }
            assert_eq!(waited, 0, "{kind:?}: it waited while others moved much");
            assert!(turns <= 12, "{kind:?}: {turns} turns for a handshake and a request");
            let most = world.most_moved_in_a_turn;
            let bound = if pipes && kind.is_none() { SPLICED_TURN_BYTES_MAX } else { TURN_BYTES_MAX };
            assert!((1..=bound).contains(&most), "{kind:?}: {most} bytes in a turn");
        }
    }
}

#[test]
fn a_turn_is_no_longer_the_more_sessions_move_much() {
    for kind in KINDS {
        let mut world = crowded(kind, false, 200, 300_000);
        for _ in 0..20 {
            assert!(world.turn());
        }
        let most = world.most_moved_in_a_turn;
        assert!((1..=TURN_BYTES_MAX).contains(&most), "{kind:?}: {most} bytes in a turn");
    }
}

#[test]
fn turns_are_longer_while_nobody_else_speaks_and_still_bounded() {
    for kind in KINDS {
        let mut world = busy(kind, false);
        world.now += Duration::from_secs(1);
        for _ in 0..4 {
            assert!(world.turn());
        }
        let most = world.most_moved_in_a_turn;
        assert!((TURN_BYTES_MAX..=QUIET_TURN_BYTES_MAX).contains(&most), "{kind:?}: {most} bytes in a turn");
    }
}

#[test]
fn a_new_client_breaks_the_silence_before_it_says_anything() {
    for kind in KINDS {
        let mut world = busy(kind, false);
        world.now += Duration::from_secs(1);
        world.admit(Plan::quiet(kind.map(ClientTls::config)));
        assert!(world.turn());
        let most = world.most_moved_in_a_turn;
        assert!((1..=TURN_BYTES_MAX).contains(&most), "{kind:?}: {most} bytes in a turn");
    }
}

#[test]
fn bulk_goes_on_beside_those_who_always_have_something_to_say() {
    for kind in KINDS {
        let mut world = busy(kind, false);
        let talker = BULK_SESSIONS;
        for turn in 0..40 {
            world.runs[talker].client.script.push_back(Op::Say(vec![turn; 10]));
            world.happens_for(talker);
            let before: usize = world.runs.iter().map(|run| run.target.link.borrow().received).sum();
            assert!(world.turn());
            let after: usize = world.runs.iter().map(|run| run.target.link.borrow().received).sum();
            let heard = world.runs[talker].target.link.borrow().going.len();
            assert!(after - before >= TURN_WORK_BYTES / 2, "{kind:?}: bulk has moved {} bytes", after - before);
            assert_eq!(heard, 10 * (usize::from(turn) + 1), "{kind:?}: the other was not heard at once");
        }
    }
}
