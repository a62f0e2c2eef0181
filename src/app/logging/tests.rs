use super::*;

use std::fs;
use std::io::{self, Write};
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex};

use log::{LevelFilter, Log, Record};

use super::loggers::LineWriter;
use super::queue::LINE_BYTES_MAX;
use crate::app::config::LogFormat;

const PATIENCE: Duration = Duration::from_secs(10);

/// A sink whose writes can be held up or made to fail.
#[derive(Clone, Default)]
struct Valve {
    state: Arc<(Mutex<ValveState>, Condvar)>,
}

#[derive(Default)]
struct ValveState {
    closed: bool,
    failing: bool,
    blocked: bool,
    written: Vec<u8>,
}

impl Valve {
    fn set(&self, change: impl FnOnce(&mut ValveState)) {
        change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
    }

    fn wait_until(&self, condition: impl Fn(&ValveState) -> bool) {
        let state = self.state.0.lock().unwrap();
        let timeout = self.state.1.wait_timeout_while(state, PATIENCE, |state| !condition(state)).unwrap().1;
        assert!(!timeout.timed_out(), "the condition did not come true in time");
    }

    fn text(&self) -> String {
        String::from_utf8(self.state.0.lock().unwrap().written.clone()).unwrap()
    }
}

impl Write for Valve {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (lock, changed) = &*self.state;
        let mut state = lock.lock().unwrap();
        state.blocked = true;
        changed.notify_all();
        state = changed.wait_while(state, |state| state.closed).unwrap();
        state.blocked = false;
        if state.failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn handle(valve: &Valve, format: LogFormat, lines_max: usize) -> LogHandle {
    LogHandle::new(Box::new(valve.clone()), Choice::new(LevelFilter::Info, format), lines_max)
}

fn settings(level: LevelFilter, format: LogFormat) -> LogSettings {
    LogSettings { level, file: None, format, access: false }
}

fn record(logger: &dyn Log, level: log::Level, target: &str, message: &str) {
    logger.log(&Record::builder().level(level).target(target).args(format_args!("{message}")).build());
}

#[test]
fn lines_are_written_in_order_and_flush_waits_for_them() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    for number in 0..10 {
        handle.access_log().line(format!("line {number}"));
    }
    assert!(handle.flush(PATIENCE));
    assert_eq!(valve.text().lines().collect::<Vec<_>>(), (0..10).map(|n| format!("line {n}")).collect::<Vec<_>>());
    assert_eq!(handle.dropped_lines(), 0);
}

#[test]
fn the_times_of_all_lines_have_milliseconds() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    let logger = Logger::new(handle.choice.clone(), handle.queue.clone());
    record(&logger, log::Level::Info, "vless_rust::app", "a line");
    record(&logger, log::Level::Warn, "vless_rust::app", "another\nand its second line");
    assert!(handle.flush(PATIENCE));
    let text = valve.text();
    assert_eq!(text.lines().count(), 3);
    assert!(text.lines().last().unwrap().contains("[WARN]"), "{text}");
    for line in text.lines() {
        let time = line.split(' ').next().unwrap();
        let shape: String = time.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{line}");
    }
}

#[test]
fn a_stalled_sink_blocks_no_caller_and_the_loss_is_told_afterwards() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 4);
    valve.set(|state| state.closed = true);
    handle.access_log().line("first".to_owned());
    valve.wait_until(|state| state.blocked);
    for _ in 0..10 {
        handle.access_log().line("more".to_owned());
    }
    assert_eq!(handle.dropped_lines(), 6, "four fit into the queue");
    assert!(!handle.flush(Duration::from_millis(5)));
    valve.set(|state| state.closed = false);
    assert!(handle.flush(PATIENCE));
    let text = valve.text();
    assert!(text.contains("[WARN] 6 lines dropped"), "{text}");
    assert_eq!(text.matches("more").count(), 4);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    valve.set(|state| state.failing = true);
    handle.access_log().line("lost".to_owned());
    assert!(handle.flush(PATIENCE));
    assert_eq!(handle.dropped_lines(), 1);
    valve.set(|state| state.failing = false);
    handle.access_log().line("kept".to_owned());
    assert!(handle.flush(PATIENCE));
    assert!(valve.text().contains("[WARN] 1 lines dropped"));
    assert!(valve.text().ends_with("\nkept\n"));
}

#[test]
fn text_records_are_whole_lines_with_time_and_level() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    let logger = Logger::new(Choice::new(LevelFilter::Info, LogFormat::Text), handle.queue.clone());
    record(&logger, log::Level::Info, "vless_rust::reactor", "listening");
    record(&logger, log::Level::Debug, "vless_rust::reactor", "below the level");
    assert!(handle.flush(PATIENCE));
    let text = valve.text();
    assert_eq!(text.lines().count(), 1);
    assert!(text.starts_with("20") && text.contains('T') && text.contains("Z [INFO]"), "{text}");
    assert!(text.ends_with("listening\n"));
}

