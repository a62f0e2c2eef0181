//! How much this process can serve: its workers, and what its descriptors and its memory are enough for.
//!
//! Owns the arithmetic of descriptors and of sessions. Everything here is decided once, at the start: a reload works
//! within it.

use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::app::config::Config;
use crate::app::memory;
use crate::outbound::resolve::lookups::Limits;
use crate::outbound::resolve::query::OPEN_TRIES_MAX;

/// Descriptors that are not sessions': standard streams, log, listeners, polls, connection races.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Descriptors a worker may hold for kernel pipes (two each).
const DESCRIPTORS_PER_WORKER: u64 = 160;
/// The part of the descriptors that the look-ups of all workers may be in number; each holds two at the most.
const LOOKUPS_SHARE: u64 = 16;
/// Look-ups that each worker may have under way however few descriptors there are: a page of names at a time.
const LOOKUPS_MIN: usize = 16;
/// A session that is served has a client and a target.
const DESCRIPTORS_PER_SESSION: u64 = 2;
/// Spare connections in the process at the most, and the part of the descriptors that they may take.
const SPARES_MAX: usize = 1000;
const SPARES_SHARE: u64 = 8;
/// The part of the memory that sessions may take when nobody says how many they may be. Buffers have a part of their
/// own.
const SESSIONS_MEMORY_SHARE: u64 = 2;
/// What a session costs while nothing moves: 4 KiB of ours, and as much of the kernel's for each of its two sockets.
const SESSION_BYTES: u64 = 12 << 10;
/// Fewer sessions than this, and one browser may use them up: the operator is told.
const SESSIONS_FEW: usize = 256;

/// The size of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// At least one.
    pub workers: usize,
    /// The limit of open descriptors.
    pub descriptors: u64,
    /// Bytes that this process may use.
    pub memory: u64,
}

impl Capacity {
    /// Raises the soft limit of descriptors to the hard one, and takes what then is allowed.
    pub fn claim(config: &Config) -> Self {
        let limit = getrlimit(Resource::Nofile);
        // The maximum is always allowed; should it be refused, what there is stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { workers: workers(config), descriptors, memory: memory::usable() }
    }

    /// Sessions that the descriptors are enough for. What is kept back for other uses is at most half of them: on a
    /// machine with many processors and a low limit there would be none left, while pipes and races do without.
    pub fn sessions(self) -> usize {
        let per_worker = DESCRIPTORS_PER_WORKER + (self.lookups_per_worker() * OPEN_TRIES_MAX) as u64;
        let reserved = (DESCRIPTORS_RESERVED + per_worker * self.workers as u64).min(self.descriptors / 2);
        usize::try_from((self.descriptors - reserved) / DESCRIPTORS_PER_SESSION).unwrap_or(usize::MAX).max(1)
    }

    /// Look-ups that each worker may have under way. With few descriptors they are fewer, so that name servers that
    /// keep silent cannot take away everybody's.
    pub fn lookups_per_worker(self) -> usize {
        let share = self.descriptors / LOOKUPS_SHARE / self.workers.max(1) as u64;
        usize::try_from(share).unwrap_or(usize::MAX).clamp(LOOKUPS_MIN, Limits::default().lookups_max)
    }

    /// Spare connections that the descriptors are enough for.
    pub fn spares(self) -> usize {
        usize::try_from(self.descriptors / SPARES_SHARE).unwrap_or(usize::MAX).min(SPARES_MAX)
    }

    /// Sessions at the same time: `wanted` if the descriptors are enough for so many, because more would only mean
    /// clients whose targets cannot be connected. 0 stands for as many as descriptors and memory are enough for.
    pub fn sessions_max(self, wanted: usize) -> usize {
        let possible = self.sessions();
        if wanted == 0 { possible.min(self.sessions_in_memory()) } else { wanted.min(possible) }
    }

    fn sessions_in_memory(self) -> usize {
        let sessions = self.memory / SESSIONS_MEMORY_SHARE / SESSION_BYTES;
        usize::try_from(sessions).unwrap_or(usize::MAX).max(SESSIONS_FEW)
    }

    /// What the operator should know when `wanted` sessions were asked for (0 = as many as possible).
    pub fn warning(self, wanted: usize) -> Option<String> {
        let (descriptors, possible) = (self.descriptors, self.sessions());
        (wanted > possible || (wanted == 0 && possible < SESSIONS_FEW)).then(|| {
            format!(
                "{descriptors} descriptors are enough for {possible} sessions only{}: raise the limit (ulimit -n, or \
                 LimitNOFILE= of the service)",
                if wanted > 0 { format!(", and monitoring.vless_max_connections is {wanted}") } else { String::new() }
            )
        })
    }
}

/// Reactor threads: what the configuration says, or one per core.
fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(workers: usize, descriptors: u64) -> Capacity {
        Capacity { workers, descriptors, memory: u64::MAX }
    }

    #[test]
    fn descriptors_are_shared_out_sensibly_whatever_their_number() {
        assert_eq!(capacity(2, 20_000).sessions(), (20_000 - 128 - 320 - 2 * 2 * 512) / 2);
        // 64 processors and a limit that used to be common.
        assert_eq!(capacity(64, 4096).sessions(), 1024);
        assert_eq!(capacity(2, 64).sessions(), 16);
        assert_eq!(capacity(2, 1).sessions(), 1);
        assert!(capacity(2, u64::MAX).sessions() > 1 << 62);
    }

    #[test]
    fn look_ups_that_nobody_answers_leave_descriptors_to_the_sessions() {
        assert_eq!(
            [(1, 1024), (2, 1024), (4, 65_536), (2, u64::MAX)].map(|(w, d)| capacity(w, d).lookups_per_worker()),
            [64, 32, 512, 512]
        );
        // However many processors: a few names at a time must be possible.
        assert_eq!(capacity(64, 1024).lookups_per_worker(), LOOKUPS_MIN);
        for (workers, descriptors) in [(1, 1024), (2, 1024), (4, 4096), (2, 20_000), (64, 1 << 20)] {
            let capacity = capacity(workers, descriptors);
            let sockets = workers * capacity.lookups_per_worker() * OPEN_TRIES_MAX;
            let sessions = capacity.sessions() as u64 * DESCRIPTORS_PER_SESSION;
            assert!(sessions + sockets as u64 + DESCRIPTORS_RESERVED <= descriptors, "{workers} {descriptors}");
        }
    }

    #[test]
    fn nobody_who_has_not_asked_for_it_gets_more_sessions_than_fit_the_memory() {
        let machine = Capacity { memory: 1 << 30, ..capacity(2, 1 << 20) };
        assert_eq!(machine.sessions_max(0), 43_690);
        assert_eq!(machine.sessions_max(200_000), 200_000, "whoever says a number has counted");
        assert_eq!(Capacity { memory: 1 << 20, ..machine }.sessions_max(0), SESSIONS_FEW);
    }

    #[test]
    fn a_wish_beyond_what_is_possible_is_cut_and_told() {
        let small = capacity(2, 64);
        assert_eq!((small.sessions_max(0), small.sessions_max(10), small.sessions_max(100)), (16, 10, 16));
        assert!(small.warning(100).unwrap().contains("vless_max_connections is 100"));
        assert!(small.warning(0).unwrap().contains("16 sessions only"));
        assert_eq!((small.warning(10), capacity(2, 20_000).warning(0)), (None, None));
    }
}
