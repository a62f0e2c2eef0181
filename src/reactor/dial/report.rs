//! Tells the operator that dials are refused by policy: once a minute at most, and without saying where clients went.

use std::time::{Duration, Instant};

use crate::reactor::policy::Refusal;

/// How often a warning may appear.
const INTERVAL: Duration = Duration::from_mins(1);

/// Refusals since the last warning.
#[derive(Debug, Default)]
pub(super) struct RefusalReport {
    unreported: u64,
    reported: Option<Instant>,
}

impl RefusalReport {
    /// A dial was refused.
    pub(super) fn on_refusal(&mut self, refusal: Refusal, now: Instant) {
        if let Some(count) = self.due(now) {
            log::warn!(
                "{count} dials refused by the destination policy, the last one because of {refusal}; \
                 outbound.allow lets networks through, the log level debug shows the targets"
            );
        }
    }

    /// Counts one refusal; the number to report if it is time to.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.unreported += 1;
        if self.reported.is_some_and(|reported| now.saturating_duration_since(reported) < INTERVAL) {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_appears_at_once_and_then_once_a_minute() {
        let start = Instant::now();
        let mut report = RefusalReport::default();
        assert_eq!(report.due(start), Some(1));
        assert_eq!(report.due(start + Duration::from_secs(1)), None);
        assert_eq!(report.due(start + Duration::from_secs(59)), None);
        assert_eq!(report.due(start + Duration::from_mins(1)), Some(3));
    }
}
