//! Log and access lines, written by a thread of their own.
//!
//! Owns the bounded queue between everybody who has something to say and the one thread that writes. Invariant: a
//! caller never waits, neither for a stalled terminal nor for a full disk. What does not fit into the queue, or cannot
//! be written, is dropped and counted, and the count is told as soon as writing works again. `loggers.rs` makes lines
//! of records, `queue.rs` has the queue and the thread.

mod choice;
mod loggers;
mod queue;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use self::choice::Choice;
use self::loggers::Logger;
use self::queue::{Entry, Queue, Sink, Writer};
use crate::app::config::Log as LogSettings;
use crate::app::console::StderrLines;
use crate::app::exit::{self, Failure};

/// Lines that may wait for the log thread. At 200 bytes each this is under a megabyte.
const QUEUE_LINES_MAX: usize = 4096;
/// How long a change of the log waits for a sink that has stalled.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens the log and makes it the process's logger.
///
/// # Errors
/// 73 or 77 if the log file cannot be opened; 73 if there is a logger already.
pub fn start(settings: &LogSettings) -> Result<LogHandle, Failure> {
    let choice = Choice::new(settings.level, settings.format);
    let handle = LogHandle::new(open(settings)?, choice, QUEUE_LINES_MAX);
    let logger = Logger::new(handle.choice.clone(), handle.queue.clone());
    log::set_boxed_logger(Box::new(logger))
        .map_err(|error| Failure::new(exit::CANNOT_CREATE, format!("cannot start logging: {error}")))?;
    log::set_max_level(settings.level);
    Ok(handle)
}

fn open(settings: &LogSettings) -> Result<Sink, Failure> {
    match &settings.file {
        Some(path) => match OpenOptions::new().create(true).append(true).mode(0o600).open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(Failure::writing(path, &error)),
        },
        None => match StderrLines::open() {
            Ok(stderr) => Ok(Box::new(stderr)),
            Err(error) => Err(Failure::writing("/dev/stderr".as_ref(), &error)),
        },
    }
}

/// The running log. Dropping it stops nothing: lines are written for as long as the process lives.
#[derive(Clone)]
pub struct LogHandle {
    queue: Queue,
    choice: Choice,
}

impl LogHandle {
    fn new(sink: Sink, choice: Choice, lines_max: usize) -> Self {
        let (sender, receiver) = mpsc::sync_channel(lines_max);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(sink, choice.clone(), Arc::clone(&dropped));
        // Without its thread the log drops everything, and counts it; the service itself can still run.
        let _ = thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&receiver));
        Self { queue: Queue { sender, dropped }, choice }
    }

    /// Goes on with these settings, in a file that is opened anew: the old one may have been renamed. Lines so far go
    /// where they would have gone.
    ///
    /// # Errors
    /// 73 or 77 if the file cannot be opened, 73 if the log has stalled; then nothing has changed.
    pub fn change(&self, settings: &LogSettings) -> Result<(), Failure> {
        let sink = open(settings)?;
        if !self.leave(Entry::Sink(sink), Instant::now() + CHANGE_TIMEOUT) {
            return Err(Failure::new(exit::CANNOT_CREATE, "the log has stalled: its lines are not being written"));
        }
        self.choice.set(settings);
        log::set_max_level(settings.level);
        Ok(())
    }

    /// Waits until every line so far is written, at most `timeout`. Says whether that succeeded.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, written) = mpsc::sync_channel(1);
        self.leave(Entry::Flush(done), deadline)
            && written.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    /// Puts an entry that must not be dropped behind what waits; false if there was no room until `deadline`.
    fn leave(&self, mut entry: Entry, deadline: Instant) -> bool {
        loop {
            match self.queue.sender.try_send(entry) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    entry = back;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return false,
            }
        }
    }

    /// Lines that found the queue full or could not be written, since the start.
    pub fn dropped_lines(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// A way to write access lines through the same queue.
    pub fn access_log(&self) -> AccessLog {
        AccessLog { queue: self.queue.clone() }
    }
}

/// Where sessions leave their line. Cheap to clone, one per worker.
#[derive(Clone)]
pub struct AccessLog {
    queue: Queue,
}

impl AccessLog {
    /// Writes `line` as it is, with a line break added. Never blocks; a line that finds the queue full is counted.
    /// Line breaks inside become spaces, so that nobody can forge a second line.
    pub fn line(&self, line: String) {
        let one_line = if line.contains(['\n', '\r']) { line.replace(['\n', '\r'], " ") } else { line };
        self.queue.push(one_line.into_bytes());
    }
}

#[cfg(test)]
mod tests;
