//! What the two pools count, and the objects that are shown of it: `/api/memory-pool-stats` and
//! `/api/connection-pool-stats`.
//!
//! Two identities hold for every snapshot in which nothing is under way: of a tier of buffers `total_allocated` =
//! `current_size` + `total_returned`; of target connections `total_created` = `current_idle` + `total_handed_out` +
//! `total_closed`.

use serde::Serialize;

use super::{Counter, Totals};

/// What a worker counts for one tier of its buffer pool.
#[derive(Debug, Default)]
pub struct TierCounters {
    /// Buffers lent now.
    pub lent: Counter,
    /// The most that were lent at a time.
    pub lent_peak: Counter,
    /// Buffers lent so far that were kept ones, and that had to be allocated.
    pub hits: Counter,
    pub misses: Counter,
    /// Buffers given back so far.
    pub returned: Counter,
    /// Free buffers kept now.
    pub kept: Counter,
}

/// The memory pool as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPoolStats {
    pub small_pool: TierStats,
    pub medium_pool: TierStats,
    pub large_pool: TierStats,
    /// Times a session had to wait for buffer memory.
    pub waits: u64,
    /// Sessions that wait for it now.
    pub waiting: u64,
    /// Bytes of buffers that sessions hold now.
    pub held_bytes: u64,
}

/// One tier, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TierStats {
    /// Bytes of one buffer.
    pub buffer_size: u64,
    /// Buffers that sessions hold now.
    pub current_size: u64,
    /// The most that sessions held: the sum of each worker's most, which need not have been at the same time.
    pub peak_size: u64,
    /// Buffers lent so far, and how many of them came back.
    pub total_allocated: u64,
    pub total_returned: u64,
    /// Of `total_allocated`: a kept buffer, or one that had to be made.
    pub hits: u64,
    pub misses: u64,
    /// Free buffers kept for the next taker.
    pub idle: u64,
    /// Memory of the buffers that sessions hold and of those that are kept, in bytes.
    pub bytes: u64,
}

impl TierStats {
    /// The sum of one tier's counters over the workers.
    pub fn sum<'a>(buffer_bytes: usize, workers: impl Iterator<Item = &'a TierCounters>) -> Self {
        let buffer_size = buffer_bytes as u64;
        workers.fold(Self { buffer_size, ..Self::default() }, |sum, tier| {
            let (current, idle) = (tier.lent.value(), tier.kept.value());
            let (hits, misses) = (tier.hits.value(), tier.misses.value());
            Self {
                buffer_size,
                current_size: sum.current_size + current,
                peak_size: sum.peak_size + tier.lent_peak.value(),
                total_allocated: sum.total_allocated + hits + misses,
                total_returned: sum.total_returned + tier.returned.value(),
                hits: sum.hits + hits,
                misses: sum.misses + misses,
                idle: sum.idle + idle,
                bytes: sum.bytes + (current + idle) * buffer_size,
            }
        })
    }
}

impl MemoryPoolStats {
    /// The object from its tiers, smallest first, and the sums over all workers.
    pub fn new([small_pool, medium_pool, large_pool]: [TierStats; 3], totals: &Totals) -> Self {
        Self {
            small_pool,
            medium_pool,
            large_pool,
            waits: totals.buffer_waits,
            waiting: totals.sessions_awaiting_buffer,
            held_bytes: totals.buffer_bytes_held,
        }
    }
}

/// The connection pool as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConnectionPoolStats {
    /// Connections to targets that were established: for a session that waited, or as a spare.
    pub total_created: u64,
    /// Of these, spares that were given to a session; the same as `cache_hits`.
    pub total_reused: u64,
    /// Spares closed without ever having been used.
    pub total_closed: u64,
    /// Sessions that have a connection to their target now.
    pub current_active: u64,
    /// Spares ready now.
    pub current_idle: u64,
    /// Dials answered from the pool.
    pub cache_hits: u64,
    /// Dials that had to connect, whether that succeeded or not.
    pub cache_misses: u64,
    /// Per cent of the dials that were answered from the pool, rounded to two decimals; 0 before the first.
    pub hit_rate: f64,
    /// Connections given to sessions: `total_reused` and those that were waited for.
    pub total_handed_out: u64,
    /// Attempts to connect a spare, and how many of them failed.
    pub spare_attempts: u64,
    pub spare_failures: u64,
    /// Spares being connected now.
    pub spares_connecting: u64,
    /// Of `total_closed`: the target ended or broke it; found at the moment of hand-over; older than allowed; not
    /// needed any more; given up because descriptors or the limit were short, or at the end.
    pub closed_by_target: u64,
    pub closed_at_hand_over: u64,
    pub closed_too_old: u64,
    pub closed_unneeded: u64,
    pub closed_for_room: u64,
    /// Target addresses whose demand is being watched.
    pub targets_tracked: u64,
}

