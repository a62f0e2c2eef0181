//! From a log record to a line: as text for people, or as JSON for programs.
//!
//! [`Logger`] decides what a record looks like, and which records become lines.

use std::io::{self, Write};
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use super::choice::{Choice, OUR_TARGET, json_line};
use super::queue::{LINE_BYTES_MAX, Queue};
use crate::app::clock::rfc3339;
use crate::app::config::LogFormat;

/// The process's logger. It lets our own records pass, and of other crates only what they warn about: rustls says much
/// at debug.
pub(super) struct Logger {
    choice: Choice,
    text: Box<WriteLogger<LineWriter>>,
    queue: Queue,
}

impl Logger {
    pub(super) fn new(choice: Choice, queue: Queue) -> Self {
        let config = ConfigBuilder::new()
            .set_time_level(LevelFilter::Off)
            .set_thread_level(LevelFilter::Trace)
            .set_target_level(LevelFilter::Debug)
            .set_location_level(LevelFilter::Off)
            .build();
        let lines = LineWriter { queue: queue.clone(), line: Vec::new(), begin: time_of_line };
        Self { choice, text: WriteLogger::new(LevelFilter::Trace, config, lines), queue }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with(OUR_TARGET);
        (ours || metadata.level() <= log::Level::Warn) && self.choice.shows(metadata.level())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match self.choice.format() {
            LogFormat::Text => {
                // Each of several lines is whole, with its time and level.
                let metadata = record.metadata();
                for line in record.args().to_string().lines() {
                    let builder = &mut Record::builder();
                    self.text.log(&builder.metadata(metadata.clone()).args(format_args!("{line}")).build());
                }
            }
            LogFormat::Json => {
                let level = record.level().as_str().to_lowercase();
                self.queue.push(json_line(&level, record.target(), &record.args().to_string()).into_bytes());
            }
        }
    }

    fn flush(&self) {
        self.text.flush();
    }
}

/// simplelog's own times have as many digits as the clock gives; all our lines have milliseconds.
fn time_of_line() -> String {
    rfc3339(SystemTime::now()) + " "
}

/// Puts the pieces that simplelog writes together to whole lines.
pub(super) struct LineWriter {
    pub(super) queue: Queue,
    pub(super) line: Vec<u8>,
    /// What a line begins with, made when it begins.
    pub(super) begin: fn() -> String,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            if self.line.is_empty() {
                self.line.extend_from_slice((self.begin)().as_bytes());
            }
            self.line.extend_from_slice(&text[..text.len().min(LINE_BYTES_MAX.saturating_sub(self.line.len()))]);
            if piece.ends_with(b"\n") {
                self.queue.push(std::mem::take(&mut self.line));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
