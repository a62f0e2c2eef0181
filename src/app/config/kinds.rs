//! What a key may hold: numbers with a range, words, texts that mean something, and lists of them.
//!
//! Each kind knows its default, says what is wrong, and turns what the file has into what the program wants.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::quoted;
use super::rules::Check;
use super::section::{Kind, Row};
use super::settings::Secret;

fn said(range: &RangeInclusive<i64>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// A duration in seconds.
pub(super) struct Seconds(pub(super) i64, pub(super) RangeInclusive<i64>);

impl Kind for Seconds {
    type Raw = i64;
    type Value = Duration;

    fn default_raw(&self) -> i64 {
        self.0
    }

    fn value(&self, key: &str, raw: &i64, check: &mut Check<'_>) -> Duration {
        Duration::from_secs(check.number(key, *raw, self.1.clone(), "seconds") as u64)
    }

    fn range(&self) -> String {
        said(&self.1)
    }
}

/// A whole number: default, range, unit.
pub(super) struct Count(pub(super) i64, pub(super) RangeInclusive<i64>, pub(super) &'static str);

impl Kind for Count {
    type Raw = i64;
    type Value = usize;

    fn default_raw(&self) -> i64 {
        self.0
    }

    fn value(&self, key: &str, raw: &i64, check: &mut Check<'_>) -> usize {
        check.number(key, *raw, self.1.clone(), self.2) as usize
    }

    fn range(&self) -> String {
        said(&self.1)
    }
}

/// A size in bytes; 0, the default, stands for "decided elsewhere".
pub(super) struct OptionalBytes(pub(super) RangeInclusive<i64>);

impl Kind for OptionalBytes {
    type Raw = i64;
    type Value = Option<usize>;

    fn default_raw(&self) -> i64 {
        0
    }

    fn value(&self, key: &str, raw: &i64, check: &mut Check<'_>) -> Option<usize> {
        check.optional_size(key, *raw, self.0.clone())
    }

    fn range(&self) -> String {
        format!("0, or {}", said(&self.0))
    }
}

/// A number that may have a fraction, or null; perhaps with an example.
pub(super) struct OptionalNumber(pub(super) Option<&'static str>);

impl Kind for OptionalNumber {
    type Raw = Option<f64>;
    type Value = Option<f64>;

    fn default_raw(&self) -> Option<f64> {
        None
    }

    fn value(&self, _: &str, raw: &Option<f64>, _: &mut Check<'_>) -> Option<f64> {
        *raw
    }

    fn rows(&self, key: &str, meaning: &'static str) -> Vec<Row> {
        let required = Row::required(key, meaning, String::new());
        vec![match self.0 {
            Some(example) => Row { default: "`null`".to_owned(), example: Some(example.to_owned()), ..required },
            None => Row { default: "null".to_owned(), example: None, ..required },
        }]
    }
}

/// A TCP port.
pub(super) struct Port(pub(super) i64);

impl Kind for Port {
    type Raw = i64;
    type Value = u16;

    fn default_raw(&self) -> i64 {
        self.0
    }

    fn value(&self, key: &str, raw: &i64, check: &mut Check<'_>) -> u16 {
        check.port(key, *raw)
    }

    fn range(&self) -> String {
        said(&(1..=65_535))
    }
}

/// Yes or no.
pub(super) struct Switch(pub(super) bool);

impl Kind for Switch {
    type Raw = bool;
    type Value = bool;

    fn default_raw(&self) -> bool {
        self.0
    }

    fn value(&self, _: &str, raw: &bool, _: &mut Check<'_>) -> bool {
        *raw
    }
}

/// One of a few words: the default, and all of them.
pub(super) struct Word<T: 'static>(pub(super) &'static str, pub(super) &'static [(&'static str, T)]);

impl<T: Copy> Kind for Word<T> {
    type Raw = String;
    type Value = T;

    fn default_raw(&self) -> String {
        self.0.to_owned()
    }

    fn value(&self, key: &str, raw: &String, check: &mut Check<'_>) -> T {
        check.choice(key, raw, self.1)
    }
}

/// One of a few words, or null.
pub(super) struct OptionalWord<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy> Kind for OptionalWord<T> {
    type Raw = Option<String>;
    type Value = Option<T>;

    fn default_raw(&self) -> Option<String> {
        None
    }

    fn value(&self, key: &str, raw: &Option<String>, check: &mut Check<'_>) -> Option<T> {
        raw.as_ref().map(|text| check.choice(key, text, self.0))
    }
}

/// The meaning of one text, or what to say about it; the whole message where nothing is "expected".
pub(super) struct Meaning<T> {
    pub(super) read: fn(&str) -> Result<T, String>,
    /// As in "must be an IP address".
    pub(super) expected: &'static str,
}

impl<T> Meaning<T> {
    fn of(&self, key: &str, text: &str, check: &mut Check<'_>) -> Option<T> {
        let problem = match (self.read)(text) {
            Ok(value) => return Some(value),
            Err(message) if self.expected.is_empty() => message,
            Err(_) => format!("must be {}, not {}", self.expected, quoted(key, text)),
        };
        check.problem(key, problem);
        None
    }
}

