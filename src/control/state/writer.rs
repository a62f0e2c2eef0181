//! The thread that writes the state file. It gets the newest state only: while a slow disk is busy, older ones are
//! replaced, not queued.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Saved;
use super::file::write;

/// How long the end of the process waits for the last state.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the thread. Dropping it has the last state written.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
    writes_total: AtomicU64,
    errors_total: AtomicU64,
    errors_in_a_row: AtomicU64,
}

/// A state, and when it was as it says.
struct Offered {
    saved: Box<Saved>,
    at: Instant,
}

#[derive(Default)]
struct Desk {
    next: Option<Offered>,
    is_busy: bool,
    is_closed: bool,
    last_error: Option<String>,
    /// When the newest state that is in the file was offered.
    written_at: Option<Instant>,
}

impl Writer {
    /// Starts the thread, which writes to `path`.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start(path: PathBuf) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("state".to_owned()).spawn(move || theirs.serve(&path))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Leaves a state to be written. Never blocks for longer than another thread needs to take one.
    pub fn offer(&self, saved: Saved) {
        self.shared.lock().next = Some(Offered { saved: Box::new(saved), at: Instant::now() });
        self.shared.changed.notify_all();
    }

    /// Waits until what was offered is written or has failed, at most `timeout`; false if neither has happened by then.
    pub fn settle(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut desk = self.shared.lock();
        while desk.next.is_some() || desk.is_busy {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            desk = self.shared.changed.wait_timeout(desk, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Nothing waits or is being written.
    pub fn is_settled(&self) -> bool {
        let desk = self.shared.lock();
        desk.next.is_none() && !desk.is_busy
    }

    /// When the state that was written last was offered; `None`: none was written yet.
    pub fn written_at(&self) -> Option<Instant> {
        self.shared.lock().written_at
    }

    pub fn writes_total(&self) -> u64 {
        self.shared.writes_total.load(Ordering::Relaxed)
    }

    pub fn errors_total(&self) -> u64 {
        self.shared.errors_total.load(Ordering::Relaxed)
    }

    pub fn errors_in_a_row(&self) -> u64 {
        self.shared.errors_in_a_row.load(Ordering::Relaxed)
    }

    pub fn last_error(&self) -> Option<String> {
        self.shared.lock().last_error.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        // A disk that hangs must not keep the process.
        if self.settle(LAST_WRITE_TIMEOUT)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, path: &std::path::Path) {
        while let Some(offered) = self.take() {
            let result = write(path, &offered.saved);
            let mut desk = self.lock();
            desk.is_busy = false;
            match result {
                Ok(()) => {
                    self.writes_total.fetch_add(1, Ordering::Relaxed);
                    self.errors_in_a_row.store(0, Ordering::Relaxed);
                    desk.last_error = None;
                    desk.written_at = Some(offered.at);
                }
                Err(error) => {
                    self.errors_total.fetch_add(1, Ordering::Relaxed);
                    self.errors_in_a_row.fetch_add(1, Ordering::Relaxed);
                    desk.last_error = Some(format!("{}: {error}", path.display()));
                }
            }
            drop(desk);
            self.changed.notify_all();
        }
    }

    /// Waits for a state; `None` at the end, once everything is written.
    fn take(&self) -> Option<Offered> {
        let mut desk = self.lock();
        loop {
            if let Some(offered) = desk.next.take() {
                desk.is_busy = true;
                return Some(offered);
            }
            if desk.is_closed {
                return None;
            }
            desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::file::load;

    #[test]
    fn the_newest_state_is_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let writer = Writer::start(path.clone()).unwrap();
        for upload_bytes in 1..=50 {
            writer.offer(Saved { upload_bytes, ..Saved::default() });
        }
        drop(writer);
        assert_eq!(load(&path, 0).saved.upload_bytes, 50);
    }

    #[test]
    fn errors_are_counted_and_end_with_a_success() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/state.json");
        let writer = Writer::start(path.clone()).unwrap();
        for failures in 1..=2 {
            writer.offer(Saved::default());
            assert!(writer.settle(Duration::from_secs(20)));
            assert_eq!((writer.errors_total(), writer.errors_in_a_row()), (failures, failures));
        }
        assert!(writer.last_error().unwrap().contains("state.json"));
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        writer.offer(Saved::default());
        assert!(writer.settle(Duration::from_secs(20)));
        assert_eq!((writer.errors_total(), writer.errors_in_a_row(), writer.writes_total()), (2, 0, 1));
        assert_eq!(writer.last_error(), None);
    }
}
