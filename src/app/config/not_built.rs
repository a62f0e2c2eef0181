//! Keys that are accepted and checked but have no effect yet.
//!
//! Owns the list. Who builds a feature deletes its rows.

use super::locate::{KeyPath, locate};

/// A whole section, or a key of one.
const NOT_BUILT: &[&str] = &[
    "performance.stats_batch_size",
    "limits.sessions_per_source_max",
    "limits.handshakes_per_source_max",
    "limits.accepts_per_source_per_second_max",
];

/// A line for each section of `json` (the file without comments) that says something without effect.
pub(super) fn warnings(json: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let present = |path: &&str| locate(json, &KeyPath::parse(path)).is_some();
    let mut keys_by_section: Vec<(&str, Vec<&str>)> = Vec::new();
    for path in NOT_BUILT.iter().copied().filter(present) {
        let (section, key) = path.split_once('.').unwrap_or((path, ""));
        match keys_by_section.last_mut() {
            Some((last, keys)) if *last == section => keys.push(key),
            _ => keys_by_section.push((section, vec![key])),
        }
    }
    for (section, keys) in keys_by_section {
        lines.push(format!("{section}: not built yet, without effect: {}", keys.join(", ")));
    }
    lines
}
