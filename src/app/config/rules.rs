//! Rules that many keys share: ranges, words, addresses, paths.
//!
//! Owns the list of what is wrong while a file is checked. Each rule answers with something usable even when it is
//! broken, so that the check goes on and finds the rest.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::error::{did_you_mean, quoted, quoted_word};
use super::{resolve, values};

/// One broken rule.
pub(super) struct Problem {
    /// Such as `users[1].flow`.
    pub(super) path: String,
    /// What would be right.
    pub(super) message: String,
}

/// One check of one file, and what it has found so far.
pub(super) struct Check<'a> {
    pub(super) config_file: &'a Path,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Check<'a> {
    pub(super) fn new(config_file: &'a Path) -> Self {
        Self { config_file, problems: Vec::new(), warnings: Vec::new() }
    }
}

impl Check<'_> {
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), message: message.into() });
    }

    /// `value` if it is in `range`, else the start of it.
    pub(super) fn number(&mut self, key: &str, value: i64, range: RangeInclusive<i64>, unit: &str) -> i64 {
        if range.contains(&value) {
            return value;
        }
        let space = if unit.is_empty() { "" } else { " " };
        self.problem(key, format!("must be between {} and {}{space}{unit}, not {value}", range.start(), range.end()));
        *range.start()
    }

    pub(super) fn port(&mut self, key: &str, value: i64) -> u16 {
        self.number(key, value, 1..=65_535, "") as u16
    }

    /// A size in bytes where 0 stands for "decided elsewhere".
    pub(super) fn optional_size(&mut self, key: &str, value: i64, range: RangeInclusive<i64>) -> Option<usize> {
        if value == 0 {
            return None;
        }
        if !range.contains(&value) {
            let (least, most) = (range.start(), range.end());
            self.problem(key, format!("must be 0 (automatic) or between {least} and {most} bytes, not {value}"));
        }
        Some(value as usize)
    }

    pub(super) fn ip(&mut self, key: &str, text: &str) -> Option<IpAddr> {
        self.parsed(key, values::ip(text), values::IP_EXPECTED)
    }

    pub(super) fn path(&mut self, key: &str, text: &str) -> PathBuf {
        if text.is_empty() || text.contains('\0') {
            self.problem(key, "must be the path of a file");
        }
        resolve(self.config_file, Path::new(text))
    }

    /// One of a few words, or the first of them.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, text: &str, known: &[(&str, T)]) -> T {
        if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words = known.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let list = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let given = quoted_word(key, text, &words);
        self.problem(key, format!("must be one of {list}, not {given}{}", did_you_mean(text, &words)));
        known[0].1
    }

    pub(super) fn parsed<T>(&mut self, key: &str, result: Result<T, impl Display>, expected: &str) -> Option<T> {
        let refuse = |found: &dyn Display| format!("must be {expected}, not {}", quoted(key, &found.to_string()));
        result.map_err(|found| self.problem(key, refuse(&found))).ok()
    }
}
