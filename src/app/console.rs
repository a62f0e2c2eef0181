//! What the program itself says on stdout and stderr, beside the log.
//!
//! Owns three promises that std's macros do not make: a terminal that is gone or a full disk never ends the program,
//! while it serves nobody waits for a reader that has stalled, and no line is torn by another thread's.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Held while one of them writes.
static STDERR_TURN: Mutex<()> = Mutex::new(());

/// Says `text`, and a line break, to the operator; as well as it goes.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Puts out a result for scripts, as it is. A reader that went away wants no more of it.
///
/// # Errors
/// It could not be written, for any other reason. (std has replaced a standard output that was closed at the start by
/// `/dev/null`, which takes everything.)
pub fn result(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Standard error for the threads that write whole lines to it: what one of them gives to `write_all` is not
/// interrupted by what another does, however slowly it goes.
///
/// It is a descriptor of our own, because the lock that std keeps around its own must not be held by a stalled write.
pub struct StderrLines(File);

impl StderrLines {
    /// # Errors
    /// Standard error is closed, or no descriptor is left.
    pub fn open() -> io::Result<Self> {
        io::stderr().as_fd().try_clone_to_owned().map(|descriptor| Self(descriptor.into()))
    }
}

impl Write for StderrLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _turn = STDERR_TURN.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Lines to stderr from a thread of its own, one at a time.
pub struct Reporter {
    sender: SyncSender<Line>,
}

struct Line {
    text: String,
    /// Told when the line is written.
    done: Option<SyncSender<()>>,
}

impl Reporter {
    /// A reporter to stderr. Should there be no thread for it, it drops every line.
    ///
    /// # Errors
    /// As [`StderrLines::open`].
    pub fn start() -> io::Result<Self> {
        StderrLines::open().map(Self::new)
    }

    fn new(sink: impl Write + Send + 'static) -> Self {
        let (sender, lines) = mpsc::sync_channel(1);
        let _ = thread::Builder::new().name("report".to_owned()).spawn(move || write_all(sink, &lines));
        Self { sender }
    }

    /// Leaves `text` to be written; false, and it is dropped, while the ones before it still wait.
    pub fn offer(&self, text: String) -> bool {
        self.sender.try_send(Line { text, done: None }).is_ok()
    }

    /// Writes `text` behind what waits; false if that took longer than `timeout`.
    pub fn write(&self, text: String, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, written) = mpsc::sync_channel(1);
        let mut line = Line { text, done: Some(done) };
        loop {
            match self.sender.try_send(line) {
                Ok(()) => return written.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok(),
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    line = back;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return false,
            }
        }
    }
}

fn write_all(mut sink: impl Write, lines: &Receiver<Line>) {
    while let Ok(line) = lines.recv() {
        let mut bytes = line.text.into_bytes();
        bytes.push(b'\n');
        let _ = sink.write_all(&bytes);
        if let Some(done) = line.done {
            let _ = done.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes on what it is given, one piece per piece taken on the other side.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_for_a_stalled_reader_are_dropped_and_not_collected() {
        let (slow, taken) = mpsc::sync_channel(0);
        let reporter = Reporter::new(Slow(slow));
        let accepted = (0..1000).filter(|_| reporter.offer("line".to_owned())).count();
        assert!((1..=2).contains(&accepted), "{accepted} lines wait");
        assert!(!reporter.write("last".to_owned(), Duration::from_millis(20)));
        drop(taken);
    }

    #[test]
    fn the_last_line_is_waited_for_and_comes_behind_the_others() {
        let (sender, taken) = mpsc::sync_channel(100);
        let reporter = Reporter::new(Slow(sender));
        assert!(reporter.offer("first".to_owned()));
        assert!(reporter.write("last".to_owned(), Duration::from_secs(10)));
        assert_eq!(taken.try_iter().collect::<Vec<_>>(), [&b"first\n"[..], b"last\n"], "each line is one write");
    }

    #[test]
    fn a_sink_that_fails_takes_nothing_down() {
        let (sender, taken) = mpsc::sync_channel(0);
        drop(taken);
        let reporter = Reporter::new(Slow(sender));
        assert!(reporter.write("one".to_owned(), Duration::from_secs(10)));
        assert!(reporter.write("two".to_owned(), Duration::from_secs(10)));
    }
}
