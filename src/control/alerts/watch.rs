//! The judging of rules: a pure function of figures and time.
//!
//! An alert belongs to a rule's name and figure, and to whom the figure is about. It outlives a reload that leaves both,
//! and the process: what was told is kept with the state, so that nobody is told of the same again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Metric, Recipient, Rule};

/// Users for whom one rule fires at the same time; who is beyond has to wait for a place.
const USERS_MAX: usize = 200;
/// Alerts kept with the state.
const SAVED_MAX: usize = 2000;
/// Figures begin anew with the process, and clients have to come back. For so long an alert of a former process is not
/// over, whatever its figure says.
const RESTORED_LASTS: Duration = Duration::from_secs(60);

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

/// An alert that fires, as the state file has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedFiring {
    name: String,
    metric: String,
    value: f64,
    limit: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    since: u64,
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

/// What to tell whom.
pub type Told = (Notice, Vec<Recipient>);

/// All rules with their state.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Vec<Watched>,
    /// Alerts of rules that are gone, until somebody is told of their end.
    ended: Vec<Told>,
}

#[derive(Debug)]
struct Watched {
    rule: Rule,
    /// Who was told of an alert that still fires, and is not told of others any more.
    former: Vec<Recipient>,
    /// Whose figures meet the condition, at most [`USERS_MAX`] of them.
    held: BTreeMap<Owner, Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    firing: Option<Firing>,
    /// A former process fired it: until then it is not over.
    lasts_until: Option<Instant>,
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
        Self { watched: rules.into_iter().map(Watched::new).collect(), ended: Vec::new() }
    }

    /// Goes on where a former process was at `now`.
    pub fn restore(rules: Vec<Rule>, saved: Vec<SavedFiring>, now: Instant) -> Self {
        let mut watch = Self::new(rules);
        for saved in saved.into_iter().take(SAVED_MAX) {
            // What only a later version knows fires there.
            let Some(metric) = Metric::named(&saved.metric) else { continue };
            let firing = firing(saved, metric);
            let known = watch.watched.iter_mut().find(|watched| watched.rule.is_of(&firing.name, metric));
            match known {
                Some(watched) => watched.resume(firing, now),
                // Who was told is not known any more.
                None => watch.ended.push((gone(firing), vec![Recipient::Log])),
            }
        }
        watch
    }

    /// Takes other rules. An alert goes on where a rule of its name and figure stays, and is judged by that; else it ends.
    pub fn adopt(&mut self, rules: Vec<Rule>) {
        let mut former = std::mem::take(&mut self.watched);
        for rule in rules {
            let same = former.iter().position(|watched| watched.rule == rule);
            let alike = || former.iter().position(|watched| watched.rule.is_of(&rule.name, rule.metric));
            let known = same.or_else(alike).map(|at| former.swap_remove(at));
            self.watched.push(match known {
                Some(watched) => watched.with(rule),
                None => Watched::new(rule),
            });
        }
        self.ended.extend(former.into_iter().flat_map(Watched::end));
    }

    /// Judges every rule by its figures; none where there is nothing to judge. Returns what to tell whom.
    pub fn judge<'a>(
        &mut self,
        figures: impl Fn(Metric) -> Vec<Figure<'a>>,
        now: Instant,
        unix_time: u64,
    ) -> Vec<Told> {
        let mut told = std::mem::take(&mut self.ended);
        for watched in &mut self.watched {
            told.extend(watched.judge(&figures(watched.rule.metric), now, unix_time));
        }
        told
    }

    pub fn firing(&self) -> impl Iterator<Item = &Firing> {
        self.watched.iter().flat_map(Watched::firing)
    }

    /// Every rule's name, and for how many it fires: 0 or 1 where the figure is the server's.
    pub fn states(&self) -> impl Iterator<Item = (&str, usize)> {
        self.watched.iter().map(|watched| (watched.rule.name.as_str(), watched.firing().count()))
    }

    /// What a later process must know: alerts that somebody was told of and that are not over.
    pub fn save(&self) -> Vec<SavedFiring> {
        let saved = self.firing().map(|firing| SavedFiring {
            name: firing.name.clone(),
            metric: firing.metric.to_owned(),
            value: firing.value,
            limit: firing.limit,
            user: firing.user.clone(),
            since: firing.since,
        });
        saved.take(SAVED_MAX).collect()
    }
}

