//! Metrics for Prometheus: one table of all counters, and its text in both formats.
//!
//! `table.rs` and `labelled.rs` say what there is, with kind, unit and help; JSON, metrics and documentation come from
//! them. `text.rs` writes the exposition formats.

pub mod cluster;
pub mod labelled;
pub mod table;
pub mod text;

use crate::control::view::View;
use crate::stats::histogram::Durations;

/// Users with series of their own at the most: a series for each of many users would cost the reader more than it tells.
pub const USERS_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// A number as it is written: whole ones exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Label names and values; the names are ours, the values may be anything.
pub type Labels = Vec<(&'static str, String)>;

/// Where a family's values come from.
#[derive(Clone, Copy)]
pub enum Source {
    /// One value without labels.
    One(fn(&View) -> Number),
    /// One value for each set of labels.
    Many(fn(&View) -> Vec<(Labels, Number)>),
    /// A distribution for each value of a label; the label's name may be empty.
    Times(&'static str, TimesOf),
}

/// Distributions by the value of a label.
pub type TimesOf = for<'a> fn(&'a View) -> Vec<(&'static str, &'a Durations)>;

/// A family of metrics.
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    /// `bytes`, `seconds` or empty; the name has it, too.
    pub unit: &'static str,
    pub help: &'static str,
    pub source: Source,
}

/// All families.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    table::TABLE.iter().chain(labelled::TABLE).chain(cluster::TABLE)
}

/// All families as the rows of a Markdown table.
pub fn documentation(view: &View) -> String {
    let lines = rows().map(|row| {
        let labels: Vec<_> = match row.source {
            Source::One(_) => Vec::new(),
            Source::Many(values) => {
                let values = values(view);
                values.first().map(|(labels, _)| labels.iter().map(|(name, _)| *name).collect()).unwrap_or_default()
            }
            Source::Times(label, _) => vec![label],
        };
        let labels = labels.iter().filter(|label| !label.is_empty()).map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let gap = if labels.is_empty() { "" } else { " " };
        let help = row.help.trim_end_matches('.');
        format!("| `{}` | {} |{gap}{labels} | {help} |\n", row.name, row.kind.name())
    });
    lines.collect()
}
