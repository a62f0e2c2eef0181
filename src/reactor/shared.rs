//! What the workers have in common, and what lives as long as the process: counts of what is alive now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pulse::Pulse;
use super::rules::Seed;
use super::sources::Sources;
use crate::io::buffer_memory::BufferMemory;
use crate::outbound::global_ids::GlobalIds;
use crate::session::permits::MuxSockets;

#[derive(Debug)]
pub(super) struct Shared {
    sessions: AtomicUsize,
    running: AtomicUsize,
    pub(super) workers: usize,
    pub(super) buffer_memory: Arc<BufferMemory>,
    pub(super) mux_sockets: Arc<MuxSockets>,
    /// UDP sockets that may move from one worker to another.
    pub(super) global_ids: Arc<GlobalIds>,
    /// What each worker is doing.
    pub(super) pulses: Vec<Arc<Pulse>>,
    pub(super) sources: Arc<Sources>,
}

impl Shared {
    pub(super) fn new(seed: &Seed) -> Self {
        let workers = seed.listeners.len();
        Self {
            sessions: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            workers,
            buffer_memory: Arc::new(BufferMemory::new(seed.buffer_memory_max, workers)),
            mux_sockets: Arc::new(MuxSockets::new(seed.mux_sockets_max)),
            global_ids: Arc::default(),
            pulses: (0..workers).map(|_| Arc::default()).collect(),
            sources: Arc::new(Sources::new()),
        }
    }

    /// Sessions alive now.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn open_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn close_session(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Workers that have not ended.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    pub(super) fn start_worker(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_worker(&self) {
        self.running.fetch_sub(1, Ordering::Release);
    }
}
