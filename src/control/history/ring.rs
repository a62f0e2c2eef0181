//! One resolution of history: buckets of equal length, a bounded number of them.
//!
//! Buckets are kept in the order in which they were last written, and the one that was written longest ago goes first.
//! The clock does not decide what goes: one that was wrong for a while, however far, costs as many buckets as it made.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::clock::Moment;

/// What moved in some interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moved {
    pub up_bytes: u64,
    pub down_bytes: u64,
}

impl Moved {
    pub fn total(self) -> u64 {
        self.up_bytes + self.down_bytes
    }
}

/// A bucket: what moved in it, and how fast. In the state file it is a list of its five numbers.
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
    /// In the order of writing; the last is the one that is written.
    points: VecDeque<Point>,
    /// The clock's era when the last bucket was written; `None`: a former process wrote it.
    era: Option<u32>,
}

impl Ring {
    /// Adds what moved until `now` at these speeds.
    pub fn add(&mut self, shape: Resolution, now: Moment, moved: Moved, speeds: (u64, u64)) {
        let number = u32::try_from(now.at / shape.step_s).unwrap_or(u32::MAX);
        if self.points.back().is_none_or(|last| last.number != number) {
            self.begin(shape, number, now.era);
        }
        self.era = Some(now.era);
        let Some(point) = self.points.back_mut() else { return };
        point.up_bytes += moved.up_bytes;
        point.down_bytes += moved.down_bytes;
        point.up_peak_bps = point.up_peak_bps.max(speeds.0);
        point.down_peak_bps = point.down_peak_bps.max(speeds.1);
    }

    /// Makes the bucket with this number the last.
    fn begin(&mut self, shape: Resolution, number: u32, era: u32) {
        let known = self.points.iter().rposition(|point| point.number == number);
        let known = known.and_then(|at| self.points.remove(at));
        // A bucket that is there already when time simply passes on to it was written by a clock that was ahead: with
        // what it has it would count two times. After a jump, and after a restart, it is where we left it.
        let has_passed = self.era == Some(era);
        if self.points.len() as u64 >= shape.points {
            self.points.pop_front();
        }
        self.points.push_back(known.filter(|_| !has_passed).unwrap_or(Point { number, ..Point::default() }));
    }

    /// Forgets buckets that are too old to be shown at `now` (Unix seconds).
    pub fn forget_old(&mut self, shape: Resolution, now: u64) {
        let oldest = (now / shape.step_s).saturating_sub(shape.points - 1);
        self.points.retain(|point| u64::from(point.number) >= oldest);
    }

