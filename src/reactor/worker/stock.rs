//! What a worker's sessions borrow: memory, kernel pipes, random numbers.

use std::sync::Arc;
use std::time::Duration;

use super::base::Base;
use crate::io::buffer_pool::BufferPool;
use crate::io::random::Random;
use crate::io::splice::PipePool;
use crate::reactor::schedule::Lent;
use crate::reactor::shared::Shared;
use crate::reactor::timers::Timer;
use crate::session::transfer::Scratch;
use crate::stats::Counters;

/// How often a grown buffer pool gives back what nobody needed in the meantime.
const SHRINK_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Stock {
    scratch: Scratch,
    pool: BufferPool,
    random: Random,
    /// `None`: splicing is switched off.
    pipes: Option<PipePool>,
}

impl Stock {
    pub(super) fn new(shared: &Shared, splice: bool) -> Self {
        Self {
            scratch: Scratch::new(),
            pool: BufferPool::with_memory(Arc::clone(&shared.buffer_memory)),
            random: Random::new(),
            pipes: splice.then(PipePool::new),
        }
    }

    /// All that the schedule and its sessions need for a call.
    pub(super) fn lend<'a>(&'a mut self, base: &'a mut Base) -> Lent<'a> {
        Lent {
            now: base.now,
            scratch: &mut self.scratch,
            pool: &self.pool,
            pipes: self.pipes.as_ref(),
            random: &mut self.random,
            timers: &mut base.timers,
            counters: &base.counters,
            settings: &base.rules.session,
            mux_sockets: &base.shared.mux_sockets,
            worker: base.number,
        }
    }

    /// While the buffer pool is larger than it was made, it is asked from time to time to give some back.
    pub(super) fn watch_growth(&self, base: &mut Base) {
        if self.pool.is_grown() {
            base.arm(Timer::Shrink, base.now + SHRINK_INTERVAL);
        }
    }

    pub(super) fn shrink(&self) {
        self.pool.shrink();
    }

    pub(super) fn publish(&self, counters: &Counters) {
        counters.buffers_held.set(self.pool.held() as u64);
        counters.buffer_bytes_held.set(self.pool.held_bytes() as u64);
        for (counters, usage) in counters.buffer_tiers.iter().zip(self.pool.usage()) {
            counters.lent.set(usage.lent);
            counters.lent_peak.set(usage.lent_peak);
            counters.hits.set(usage.hits);
            counters.misses.set(usage.misses);
            counters.returned.set(usage.returned);
            counters.kept.set(usage.kept);
        }
        counters.pipes_held.set(self.pipes.as_ref().map_or(0, PipePool::in_use) as u64);
    }
}
