//! Mode by reason: how long it takes from a command to the client's end of stream, and what others notice of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use serde_json::json;

use crate::Options;
use crate::api::Api;
use crate::bystanders::Bystanders;
use crate::ground::{Ground, Server};
use crate::inner::Pattern;
use crate::modes::Mode;
use crate::numbers::{head, id, milliseconds, percentile, row, sorted};

const BYSTANDERS: usize = 200;
/// Users whose accounts end at the same second.
const BATCH: usize = 25;
/// How long the bystanders are watched alone.
const ALONE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Removed,
    Disabled,
    Expired,
    Quota,
    Rotated,
    ById,
    ByUser,
    BySource,
    /// For comparison: the client leaves, and nobody is cut.
    Left,
}

impl Reason {
    const CUTS: [Self; 8] = [
        Self::Removed,
        Self::Disabled,
        Self::Expired,
        Self::Quota,
        Self::Rotated,
        Self::ById,
        Self::ByUser,
        Self::BySource,
    ];

    /// Gives the command.
    fn command(self, api: &mut Api, email: &str) -> io::Result<()> {
        let user = format!("/api/users/{email}");
        match self {
            Self::Removed => api.remove(email),
            Self::Disabled => api.change("PATCH", &user, Some(&json!({ "enabled": false }))),
            Self::Quota => api.change("PATCH", &user, Some(&json!({ "limits": { "quota_bytes": 1 } }))),
            Self::Rotated => api.change("POST", &format!("{user}/rotate"), None),
            Self::ById => {
                let found = api.get(&format!("/api/connections?user={email}"))?;
                let id = found["connections"][0]["id"].as_str().unwrap_or_default().to_owned();
                api.change("DELETE", &format!("/api/connections/{id}"), None)
            }
            Self::ByUser => api.change("DELETE", &format!("/api/connections?user={email}"), None),
            Self::BySource => api.change("DELETE", "/api/connections?source=127.0.0.1", None),
            Self::Expired | Self::Left => Ok(()),
        }
    }
}

/// Everything that a cell needs.
struct Stage<'a> {
    ground: &'a Ground,
    server: &'a Server,
    api: Api,
    pattern: Pattern,
    users: u64,
}

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    let (plain, tls) = (ground.start(false, &json!({}))?, ground.start(true, &json!({}))?);
    let bystanders = Bystanders::start(ground, &tls, BYSTANDERS)?;
    let stage = |server| -> io::Result<Stage> {
        Ok(Stage { ground, server, api: server.api()?, pattern: Pattern::new(), users: 0 })
    };
    let (mut on_plain, mut on_tls) = (stage(&plain)?, stage(&tls)?);
    println!("ms from the command to the client's end of stream: p50 / worst of {}", options.rounds);
    head(&["", "removed", "disabled", "expired", "quota", "rotated", "by id", "by user", "by source"]);
    let mut worst_of_all: f64 = 0.0;
    bystanders.take();
    for mode in Mode::ALL.into_iter().filter(|mode| options.wants(mode.name())) {
        let stage = if mode.is_tls() { &mut on_tls } else { &mut on_plain };
        let mut cells = vec![mode.name().to_owned()];
        for reason in Reason::CUTS {
            let times = if reason == Reason::Expired {
                stage.expiries(mode, options.rounds)
            } else {
                (0..options.rounds).map(|_| stage.cut(mode, reason)).collect()
            };
            let times = sorted(times.map_err(|error| io::Error::other(format!("{}: {error}", mode.name())))?);
            worst_of_all = worst_of_all.max(percentile(&times, 1.0));
            cells.push(format!("{:.1} / {:.0}", percentile(&times, 0.5), percentile(&times, 1.0)));
        }
        row(cells);
    }
    println!("worst of all: {worst_of_all:.0} ms");
    bystanders.take().say("during the cuts");
    for mode in Mode::ALL.into_iter().filter(|mode| mode.is_tls()) {
        (0..options.rounds * 2).try_for_each(|_| on_tls.cut(mode, Reason::Left).map(|_| ()))?;
    }
    bystanders.take().say("while as many clients leave by themselves");
    thread::sleep(ALONE);
    bystanders.take().say("alone");
    bystanders.finish()
}

impl Stage<'_> {
    fn add(&mut self, mode: Mode, expires_at: Option<u64>) -> io::Result<(String, [u8; 16])> {
        self.users += 1;
        let (email, id) = (format!("victim-{}", self.users), id(self.users));
        let limits = expires_at.map_or(json!({}), |at| json!({ "expires_at": rfc3339(at) }));
        self.api.add(&email, id, mode.flow(), &limits)?;
        Ok((email, id))
    }

    /// One session, one command; milliseconds until the end.
    fn cut(&mut self, mode: Mode, reason: Reason) -> io::Result<f64> {
        let (email, id) = self.add(mode, None)?;
        let mut leg = mode.open(self.ground, self.server, id)?;
        if reason == Reason::Left {
            drop(leg);
            self.api.remove(&email)?;
            return Ok(0.0);
        }
        let pattern = &self.pattern;
        let api = &mut self.api;
        let took = thread::scope(|scope| {
            let end = scope.spawn(move || mode.await_end(leg.as_mut(), pattern));
            thread::sleep(Duration::from_millis(3));
            let begin = Instant::now();
            reason.command(api, &email)?;
            let end = end.join().map_err(|_| io::Error::other("a client panicked"))??;
            Ok::<_, io::Error>(milliseconds(end.saturating_duration_since(begin)))
        })?;
        if reason != Reason::Removed {
            self.api.remove(&email)?;
        }
        Ok(took)
    }

    /// Sessions whose accounts end by the clock; milliseconds from that second on.
    fn expiries(&mut self, mode: Mode, count: usize) -> io::Result<Vec<f64>> {
        let mut times = Vec::new();
        while times.len() < count {
            // Enough for all of them to be added and opened.
            let at = since_1970().as_secs() + 3;
            let batch = BATCH.min(count - times.len());
            let users = (0..batch).map(|_| self.add(mode, Some(at))).collect::<io::Result<Vec<_>>>()?;
            let open = |(_, id): &(String, [u8; 16])| mode.open(self.ground, self.server, *id);
            let legs = users.iter().map(open).collect::<io::Result<Vec<_>>>()?;
            let now = since_1970();
            let due = Instant::now() + Duration::from_secs(at).saturating_sub(now);
            let pattern = &self.pattern;
            let ends = thread::scope(|scope| {
                let ends: Vec<_> = legs
                    .into_iter()
                    .map(|mut leg| scope.spawn(move || mode.await_end(leg.as_mut(), pattern)))
                    .collect();
                let ends = ends.into_iter().map(|end| end.join().map_err(|_| io::Error::other("a client panicked"))?);
                ends.collect::<io::Result<Vec<_>>>()
            })?;
            if ends.iter().any(|end| *end < due) {
                return Err(io::Error::other("an account ended early"));
            }
            times.extend(ends.into_iter().map(|end| milliseconds(end.saturating_duration_since(due))));
            users.iter().try_for_each(|(email, _)| self.api.remove(email))?;
        }
        Ok(times)
    }
}

/// The time since 1970.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970 in the form that accounts want.
fn rfc3339(seconds: u64) -> String {
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, days + 1)
}
