//! When a lost engine is tried again.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::io::random::Random;

/// Between two attempts to reach the engine; the longest is reached by doubling.
const WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// When the engine is tried again.
pub(super) struct Retry {
    at: Instant,
    wait: Duration,
    random: Random,
    has_failed: bool,
}

impl Retry {
    /// At once.
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, wait: *WAIT.start(), random: Random::new(), has_failed: false }
    }

    /// Until the next attempt.
    pub(super) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// An attempt has failed, or a connection ended; returns whether it is the first since [`Retry::succeeded`].
    pub(super) fn failed(&mut self) -> bool {
        // Nodes that lost the engine at the same moment do not come back at the same moment.
        let jitter = self.wait.mul_f64(f64::from(self.random.below(500)) / 1000.0);
        self.at = Instant::now() + self.wait / 2 + jitter;
        self.wait = (self.wait * 2).min(*WAIT.end());
        !std::mem::replace(&mut self.has_failed, true)
    }

    /// The engine answers; returns whether it did not before.
    pub(super) fn succeeded(&mut self) -> bool {
        self.wait = *WAIT.start();
        std::mem::take(&mut self.has_failed)
    }
}
