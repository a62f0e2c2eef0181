//! Alerts: rules over figures of the server, each fired once and resolved once.
//!
//! Here is the judging, a pure function of figures and time; `deliver.rs` tells those who want to know.

pub mod deliver;

use std::time::{Duration, Instant};

use serde::Serialize;

use super::webhook;

/// Name, and what it is.
pub const METRICS: [(Metric, &str, &str); 10] = [
    (Metric::CertificateDaysLeft, "certificate_days_left", "days until the first certificate expires"),
    (Metric::DescriptorsPercent, "descriptors_percent", "open descriptors, per cent of their limit"),
    (Metric::MemoryPercent, "memory_percent", "resident memory, per cent of the machine's"),
    (Metric::SessionsPercent, "sessions_percent", "sessions, per cent of their limit"),
    (Metric::RejectedPerMinute, "rejected_per_minute", "clients that were not served in the last minute"),
    (Metric::NoTrafficSeconds, "no_traffic_seconds", "seconds since the last payload byte"),
    (Metric::QuotaPercent, "quota_percent", "the most used quota of any user, per cent"),
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

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Firing {
    pub name: String,
    pub metric: &'static str,
    pub value: f64,
    pub limit: f64,
    /// Unix time.
    pub since: u64,
    /// What to do about it is a text of the page, found by this word.
    pub remedy_code: &'static str,
}

/// Something that recipients are told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// `fired` or `resolved`.
    pub state: &'static str,
    #[serde(flatten)]
    pub alert: Firing,
    pub text: String,
}

/// All rules with their state.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    rule: Rule,
    /// Since when the condition holds.
    held_since: Option<Instant>,
    firing: Option<Firing>,
}

impl Watch {
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut watch = Self::default();
        watch.adopt(rules);
        watch
    }

    /// Takes other rules; an alert of a rule that stays goes on.
    pub fn adopt(&mut self, rules: Vec<Rule>) {
        let mut former = std::mem::take(&mut self.watched);
        for rule in rules {
            let known = former.iter().position(|watched| watched.rule == rule).map(|at| former.swap_remove(at));
            self.watched.push(known.unwrap_or(Watched { rule, held_since: None, firing: None }));
        }
    }

    /// Judges every rule by `value`; `None` where there is nothing to judge. Returns what to tell whom.
    pub fn judge(
        &mut self,
        value: impl Fn(Metric) -> Option<f64>,
        now: Instant,
        unix_time: u64,
    ) -> Vec<(Notice, Vec<Recipient>)> {
        let mut notices = Vec::new();
        for watched in &mut self.watched {
            let value = value(watched.rule.metric);
            let notice = match value.filter(|value| watched.rule.condition.holds(*value)) {
                Some(value) => watched.on_held(value, now, unix_time),
                None => watched.on_released(value),
            };
            notices.extend(notice.map(|notice| (notice, watched.rule.to.clone())));
        }
        notices
    }

    pub fn firing(&self) -> impl Iterator<Item = &Firing> {
        self.watched.iter().filter_map(|watched| watched.firing.as_ref())
    }

    /// Every rule's name, and whether it fires.
    pub fn states(&self) -> impl Iterator<Item = (&str, bool)> {
        self.watched.iter().map(|watched| (watched.rule.name.as_str(), watched.firing.is_some()))
    }
}

impl Watched {
    fn on_held(&mut self, value: f64, now: Instant, unix_time: u64) -> Option<Notice> {
        let since = *self.held_since.get_or_insert(now);
        if let Some(firing) = &mut self.firing {
            firing.value = value;
            return None;
        }
        if now.saturating_duration_since(since) < self.rule.hold {
            return None;
        }
        let metric = self.rule.metric.name();
        let limit = self.rule.condition.limit();
        let alert =
            Firing { name: self.rule.name.clone(), metric, value, limit, since: unix_time, remedy_code: metric };
        self.firing = Some(alert.clone());
        let text = format!("{}: {metric} is {value:.1} (limit {limit})", self.rule.name);
        Some(Notice { state: "fired", alert, text })
    }

    fn on_released(&mut self, value: Option<f64>) -> Option<Notice> {
        self.held_since = None;
        let mut alert = self.firing.take()?;
        alert.value = value.unwrap_or(alert.value);
        let text = format!("{}: over, {} is {:.1} (limit {})", alert.name, alert.metric, alert.value, alert.limit);
        Some(Notice { state: "resolved", alert, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(notices: &[(Notice, Vec<Recipient>)]) -> Vec<&'static str> {
        notices.iter().map(|(notice, _)| notice.state).collect()
    }

    fn rule(hold_s: u64) -> Rule {
        Rule {
            name: "full".to_owned(),
            metric: Metric::SessionsPercent,
            condition: Condition::Above(90.0),
            hold: Duration::from_secs(hold_s),
            to: vec![Recipient::Log],
        }
    }

    #[test]
    fn an_alert_fires_once_and_resolves_once() {
        let start = Instant::now();
        let mut watch = Watch::new(vec![rule(10)]);
        let mut judge = |value: f64, second: u64| {
            states(&watch.judge(|_| Some(value), start + Duration::from_secs(second), 1000 + second))
        };
        assert!(judge(95.0, 0).is_empty());
        assert!(judge(50.0, 5).is_empty());
        assert!(judge(95.0, 6).is_empty());
        assert!(judge(95.0, 15).is_empty());
        assert_eq!(judge(96.0, 16), ["fired"]);
        assert!(judge(97.0, 17).is_empty());
        assert_eq!(judge(90.0, 18), ["resolved"]);
        assert!(judge(90.0, 19).is_empty());
    }

    #[test]
    fn a_figure_that_is_not_there_fires_nothing() {
        let mut watch = Watch::new(default_rules());
        assert!(watch.judge(|_| None, Instant::now(), 0).is_empty());
        assert_eq!((watch.firing().count(), watch.states().count()), (0, default_rules().len()));
    }

    #[test]
    fn an_alert_goes_on_when_the_rules_are_read_again() {
        let mut watch = Watch::new(vec![rule(0)]);
        watch.judge(|_| Some(95.0), Instant::now(), 7);
        watch.adopt(vec![rule(0), Rule { name: "other".to_owned(), ..rule(5) }]);
        assert_eq!(watch.firing().map(|firing| firing.since).collect::<Vec<_>>(), [7]);
        watch.adopt(Vec::new());
        assert_eq!(watch.firing().count(), 0);
    }

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        for (metric, name, _) in METRICS {
            assert_eq!((Metric::named(name), metric.name()), (Some(metric), name));
        }
    }
}
