//! How long things take: durations counted in a few fixed buckets.
//!
//! Like every counter, a histogram has one writer and any number of readers, and no lock. Bounds double from 16 µs to
//! 16.8 s, so one shape serves the turn of a worker as well as a slow dial. Knows no clock.

use std::ops::AddAssign;
use std::time::Duration;

use serde::Serialize;

use super::Counter;

/// Buckets with an upper bound; what is longer than the last bound counts in one more.
pub const BUCKETS: usize = 21;

/// The upper bounds in microseconds, inclusive.
pub const BOUNDS_US: [u64; BUCKETS] = {
    let mut bounds = [16; BUCKETS];
    let mut bucket = 1;
    while bucket < BUCKETS {
        bounds[bucket] = bounds[bucket - 1] * 2;
        bucket += 1;
    }
    bounds
};

/// Durations that one worker measured.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one is for what is longer than all bounds.
    buckets: [Counter; BUCKETS + 1],
    sum_us: Counter,
    max_us: Counter,
}

/// What histograms of several workers hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Durations {
    /// How many were within each bound and beyond the one before; the last: beyond all bounds.
    pub buckets: [u64; BUCKETS + 1],
    pub sum_us: u64,
    pub max_us: u64,
}

impl Histogram {
    /// Counts one duration; only the owning worker may call this.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|&bound| bound < us);
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(1);
        }
        self.sum_us.add(us);
        if us > self.max_us.value() {
            self.max_us.set(us);
        }
    }

    /// The present values, from any thread.
    pub fn values(&self) -> Durations {
        Durations {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].value()),
            sum_us: self.sum_us.value(),
            max_us: self.max_us.value(),
        }
    }
}

impl Durations {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that `percent` of all do not exceed, in microseconds: the bound of its bucket, or the longest of all
    /// if that is less. 0 while nothing was counted.
    pub fn percentile_us(&self, percent: u64) -> u64 {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut counted = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            counted += count;
            if *count > 0 && counted >= wanted {
                return BOUNDS_US.get(bucket).map_or(self.max_us, |bound| self.max_us.min(*bound));
            }
        }
        0
    }

    /// What was counted since `earlier` values of the same histogram were read; the maximum remains that of all time.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].saturating_sub(earlier.buckets[bucket])),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            max_us: self.max_us,
        }
    }
}

impl AddAssign for Durations {
    fn add_assign(&mut self, other: Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum_us += other.sum_us;
        self.max_us = self.max_us.max(other.max_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Durations {
        let histogram = Histogram::default();
        for &us in micros {
            histogram.record(Duration::from_micros(us));
        }
        histogram.values()
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        assert_eq!((BOUNDS_US[0], BOUNDS_US[BUCKETS - 1]), (16, 16_777_216));
        let durations = of(&[0, 16, 17, 32, 33, 16_777_216, 16_777_217, 60_000_000]);
        assert_eq!(durations.buckets[..3], [2, 2, 1]);
        assert_eq!(durations.buckets[BUCKETS - 1..], [1, 2]);
        assert_eq!((durations.count(), durations.max_us), (8, 60_000_000));
        assert_eq!(durations.sum_us, 98 + 2 * 16_777_216 + 1 + 60_000_000);
    }

    #[test]
    fn percentiles_are_the_bounds_of_buckets_and_no_more_than_the_longest() {
        let mut micros = vec![20; 98];
        micros.extend([1000, 1500]);
        let durations = of(&micros);
        assert_eq!([50, 98, 99, 100].map(|percent| durations.percentile_us(percent)), [32, 32, 1024, 1500]);
        assert_eq!(of(&[20]).percentile_us(50), 20);
        assert_eq!(of(&[]).percentile_us(99), 0);
        assert_eq!(of(&[30_000_000]).percentile_us(50), 30_000_000);
    }

    #[test]
    fn workers_add_up_and_time_passes() {
        let mut all = of(&[10, 100]);
        all += of(&[10, 500]);
        assert_eq!((all.buckets[0], all.count(), all.sum_us, all.max_us), (2, 4, 620, 500));
        let since = all.since(&of(&[10, 100]));
        assert_eq!((since.count(), since.sum_us), (2, 510));
    }
}