/// A text with a default.
pub(super) struct Text<T>(pub(super) &'static str, pub(super) Meaning<T>);

impl<T: Default> Kind for Text<T> {
    type Raw = String;
    type Value = T;

    fn default_raw(&self) -> String {
        self.0.to_owned()
    }

    fn value(&self, key: &str, raw: &String, check: &mut Check<'_>) -> T {
        self.1.of(key, raw, check).unwrap_or_default()
    }
}

/// A text, or null; an empty one means the same as null.
pub(super) struct OptionalText<T>(pub(super) Meaning<T>);

impl<T> Kind for OptionalText<T> {
    type Raw = Option<String>;
    type Value = Option<T>;

    fn default_raw(&self) -> Option<String> {
        None
    }

    fn value(&self, key: &str, raw: &Option<String>, check: &mut Check<'_>) -> Option<T> {
        raw.as_ref().filter(|text| !text.is_empty()).and_then(|text| self.0.of(key, text, check))
    }
}

/// A text without which the object it is in means nothing; with an example.
pub(super) struct Required<T>(pub(super) &'static str, pub(super) Meaning<T>);

impl<T: Default> Kind for Required<T> {
    type Raw = Option<String>;
    type Value = T;

    fn default_raw(&self) -> Option<String> {
        None
    }

    fn value(&self, key: &str, raw: &Option<String>, check: &mut Check<'_>) -> T {
        let Some(text) = raw else {
            missing(key, check);
            return T::default();
        };
        self.1.of(key, text, check).unwrap_or_default()
    }

    fn rows(&self, key: &str, meaning: &'static str) -> Vec<Row> {
        vec![Row::required(key, meaning, format!("\"{}\"", self.0))]
    }
}

/// The path of a file, which begins at the folder of the configuration.
pub(super) struct FilePath(pub(super) &'static str);

impl Kind for FilePath {
    type Raw = String;
    type Value = PathBuf;

    fn default_raw(&self) -> String {
        self.0.to_owned()
    }

    fn value(&self, key: &str, raw: &String, check: &mut Check<'_>) -> PathBuf {
        check.path(key, raw)
    }
}

/// The path of a file, or null; an empty one means the same as null.
pub(super) struct OptionalPath(pub(super) Option<&'static str>);

impl Kind for OptionalPath {
    type Raw = Option<String>;
    type Value = Option<PathBuf>;

    fn default_raw(&self) -> Option<String> {
        self.0.map(str::to_owned)
    }

    fn value(&self, key: &str, raw: &Option<String>, check: &mut Check<'_>) -> Option<PathBuf> {
        raw.as_ref().filter(|text| !text.is_empty()).map(|text| check.path(key, text))
    }
}

/// The path of a file that must be named.
pub(super) struct RequiredPath(pub(super) &'static str);

impl Kind for RequiredPath {
    type Raw = Option<String>;
    type Value = PathBuf;

    fn default_raw(&self) -> Option<String> {
        None
    }

    fn value(&self, key: &str, raw: &Option<String>, check: &mut Check<'_>) -> PathBuf {
        let Some(text) = raw else {
            missing(key, check);
            return PathBuf::default();
        };
        check.path(key, text)
    }

    fn rows(&self, key: &str, meaning: &'static str) -> Vec<Row> {
        vec![Row::required(key, meaning, format!("\"{}\"", self.0))]
    }
}

/// A secret that goes into a header, or null.
pub(super) struct Token;

impl Kind for Token {
    type Raw = Option<String>;
    type Value = Option<Secret>;

    fn default_raw(&self) -> Option<String> {
        None
    }

    fn value(&self, key: &str, raw: &Option<String>, check: &mut Check<'_>) -> Option<Secret> {
        let token = raw.as_ref().filter(|text| !text.is_empty())?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            check.problem(key, "must be printable ASCII characters without spaces, as it goes into a header");
        }
        Some(Secret::new(token.clone()))
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// A list of texts.
pub(super) struct Texts<T>(pub(super) &'static [&'static str], pub(super) Meaning<T>);

impl<T> Kind for Texts<T> {
    type Raw = Vec<String>;
    type Value = Vec<T>;

    fn default_raw(&self) -> Vec<String> {
        self.0.iter().map(|&text| text.to_owned()).collect()
    }

    fn value(&self, key: &str, raw: &Vec<String>, check: &mut Check<'_>) -> Vec<T> {
        raw.iter()
            .enumerate()
            .filter_map(|(position, text)| self.1.of(&format!("{key}[{position}]"), text, check))
            .collect()
    }
}

/// A list of ports.
pub(super) struct Ports(pub(super) &'static [i64]);

impl Kind for Ports {
    type Raw = Vec<i64>;
    type Value = Vec<u16>;

    fn default_raw(&self) -> Vec<i64> {
        self.0.to_vec()
    }

    fn value(&self, key: &str, raw: &Vec<i64>, check: &mut Check<'_>) -> Vec<u16> {
        raw.iter().enumerate().map(|(position, &port)| check.port(&format!("{key}[{position}]"), port)).collect()
    }
}

/// One IP address.
pub(super) struct Address(pub(super) &'static str);

impl Kind for Address {
    type Raw = String;
    type Value = IpAddr;

    fn default_raw(&self) -> String {
        self.0.to_owned()
    }

    fn value(&self, key: &str, raw: &String, check: &mut Check<'_>) -> IpAddr {
        check.ip(key, raw).unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }
}

fn missing(key: &str, check: &mut Check<'_>) {
    let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
    check.problem(path, format!("the key \"{name}\" is missing here"));
}
