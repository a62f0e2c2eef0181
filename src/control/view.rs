//! All that is shown, as of the last tick: the sample, what was computed from it, and what is remembered.
//!
//! Plain data that the pure functions of `report`, `metrics` and `api` read. [`View::tick`] is the only place where
//! counters become speeds and history.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::alerts::Metric;
use super::alerts::watch::{Figure, Watch};
use super::events::Events;
use super::history::book::Book;
use super::history::clock::SteadyClock;
use super::history::ring::Moved;
use super::history::series::{Series, Subject};
use super::history::{SpeedPoint, Speeds, speeds};
use super::process::ProcessFigures;
use super::roll::Roll;
use super::sample::{Sample, UserSample};
use super::settings::Settings;
use super::state::Saved;
use crate::stats::histogram::Durations;

const DAY_SECONDS: f64 = 86_400.0;

pub struct View {
    pub settings: Settings,
    pub sample: Sample,
    pub process: ProcessFigures,
    pub speeds: Speeds,
    pub series: Series,
    pub book: Book,
    pub roll: Roll,
    pub events: Events,
    pub watch: Watch,
    pub clock: Clock,
    steady: SteadyClock,
    /// Payload that former processes counted.
    base: Moved,
    counted: Moved,
    moved_at: Instant,
    recent: Recent,
    pub own: OwnCounters,
}

/// The two clocks of the last tick.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub started: Instant,
    pub now: Instant,
    /// Unix time.
    pub started_at: u64,
    /// Unix time as [`SteadyClock`] has it.
    pub unix_time: u64,
}

impl Clock {
    pub fn uptime(&self) -> Duration {
        self.now.saturating_duration_since(self.started)
    }
}

/// What the control plane counts of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnCounters {
    pub feed_clients: u64,
    pub feed_clients_dropped_total: u64,
    pub clients: u64,
    pub requests_total: u64,
    pub clients_evicted_total: u64,
    /// Clients that came when their source had its share of the places.
    pub clients_over_share_total: u64,
    pub auth_failures_total: u64,
    pub state_writes_total: u64,
    pub state_write_errors_total: u64,
    pub state_write_errors_in_a_row: u64,
    pub state_age_seconds: u64,
    pub alert_failures_total: u64,
}

impl View {
    pub fn new(settings: Settings, saved: Saved, clock: Clock) -> Self {
        Self {
            speeds: Speeds::new(settings.speed_history_s),
            series: Series::restore(Subject::Overall, saved.history),
            book: Book::restore(saved.users),
            roll: Roll::new(clock.started_at),
            events: Events::restore(saved.events),
            watch: Watch::restore(settings.rules.clone(), saved.alerts, clock.now),
            settings,
            sample: Sample::default(),
            process: ProcessFigures::default(),
            steady: SteadyClock::new(clock.now, clock.unix_time),
            clock,
            base: Moved { up_bytes: saved.upload_bytes, down_bytes: saved.download_bytes },
            counted: Moved::default(),
            moved_at: clock.now,
            recent: Recent::default(),
            own: OwnCounters::default(),
        }
    }

    /// Takes a new sample; the wall clock says `unix_time`.
    pub fn tick(&mut self, sample: Sample, process: ProcessFigures, now: Instant, unix_time: u64) {
        let passed = now.saturating_duration_since(self.clock.now);
        let moment = self.steady.tick(now, unix_time);
        (self.clock.now, self.clock.unix_time) = (now, moment.at);
        let counted = Moved { up_bytes: sample.totals.uplink_bytes, down_bytes: sample.totals.downlink_bytes };
        let moved = Moved {
            up_bytes: counted.up_bytes.saturating_sub(self.counted.up_bytes),
            down_bytes: counted.down_bytes.saturating_sub(self.counted.down_bytes),
        };
        if moved.total() > 0 {
            self.moved_at = now;
        }
        self.counted = counted;
        let speeds = speeds(moved, passed);
        let uptime_s = self.clock.uptime().as_secs();
        self.speeds.push(SpeedPoint { uptime_s, at: moment.at, up_bps: speeds.0, down_bps: speeds.1 });
        self.series.add(moment, moved, speeds);
        self.book.update(&sample.users, moment, passed);
        self.recent.push(now, rejected(&sample), sample.timings.turn);
        self.sample = sample;
        self.process = process;
        self.roll.update(&self.sample.users, &self.book, moment.at);
    }