impl ConnectionPoolStats {
    /// The object from the sums over all workers.
    pub fn new(totals: &Totals) -> Self {
        let (hits, misses) = (totals.pool_hits, totals.pool_misses);
        let handed_out = hits + totals.dials_connected_directly;
        let closed_by_target = totals.spares_closed_by_target;
        Self {
            total_created: totals.spares_connected + totals.dials_connected_directly,
            total_reused: hits,
            total_closed: closed_by_target
                + totals.spares_closed_at_hand_over
                + totals.spares_closed_too_old
                + totals.spares_closed_unneeded
                + totals.spares_closed_for_room,
            current_active: totals.targets_connected,
            current_idle: totals.spares_idle,
            cache_hits: hits,
            cache_misses: misses,
            hit_rate: per_cent(hits, hits + misses),
            total_handed_out: handed_out,
            spare_attempts: totals.spare_attempts,
            spare_failures: totals.spare_failures,
            spares_connecting: totals.spares_connecting,
            closed_by_target,
            closed_at_hand_over: totals.spares_closed_at_hand_over,
            closed_too_old: totals.spares_closed_too_old,
            closed_unneeded: totals.spares_closed_unneeded,
            closed_for_room: totals.spares_closed_for_room,
            targets_tracked: totals.pool_targets,
        }
    }
}

/// A share in per cent with two decimals.
fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 10_000.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tiers_are_summed_over_the_workers() {
        let workers = [TierCounters::default(), TierCounters::default()];
        for (tier, [lent, peak, hits, misses, returned, kept]) in
            workers.iter().zip([[2, 5, 7, 3, 8, 3], [1, 1, 0, 1, 0, 0]])
        {
            tier.lent.set(lent);
            tier.lent_peak.set(peak);
            tier.hits.set(hits);
            tier.misses.set(misses);
            tier.returned.set(returned);
            tier.kept.set(kept);
        }
        let stats = TierStats::sum(4096, workers.iter());
        let expected = json!({
            "buffer_size": 4096, "current_size": 3, "peak_size": 6, "total_allocated": 11, "total_returned": 8,
            "hits": 7, "misses": 4, "idle": 3, "bytes": 6 * 4096
        });
        assert_eq!(serde_json::to_value(stats).unwrap(), expected);
        assert_eq!(stats.total_allocated, stats.current_size + stats.total_returned);
    }

    #[test]
    fn the_connection_pool_adds_up() {
        let totals = Totals {
            pool_hits: 2,
            pool_misses: 1,
            dials_connected_directly: 1,
            spare_attempts: 12,
            spare_failures: 2,
            spares_connecting: 1,
            spares_connected: 9,
            spares_idle: 2,
            spares_closed_by_target: 1,
            spares_closed_at_hand_over: 1,
            spares_closed_too_old: 1,
            spares_closed_unneeded: 1,
            spares_closed_for_room: 1,
            targets_connected: 3,
            pool_targets: 4,
            ..Totals::default()
        };
        let stats = ConnectionPoolStats::new(&totals);
        let expected = json!({
            "total_created": 10, "total_reused": 2, "total_closed": 5, "current_active": 3, "current_idle": 2,
            "cache_hits": 2, "cache_misses": 1, "hit_rate": 66.67, "total_handed_out": 3, "spare_attempts": 12,
            "spare_failures": 2, "spares_connecting": 1, "closed_by_target": 1, "closed_at_hand_over": 1,
            "closed_too_old": 1, "closed_unneeded": 1, "closed_for_room": 1, "targets_tracked": 4
        });
        assert_eq!(serde_json::to_value(&stats).unwrap(), expected);
        assert_eq!(stats.total_created, stats.current_idle + stats.total_handed_out + stats.total_closed);
        assert_eq!(stats.spare_attempts, totals.spares_connected + stats.spare_failures + stats.spares_connecting);
    }

    #[test]
    fn without_dials_the_hit_rate_is_zero() {
        assert!(ConnectionPoolStats::new(&Totals::default()).hit_rate.abs() < f64::EPSILON);
    }
}
