//! What the tables are made of: percentiles, CPU time of threads, and rows.

use std::time::Duration;
use std::{fs, io};

/// The value below which this share of the sorted values lies; 0 where there is none.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

/// The same values in order.
pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

pub(crate) fn median(values: Vec<f64>) -> f64 {
    percentile(&sorted(values), 0.5)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A line of a table.
pub(crate) fn row(cells: impl IntoIterator<Item = String>) {
    println!("| {} |", cells.into_iter().collect::<Vec<_>>().join(" | "));
}

/// The first two lines of a table.
pub(crate) fn head(cells: &[&str]) {
    row(cells.iter().map(|cell| (*cell).to_owned()));
    println!("|{}", "---|".repeat(cells.len()));
}

/// An id that no other number has.
pub(crate) fn id(number: u64) -> [u8; 16] {
    let mut id = *b"\xc0\x17\x20\x1e\0\0\x40\0\x80\0\0\0\0\0\0\0";
    id[8..].copy_from_slice(&(number | 1 << 63).to_be_bytes());
    id
}

/// CPU time of the threads whose names begin so, in seconds: the first field of /proc/PID/task/*/schedstat, which
/// counts nanoseconds where `stat` counts hundredths.
pub(crate) fn thread_cpu_seconds(pid: u32, name: &str) -> io::Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        // A thread may have ended since the folder was read.
        let Ok(known) = fs::read_to_string(task.join("comm")) else { continue };
        if known.starts_with(name) {
            let stat = fs::read_to_string(task.join("schedstat"))?;
            let field = stat.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
            nanoseconds += field.ok_or_else(|| io::Error::other("unreadable schedstat"))?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}
