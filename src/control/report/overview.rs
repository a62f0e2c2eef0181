//! `/api/stats`: everything that a page or a script wants to know at a glance.

use serde::Serialize;

use super::Pairs;
use super::parts::{Certificate, ConnectionPool, Turn, Vision};
use super::users::{Ids, UserShown, shown_all};
use crate::control::alerts::watch::Firing;
use crate::control::format;
use crate::control::history::ring::Moved;
use crate::control::history::{Average, Peak};
use crate::control::sample::{ReloadSample, ServerState};
use crate::control::view::View;
use crate::stats::pools::MemoryPoolStats;

#[derive(Serialize)]
pub struct Overview<'a> {
    upload_speed: String,
    upload_bps: u64,
    download_speed: String,
    download_bps: u64,
    total_traffic: String,
    total_upload_bytes: u64,
    total_download_bytes: u64,
    today: Bytes,
    month: Bytes,
    lifetime: Bytes,
    /// Of this process alone: the counters of the metrics.
    process: Bytes,
    peak: Peak,
    average: Average,
    uptime: String,
    uptime_seconds: u64,
    started_at: u64,
    now: u64,
    version: &'static str,
    state: ServerState,
    memory_usage: String,
    memory_bytes: u64,
    total_memory: String,
    total_memory_bytes: u64,
    cpu_percent: f64,
    cpu_seconds: f64,
    threads: u64,
    descriptors: Descriptors,
    turn: Turn,
    active_connections: u64,
    max_connections: u64,
    opened_total: u64,
    rejected: Pairs<'a>,
    closed: Pairs<'a>,
    users_online: usize,
    users_total: usize,
    /// Which accounts are in `users`.
    users_scope: &'static str,
    /// What whoever takes this has seen of the accounts from now on; `None`: what was seen before.
    users_version: Option<u64>,
    /// `users` are those that changed after this version.
    users_since: Option<u64>,
    /// The names of those that have gone meanwhile. One that has come back is in `users`, too.
    users_removed: Vec<&'a str>,
    users: Vec<UserShown<'a>>,
    connection_pool: ConnectionPool<'a>,
    memory_pool: &'a MemoryPoolStats,
    xtls_vision: Vision,
    certificates: Vec<Certificate<'a>>,
    alerts: Vec<&'a Firing>,
    last_reload: Option<&'a ReloadSample>,
    feed_clients: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bytes {
    upload_bytes: u64,
    download_bytes: u64,
}

impl From<Moved> for Bytes {
    fn from(moved: Moved) -> Self {
        Self { upload_bytes: moved.up_bytes, download_bytes: moved.down_bytes }
    }
}

#[derive(Serialize)]
struct Descriptors {
    open: u64,
    limit: u64,
}

/// Which accounts come with the figures of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Those that changed after this version.
    Since(u64),
    Nobody,
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Since(_) => "changed",
            Self::Nobody => "none",
        }
    }
}

/// Ids are masked whoever asks: what is in the feed gets around.
pub fn overview(view: &View, scope: Scope) -> Overview<'_> {
    let (sample, process) = (&view.sample, &view.process);
    let speed = view.speeds.last();
    let lifetime = view.lifetime();
    let (today, month) = view.series.today_and_month(view.clock.unix_time);
    let uptime_seconds = view.clock.uptime().as_secs();
    Overview {
        upload_speed: format::speed(speed.up_bps),
        upload_bps: speed.up_bps,
        download_speed: format::speed(speed.down_bps),
        download_bps: speed.down_bps,
        total_traffic: format::bytes(lifetime.total()),
        total_upload_bytes: lifetime.up_bytes,
        total_download_bytes: lifetime.down_bytes,
        today: today.into(),
        month: month.into(),
        lifetime: lifetime.into(),
        process: Bytes { upload_bytes: sample.totals.uplink_bytes, download_bytes: sample.totals.downlink_bytes },
        peak: view.speeds.peak(),
        average: view.speeds.average(),
        uptime: format::duration(uptime_seconds),
        uptime_seconds,
        started_at: view.clock.started_at,
        now: view.clock.unix_time,
        version: env!("CARGO_PKG_VERSION"),
        state: sample.state,
        memory_usage: format::megabytes(process.memory_bytes),
        memory_bytes: process.memory_bytes,
        total_memory: format::gigabytes(process.total_memory_bytes),
        total_memory_bytes: process.total_memory_bytes,
        cpu_percent: process.cpu_percent,
        cpu_seconds: process.cpu.as_secs_f64(),
        threads: process.threads,
        descriptors: Descriptors { open: process.descriptors, limit: process.descriptors_max },
        turn: Turn::of(&view.recent_turns()),
        active_connections: sample.sessions,
        max_connections: sample.sessions_max,
        opened_total: sample.totals.sessions_accepted,
        rejected: Pairs(&sample.rejected),
        closed: Pairs(&sample.closes),
        users_online: sample.users.iter().filter(|user| user.totals.sessions_active > 0).count(),
        users_total: sample.users.len(),
        users_scope: scope.name(),
        users_version: (scope != Scope::Nobody).then(|| view.roll.version()),
        users_since: if let Scope::Since(version) = scope { Some(version) } else { None },
        users_removed: if let Scope::Since(version) = scope {
            view.roll.gone_since(version).collect()
        } else {
            Vec::new()
        },
        users: users_in(view, scope),
        connection_pool: ConnectionPool::of(sample),
        memory_pool: &sample.memory_pool,
        xtls_vision: Vision::of(&sample.totals),
        certificates: sample.certificates.iter().map(|one| Certificate::of(one, view.clock.unix_time)).collect(),
        alerts: view.watch.firing().collect(),
        last_reload: sample.last_reload.as_ref(),
        feed_clients: view.own.feed_clients,
    }
}

fn users_in(view: &View, scope: Scope) -> Vec<UserShown<'_>> {
    let all = &view.sample.users;
    match scope {
        Scope::All => shown_all(view, all, Ids::Masked),
        Scope::Since(version) => {
            shown_all(view, all.iter().filter(|user| view.roll.has_changed(&user.email, version)), Ids::Masked)
        }
        Scope::Nobody => Vec::new(),
    }
}
