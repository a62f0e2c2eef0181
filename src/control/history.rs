//! Traffic over time: the last seconds, and minutes to a year, overall and for each user, in bounded memory.
//!
//! `ring.rs` is one resolution, `series.rs` the resolutions of one subject, `book.rs` what is remembered of each user,
//! `csv.rs` a spreadsheet's form, `clock.rs` the time that all of them go by. Everything is counted in bytes that moved
//! between two samples; speeds are those bytes over the time that really passed. Wall-clock time only chooses the bucket,
//! so a jump of the clock leaves a gap.

pub mod book;
pub mod clock;
pub mod csv;
pub mod ring;
pub mod series;

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use self::ring::Moved;

/// The speeds of the last seconds.
#[derive(Debug)]
pub struct Speeds {
    points: VecDeque<SpeedPoint>,
    points_max: usize,
}

/// What moved in one interval between two samples, as bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeedPoint {
    /// Seconds since the start of the process.
    pub uptime_s: u64,
    /// Unix time.
    pub at: u64,
    pub up_bps: u64,
    pub down_bps: u64,
}

/// The highest speeds, and when the sum was highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Peak {
    pub upload_bps: u64,
    pub download_bps: u64,
    pub at: u64,
}

/// Mean speeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Average {
    pub upload_bps: u64,
    pub download_bps: u64,
}

impl Speeds {
    /// Keeps the last `points_max` seconds.
    pub fn new(points_max: usize) -> Self {
        Self { points: VecDeque::new(), points_max: points_max.max(1) }
    }

    pub fn resize(&mut self, points_max: usize) {
        self.points_max = points_max.max(1);
        while self.points.len() > self.points_max {
            self.points.pop_front();
        }
    }

    pub fn push(&mut self, point: SpeedPoint) {
        if self.points.len() >= self.points_max {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    pub fn points(&self) -> impl ExactSizeIterator<Item = &SpeedPoint> {
        self.points.iter()
    }

    pub fn last(&self) -> SpeedPoint {
        self.points.back().copied().unwrap_or_default()
    }

    pub fn peak(&self) -> Peak {
        let highest = self.points.iter().max_by_key(|point| point.up_bps + point.down_bps);
        Peak {
            upload_bps: self.points.iter().map(|point| point.up_bps).max().unwrap_or(0),
            download_bps: self.points.iter().map(|point| point.down_bps).max().unwrap_or(0),
            at: highest.filter(|point| point.up_bps + point.down_bps > 0).map_or(0, |point| point.at),
        }
    }

    pub fn average(&self) -> Average {
        let count = (self.points.len() as u64).max(1);
        Average {
            upload_bps: self.points.iter().map(|point| point.up_bps).sum::<u64>() / count,
            download_bps: self.points.iter().map(|point| point.down_bps).sum::<u64>() / count,
        }
    }
}

/// Bytes per second.
pub fn speed(bytes: u64, passed: Duration) -> u64 {
    let seconds = passed.as_secs_f64();
    if seconds > 0.0 { (bytes as f64 / seconds).round() as u64 } else { 0 }
}

/// The speeds of what moved in `passed`.
pub fn speeds(moved: Moved, passed: Duration) -> (u64, u64) {
    (speed(moved.up_bytes, passed), speed(moved.down_bytes, passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seconds_are_kept() {
        let mut speeds = Speeds::new(3);
        for second in 1..=5 {
            speeds.push(SpeedPoint { uptime_s: second, at: 1000 + second, up_bps: second, down_bps: 10 - second });
        }
        assert_eq!(speeds.points().map(|point| point.uptime_s).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(speeds.peak(), Peak { upload_bps: 5, download_bps: 7, at: 1005 });
        assert_eq!(speeds.average(), Average { upload_bps: 4, download_bps: 6 });
    }

    #[test]
    fn speed_is_over_the_time_that_passed() {
        assert_eq!(speed(3000, Duration::from_millis(1500)), 2000);
        assert_eq!(speed(3000, Duration::ZERO), 0);
    }
}
