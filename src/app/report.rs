//! All counters as one JSON line, for USR1 and shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::io::buffer_pool::TIER_BYTES;
use crate::session::close::CloseReason;
use crate::stats::pools::{ConnectionPoolStats, MemoryPoolStats, TierStats};
use crate::stats::{Counters, Totals, UserTotals, totals};

#[derive(Serialize)]
struct Report<'a> {
    uptime_seconds: u64,
    workers: usize,
    #[serde(flatten)]
    totals: Totals,
    memory_pool: MemoryPoolStats,
    connection_pool: ConnectionPoolStats,
    /// Sessions by the reason they ended for; reasons that never occurred are there with 0.
    closes: BTreeMap<&'static str, u64>,
    /// By email; ids are secrets and are not shown.
    users: BTreeMap<&'a str, UserTotals>,
    log_lines_dropped: u64,
}

/// The line, without its line break.
pub fn counters_line(
    workers: &[Arc<Counters>],
    users: &[(&str, UserTotals)],
    uptime: Duration,
    log_lines_dropped: u64,
) -> String {
    let closes = CloseReason::ALL
        .iter()
        .map(|reason| (reason.name(), workers.iter().map(|counters| counters.closes(reason.index())).sum()));
    let totals = totals(workers.iter().map(AsRef::as_ref));
    let report = Report {
        uptime_seconds: uptime.as_secs(),
        workers: workers.len(),
        memory_pool: memory_pool(workers, &totals),
        connection_pool: ConnectionPoolStats::new(&totals),
        totals,
        closes: closes.collect(),
        users: users.iter().copied().collect(),
        log_lines_dropped,
    };
    // A struct of numbers and names always becomes JSON.
    serde_json::to_string(&report).unwrap_or_default()
}

/// What the workers' buffer pools report together.
pub fn memory_pool(workers: &[Arc<Counters>], totals: &Totals) -> MemoryPoolStats {
    let tiers = std::array::from_fn(|tier| {
        TierStats::sum(TIER_BYTES[tier], workers.iter().map(|worker| &worker.buffer_tiers[tier]))
    });
    MemoryPoolStats::new(tiers, totals)
}
