//! One resolution of history: buckets of equal length, the newest last, a bounded number of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What moved in some interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub up_bytes: u64,
    pub down_bytes: u64,
}

impl Moved {
    pub fn total(self) -> u64 {
        self.up_bytes + self.down_bytes
    }
}

/// What moved in one bucket. In the state file it is a list of these numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 5]", into = "[u64; 5]")]
pub struct Point {
    /// The bucket's number: its start in Unix time is `number` times the ring's step.
    pub number: u32,
    pub up_bytes: u64,
    pub down_bytes: u64,
    /// The highest speeds between two samples.
    pub up_peak_bps: u64,
    pub down_peak_bps: u64,
}

impl From<[u64; 5]> for Point {
    fn from([number, up_bytes, down_bytes, up_peak_bps, down_peak_bps]: [u64; 5]) -> Self {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        Self { number, up_bytes, down_bytes, up_peak_bps, down_peak_bps }
    }
}

impl From<Point> for [u64; 5] {
    fn from(point: Point) -> Self {
        [point.number.into(), point.up_bytes, point.down_bytes, point.up_peak_bps, point.down_peak_bps]
    }
}

/// The shape of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Length of a bucket in seconds.
    pub step_s: u64,
    /// Buckets kept.
    pub points: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Ring {
    points: VecDeque<Point>,
}

impl Ring {
    /// Adds what moved until `now` (Unix seconds) at these speeds.
    ///
    /// A clock that was set back makes buckets of the future: they go, because what will be counted there would double
    /// them.
    pub fn add(&mut self, shape: Resolution, now: u64, moved: Moved, speeds: (u64, u64)) {
        let number = u32::try_from(now / shape.step_s).unwrap_or(u32::MAX);
        while self.points.back().is_some_and(|last| last.number > number) {
            self.points.pop_back();
        }
        let oldest = u64::from(number).saturating_sub(shape.points - 1);
        while self.points.front().is_some_and(|first| u64::from(first.number) < oldest) {
            self.points.pop_front();
        }
        if self.points.back().is_none_or(|last| last.number < number) {
            self.points.push_back(Point { number, ..Point::default() });
        }
        let Some(point) = self.points.back_mut() else { return };
        point.up_bytes += moved.up_bytes;
        point.down_bytes += moved.down_bytes;
        point.up_peak_bps = point.up_peak_bps.max(speeds.0);
        point.down_peak_bps = point.down_peak_bps.max(speeds.1);
    }

    /// The buckets from the one that `from` (Unix seconds) is in up to that of `to`.
    pub fn range(&self, shape: Resolution, from: u64, to: u64) -> impl Iterator<Item = &Point> {
        let (first, last) = (from / shape.step_s, to / shape.step_s);
        self.points.iter().filter(move |point| (first..=last).contains(&u64::from(point.number)))
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub fn clear(&mut self) {
        self.points = VecDeque::new();
    }

    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    /// A ring of what a state file holds. Order and number are made right, whatever the file says.
    pub fn restore(shape: Resolution, mut points: Vec<Point>) -> Self {
        points.sort_by_key(|point| point.number);
        points.dedup_by_key(|point| point.number);
        let surplus = points.len().saturating_sub(shape.points as usize);
        Self { points: points.split_off(surplus).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES: Resolution = Resolution { step_s: 60, points: 3 };

    fn moved(up_bytes: u64) -> Moved {
        Moved { up_bytes, down_bytes: 2 * up_bytes }
    }

    fn numbers(ring: &Ring) -> Vec<(u32, u64)> {
        ring.points().map(|point| (point.number, point.up_bytes)).collect()
    }

    #[test]
    fn bytes_go_into_the_bucket_of_their_time() {
        let mut ring = Ring::default();
        ring.add(MINUTES, 600, moved(1), (5, 1));
        ring.add(MINUTES, 659, moved(2), (4, 9));
        ring.add(MINUTES, 660, moved(4), (0, 0));
        assert_eq!(numbers(&ring), [(10, 3), (11, 4)]);
        let first = ring.points().next().unwrap();
        assert_eq!((first.down_bytes, first.up_peak_bps, first.down_peak_bps), (6, 5, 9));
    }

    #[test]
    fn old_buckets_go_and_gaps_stay_gaps() {
        let mut ring = Ring::default();
        for minute in [10, 11, 13] {
            ring.add(MINUTES, minute * 60, moved(1), (0, 0));
        }
        assert_eq!(numbers(&ring), [(11, 1), (13, 1)]);
        ring.add(MINUTES, 1000 * 60, moved(1), (0, 0));
        assert_eq!(numbers(&ring), [(1000, 1)]);
    }

    #[test]
    fn a_clock_set_back_does_not_double_anything() {
        let mut ring = Ring::default();
        ring.add(MINUTES, 10 * 60, moved(1), (0, 0));
        ring.add(MINUTES, 12 * 60, moved(7), (0, 0));
        ring.add(MINUTES, 11 * 60, moved(1), (0, 0));
        assert_eq!(numbers(&ring), [(10, 1), (11, 1)]);
        ring.add(MINUTES, 12 * 60, moved(1), (0, 0));
        assert_eq!(numbers(&ring), [(10, 1), (11, 1), (12, 1)]);
    }

    #[test]
    fn a_range_is_whole_buckets() {
        let mut ring = Ring::default();
        for minute in 10..13 {
            ring.add(MINUTES, minute * 60, moved(1), (0, 0));
        }
        assert_eq!(ring.range(MINUTES, 11 * 60 + 59, 12 * 60).count(), 2);
    }

    #[test]
    fn what_a_file_says_is_put_in_order() {
        let point = |number| Point { number, ..Point::default() };
        let ring = Ring::restore(MINUTES, [5, 3, 3, 9, 1].map(point).to_vec());
        assert_eq!(ring.points().map(|point| point.number).collect::<Vec<_>>(), [3, 5, 9]);
    }
}
