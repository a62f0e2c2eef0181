//! What this process uses of the machine, as `/proc/self` says.
//!
//! The files are opened once: when descriptors have run out, their figures are wanted most.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

/// What Linux shows to programs on every architecture we are built for (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Resident memory.
    pub memory_bytes: u64,
    pub virtual_bytes: u64,
    /// Of the machine.
    pub total_memory_bytes: u64,
    pub threads: u64,
    pub descriptors: u64,
    pub descriptors_max: u64,
    /// Processor time since the start.
    pub cpu: Duration,
    /// Of one core, over the last interval.
    pub cpu_percent: f64,
}

pub struct ProcessReader {
    status: Option<File>,
    stat: Option<File>,
    total_memory_bytes: u64,
    before: Option<(Instant, Duration)>,
}

impl ProcessReader {
    /// Opens the files.
    #[expect(clippy::new_without_default, reason = "it opens files")]
    pub fn new() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            status: File::open("/proc/self/status").ok(),
            stat: File::open("/proc/self/stat").ok(),
            total_memory_bytes: kilobytes(&meminfo, "MemTotal:"),
            before: None,
        }
    }

    /// The present figures. What cannot be read is 0.
    pub fn read(&mut self, now: Instant) -> ProcessFigures {
        let status = text(self.status.as_ref());
        let cpu = text(self.stat.as_ref()).and_then(|text| processor_time(&text)).unwrap_or_default();
        let status = status.unwrap_or_default();
        let percent = |(at, former): (Instant, Duration)| {
            let passed = now.saturating_duration_since(at).as_secs_f64();
            let used = cpu.saturating_sub(former).as_secs_f64();
            if passed > 0.0 { (used / passed * 1000.0).round() / 10.0 } else { 0.0 }
        };
        let cpu_percent = self.before.map_or(0.0, percent);
        self.before = Some((now, cpu));
        ProcessFigures {
            memory_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            total_memory_bytes: self.total_memory_bytes,
            threads: number(&status, "Threads:"),
            descriptors: open_descriptors(),
            descriptors_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            cpu,
            cpu_percent,
        }
    }
}

/// Newer kernels (6.2) say the number as the folder's size; older ones have to be asked for the list, which takes a
/// descriptor and time.
fn open_descriptors() -> u64 {
    let size = fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    if size > 0 { size } else { fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64) }
}

/// The whole of a small file in `/proc`, read anew.
fn text(file: Option<&File>) -> Option<String> {
    let mut buffer = [0; 4096];
    let length = file?.read_at(&mut buffer, 0).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn kilobytes(text: &str, name: &str) -> u64 {
    number(text, name) << 10
}

/// User and system time in `/proc/self/stat`, fields 14 and 15. The name before them may hold blanks and parentheses.
fn processor_time(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_this_process_make_sense() {
        let mut reader = ProcessReader::new();
        let figures = reader.read(Instant::now());
        assert!(figures.memory_bytes > 1 << 20 && figures.memory_bytes < figures.total_memory_bytes, "{figures:?}");
        assert!(figures.threads >= 1 && figures.descriptors >= 3, "{figures:?}");
        assert!(figures.descriptors <= figures.descriptors_max, "{figures:?}");
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 0";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(processor_time("12 (x"), None);
    }
}
