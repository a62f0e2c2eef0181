//! How many spare connections the demand for one target justifies: a pure estimate from the times of its dials.
//!
//! The rate is the decayed number of earlier dials over the decay time, so it has no bias from the dial that asks.
//! While nobody dials, the silence itself bounds the rate: a target that is dialled at rate r is silent for 1.5 / r
//! seconds only one time in four or five.
//!
//! Dials close together, such as those of one page, count as one occasion. A target needs three occasions before it
//! gets anything. So a target that is visited once gets nothing, however many connections that takes.

use std::time::{Duration, Instant};

/// Decay time of the rate.
const MEMORY_S: f64 = 10.0;
/// Dials within this time of an occasion's first belong to it.
const OCCASION: Duration = Duration::from_secs(1);
/// So many occasions within [`OCCASIONS_WINDOW`] make a demand.
const OCCASIONS: usize = 3;
const OCCASIONS_WINDOW: Duration = Duration::from_secs(30);
/// A target that is expected to be dialled less often than this gets no spare.
const GAP_MAX_S: f64 = 10.0;
/// Silence beyond so many expected gaps says that the demand has fallen.
const SILENCE_GAPS: f64 = 1.5;
/// What a new connection takes beyond the network's time: a turn or two of ours.
pub const TURN: Duration = Duration::from_millis(1);

/// The dials of one target as far as they matter.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// When the latest occasions began, the newest first.
    occasions: [Option<Instant>; OCCASIONS],
    last: Option<Instant>,
    /// Dials, decayed to `last` and with that one.
    weight: f64,
    /// Dials per second as estimated at `last`.
    rate: f64,
}

impl Demand {
    /// The target was dialled.
    pub fn note(&mut self, now: Instant) {
        let before = self.load(now);
        self.rate = before / MEMORY_S;
        self.weight = before + 1.0;
        self.last = Some(now);
        if self.occasions[0].is_none_or(|began| now.saturating_duration_since(began) >= OCCASION) {
            self.occasions.rotate_right(1);
            self.occasions[0] = Some(now);
        }
    }