#[test]
fn other_crates_are_heard_from_warn_on() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    let logger = Logger::new(Choice::new(LevelFilter::Trace, LogFormat::Text), handle.queue.clone());
    record(&logger, log::Level::Debug, "rustls::server", "noise");
    record(&logger, log::Level::Warn, "rustls::server", "warning");
    record(&logger, log::Level::Debug, "vless_rust", "ours");
    assert!(handle.flush(PATIENCE));
    let text = valve.text();
    assert!(text.contains("warning") && text.contains("ours") && !text.contains("noise"), "{text}");
}

#[test]
fn json_records_are_one_object_per_line() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    let logger = Logger::new(Choice::new(LevelFilter::Info, LogFormat::Json), handle.queue.clone());
    record(&logger, log::Level::Warn, "vless_rust", "two\nlines \"quoted\"");
    assert!(handle.flush(PATIENCE));
    let value: serde_json::Value = serde_json::from_str(valve.text().trim_end()).unwrap();
    assert_eq!(value["level"], "warn");
    assert_eq!(value["message"], "two\nlines \"quoted\"");
}

#[test]
fn the_loss_is_told_in_json_where_the_log_is_json() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Json, 16);
    handle.queue.dropped.store(3, Ordering::Relaxed);
    assert!(handle.flush(PATIENCE));
    let value: serde_json::Value = serde_json::from_str(valve.text().trim_end()).unwrap();
    assert!(value["message"].as_str().unwrap().starts_with("3 lines dropped"));
}

#[test]
fn nobody_can_forge_an_access_line() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    handle.access_log().line("a\nb\rc".to_owned());
    assert!(handle.flush(PATIENCE));
    assert_eq!(valve.text(), "a b c\n");
}

#[test]
fn an_endless_line_is_cut() {
    let (sender, receiver) = mpsc::sync_channel(4);
    let queue = Queue { sender, dropped: Arc::default() };
    let mut writer = LineWriter { queue, line: Vec::new(), begin: String::new };
    writer.write_all(&vec![b'x'; 3 * LINE_BYTES_MAX]).unwrap();
    writer.write_all(b"y\nz\n").unwrap();
    let mut lengths = Vec::new();
    while let Ok(Entry::Line(line)) = receiver.try_recv() {
        lengths.push(line.len());
    }
    assert_eq!(lengths, [LINE_BYTES_MAX, 1]);
}

#[test]
fn a_log_without_a_thread_counts_what_it_loses() {
    let (sender, receiver): (SyncSender<Entry>, _) = mpsc::sync_channel(4);
    drop(receiver);
    let choice = Choice::new(LevelFilter::Info, LogFormat::Text);
    let handle = LogHandle { queue: Queue { sender, dropped: Arc::default() }, choice };
    handle.access_log().line("x".to_owned());
    assert_eq!(handle.dropped_lines(), 1);
    assert!(!handle.flush(PATIENCE));
}

#[test]
fn a_log_file_that_cannot_be_opened_is_a_start_up_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = Some(folder.path().join("no/such/folder.log"));
    let failure = start(&LogSettings { file, ..settings(LevelFilter::Info, LogFormat::Text) }).err().unwrap();
    assert_eq!(failure.code, exit::CANNOT_CREATE);
    assert!(failure.message.contains("folder.log"));
}

#[test]
fn a_renamed_file_is_left_behind_and_a_new_one_gets_the_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.log");
    let to_file = LogSettings { file: Some(file.clone()), ..settings(LevelFilter::Info, LogFormat::Text) };
    let handle = LogHandle::new(open(&to_file).unwrap(), Choice::new(LevelFilter::Info, LogFormat::Text), 16);
    handle.access_log().line("before".to_owned());
    assert!(handle.flush(PATIENCE));
    fs::rename(&file, folder.path().join("a.log.1")).unwrap();
    handle.access_log().line("still the old one".to_owned());
    handle.change(&to_file).unwrap();
    handle.access_log().line("after".to_owned());
    assert!(handle.flush(PATIENCE));
    assert_eq!(fs::read_to_string(folder.path().join("a.log.1")).unwrap(), "before\nstill the old one\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "after\n");
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let valve = Valve::default();
    let handle = handle(&valve, LogFormat::Text, 16);
    let missing = Some("/no/such/folder/a.log".into());
    assert!(handle.change(&LogSettings { file: missing, ..settings(LevelFilter::Off, LogFormat::Json) }).is_err());
    assert_eq!(handle.choice.format(), LogFormat::Text);
    handle.access_log().line("goes on".to_owned());
    assert!(handle.flush(PATIENCE));
    assert_eq!(valve.text(), "goes on\n");
}