    /// Unix time at `now`, as of the last tick.
    pub fn unix_time(&self, now: Instant) -> u64 {
        self.steady.unix_time(now)
    }

    /// A new look between two ticks, after something was changed: speeds and history are left to the next tick.
    pub fn refresh(&mut self, sample: Sample) {
        self.sample.users = sample.users;
        self.sample.users_revision = sample.users_revision;
        self.sample.certificates = sample.certificates;
        self.sample.last_reload = sample.last_reload;
        self.sample.state = sample.state;
        self.roll.update(&self.sample.users, &self.book, self.clock.unix_time);
    }

    pub fn adopt(&mut self, settings: Settings) {
        self.speeds.resize(settings.speed_history_s);
        self.watch.adopt(settings.rules.clone());
        self.settings = settings;
    }

    /// Payload of all time.
    pub fn lifetime(&self) -> Moved {
        Moved {
            up_bytes: self.base.up_bytes + self.counted.up_bytes,
            down_bytes: self.base.down_bytes + self.counted.down_bytes,
        }
    }

    pub fn save(&self, accounts: serde_json::Value) -> Saved {
        Saved {
            saved_at: self.clock.unix_time,
            upload_bytes: self.lifetime().up_bytes,
            download_bytes: self.lifetime().down_bytes,
            history: self.series.save(),
            users: self.book.save(),
            events: self.events.save(),
            alerts: self.watch.save(),
            accounts,
        }
    }

    /// The workers' turns of the last minute.
    pub fn recent_turns(&self) -> Durations {
        let oldest = self.recent.marks.front().map(|mark| &mark.turns);
        oldest.map_or_else(Durations::default, |before| self.sample.timings.turn.since(before))
    }

    /// The figures that an alert watches: the server's, or one of each user who has one.
    pub fn figures(&self, metric: Metric) -> Vec<Figure<'_>> {
        let percent = |part: u64, whole: u64| (whole > 0).then(|| part as f64 * 100.0 / whole as f64);
        let now = self.clock.unix_time;
        let of_user = |user: &UserSample| match metric {
            Metric::QuotaPercent => percent(user.quota_used_bytes, user.limits.quota_bytes),
            Metric::AccountDaysLeft => {
                let at = user.expires_at.filter(|at| user.enabled && *at > now);
                at.map(|at| (at - now) as f64 / DAY_SECONDS)
            }
            _ => None,
        };
        let of_users = self.sample.users.iter();
        let of_users = of_users.filter_map(|user| Some(Figure { user: Some(&user.email), value: of_user(user)? }));
        let of_server = self.metric(metric).map(|value| Figure { user: None, value });
        of_server.into_iter().chain(of_users).collect()
    }

    /// A figure of the server; `None` where there is none.
    fn metric(&self, metric: Metric) -> Option<f64> {
        let percent = |part: u64, whole: u64| (whole > 0).then(|| part as f64 * 100.0 / whole as f64);
        match metric {
            Metric::CertificateDaysLeft => {
                let first = self.sample.certificates.iter().map(|certificate| certificate.not_after).min()?;
                Some((first as f64 - self.clock.unix_time as f64) / DAY_SECONDS)
            }
            Metric::DescriptorsPercent => percent(self.process.descriptors, self.process.descriptors_max),
            Metric::MemoryPercent => percent(self.process.memory_bytes, self.process.total_memory_bytes),
            Metric::SessionsPercent => percent(self.sample.sessions, self.sample.sessions_max),
            Metric::RejectedPerMinute => Some(self.recent.rejected_per_minute(self.clock.now)),
            Metric::NoTrafficSeconds => Some(self.clock.now.saturating_duration_since(self.moved_at).as_secs_f64()),
            Metric::StateWriteErrors => Some(self.own.state_write_errors_in_a_row as f64),
            Metric::TurnMilliseconds => {
                let turns = self.recent_turns();
                (turns.count() > 0).then(|| turns.percentile_us(99) as f64 / 1000.0)
            }
            Metric::ClusterAwaySeconds => self.sample.cluster.as_ref().map(|cluster| cluster.away_seconds as f64),
            Metric::QuotaPercent | Metric::AccountDaysLeft => None,
        }
    }
}

fn rejected(sample: &Sample) -> u64 {
    sample.rejected.iter().map(|(_, count)| count).sum()
}