    /// Dials of late. Each counts less the longer it is ago.
    pub fn load(&self, now: Instant) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        self.weight * (-now.saturating_duration_since(last).as_secs_f64() / MEMORY_S).exp()
    }

    /// Spares that should be ready. Without demand these are none. With demand they suffice for the dials that are
    /// expected while a new one is connected, and for twice the deviation of these. `usable` is how long a spare may
    /// wait to be handed out.
    pub fn wanted(&self, now: Instant, connect_time: Duration, usable: Duration) -> usize {
        let is_steady = self.occasions[OCCASIONS - 1]
            .is_some_and(|oldest| now.saturating_duration_since(oldest) <= OCCASIONS_WINDOW);
        let rate = self.rate(now);
        if !is_steady || rate * GAP_MAX_S < 1.0 || rate * usable.as_secs_f64() < 1.0 {
            return 0;
        }
        let meanwhile = rate * (connect_time + TURN).as_secs_f64();
        (meanwhile + 2.0 * meanwhile.sqrt()).ceil().max(1.0) as usize
    }

    /// Dials per second that are expected now.
    fn rate(&self, now: Instant) -> f64 {
        let silence = self.last.map_or(f64::INFINITY, |last| now.saturating_duration_since(last).as_secs_f64());
        self.rate.min(SILENCE_GAPS / silence.max(f64::EPSILON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::random::Random;

    const CONNECT: Duration = Duration::from_millis(20);
    const USABLE: Duration = Duration::from_secs(15);

    fn wanted(demand: &Demand, now: Instant) -> usize {
        demand.wanted(now, CONNECT, USABLE)
    }

    #[test]
    fn one_visit_however_many_connections_it_takes_wants_no_spare() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for dial in 0..60 {
            let now = start + Duration::from_millis(dial * 30);
            demand.note(now);
            assert_eq!(wanted(&demand, now), 0, "after {dial} dials");
        }
    }

    #[test]
    fn steady_dials_want_a_spare_and_more_when_they_are_many() {
        let start = Instant::now();
        for (gap_ms, connect_ms, expected) in [(5000, 20, 1), (200, 20, 1), (20, 20, 4), (5, 200, 53)] {
            let mut demand = Demand::default();
            let mut now = start;
            while now < start + Duration::from_secs(60) {
                now += Duration::from_millis(gap_ms);
                demand.note(now);
            }
            let wanted = demand.wanted(now, Duration::from_millis(connect_ms), USABLE);
            assert!(wanted.abs_diff(expected) <= 1, "every {gap_ms} ms: {wanted}, not {expected}");
        }
    }

    #[test]
    fn rare_dials_want_nothing() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for dial in 0..20 {
            let now = start + Duration::from_secs(dial * 11);
            demand.note(now);
            assert_eq!(wanted(&demand, now), 0);
        }
    }

    #[test]
    fn nothing_is_wanted_soon_after_the_last_dial() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for dial in 0..300 {
            demand.note(start + Duration::from_millis(dial * 200));
        }
        let last = demand.last.unwrap();
        assert_eq!(wanted(&demand, last + Duration::from_secs(14)), 1);
        assert_eq!(wanted(&demand, last + Duration::from_secs(16)), 0);
    }

    #[test]
    fn a_spare_that_would_be_too_old_before_it_is_needed_is_not_wanted() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for dial in 0..20 {
            demand.note(start + Duration::from_secs(dial * 4));
        }
        let last = demand.last.unwrap();
        assert_eq!(demand.wanted(last, CONNECT, Duration::from_secs(6)), 1);
        assert_eq!(demand.wanted(last, CONNECT, Duration::from_secs(1)), 0);
    }

    /// What came of keeping as many spares as are wanted.
    struct Outcome {
        dials: u32,
        hits: u32,
        /// Spares closed because they were too old or not wanted any more.
        wasted: u32,
    }

    /// Dials at random times of a steady rate, in steps of 10 ms, with spares that take 20 ms to connect.
    fn simulate(seed: u64, dials_per_s: f64, seconds: u64) -> Outcome {
        let mut random = Random::seeded(seed);
        let start = Instant::now();
        let (mut demand, mut ready) = (Demand::default(), Vec::<Instant>::new());
        let mut outcome = Outcome { dials: 0, hits: 0, wasted: 0 };
        for step in 0..seconds * 100 {
            let now = start + Duration::from_millis(step * 10);
            if f64::from(random.below(1_000_000)) < dials_per_s * 10_000.0 {
                outcome.dials += 1;
                if ready.first().is_some_and(|&at| at <= now) {
                    ready.remove(0);
                    outcome.hits += 1;
                }
                demand.note(now);
            }
            let before = ready.len();
            let wanted = wanted(&demand, now);
            ready.retain(|&at| now < at + USABLE && (wanted > 0 || at > now));
            if ready.len() > wanted && ready.first().is_some_and(|&at| now >= at + USABLE / 2) {
                ready.remove(0);
            }
            outcome.wasted += (before - ready.len()) as u32;
            while ready.len() < wanted {
                ready.push(now + CONNECT);
            }
        }
        outcome
    }

    #[test]
    fn steady_demand_at_random_times_is_answered_from_spares() {
        for (rate, hit_share, waste_share) in
            [(25.0, 0.9, 0.001), (5.0, 0.85, 0.002), (1.0, 0.9, 0.02), (0.5, 0.9, 0.1)]
        {
            let sum = (0..4).map(|seed| simulate(seed, rate, 600)).fold([0.0; 3], |sum, one| {
                [sum[0] + f64::from(one.dials), sum[1] + f64::from(one.hits), sum[2] + f64::from(one.wasted)]
            });
            let (hits, wasted) = (sum[1] / sum[0], sum[2] / sum[0]);
            println!("{rate} dials/s: {hits:.3} hits, {wasted:.4} wasted");
            assert!(hits >= hit_share && wasted <= waste_share, "{rate} dials/s: {hits} hits, {wasted} wasted");
        }
    }

    #[test]
    fn rare_demand_at_random_times_wastes_little() {
        for rate in [0.2, 0.1, 0.05, 0.02] {
            let sum = (0..3).map(|seed| simulate(seed, rate, 3600)).fold([0.0; 3], |sum, one| {
                [sum[0] + f64::from(one.dials), sum[1] + f64::from(one.hits), sum[2] + f64::from(one.wasted)]
            });
            println!("{rate} dials/s: {:.3} hits, {:.3} wasted", sum[1] / sum[0], sum[2] / sum[0]);
            assert!(sum[2] <= 0.25 * sum[0], "{rate} dials/s: {} of {} wasted", sum[2], sum[0]);
        }
    }
}
