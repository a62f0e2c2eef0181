//! The history of one subject, the whole server or one user, at four resolutions.

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::ring::{Moved, Point, Resolution, Ring};
use super::{Average, Peak};

/// The server's: minutes of an hour, five minutes of a day, hours of 30 days, days of a year.
const OVERALL: Shape = [resolution(60, 60), resolution(300, 288), resolution(3600, 720), resolution(86_400, 366)];
/// A user's: coarser, as there may be many users.
const USER: Shape = [resolution(60, 60), resolution(900, 96), resolution(14_400, 180), resolution(86_400, 366)];

const DAY_S: u64 = 86_400;

/// How far back an answer goes, and with it the resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    Hour,
    Day,
    Month,
    Year,
}

impl Range {
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Hour, "1h"), (Self::Day, "24h"), (Self::Month, "30d"), (Self::Year, "1y")];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(range, _)| *range)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(range, _)| *range == self).map_or("", |(_, name)| name)
    }
}

/// The four resolutions, finest first.
type Shape = [Resolution; 4];

const fn resolution(step_s: u64, points: u64) -> Resolution {
    Resolution { step_s, points }
}

/// Whose history it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Overall,
    User,
}

impl Subject {
    fn shape(self) -> &'static Shape {
        match self {
            Self::Overall => &OVERALL,
            Self::User => &USER,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Series {
    subject: Subject,
    rings: [Ring; 4],
}

/// The rings as the state file has them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedSeries(Vec<Vec<Point>>);

/// A part of the history as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Extract {
    pub range: &'static str,
    pub step_seconds: u64,
    pub points: Vec<ShownPoint>,
    pub peak: Peak,
    pub average: Average,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShownPoint {
    /// The start of the bucket.
    pub at: u64,
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub upload_peak_bps: u64,
    pub download_peak_bps: u64,
}

impl Series {
    pub fn new(subject: Subject) -> Self {
        Self { subject, rings: Default::default() }
    }

    /// Adds what moved until `now`. The whole server has a bucket for every moment it ran, a user only where something
    /// moved.
    pub fn add(&mut self, now: Moment, moved: Moved, speeds: (u64, u64)) {
        if self.subject == Subject::User && moved.total() == 0 {
            return;
        }
        for (ring, shape) in self.rings.iter_mut().zip(self.subject.shape()) {
            ring.add(*shape, now, moved, speeds);
        }
    }

    /// What moved on the day of `now`, and since the start of its month, in UTC.
    pub fn today_and_month(&self, now: u64) -> (Moved, Moved) {
        let today = now / DAY_S;
        let first = today - (day_of_month(today) - 1);
        let [.., shape] = self.subject.shape();
        let [.., days] = &self.rings;
        let sum = |from: u64| {
            days.range(*shape, from * DAY_S, now).into_iter().fold(Moved::default(), |sum, point| Moved {
                up_bytes: sum.up_bytes + point.up_bytes,
                down_bytes: sum.down_bytes + point.down_bytes,
            })
        };
        (sum(today), sum(first))
    }

    pub fn extract(&self, range: Range, now: u64) -> Extract {
        let index = range as usize;
        let (ring, shape) = (&self.rings[index], self.subject.shape()[index]);
        let from = now.saturating_sub(shape.step_s * (shape.points - 1));
        let points: Vec<_> = ring.range(shape, from, now).into_iter().map(|point| shown(point, shape)).collect();
        let highest = points.iter().max_by_key(|point| point.upload_peak_bps + point.download_peak_bps);
        let seconds = (points.len() as u64 * shape.step_s).max(1);
        Extract {
            range: range.name(),
            step_seconds: shape.step_s,
            peak: Peak {
                upload_bps: points.iter().map(|point| point.upload_peak_bps).max().unwrap_or(0),
                download_bps: points.iter().map(|point| point.download_peak_bps).max().unwrap_or(0),
                at: highest
                    .filter(|point| point.upload_peak_bps + point.download_peak_bps > 0)
                    .map_or(0, |point| point.at),
            },
            average: Average {
                upload_bps: points.iter().map(|point| point.upload_bytes).sum::<u64>() / seconds,
                download_bps: points.iter().map(|point| point.download_bytes).sum::<u64>() / seconds,
            },
            points,
        }
    }

    /// Buckets held.
    pub fn points(&self) -> usize {
        self.rings.iter().map(Ring::len).sum()
    }

    /// Forgets what is too old to be shown at `now` (Unix seconds).
    pub fn forget_old(&mut self, now: u64) {
        for (ring, shape) in self.rings.iter_mut().zip(self.subject.shape()) {
            ring.forget_old(*shape, now);
        }
    }

    /// Forgets the finest resolution that has buckets. The days stay; false if there is nothing else.
    pub fn coarsen(&mut self) -> bool {
        let [finer @ .., _] = &mut self.rings;
        let finest = finer.iter_mut().find(|ring| !ring.is_empty());
        finest.map(Ring::clear).is_some()
    }

    pub fn save(&self) -> SavedSeries {
        SavedSeries(self.rings.iter().map(|ring| ring.points().copied().collect()).collect())
    }

    pub fn restore(subject: Subject, saved: SavedSeries) -> Self {
        let mut series = Self::new(subject);
        for ((ring, shape), points) in series.rings.iter_mut().zip(subject.shape()).zip(saved.0) {
            *ring = Ring::restore(*shape, points);
        }
        series
    }
}

fn shown(point: &Point, shape: Resolution) -> ShownPoint {
    ShownPoint {
        at: u64::from(point.number) * shape.step_s,
        upload_bytes: point.up_bytes,
        download_bytes: point.down_bytes,
        upload_peak_bps: point.up_peak_bps,
        download_peak_bps: point.down_peak_bps,
    }
}

/// The day of the month, from 1, of a day counted from 1970-01-01. The calendar repeats every 400 years, and a year that
/// begins in March has its odd day at the end.
fn day_of_month(day: u64) -> u64 {
    const DAYS_BEFORE_1970: u64 = 719_468;
    let of_era = (day + DAYS_BEFORE_1970) % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    of_year - (153 * month + 2) / 5 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(up_bytes: u64) -> Moved {
        Moved { up_bytes, down_bytes: 0 }
    }

    #[test]
    fn days_of_months_are_those_of_the_calendar() {
        // 1970-01-01, 2000-02-29, 2024-02-29, 2024-03-01, 2025-12-31.
        assert_eq!([0, 11_016, 19_782, 19_783, 20_453].map(day_of_month), [1, 29, 29, 1, 31]);
    }

    #[test]
    fn today_and_this_month_are_in_utc() {
        let mut series = Series::new(Subject::User);
        let at = |day: u64, seconds: u64| day * DAY_S + seconds;
        // 2024-02-29, 2024-03-01 and 2024-03-02.
        series.add(Moment::first(at(19_782, 86_399)), moved(1), (0, 0));
        series.add(Moment::first(at(19_783, 0)), moved(10), (0, 0));
        series.add(Moment::first(at(19_784, 5)), moved(100), (0, 0));
        let (today, month) = series.today_and_month(at(19_784, 6));
        assert_eq!((today.up_bytes, month.up_bytes), (100, 110));
    }

    #[test]
    fn every_range_has_the_same_sum_while_nothing_is_too_old() {
        for subject in [Subject::Overall, Subject::User] {
            let mut series = Series::new(subject);
            let start = 20_000 * DAY_S;
            for second in 0..3000 {
                series.add(Moment::first(start + second), moved(second), (second, 0));
            }
            for (range, name) in Range::ALL {
                let extract = series.extract(range, start + 2999);
                assert_eq!(extract.points.iter().map(|point| point.upload_bytes).sum::<u64>(), 2999 * 1500, "{name}");
                assert_eq!((extract.peak.upload_bps, extract.range), (2999, name));
            }
        }
    }

    #[test]
    fn silence_is_a_bucket_of_the_server_and_none_of_a_user() {
        let (mut overall, mut user) = (Series::new(Subject::Overall), Series::new(Subject::User));
        overall.add(Moment::first(1000), moved(0), (0, 0));
        user.add(Moment::first(1000), moved(0), (0, 0));
        assert_eq!((overall.points(), user.points()), (4, 0));
    }

    #[test]
    fn what_was_saved_comes_back() {
        let mut series = Series::new(Subject::User);
        series.add(Moment::first(20_000 * DAY_S), moved(7), (3, 0));
        let saved = serde_json::to_string(&series.save()).unwrap();
        let restored = Series::restore(Subject::User, serde_json::from_str(&saved).unwrap());
        assert_eq!(restored.extract(Range::Year, 20_000 * DAY_S), series.extract(Range::Year, 20_000 * DAY_S));
    }

    #[test]
    fn coarsening_leaves_the_days() {
        let mut series = Series::new(Subject::User);
        series.add(Moment::first(20_000 * DAY_S), moved(7), (3, 0));
        assert!(series.coarsen() && series.coarsen() && series.coarsen() && !series.coarsen());
        assert_eq!(series.extract(Range::Year, 20_000 * DAY_S).points.len(), 1);
    }
}
