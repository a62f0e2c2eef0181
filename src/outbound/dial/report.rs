//! Tells the operator that the policy refuses dials: once a minute at most, and without saying where clients went.

use std::time::{Duration, Instant};

use crate::outbound::policy::Refusal;

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
            log::warn!("{}", text(count, refusal));
        }
    }

    /// Counts one refusal. Returns the number to report, if it is time to.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.unreported += 1;
        if self.reported.is_some_and(|reported| now.saturating_duration_since(reported) < INTERVAL) {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

fn text(count: u64, refusal: Refusal) -> String {
    let dials = if count == 1 { "dial" } else { "dials" };
    let way_out = match refusal {
        Refusal::Private(_) => "outbound.allow lets networks through, ",
        Refusal::Port => "outbound.deny_ports lists the ports that are refused, ",
        // Nothing lifts these rules. What is undecided is no refusal.
        Refusal::OwnListener | Refusal::Guarded | Refusal::Undecided => "",
    };
    format!(
        "{count} {dials} refused by the destination policy, the last one because of {refusal}; {way_out}the log level \
         debug shows the targets"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_the_setting_that_counts() {
        let private = text(2, Refusal::Private("10.0.0.0/8 (private)"));
        assert!(private.starts_with("2 dials refused by the destination policy, the last one because of 10.0.0.0/8"));
        assert!(private.contains("outbound.allow lets networks through"));
        let port = text(1, Refusal::Port);
        assert!(port.starts_with("1 dial refused") && port.contains("outbound.deny_ports"), "{port}");
        for always in [Refusal::OwnListener, Refusal::Guarded] {
            assert!(!text(1, always).contains("outbound."));
        }
    }

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