impl Watched {
    fn new(rule: Rule) -> Self {
        Self { rule, former: Vec::new(), held: BTreeMap::new() }
    }

    fn firing(&self) -> impl Iterator<Item = &Firing> {
        self.held.values().filter_map(|held| held.firing.as_ref())
    }

    /// The same alerts, judged by another rule from now on.
    fn with(mut self, rule: Rule) -> Self {
        if self.rule.condition != rule.condition {
            // What has not fired yet has to hold anew.
            self.held.retain(|_, held| held.firing.is_some());
        }
        for firing in self.held.values_mut().filter_map(|held| held.firing.as_mut()) {
            firing.limit = rule.condition.limit();
        }
        if self.firing().next().is_some() {
            self.former.extend(std::mem::take(&mut self.rule.to));
            self.former.retain(|recipient| !rule.to.contains(recipient));
        }
        self.rule = rule;
        self
    }

    /// The rule is gone, and its alerts with it.
    fn end(self) -> Vec<Told> {
        let to = [self.rule.to, self.former].concat();
        let firing = self.held.into_values().filter_map(|held| held.firing);
        firing.map(|firing| (gone(firing), to.clone())).collect()
    }

    fn resume(&mut self, mut firing: Firing, now: Instant) {
        if self.held.len() < USERS_MAX {
            firing.limit = self.rule.condition.limit();
            let owner = firing.user.as_deref().map(Arc::from);
            let lasts_until = Some(now + RESTORED_LASTS);
            self.held.insert(owner, Held { since: now, firing: Some(firing), lasts_until });
        }
    }

    fn judge(&mut self, figures: &[Figure<'_>], now: Instant, unix_time: u64) -> Vec<Told> {
        let condition = self.rule.condition;
        let by_user: BTreeMap<Option<&str>, f64> =
            figures.iter().map(|figure| (figure.user.map(AsRef::as_ref), figure.value)).collect();
        let mut resolved = Vec::new();
        self.held.retain(|user, held| {
            let value = by_user.get(&user.as_deref()).copied();
            let holds = value.is_some_and(|value| condition.holds(value));
            let lasts = holds || held.lasts_until.is_some_and(|until| now < until);
            if !lasts {
                resolved.extend(held.firing.take().map(|firing| over(firing, value)));
            }
            lasts
        });
        let mut fired = Vec::new();
        for figure in figures.iter().filter(|figure| condition.holds(figure.value)) {
            fired.extend(self.on_held(*figure, now, unix_time));
        }
        let who_heard = [&self.rule.to[..], &self.former].concat();
        if self.firing().next().is_none() {
            self.former.clear();
        }
        let resolved = resolved.into_iter().map(|notice| (notice, who_heard.clone()));
        resolved.chain(fired.into_iter().map(|notice| (notice, self.rule.to.clone()))).collect()
    }

    fn on_held(&mut self, figure: Figure<'_>, now: Instant, unix_time: u64) -> Option<Notice> {
        let user = figure.user.cloned();
        if self.held.len() >= USERS_MAX && !self.held.contains_key(&user) {
            return None;
        }
        let held = self.held.entry(user.clone()).or_insert(Held { since: now, firing: None, lasts_until: None });
        if let Some(firing) = &mut held.firing {
            firing.value = figure.value;
            held.lasts_until = None;
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

/// The rule is watched no more.
fn gone(alert: Firing) -> Notice {
    let text = format!("{}: over, the rule about {}{} is gone", alert.name, alert.metric, of_user(&alert));
    Notice { state: "resolved", alert, text }
}

fn firing(saved: SavedFiring, metric: Metric) -> Firing {
    let SavedFiring { name, value, limit, user, since, .. } = saved;
    Firing { name, metric: metric.name(), value, limit, user, since, remedy_code: metric.name() }
}

fn of_user(alert: &Firing) -> String {
    alert.user.as_ref().map(|user| format!(" of {user}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
