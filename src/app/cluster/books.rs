//! What this node has counted, and the thread that writes it down.
//!
//! The cluster's thread may wait seconds for an engine that stalls. What is counted meanwhile must not die with the
//! process, so a thread of its own writes it down, and waits for nothing but the disk.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::counting::Counting;
use super::files::JournalFile;
use crate::app::exit::{self, Failure};
use crate::cluster::node::Node;

/// How often what was counted is written down: what the sudden end of the process loses at the most.
const COUNT_INTERVAL: Duration = Duration::from_millis(200);
/// How often what was written down is brought to the disk: what the sudden end of the machine loses at the most.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// What was counted.
pub(super) struct Books {
    pub(super) node: Node<JournalFile>,
    pub(super) counting: Counting,
    /// Why it could not be written down, until somebody tells.
    pub(super) failed: Option<io::Error>,
    synced_at: Instant,
}

/// The books, which both threads use for moments.
#[derive(Clone)]
pub(super) struct SharedBooks(Arc<Mutex<Books>>);

/// The thread.
pub(super) struct Writer {
    /// Dropped to end it.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Books {
    pub(super) fn new(node: Node<JournalFile>) -> Self {
        Self { node, counting: Counting::default(), failed: None, synced_at: Instant::now() }
    }

    /// Writes down what was counted. Where that fails, the same is offered again with the next.
    pub(super) fn count(&mut self) {
        let look = self.counting.look();
        match self.node.count(&look.deltas) {
            Ok(()) => self.counting.done(&look),
            Err(error) => self.failed = Some(error),
        }
    }

    /// The last bytes, on the disk.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.count();
        self.failed.take().map_or(Ok(()), Err)?;
        self.node.sync()
    }

    fn sync_if_due(&mut self) {
        if self.synced_at.elapsed() >= SYNC_INTERVAL {
            self.synced_at = Instant::now();
            if let Err(error) = self.node.sync() {
                self.failed = Some(error);
            }
        }
    }
}

impl SharedBooks {
    pub(super) fn new(books: Books) -> Self {
        Self(Arc::new(Mutex::new(books)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(super) fn start(books: &SharedBooks) -> Result<Self, Failure> {
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let books = books.clone();
        let write = move || {
            while stopped.recv_timeout(COUNT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let mut books = books.lock();
                books.count();
                books.sync_if_due();
            }
        };
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(write);
        let thread =
            thread.map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot start a thread: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}
