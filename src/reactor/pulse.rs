//! What each worker is doing at the moment, for whoever watches it from another thread, and for its own last words.
//!
//! A worker says when a turn begins, which part of it has come, and which kind of session it serves: a few stores to memory
//! that nobody else writes. A turn that does not end is seen by [`Watch`]; a panic asks [`doing`].

use std::cell::OnceCell;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::session::view::{Mode, State};

/// A turn that lasts longer keeps everybody else of its worker waiting, and is told of.
pub const LONG_TURN: Duration = Duration::from_secs(1);

const STEPS: [(Step, &str); 7] = [
    (Step::Events, "noting events"),
    (Step::Mail, "reading its inbox"),
    (Step::Timers, "expiring timers"),
    (Step::Wishes, "serving dials and look-ups"),
    (Step::Session, "serving a session"),
    (Step::Accepting, "accepting clients"),
    (Step::House, "keeping house"),
];

/// The instant from which turns are counted.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    /// That of the worker whose thread this is.
    static OWN: OnceCell<Arc<Pulse>> = const { OnceCell::new() };
}

/// One worker's; only its own thread writes it.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Milliseconds from the start to the beginning of the turn, and one more; 0: it waits for events.
    turn_began: AtomicU64,
    step: AtomicU8,
    state: AtomicU8,
    mode: AtomicU8,
}

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Events,
    Mail,
    Timers,
    Wishes,
    Session,
    Accepting,
    House,
}

impl Pulse {
    /// Makes this the pulse of the thread.
    pub(super) fn adopt(self: &Arc<Self>) {
        LazyLock::force(&START);
        OWN.with(|own| drop(own.set(Arc::clone(self))));
    }

    pub(super) fn begin_turn(&self, now: Instant) {
        let since_start = now.saturating_duration_since(*START).as_millis() as u64;
        self.turn_began.store(since_start + 1, Ordering::Relaxed);
        self.enter(Step::Events);
    }

    pub(super) fn end_turn(&self) {
        self.turn_began.store(0, Ordering::Relaxed);
    }

    pub(super) fn enter(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }
}

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.load(Ordering::Relaxed);
        let words = STEPS.iter().find(|(known, _)| *known as u8 == step).map_or("busy", |(_, words)| words);
        f.write_str(words)?;
        if step != Step::Session as u8 {
            return Ok(());
        }
        let state = State::ALL.get(usize::from(self.state.load(Ordering::Relaxed))).map_or("?", |state| state.name());
        let mode = Mode::ALL.get(usize::from(self.mode.load(Ordering::Relaxed))).map_or("?", |mode| mode.name());
        write!(f, " (state {state}, kind {mode})")
    }
}

/// This thread is about to serve such a session. Threads that are no worker's have no use for it.
pub(super) fn serve(state: State, mode: Mode) {
    let _ = OWN.try_with(|own| {
        if let Some(pulse) = own.get() {
            pulse.state.store(state as u8, Ordering::Relaxed);
            pulse.mode.store(mode as u8, Ordering::Relaxed);
            pulse.enter(Step::Session);
        }
    });
    #[cfg(debug_assertions)]
    plant::come_true(state);
}

/// What this thread is doing, if it is a worker's.
pub fn doing() -> Option<String> {
    OWN.try_with(|own| own.get().map(ToString::to_string)).ok().flatten()
}

/// Looks for turns that do not end.
#[derive(Debug, Default)]
pub struct Watch {
    /// By worker: the turn that was told of last.
    told: Vec<u64>,
}

/// A turn that has lasted for longer than [`LONG_TURN`] and goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongTurn {
    pub worker: usize,
    pub lasts: Duration,
    /// In words.
    pub doing: String,
}

impl Watch {
    /// The long turns that were not told of yet.
    pub fn look(&mut self, pulses: &[Arc<Pulse>], now: Instant) -> Vec<LongTurn> {
        self.told.resize(pulses.len(), 0);
        let now = now.saturating_duration_since(*START);
        let mut found = Vec::new();
        for ((worker, pulse), told) in pulses.iter().enumerate().zip(&mut self.told) {
            let began = pulse.turn_began.load(Ordering::Relaxed);
            let lasts = now.saturating_sub(Duration::from_millis(began.saturating_sub(1)));
            if began > 0 && lasts >= LONG_TURN && *told != began {
                *told = began;
                found.push(LongTurn { worker, lasts, doing: pulse.to_string() });
            }
        }
        found
    }
}

impl fmt::Display for LongTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}: a turn has lasted for {:.1} s: {}", self.worker, self.lasts.as_secs_f64(), self.doing)
    }
}

/// Faults for tests of what watches workers, in builds with debug assertions only:
/// `VLESS_RUST_PLANT=panic:relaying` or `stall:relaying` in the environment, once, at a session in that state.
#[cfg(debug_assertions)]
mod plant {
    use super::{LONG_TURN, State};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::{env, thread};

    static PLANT: LazyLock<Option<String>> = LazyLock::new(|| env::var("VLESS_RUST_PLANT").ok());
    static IS_DONE: AtomicBool = AtomicBool::new(false);

    pub(super) fn come_true(state: State) {
        let Some((fault, at)) = PLANT.as_deref().and_then(|plant| plant.split_once(':')) else { return };
        if at != state.name() || IS_DONE.swap(true, Ordering::Relaxed) {
            return;
        }
        match fault {
            "panic" => panic!("planted"),
            "stall" => thread::sleep(LONG_TURN * 3),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_does_not_end_is_told_of_once() {
        let (pulse, mut watch) = (Arc::new(Pulse::default()), Watch::default());
        let pulses = [Arc::clone(&pulse)];
        let start = *START;
        assert_eq!(watch.look(&pulses, start + Duration::from_secs(9)), [], "it waits for events");
        pulse.begin_turn(start + Duration::from_secs(10));
        assert_eq!(watch.look(&pulses, start + Duration::from_millis(10_900)), []);
        pulse.enter(Step::Mail);
        let found = watch.look(&pulses, start + Duration::from_millis(11_500));
        assert_eq!(found[0].to_string(), "worker 0: a turn has lasted for 1.5 s: reading its inbox");
        assert_eq!(watch.look(&pulses, start + Duration::from_secs(20)), []);
        pulse.end_turn();
        pulse.begin_turn(start + Duration::from_secs(30));
        assert_eq!(watch.look(&pulses, start + Duration::from_secs(32)).len(), 1, "another one");
    }

    #[test]
    fn a_worker_knows_which_session_it_serves_and_other_threads_know_nothing() {
        assert_eq!(doing(), None);
        serve(State::Relaying, Mode::Vision);
        assert_eq!(doing(), None);
        Arc::new(Pulse::default()).adopt();
        serve(State::HalfClosed, Mode::Splice);
        assert_eq!(doing().as_deref(), Some("serving a session (state half_closed, kind splice)"));
    }

    #[test]
    fn every_state_and_kind_is_found_by_its_number() {
        for (place, state) in State::ALL.iter().enumerate() {
            assert_eq!(*state as usize, place);
        }
        for (place, mode) in Mode::ALL.iter().enumerate() {
            assert_eq!(*mode as usize, place);
        }
    }
}
