//! Alerts: rules over figures of the server and of its users, each fired once and resolved once for whom it is about.
//!
//! Here is the judging, a pure function of figures and time; `deliver.rs` tells those who want to know.

pub mod deliver;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

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

/// Users for whom one rule fires at the same time; who is beyond has to wait for a place.
const USERS_MAX: usize = 200;

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
    /// Whose figure it is, where each user has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
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
    /// Whose figures meet the condition, at most [`USERS_MAX`] of them.
    held: BTreeMap<Owner, Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    firing: Option<Firing>,
}

/// Whose figure: a user's, or the server's.
type Owner = Option<Arc<str>>;

/// One figure that rules are judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure<'a> {
    /// `None`: the server.
    pub user: Option<&'a Arc<str>>,
    pub value: f64,
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
            self.watched.push(known.unwrap_or(Watched { rule, held: BTreeMap::new() }));
        }
    }

    /// Judges every rule by its figures; none where there is nothing to judge. Returns what to tell whom.
    pub fn judge<'a>(
        &mut self,
        figures: impl Fn(Metric) -> Vec<Figure<'a>>,
        now: Instant,
        unix_time: u64,
    ) -> Vec<(Notice, Vec<Recipient>)> {
        let mut notices = Vec::new();
        for watched in &mut self.watched {
            let told = watched.judge(&figures(watched.rule.metric), now, unix_time);
            notices.extend(told.into_iter().map(|notice| (notice, watched.rule.to.clone())));
        }
        notices
    }

    pub fn firing(&self) -> impl Iterator<Item = &Firing> {
        self.watched.iter().flat_map(Watched::firing)
    }

    /// Every rule's name, and for how many it fires: 0 or 1 where the figure is the server's.
    pub fn states(&self) -> impl Iterator<Item = (&str, usize)> {
        self.watched.iter().map(|watched| (watched.rule.name.as_str(), watched.firing().count()))
    }
}

impl Watched {
    fn firing(&self) -> impl Iterator<Item = &Firing> {
        self.held.values().filter_map(|held| held.firing.as_ref())
    }

    fn judge(&mut self, figures: &[Figure<'_>], now: Instant, unix_time: u64) -> Vec<Notice> {
        let condition = self.rule.condition;
        let by_user: BTreeMap<Option<&str>, f64> =
            figures.iter().map(|figure| (figure.user.map(AsRef::as_ref), figure.value)).collect();
        let mut notices = Vec::new();
        self.held.retain(|user, held| {
            let value = by_user.get(&user.as_deref()).copied();
            let holds = value.is_some_and(|value| condition.holds(value));
            if !holds {
                notices.extend(held.firing.take().map(|firing| over(firing, value)));
            }
            holds
        });
        for figure in figures.iter().filter(|figure| condition.holds(figure.value)) {
            notices.extend(self.on_held(*figure, now, unix_time));
        }
        notices
    }

    fn on_held(&mut self, figure: Figure<'_>, now: Instant, unix_time: u64) -> Option<Notice> {
        let user = figure.user.cloned();
        if self.held.len() >= USERS_MAX && !self.held.contains_key(&user) {
            return None;
        }
        let held = self.held.entry(user.clone()).or_insert(Held { since: now, firing: None });
        if let Some(firing) = &mut held.firing {
            firing.value = figure.value;
            return None;
        }
        if now.saturating_duration_since(held.since) < self.rule.hold {
            return None;
        }
        let metric = self.rule.metric.name();
        let (value, limit) = (figure.value, self.rule.condition.limit());
        let (name, user) = (self.rule.name.clone(), user.as_deref().map(str::to_owned));
        let alert = Firing { name, metric, value, limit, user, since: unix_time, remedy_code: metric };
        held.firing = Some(alert.clone());
        let text = format!("{}: {metric}{} is {value:.1} (limit {limit})", alert.name, of_user(&alert));
        Some(Notice { state: "fired", alert, text })
    }
}

/// The condition holds no more; `value` is not known if its figure is gone.
fn over(mut alert: Firing, value: Option<f64>) -> Notice {
    alert.value = value.unwrap_or(alert.value);
    let Firing { name, metric, value, limit, .. } = &alert;
    let text = format!("{name}: over, {metric}{} is {value:.1} (limit {limit})", of_user(&alert));
    Notice { state: "resolved", alert, text }
}

fn of_user(alert: &Firing) -> String {
    alert.user.as_ref().map(|user| format!(" of {user}")).unwrap_or_default()
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

    fn of_server(value: f64) -> Vec<Figure<'static>> {
        vec![Figure { user: None, value }]
    }

    #[test]
    fn each_user_has_an_alert_of_his_own_and_a_crowd_is_bounded() {
        let users: Vec<Arc<str>> = (0..USERS_MAX + 50).map(|number| format!("user{number:03}").into()).collect();
        let mut watch = Watch::new(vec![Rule { metric: Metric::QuotaPercent, ..rule(0) }]);
        let mut judge = |values: &[f64]| {
            let figures = || users.iter().zip(values).map(|(user, value)| Figure { user: Some(user), value: *value });
            let notices = watch.judge(|_| figures().collect(), Instant::now(), 0);
            let told = notices.iter().map(|(one, _)| (one.state, one.alert.user.as_deref().unwrap().to_owned()));
            told.collect::<Vec<_>>()
        };
        assert_eq!(judge(&[95.0, 50.0]), [("fired", "user000".to_owned())]);
        assert_eq!(judge(&[96.0, 91.0]), [("fired", "user001".to_owned())]);
        assert_eq!(judge(&[1.0, 91.0]), [("resolved", "user000".to_owned())]);
        assert_eq!(judge(&[1.0]), [("resolved", "user001".to_owned())], "who is gone has no alert");
        assert_eq!(judge(&vec![99.0; USERS_MAX + 50]).len(), USERS_MAX);
        assert_eq!(watch.states().map(|(_, count)| count).sum::<usize>(), USERS_MAX);
        assert!(watch.firing().all(|firing| firing.user.is_some()));
    }

    #[test]
    fn an_alert_fires_once_and_resolves_once() {
        let start = Instant::now();
        let mut watch = Watch::new(vec![rule(10)]);
        let mut judge = |value: f64, second: u64| {
            states(&watch.judge(|_| of_server(value), start + Duration::from_secs(second), 1000 + second))
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
        assert!(watch.judge(|_| Vec::new(), Instant::now(), 0).is_empty());
        assert_eq!((watch.firing().count(), watch.states().count()), (0, default_rules().len()));
    }

    #[test]
    fn an_alert_goes_on_when_the_rules_are_read_again() {
        let mut watch = Watch::new(vec![rule(0)]);
        watch.judge(|_| of_server(95.0), Instant::now(), 7);
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