    /// The buckets from the one that `from` (Unix seconds) is in up to that of `to`, the earliest first.
    pub fn range(&self, shape: Resolution, from: u64, to: u64) -> Vec<&Point> {
        let (first, last) = (from / shape.step_s, to / shape.step_s);
        let is_wanted = |point: &&Point| (first..=last).contains(&u64::from(point.number));
        let mut points: Vec<_> = self.points.iter().filter(is_wanted).collect();
        points.sort_by_key(|point| point.number);
        points
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

    /// In the order of writing.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    /// A ring of what a state file holds, in the order of writing. There are not too many buckets, and none twice,
    /// whatever the file says.
    pub fn restore(shape: Resolution, mut points: Vec<Point>) -> Self {
        let mut seen = HashSet::new();
        points.retain(|point| seen.insert(point.number));
        let surplus = points.len().saturating_sub(shape.points as usize);
        Self { points: points.split_off(surplus).into(), era: None }
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

    fn at(minute: u64) -> Moment {
        Moment::first(minute * 60)
    }

    /// After so many jumps of the clock.
    fn in_era(era: u32, minute: u64) -> Moment {
        Moment { era, ..at(minute) }
    }

    #[test]
    fn bytes_go_into_the_bucket_of_their_time() {
        let mut ring = Ring::default();
        ring.add(MINUTES, Moment::first(600), moved(1), (5, 1));
        ring.add(MINUTES, Moment::first(659), moved(2), (4, 9));
        ring.add(MINUTES, Moment::first(660), moved(4), (0, 0));
        assert_eq!(numbers(&ring), [(10, 3), (11, 4)]);
        let first = ring.points().next().unwrap();
        assert_eq!((first.down_bytes, first.up_peak_bps, first.down_peak_bps), (6, 5, 9));
    }

    #[test]
    fn a_bounded_number_is_kept_and_gaps_stay_gaps() {
        let mut ring = Ring::default();
        for minute in [10, 11, 13, 14] {
            ring.add(MINUTES, at(minute), moved(1), (0, 0));
        }
        assert_eq!(numbers(&ring), [(11, 1), (13, 1), (14, 1)]);
        assert_eq!(ring.range(MINUTES, 12 * 60, 14 * 60).len(), 2);
        ring.add(MINUTES, at(1000), moved(1), (0, 0));
        assert_eq!(ring.range(MINUTES, 998 * 60, 1000 * 60), [&Point { number: 1000, ..point(1) }]);
        ring.forget_old(MINUTES, 1000 * 60);
        assert_eq!(numbers(&ring), [(1000, 1)]);
    }

    fn point(up_bytes: u64) -> Point {
        Point { number: 0, up_bytes, down_bytes: 2 * up_bytes, ..Point::default() }
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_bucket_costs_one() {
        for wrong in [1_000_000, 0] {
            let mut ring = Ring::default();
            for minute in [10, 11, 12] {
                ring.add(MINUTES, at(minute), moved(1), (0, 0));
            }
            ring.add(MINUTES, in_era(1, wrong), moved(1), (0, 0));
            ring.add(MINUTES, in_era(2, 12), moved(4), (0, 0));
            assert_eq!(numbers(&ring), [(11, 1), (wrong as u32, 1), (12, 5)]);
            ring.add(MINUTES, in_era(2, 13), moved(1), (0, 0));
            ring.add(MINUTES, in_era(2, 14), moved(1), (0, 0));
            assert_eq!(numbers(&ring), [(12, 5), (13, 1), (14, 1)]);
        }
    }

    #[test]
    fn buckets_of_a_clock_that_was_ahead_for_long_do_not_keep_new_ones_out() {
        let mut ring = Ring::default();
        for minute in 5000..5010 {
            ring.add(MINUTES, at(minute), moved(1), (0, 0));
        }
        let mut ring = Ring::restore(MINUTES, ring.points().copied().collect());
        for minute in 10..13 {
            ring.add(MINUTES, in_era(1, minute), moved(1), (0, 0));
        }
        assert_eq!(numbers(&ring), [(10, 1), (11, 1), (12, 1)]);
    }

    #[test]
    fn a_clock_set_back_does_not_double_anything() {
        let mut ring = Ring::default();
        ring.add(MINUTES, at(10), moved(1), (0, 0));
        ring.add(MINUTES, at(12), moved(7), (0, 0));
        ring.add(MINUTES, in_era(1, 11), moved(1), (0, 0));
        assert_eq!(ring.range(MINUTES, 0, 11 * 60).len(), 2);
        ring.add(MINUTES, in_era(1, 12), moved(1), (0, 0));
        assert_eq!(numbers(&ring), [(10, 1), (11, 1), (12, 1)]);
    }

    #[test]
    fn a_bucket_goes_on_after_a_restart() {
        let mut ring = Ring::default();
        ring.add(MINUTES, at(10), moved(1), (0, 0));
        ring.add(MINUTES, at(11), moved(2), (0, 0));
        for (minute, expected) in [(11, [(10, 1), (11, 6)]), (10, [(11, 2), (10, 5)])] {
            let mut ring = Ring::restore(MINUTES, ring.points().copied().collect());
            ring.add(MINUTES, at(minute), moved(4), (0, 0));
            assert_eq!(numbers(&ring), expected);
        }
    }

    #[test]
    fn a_range_is_whole_buckets_in_the_order_of_time() {
        let mut ring = Ring::default();
        for (era, minute) in [(0, 11), (0, 12), (1, 10)] {
            ring.add(MINUTES, in_era(era, minute), moved(1), (0, 0));
        }
        let range = |from, to| ring.range(MINUTES, from, to).iter().map(|point| point.number).collect::<Vec<_>>();
        assert_eq!(range(11 * 60 + 59, 12 * 60), [11, 12]);
        assert_eq!(range(0, 12 * 60), [10, 11, 12]);
    }

    #[test]
    fn what_a_file_says_is_bounded_and_nothing_is_there_twice() {
        let point = |number| Point { number, ..Point::default() };
        let ring = Ring::restore(MINUTES, [1, 3, 3, 5, 1, 9].map(point).to_vec());
        assert_eq!(ring.points().map(|point| point.number).collect::<Vec<_>>(), [3, 5, 9]);
    }
}
