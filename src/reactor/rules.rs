//! What workers obey, and what they start with.

use std::net::TcpListener as StdListener;
use std::sync::Arc;

use super::sources::SourceLimits;
use crate::outbound::dial::DialRules;
use crate::session::{SessionRecord, SessionSettings, Target};

/// What workers obey, and what may change while they run. It is never altered, only replaced as a whole. It holds no
/// count of anything that is alive, so replacing it loses nothing.
#[derive(Clone)]
pub struct Rules {
    pub session: SessionSettings,
    pub dial: Arc<DialRules>,
    /// Sessions at the same time, over all workers.
    pub sessions_max: usize,
    /// What every source may have.
    pub sources: SourceLimits,
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
    /// Memory for the buffers of all workers together, in bytes. Sessions wait where it is used up.
    pub buffer_memory_max: usize,
    /// Sockets of sessions inside Mux connections, over all workers.
    pub mux_sockets_max: usize,
}

/// Hears about sessions. It is called on the worker's thread, so it must neither block nor take long.
pub trait Observer: Send + Sync {
    fn on_closed(&self, record: SessionRecord);
}
