//! Medians, ratios and how they are printed: a table for people, one JSON line per figure for scripts.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use crate::scenario::{Figure, Goal, Scenario};
use crate::servers::Peer;

/// All rounds of one scenario.
pub(crate) struct Report<'a> {
    scenario: &'a Scenario,
    peers: Vec<(Peer, Vec<Vec<Figure>>)>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        Self { scenario, peers: Vec::new() }
    }

    /// Adds one round of one peer.
    pub(crate) fn add(&mut self, peer: Peer, figures: Vec<Figure>) {
        match self.peers.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, rounds)) => rounds.push(figures),
            None => self.peers.push((peer, vec![figures])),
        }
    }

    /// The scenario's block of the table. (Writing to a `String` cannot fail, hence the ignored results.)
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.scenario.name, self.scenario.about);
        for (peer, rounds) in &self.peers {
            let Some((unit, _)) = rounds[0].first() else { continue };
            let values = values(rounds, 0);
            let (low, high) = (values[0], values[values.len() - 1]);
            let spread = format!("{} .. {}", short(low), short(high));
            let _ = write!(text, "  {:<12} {:>8} {unit:<23} {spread:<20}", peer.name(), short(median(&values)));
            for (reference, ratio) in self.ratios(*peer, 0) {
                let _ = write!(text, " {ratio:.2}x {reference}");
            }
            for (index, (unit, _)) in rounds[0].iter().enumerate().skip(1) {
                let _ = write!(text, " | {} {unit}", short(median(&self::values(rounds, index))));
            }
            text += "\n";
        }
        for goal in self.scenario.goals {
            text += &self.verdict(*goal);
        }
        text
    }

    /// One JSON object per line and figure.
    pub(crate) fn json_lines(&self) -> String {
        let mut lines = String::new();
        for (peer, rounds) in &self.peers {
            for (index, (unit, _)) in rounds[0].iter().enumerate() {
                let in_order: Vec<f64> = rounds.iter().map(|round| round[index].1).collect();
                let ratios: BTreeMap<&str, f64> = self.ratios(*peer, index).collect();
                let line = json!({
                    "scenario": self.scenario.name, "peer": peer.name(), "unit": unit,
                    "median": median(&values(rounds, index)), "rounds": in_order, "ratio_to": ratios,
                });
                let _ = writeln!(lines, "{line}");
            }
        }
        lines
    }

    fn verdict(&self, goal: Goal) -> String {
        let (wanted, limit) = match goal {
            Goal::Value(limit) => (format!("at most {}", short(limit)), Some(limit)),
            Goal::Times(factor, peer) => {
                (format!("at most {factor}x {}", peer.name()), self.median_of(peer, 0).map(|value| value * factor))
            }
        };
        let verdict = match (self.median_of(Peer::Ours, 0), limit) {
            (Some(ours), Some(limit)) if ours <= limit => "met",
            (Some(_), Some(_)) => "NOT met",
            _ => "not measured",
        };
        format!("  goal for ours: {wanted}: {verdict}\n")
    }

    /// This peer's median figure as a multiple of every other's.
    fn ratios(&self, peer: Peer, index: usize) -> impl Iterator<Item = (&'static str, f64)> {
        let own = self.median_of(peer, index);
        let others = self.peers.iter().map(|(other, _)| *other).filter(move |other| *other != peer);
        others.filter_map(move |other| {
            let reference = self.median_of(other, index).filter(|value| *value != 0.0)?;
            Some((other.name(), own? / reference))
        })
    }

    fn median_of(&self, peer: Peer, index: usize) -> Option<f64> {
        let (_, rounds) = self.peers.iter().find(|(known, _)| *known == peer)?;
        rounds[0].get(index)?;
        Some(median(&values(rounds, index)))
    }
}

/// One figure of all rounds, ascending.
fn values(rounds: &[Vec<Figure>], index: usize) -> Vec<f64> {
    let mut values: Vec<f64> = rounds.iter().map(|round| round[index].1).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of ascending values, the mean of the two middle ones of an even number.
fn median(values: &[f64]) -> f64 {
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

fn short(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}
