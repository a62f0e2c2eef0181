//! The limits of the pool, and what they make of what is known of a target.

use std::time::{Duration, Instant};

use super::target::Target;

/// The limits: of the process, or of one worker ([`PoolSettings::share`]).
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Spares per address.
    pub spares_per_target_max: usize,
    /// Spares in all.
    pub spares_max: usize,
    /// A spare is closed at this age at the latest. A target that was named for warming up is kept warm for so long
    /// without a dial.
    pub idle_max: Duration,
    /// A spare is closed at this age, too.
    pub lifetime_max: Duration,
    pub connect_timeout: Duration,
    pub health_check_interval: Duration,
    /// Spares that each named target gets at the start.
    pub warm_up_spares: usize,
}

impl PoolSettings {
    /// What worker `number` of `workers` gets of figures that are meant for the process.
    pub fn share(&self, number: usize, workers: usize) -> Self {
        let share = |total: usize| total / workers.max(1) + usize::from(number < total % workers.max(1));
        Self {
            spares_per_target_max: share(self.spares_per_target_max),
            spares_max: share(self.spares_max),
            warm_up_spares: share(self.warm_up_spares),
            ..self.clone()
        }
    }

    /// How old a spare of `target` may be when it is handed out.
    pub(super) fn usable(&self, target: &Target, now: Instant) -> Duration {
        target.usable(now).min(self.idle_max).min(self.lifetime_max)
    }

    /// Spares of `target` that should be ready or on their way.
    pub(super) fn wanted(&self, target: &Target, port: u16, now: Instant) -> usize {
        target.wanted(port, now, self.usable(target, now)).min(self.spares_per_target_max)
    }
}
