//! The bounded queue between everybody who has something to say, and the one thread that writes.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::SystemTime;

use super::choice::{Choice, OUR_TARGET, json_line};
use crate::app::clock::rfc3339;
use crate::app::config::LogFormat;

/// A longer line is cut; none of ours comes near.
pub(super) const LINE_BYTES_MAX: usize = 16 << 10;

/// Where lines go.
pub(super) type Sink = Box<dyn Write + Send>;

/// What waits for the log thread.
pub(super) enum Entry {
    /// Without its line break.
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
    /// What comes behind it goes there.
    Sink(Sink),
}

/// The callers' end of the queue.
#[derive(Clone)]
pub(super) struct Queue {
    pub(super) sender: SyncSender<Entry>,
    pub(super) dropped: Arc<AtomicU64>,
}

impl Queue {
    pub(super) fn push(&self, mut line: Vec<u8>) {
        line.truncate(LINE_BYTES_MAX);
        if self.sender.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The log thread.
pub(super) struct Writer {
    sink: Sink,
    /// How the thread writes lines of its own.
    choice: Choice,
    dropped: Arc<AtomicU64>,
    /// How much of `dropped` the log itself has told.
    reported: u64,
    /// The last line may have been written in part.
    torn: bool,
}

impl Writer {
    pub(super) fn new(sink: Sink, choice: Choice, dropped: Arc<AtomicU64>) -> Self {
        Self { sink, choice, dropped, reported: 0, torn: false }
    }

    pub(super) fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(entry) = entries.recv() {
            match entry {
                Entry::Line(line) => self.write_counted(line),
                Entry::Flush(done) => {
                    self.report_dropped();
                    let _ = self.sink.flush();
                    let _ = done.try_send(());
                }
                Entry::Sink(sink) => {
                    let _ = self.sink.flush();
                    self.sink = sink;
                    self.torn = false;
                }
            }
        }
    }

    fn write_counted(&mut self, line: Vec<u8>) {
        self.report_dropped();
        if self.write(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report_dropped(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let new = dropped - self.reported;
        if new > 0 && self.write(self.dropped_notice(new).into_bytes()).is_ok() {
            self.reported = dropped;
        }
    }

    fn dropped_notice(&self, lines: u64) -> String {
        let message = format!("{lines} lines dropped, they could not be written in time");
        match self.choice.format() {
            LogFormat::Text => format!("{} [WARN] {message}", rfc3339(SystemTime::now())),
            LogFormat::Json => json_line("warn", OUR_TARGET, &message),
        }
    }

    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        if self.torn {
            line.insert(0, b'\n');
        }
        let result = self.sink.write_all(&line);
        self.torn = result.is_err();
        result
    }
}
