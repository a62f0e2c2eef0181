//! The time that history, totals and accounts go by: the wall clock's, once it can be believed.
//!
//! A wall clock may be wrong for a second, or be set right by years long after the start. A clock that only goes forward
//! cannot, so each look at the one is held against the other. A jump counts once it has lasted for [`JUMP_LASTS`]; until
//! then the time goes on as if there had been none.

use std::time::{Duration, Instant};

/// How long the wall clock must go on from where it jumped to before that is believed.
pub const JUMP_LASTS: Duration = Duration::from_secs(60);
/// Seconds by which the wall clock may differ from what is expected without that being a jump.
const JUMP_S_MIN: u64 = 30;
/// After so long without a jump nobody is about to set the clock right.
const SETTLED_AFTER: Duration = Duration::from_secs(3600);

/// A wall clock that one wrong second does not mislead.
#[derive(Clone, Debug)]
pub struct SteadyClock {
    /// When the wall clock was last believed, and what it said.
    believed: Point,
    /// When it last began to be believed after a jump, or at the start.
    era_began: Instant,
    /// Where the wall clock has jumped to, while that is not believed.
    doubted: Option<Point>,
    moment: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: Instant,
    unix_time: u64,
}

/// A point in time, and what is known of the clock that told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970. Within an era they never become fewer.
    pub at: u64,
    /// How many jumps were believed since the start of the process.
    pub era: u32,
    /// There was no jump for an hour.
    pub is_settled: bool,
}

impl Moment {
    /// A time of a clock that has just been started.
    pub fn first(at: u64) -> Self {
        Self { at, era: 0, is_settled: false }
    }
}

impl Point {
    /// What the wall clock says at `now` if it has gone on from here.
    fn expected(self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.at);
        self.unix_time.saturating_add(passed.as_secs() + u64::from(passed.subsec_millis() >= 500))
    }

    fn leads_to(self, now: Instant, unix_time: u64) -> bool {
        self.expected(now).abs_diff(unix_time) < JUMP_S_MIN
    }
}

impl SteadyClock {
    /// Believes what the wall clock says at the start: there is nothing to hold it against.
    pub fn new(now: Instant, unix_time: u64) -> Self {
        let believed = Point { at: now, unix_time };
        Self { believed, era_began: now, doubted: None, moment: Moment::first(unix_time) }
    }

    /// Takes what the wall clock says at `now`, and returns the time to go by.
    pub fn tick(&mut self, now: Instant, unix_time: u64) -> Moment {
        let wall = Point { at: now, unix_time };
        if self.believed.leads_to(now, unix_time) {
            self.doubted = None;
            self.believed = wall;
            // Many small steps back are a jump, too.
            if self.moment.at >= unix_time.saturating_add(JUMP_S_MIN) {
                self.begin_era(wall);
            }
        } else {
            let since = self.doubted.filter(|doubted| doubted.leads_to(now, unix_time)).unwrap_or(wall);
            self.doubted = Some(since);
            if now.saturating_duration_since(since.at) >= JUMP_LASTS {
                self.doubted = None;
                self.believed = wall;
                self.begin_era(wall);
            }
        }
        self.moment.at = self.unix_time(now);
        self.moment.is_settled = now.saturating_duration_since(self.era_began) >= SETTLED_AFTER;
        self.moment
    }

    /// The time to go by at `now`, as of the last look at the wall clock.
    pub fn unix_time(&self, now: Instant) -> u64 {
        self.believed.expected(now).max(self.moment.at)
    }

    /// How many jumps were believed.
    pub fn era(&self) -> u32 {
        self.moment.era
    }

    fn begin_era(&mut self, wall: Point) {
        self.moment = Moment { at: wall.unix_time, era: self.moment.era.wrapping_add(1), is_settled: false };
        self.era_began = wall.at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000;
    const YEARS: i64 = 10 * 366 * 86_400;

    /// A clock, and what it was told: by how much the wall clock is wrong in each second.
    struct Course {
        clock: SteadyClock,
        started: Instant,
        second: u64,
    }

    impl Course {
        fn new() -> Self {
            let started = Instant::now();
            Self { clock: SteadyClock::new(started, START), started, second: 0 }
        }

        fn second(&mut self, wrong_by: i64) -> Moment {
            self.second += 1;
            let wall = (START + self.second).saturating_add_signed(wrong_by);
            self.clock.tick(self.started + Duration::from_secs(self.second), wall)
        }

        fn seconds(&mut self, count: u64, wrong_by: i64) -> Moment {
            (0..count).map(|_| self.second(wrong_by)).last().unwrap()
        }
    }

    #[test]
    fn a_clock_that_is_wrong_for_a_moment_is_not_believed() {
        for wrong_by in [YEARS, -YEARS, -6 * YEARS, 3600, -3600] {
            let mut course = Course::new();
            for (right, wrong) in [(5, 1), (5, 59), (1, 20)] {
                course.seconds(right, 0);
                let moment = course.seconds(wrong, wrong_by);
                assert_eq!(moment, Moment::first(START + course.second), "{wrong_by}");
            }
            assert_eq!(course.second(0).era, 0);
        }
    }

    #[test]
    fn a_jump_that_lasts_is_believed_in_either_direction_and_once() {
        for wrong_by in [YEARS, -YEARS, 3600, -3600] {
            let mut course = Course::new();
            course.seconds(100, 0);
            let moment = course.seconds(61, wrong_by);
            assert_eq!((moment.at, moment.era), ((START + 161).saturating_add_signed(wrong_by), 1));
            let moment = course.seconds(100, wrong_by);
            assert_eq!((moment.at, moment.era), ((START + 261).saturating_add_signed(wrong_by), 1));
            assert_eq!(course.seconds(61, 0), Moment { era: 2, ..Moment::first(START + 322) });
        }
    }

    #[test]
    fn a_clock_that_jumps_about_is_never_believed() {
        let mut course = Course::new();
        for round in 1..50_i64 {
            course.seconds(30, round * 1000);
        }
        assert_eq!(course.clock.moment, Moment::first(START + 49 * 30));
    }

    #[test]
    fn a_small_step_back_holds_the_time_until_the_clock_is_there_again() {
        let mut course = Course::new();
        course.seconds(100, 0);
        let told: Vec<_> = (0..12).map(|_| course.second(-10).at - START).collect();
        assert_eq!(told, [100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 101, 102]);
        // Steps back that add up are followed in the end.
        let moment = (1..40).map(|step| course.second(-10 - 10 * step)).last().unwrap();
        assert!(moment.era > 0 && moment.at < START, "{moment:?}");
    }

    #[test]
    fn a_clock_is_settled_an_hour_after_its_last_jump() {
        let mut course = Course::new();
        assert!(!course.seconds(3599, 0).is_settled);
        assert!(course.second(0).is_settled);
        assert!(!course.seconds(61, 7200).is_settled);
        assert!(course.seconds(3600, 7200).is_settled);
    }

    #[test]
    fn between_two_looks_the_time_goes_on() {
        let mut course = Course::new();
        course.seconds(5, 0);
        course.second(YEARS);
        let later = course.started + Duration::from_secs(106);
        assert_eq!(course.clock.unix_time(later), START + 106);
    }
}
