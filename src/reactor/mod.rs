//! The worker threads: each owns a poll, its listeners, its sessions and everything they borrow.
//!
//! A worker's turn: poll, read the clock, dispatch events, serve the inbox, serve what sessions wish for, give every
//! session that asked for it another turn, expire timers, accept. Nothing in a turn blocks, and no session may use more
//! than its budget in it. Workers share nothing but counters, counts of sessions and of buffer memory, and the table of
//! UDP sockets that move between them.
//!
//! Sockets are registered once, edge-triggered, for both directions. Whoever stops before a socket was found blocked is
//! queued for another turn here; there is no other way to be forgotten.

pub mod accept;
pub mod inbox;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::inbox::{Inbox, Request};
use self::worker::Worker;
use crate::io::buffer_memory::BufferMemory;
use crate::outbound::dial::DialRules;
use crate::outbound::global_ids::GlobalIds;
use crate::session::close::CloseReason;
use crate::session::permits::MuxSockets;
use crate::session::{SessionRecord, SessionSettings, Target};
use crate::stats::Counters;

/// What workers obey, and what may change while they run: never altered, only replaced as a whole. It holds no count of
/// anything that is alive, so replacing it loses nothing.
#[derive(Clone)]
pub struct Rules {
    pub session: SessionSettings,
    pub dial: Arc<DialRules>,
    /// Sessions at the same time, over all workers.
    pub sessions_max: usize,
    /// Told of every session that ends.
    pub observer: Arc<dyn Observer>,
}

/// What is decided when the workers start, and stays.
pub struct Seed {
    /// One entry per worker.
    pub listeners: Vec<Vec<StdListener>>,
    /// Targets that get spares at the start.
    pub warm_up: Vec<Target>,
    /// Move bytes that need no conversion through kernel pipes.
    pub splice: bool,
    /// Memory for the buffers of all workers together, in bytes; sessions wait where it is used up.
    pub buffer_memory_max: usize,
    /// Sockets of sessions inside Mux connections, over all workers.
    pub mux_sockets_max: usize,
}

/// Hears about sessions; called on the worker's thread, so it must neither block nor take long.
pub trait Observer: Send + Sync {
    fn on_closed(&self, record: SessionRecord);
}

/// The running workers. Dropping it cuts what is left and waits for them to end.
pub struct Reactor {
    inboxes: Vec<Inbox>,
    threads: Vec<JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
    shared: Arc<Shared>,
}

/// What the workers have in common, and what lives as long as the process: counts of what is alive now.
struct Shared {
    sessions: AtomicUsize,
    running: AtomicUsize,
    buffer_memory: Arc<BufferMemory>,
    mux_sockets: Arc<MuxSockets>,
    workers: usize,
    /// UDP sockets that may move from one worker to another.
    global_ids: Arc<GlobalIds>,
    /// All workers' inboxes, by number: read when such a socket moves.
    inboxes: RwLock<Vec<Inbox>>,
}

impl Reactor {
    /// Starts one worker per entry of the seed's listeners.
    ///
    /// # Errors
    /// When the kernel refuses a poll or a thread; workers already started are told to stop.
    pub fn start(seed: Seed, rules: &Arc<Rules>) -> io::Result<Self> {
        let workers = seed.listeners.len();
        let shared = Arc::new(Shared {
            sessions: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            buffer_memory: Arc::new(BufferMemory::new(seed.buffer_memory_max, workers)),
            mux_sockets: Arc::new(MuxSockets::new(seed.mux_sockets_max)),
            workers,
            global_ids: Arc::default(),
            inboxes: RwLock::default(),
        });
        let mut reactor = Self { inboxes: Vec::new(), threads: Vec::new(), counters: Vec::new(), shared };
        for (number, listeners) in seed.listeners.into_iter().enumerate() {
            let parts = worker::Parts {
                number,
                rules: Arc::clone(rules),
                warm_up: seed.warm_up.clone(),
                splice: seed.splice,
                counters: Arc::new(Counters::new(CloseReason::ALL.len())),
                shared: Arc::clone(&reactor.shared),
            };
            reactor.start_worker(parts, listeners)?;
        }
        Ok(reactor)
    }

    fn start_worker(&mut self, parts: worker::Parts, listeners: Vec<StdListener>) -> io::Result<()> {
        let (number, counters) = (parts.number, Arc::clone(&parts.counters));
        let worker = worker::Unstarted::new(parts, listeners)?;
        self.inboxes.push(worker.inbox());
        self.shared.inboxes.write().unwrap_or_else(PoisonError::into_inner).push(worker.inbox());
        self.counters.push(counters);
        self.shared.running.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            Worker::new(worker).run();
            shared.running.fetch_sub(1, Ordering::Release);
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Each worker's counters.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Sessions alive now.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// Every worker has stopped.
    pub fn is_stopped(&self) -> bool {
        self.shared.running.load(Ordering::Acquire) == 0
    }

    /// Stops accepting, once what the kernel has queued was accepted; sessions have `timeout` to end by themselves.
    pub fn drain(&self, timeout: Duration) {
        for inbox in &self.inboxes {
            inbox.insist(Request::Drain(timeout));
        }
    }

    /// Cuts what sessions are left and returns when all workers have ended; the counters stay.
    pub fn stop(&mut self) {
        for inbox in &self.inboxes {
            inbox.insist(Request::Stop);
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has nothing more to say; in a release build it would have ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the listeners really listen, for one worker's list: what port 0 became.
pub fn local_addresses(listeners: &[StdListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(StdListener::local_addr).collect()
}
