//! What a process has cost so far, from /proc.

use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// USER_HZ, which Linux fixes at 100 for everything it tells user space, on every architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of all threads, living and ended: `utime` + `stime` of /proc/PID/stat.
pub(crate) fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may itself hold blanks and parentheses; utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) as f64 / TICKS_PER_SECOND),
        _ => Err(io::Error::other("unreadable /proc/PID/stat")),
    }
}

/// Waits until the process has stopped working (a Go server collects garbage after the load), at most two seconds, and
/// returns its CPU time.
pub(crate) fn settled_cpu_seconds(pid: u32) -> io::Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut before = cpu_seconds(pid)?;
    loop {
        thread::sleep(Duration::from_millis(150));
        let now = cpu_seconds(pid)?;
        if now - before < 1.5 / TICKS_PER_SECOND || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// Memory of a process in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    /// The part that no file backs: heap and stacks.
    pub(crate) anonymous: f64,
}

/// `Rss` and `Anonymous` of /proc/PID/smaps_rollup.
pub(crate) fn memory(pid: u32) -> io::Result<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let bytes = |name: &str| {
        rollup
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")?.trim().parse::<f64>().ok())
            .map(|kib| kib * 1024.0)
            .ok_or_else(|| io::Error::other("unreadable /proc/PID/smaps_rollup"))
    };
    Ok(Memory { resident: bytes("Rss:")?, anonymous: bytes("Anonymous:")? })
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
