//! The worker threads: each owns a poll, its listeners, its sessions and everything they borrow.
//!
//! A worker's turn has these steps:
//!
//! 1. poll, read the clock, note events,
//! 2. read the inbox, expire timers,
//! 3. give turns to sessions that move little (`schedule`), and serve what they wish for,
//! 4. accept,
//! 5. give turns to sessions that move much.
//!
//! Nothing in a turn blocks, and no turn is longer than its measure. Workers share nothing but counters, counts of
//! sessions and of buffer memory, and two tables: of sources, and of UDP sockets that move between them.
//!
//! Sockets are registered once, edge-triggered, for both directions. The schedule queues a session for another turn if
//! it stopped before a socket was found blocked. So no session is forgotten.

pub mod accept;
pub mod handle;
mod inbox;
mod legs;
mod meter;
pub mod pulse;
pub mod request;
mod rules;
pub mod schedule;
mod shared;
mod sources;
mod timers;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use self::handle::Handle;
use self::request::End;
pub use self::rules::{Observer, Rules, Seed};
use self::shared::Shared;
pub use self::sources::SourceLimits;
use self::worker::{Unstarted, Worker};
use crate::session::close::CloseReason;
use crate::stats::Counters;

/// The running workers. Dropping it cuts what is left and waits for them to end.
pub struct Reactor {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

impl Reactor {
    /// Starts one worker per entry of the seed's listeners.
    ///
    /// # Errors
    /// When the kernel refuses a poll or a thread. Workers already started are told to stop.
    pub fn start(seed: Seed, rules: &Arc<Rules>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(&seed));
        let addresses = seed.listeners.first().map_or(0, Vec::len);
        let (warm_up, splice) = (seed.warm_up, seed.splice);
        let unstarted: Vec<_> = seed.listeners.into_iter().map(Unstarted::new).collect::<io::Result<_>>()?;
        let inboxes: Arc<[_]> = unstarted.iter().map(Unstarted::inbox).collect();
        let counters: Vec<_> = unstarted.iter().map(|_| Arc::new(Counters::new(CloseReason::ALL.len()))).collect();
        let handle = Handle::new(Arc::clone(&inboxes), counters.clone(), Arc::clone(&shared), addresses);
        let mut reactor = Self { handle, threads: Vec::new() };
        for ((number, unstarted), counters) in unstarted.into_iter().enumerate().zip(counters) {
            let parts = worker::Parts {
                number,
                rules: Arc::clone(rules),
                warm_up: warm_up.clone(),
                splice,
                counters,
                shared: Arc::clone(&shared),
                inboxes: Arc::clone(&inboxes),
            };
            reactor.start_worker(unstarted, parts)?;
        }
        Ok(reactor)
    }

    fn start_worker(&mut self, unstarted: Unstarted, parts: worker::Parts) -> io::Result<()> {
        let running = Running::new(Arc::clone(&parts.shared), unstarted.inbox());
        let thread = thread::Builder::new().name(format!("worker-{}", parts.number)).spawn(move || {
            let _running = running;
            Worker::new(unstarted, parts).run();
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The way to the workers for others.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Each worker's counters.
    pub fn counters(&self) -> &[Arc<Counters>] {
        self.handle.counters()
    }

    /// Sessions alive now.
    pub fn sessions(&self) -> usize {
        self.handle.sessions()
    }

    /// Every worker has stopped.
    pub fn is_stopped(&self) -> bool {
        self.handle.is_stopped()
    }

    /// See [`Handle::drain`].
    pub fn drain(&self, timeout: Duration) {
        self.handle.drain(timeout);
    }

    /// Cuts what sessions are left, and returns when all workers have ended. The counters stay.
    pub fn stop(&mut self) {
        self.handle.end(End::Stop);
        for thread in self.threads.drain(..) {
            // A worker that panicked has nothing more to say. In a release build it would have ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Counts a worker among those that run. Dropping it closes the worker's inbox, whatever the reason.
struct Running {
    shared: Arc<Shared>,
    inbox: inbox::Inbox,
}

impl Running {
    fn new(shared: Arc<Shared>, inbox: inbox::Inbox) -> Self {
        shared.start_worker();
        Self { shared, inbox }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inbox.close();
        self.shared.end_worker();
    }
}
