//! Alerts: rules over figures of the server and of its users, each fired once and resolved once for whom it is about.
//!
//! Here is what a rule is; `watch.rs` judges rules by their figures, `deliver.rs` tells those who want to know.

pub mod deliver;
pub mod watch;

use std::time::Duration;

use super::webhook;

/// Name, and what it is.
pub const METRICS: [(Metric, &str, &str); 11] = [
    (Metric::CertificateDaysLeft, "certificate_days_left", "days until the first certificate expires"),
    (Metric::DescriptorsPercent, "descriptors_percent", "open descriptors, per cent of their limit"),
    (Metric::MemoryPercent, "memory_percent", "resident memory, per cent of the machine's"),
    (Metric::SessionsPercent, "sessions_percent", "sessions, per cent of their limit"),
    (Metric::RejectedPerMinute, "rejected_per_minute", "clients that were not served in the last minute"),
    (Metric::NoTrafficSeconds, "no_traffic_seconds", "seconds since the last payload byte"),
    (Metric::QuotaPercent, "quota_percent", "how much of the quota is used, per cent; for each user who has one"),
    (
        Metric::AccountDaysLeft,
        "account_days_left",
        "days until the account ends; for each that has an end and not ended",
    ),
    (Metric::StateWriteErrors, "state_write_errors", "failed attempts in a row to write the state file"),
    (Metric::TurnMilliseconds, "turn_milliseconds", "99 of 100 turns of the workers in the last minute were shorter"),
    (Metric::ClusterAwaySeconds, "cluster_away_seconds", "seconds since the cluster's engine last answered"),
];

/// A figure that rules can watch. The names are those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    CertificateDaysLeft,
    DescriptorsPercent,
    MemoryPercent,
    SessionsPercent,
    RejectedPerMinute,
    NoTrafficSeconds,
    QuotaPercent,
    AccountDaysLeft,
    StateWriteErrors,
    TurnMilliseconds,
    ClusterAwaySeconds,
}

impl Metric {
    pub fn named(name: &str) -> Option<Self> {
        METRICS.iter().find(|(_, known, _)| *known == name).map(|(metric, ..)| *metric)
    }

    pub fn name(self) -> &'static str {
        METRICS.iter().find(|(metric, ..)| *metric == self).map_or("", |(_, name, _)| name)
    }
}

/// When a rule fires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    Above(f64),
    Below(f64),
}

impl Condition {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::Below(limit) => value < limit,
        }
    }

    fn limit(self) -> f64 {
        match self {
            Self::Above(limit) | Self::Below(limit) => limit,
        }
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    Log,
    Webhook(webhook::Url),
    /// Program and arguments; the message comes on its standard input.
    Command(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    pub metric: Metric,
    pub condition: Condition,
    /// How long the condition must hold.
    pub hold: Duration,
    pub to: Vec<Recipient>,
}

impl Rule {
    /// It is the rule of this name about this figure, whatever its limit.
    fn is_of(&self, name: &str, metric: Metric) -> bool {
        self.name == name && self.metric == metric
    }
}

/// The rules in effect when the operator names none of the same name.
pub fn default_rules() -> Vec<Rule> {
    use Condition::{Above, Below};
    let rule = |name: &str, metric, condition, hold_s| Rule {
        name: name.to_owned(),
        metric,
        condition,
        hold: Duration::from_secs(hold_s),
        to: vec![Recipient::Log],
    };
    vec![
        rule("certificate_expires", Metric::CertificateDaysLeft, Below(14.0), 0),
        rule("descriptors_short", Metric::DescriptorsPercent, Above(90.0), 60),
        rule("memory_short", Metric::MemoryPercent, Above(90.0), 60),
        rule("sessions_short", Metric::SessionsPercent, Above(90.0), 60),
        rule("many_rejected", Metric::RejectedPerMinute, Above(6000.0), 60),
        rule("quota_nearly_used", Metric::QuotaPercent, Above(95.0), 0),
        rule("state_not_written", Metric::StateWriteErrors, Above(2.0), 0),
        rule("workers_slow", Metric::TurnMilliseconds, Above(500.0), 60),
        rule("cluster_away", Metric::ClusterAwaySeconds, Above(60.0), 0),
    ]
}

/// The default rules, and the figures, as the rows of two Markdown tables.
pub fn documentation() -> (String, String) {
    let condition = |condition| match condition {
        Condition::Above(limit) => format!("above {limit}"),
        Condition::Below(limit) => format!("below {limit}"),
    };
    let rules = default_rules().into_iter().map(|rule| {
        let (metric, when) = (rule.metric.name(), condition(rule.condition));
        format!("| `{}` | `{metric}` {when} | {} s |\n", rule.name, rule.hold.as_secs())
    });
    let figures = METRICS.iter().map(|(_, name, what)| format!("| `{name}` | {what} |\n"));
    (rules.collect(), figures.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        for (metric, name, _) in METRICS {
            assert_eq!((Metric::named(name), metric.name()), (Some(metric), name));
        }
    }
}
