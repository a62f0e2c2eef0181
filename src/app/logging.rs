//! Log and access lines, written by a thread of their own.
//!
//! Owns the bounded queue between everybody who has something to say and the one thread that writes. Invariant: a
//! caller never waits, neither for a stalled terminal nor for a full disk. What does not fit into the queue, or cannot
//! be written, is dropped and counted, and the count is told as soon as writing works again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use crate::app::config::{Log as LogSettings, LogFormat};
use crate::app::console::StderrLines;
use crate::app::exit::Failure;

/// Lines that may wait for the log thread. At 200 bytes each this is under a megabyte.
const QUEUE_LINES_MAX: usize = 4096;
/// A longer line is cut; none of ours comes near.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Everything we log has this target.
const OUR_TARGET: &str = "vless_rust";

/// Opens the log and makes it the process's logger.
///
/// # Errors
/// 73 or 77 if the log file cannot be opened; 73 if there is a logger already.
pub fn start(settings: &LogSettings) -> Result<LogHandle, Failure> {
    let handle = match &settings.file {
        Some(path) => OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map(|file| LogHandle::new(file, settings.format, QUEUE_LINES_MAX))
            .map_err(|error| Failure::writing(path, &error)),
        None => StderrLines::open()
            .map(|stderr| LogHandle::new(stderr, settings.format, QUEUE_LINES_MAX))
            .map_err(|error| Failure::writing("/dev/stderr".as_ref(), &error)),
    }?;
    let logger = logger(settings, handle.queue.clone());
    log::set_boxed_logger(logger)
        .map_err(|error| Failure::new(crate::app::exit::CANNOT_CREATE, format!("cannot start logging: {error}")))?;
    log::set_max_level(settings.level);
    Ok(handle)
}

/// The running log. Dropping it stops nothing: lines are written for as long as the process lives.
#[derive(Clone)]
pub struct LogHandle {
    queue: Queue,
}

impl LogHandle {
    fn new(sink: impl Write + Send + 'static, format: LogFormat, lines_max: usize) -> Self {
        let (sender, receiver) = mpsc::sync_channel(lines_max);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { sink, format, dropped: Arc::clone(&dropped), reported: 0, torn: false };
        // Without its thread the log drops everything, and counts it; the service itself can still run.
        let _ = thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&receiver));
        Self { queue: Queue { sender, dropped } }
    }

    /// Waits until every line so far is written, at most `timeout`. Says whether that succeeded.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, written) = mpsc::sync_channel(1);
        let mut entry = Entry::Flush(done);
        loop {
            match self.queue.sender.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    entry = back;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return false,
            }
        }
        written.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
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

/// `time` in UTC as RFC 3339 has it, with milliseconds: `2026-01-31T23:59:59.007Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Counts in years that begin in March, so
/// that the leap day is the last of its year, and in eras of 400 years, which all have the same length.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // One day less per 4 years, one more per 100, one less per 400: the year within the era.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, month lengths repeat as 31 30 31 30 31: 153 days for five months.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (year + era * 400, month, day_of_month)
}

fn logger(settings: &LogSettings, queue: Queue) -> Box<dyn Log> {
    match settings.format {
        LogFormat::Text => {
            let config = ConfigBuilder::new()
                .set_time_format_rfc3339()
                .set_thread_level(LevelFilter::Trace)
                .set_target_level(LevelFilter::Debug)
                .set_location_level(LevelFilter::Off)
                .build();
            let lines = LineWriter { queue, line: Vec::new() };
            Box::new(OursAndWarnings(WriteLogger::new(settings.level, config, lines)))
        }
        LogFormat::Json => Box::new(OursAndWarnings(Box::new(JsonLogger { level: settings.level, queue }))),
    }
}

/// Lets our own records pass, and of other crates only what they warn about: rustls says much at debug.
struct OursAndWarnings<L: Log>(Box<L>);

impl<L: Log> Log for OursAndWarnings<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with(OUR_TARGET);
        (ours || metadata.level() <= log::Level::Warn) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn json_line(level: &str, target: &str, message: &str) -> String {
    let time = rfc3339(SystemTime::now());
    serde_json::json!({ "time": time, "level": level, "target": target, "message": message }).to_string()
}

/// One JSON object per record. simplelog has no such format.
struct JsonLogger {
    level: LevelFilter,
    queue: Queue,
}

impl Log for JsonLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        let level = record.level().as_str().to_lowercase();
        self.queue.push(json_line(&level, record.target(), &record.args().to_string()).into_bytes());
    }

    fn flush(&self) {}
}

/// What waits for the log thread.
enum Entry {
    /// Without its line break.
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// The callers' end of the queue.
#[derive(Clone)]
struct Queue {
    sender: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn push(&self, mut line: Vec<u8>) {
        line.truncate(LINE_BYTES_MAX);
        if self.sender.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Puts the pieces that simplelog writes together to whole lines.
struct LineWriter {
    queue: Queue,
    line: Vec<u8>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
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

/// The log thread.
struct Writer<W> {
    sink: W,
    /// How the thread writes lines of its own.
    format: LogFormat,
    dropped: Arc<AtomicU64>,
    /// How much of `dropped` the log itself has told.
    reported: u64,
    /// The last line may have been written in part.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(entry) = entries.recv() {
            match entry {
                Entry::Line(line) => self.write_counted(line),
                Entry::Flush(done) => {
                    self.report_dropped();
                    let _ = self.sink.flush();
                    let _ = done.try_send(());
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
        match self.format {
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

#[cfg(test)]
mod tests;