/// Counters some seconds back, for figures over the last minute.
#[derive(Default)]
struct Recent {
    /// One every ten seconds, oldest first.
    marks: VecDeque<Mark>,
    rejected: u64,
}

struct Mark {
    at: Instant,
    rejected: u64,
    turns: Durations,
}

impl Recent {
    const STEP: Duration = Duration::from_secs(10);
    const MARKS_MAX: usize = 7;

    fn push(&mut self, now: Instant, rejected: u64, turns: Durations) {
        self.rejected = rejected;
        if self.marks.back().is_none_or(|last| now >= last.at + Self::STEP) {
            if self.marks.len() >= Self::MARKS_MAX {
                self.marks.pop_front();
            }
            self.marks.push_back(Mark { at: now, rejected, turns });
        }
    }

    fn rejected_per_minute(&self, now: Instant) -> f64 {
        let Some(oldest) = self.marks.front() else { return 0.0 };
        let passed = now.saturating_duration_since(oldest.at).as_secs_f64().max(60.0);
        (self.rejected - oldest.rejected.min(self.rejected)) as f64 * 60.0 / passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::control::history::book::Key;
    use crate::control::history::series::Range;

    const START: u64 = 1_790_000_000;

    /// A server with one user, who moves a byte each second.
    struct Course {
        view: View,
        started: Instant,
        second: u64,
    }

    impl Course {
        fn new(saved: Saved, unix_time: u64) -> Self {
            let started = Instant::now();
            let clock = Clock { started, now: started, started_at: unix_time, unix_time };
            Self { view: View::new(Settings::default(), saved, clock), started, second: 0 }
        }

        fn second(&mut self, unix_time: u64) {
            self.second += 1;
            let mut sample = Sample { users: vec![UserSample::default()], ..Sample::default() };
            sample.totals.uplink_bytes = self.second;
            sample.users[0].totals.uplink_bytes = self.second;
            let now = self.started + Duration::from_secs(self.second);
            self.view.tick(sample, ProcessFigures::default(), now, unix_time);
        }

        /// The series of the server and of its user.
        fn series(&self) -> [&Series; 2] {
            let user = self.view.book.entry(Key::of(&[0; 16])).unwrap();
            [&self.view.series, &user.series]
        }

        /// What is shown of all that moved, by range and for today and the month, the same for the server and its user.
        fn shown(&self) -> [u64; 6] {
            let now = self.view.clock.unix_time;
            let [server, user] = self.series().map(|series| {
                let sum = |range| series.extract(range, now).points.iter().map(|point| point.upload_bytes).sum::<u64>();
                let [hour, day, month, year] = Range::ALL.map(|(range, _)| sum(range));
                let (today, this_month) = series.today_and_month(now);
                [hour, day, month, year, today.up_bytes, this_month.up_bytes]
            });
            assert_eq!(server, user);
            server
        }
    }

    #[test]
    fn one_wrong_second_loses_nothing_of_the_history() {
        for wrong in [START + 5 * 366 * 86_400, START + 86_400, START - 86_400, 0] {
            let mut course = Course::new(Saved::default(), START);
            for second in 1..=2000 {
                course.second(if second == 1000 { wrong } else { START + second });
                assert_eq!(course.shown(), [second; 6], "{wrong}");
            }
            let peak = course.series()[0].extract(Range::Hour, START + 2000).peak;
            assert_eq!((peak.upload_bps, peak.download_bps), (1, 0));
        }
    }

    #[test]
    fn a_clock_that_was_wrong_at_the_start_and_is_set_right_leaves_a_gap_in_what_was_saved() {
        let mut former = Course::new(Saved::default(), START);
        for second in 1..=100 {
            former.second(START + second);
        }
        let saved = former.view.save(serde_json::Value::Null);
        // As after a start without a battery, and with one that is years ahead.
        for wrong in [1000, START + 5 * 366 * 86_400] {
            let mut course = Course::new(saved.clone(), wrong);
            for second in 1..=30 {
                course.second(wrong + second);
            }
            for second in 31..=300 {
                course.second(START + 100 + second);
            }
            // A clock that jumps is believed a minute later.
            assert_eq!(course.shown(), [100 + 300 - 90; 6], "{wrong}");
            assert_eq!(course.view.clock.unix_time, START + 400);
            assert_eq!(course.view.lifetime().up_bytes, 400);
        }
    }
}
