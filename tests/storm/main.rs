//! The loads that a server on the open internet must bear, on the program in a process of its own: a flood from one
//! address, downloads that nobody takes, and many users with mixed traffic while memory is short.
//!
//! Everyday runs are small and judge bytes, counts and memory. `STORM=full` runs the whole loads and judges times, too:
//! it wants a machine with nothing else to do. `STORM_SERVER` names another program, such as the release build.
//! `tests/run --long` does both.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/api.rs"]
mod api;
mod crowd;
mod echo;
mod flood;
mod member;
mod program;
mod stalls;
mod talk;

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The loads share the descriptors of this process and the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether the loads are whole, on a machine that has nothing else to do.
fn is_full() -> bool {
    env::var("STORM").is_ok_and(|value| value == "full")
}

/// `full` in the full storm, and what an everyday run can have otherwise.
fn scaled(everyday: usize, full: usize) -> usize {
    if is_full() { full } else { everyday }
}

/// Waits for its turn, and lets this process open as many descriptors as it may.
fn alone() -> MutexGuard<'static, ()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time below which so many of a hundred are.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Fails for a time only where times are judged.
#[track_caller]
fn judge(holds: bool, what: &str) {
    assert!(holds || !is_full(), "{what}");
    if !holds {
        println!("not judged in an everyday run: {what}");
    }
}
