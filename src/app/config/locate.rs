//! Where in the text a key is.
//!
//! Owns the walk from a path such as `users[1].flow` to byte offsets. Works on text that the JSON parser has read
//! already; on anything else it answers "not found" or a wrong place, never a panic. Of a key that is given twice it
//! finds the last one, which is the one to complain about.

use std::fmt;
use std::ops::Range;

use super::text::end_of_string;

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A key of an object.
    Key(String),
    /// An element of a list, from 0.
    Index(usize),
}

/// The way from the top of the file to a value. `Display` is what error messages show: `users[1].flow`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyPath(pub(super) Vec<Step>);

impl KeyPath {
    /// Reads the form that `Display` writes. Keys of our schema have no dots or brackets.
    pub(super) fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let (key, indexes) = part.split_once('[').unwrap_or((part, ""));
            steps.push(Step::Key(key.to_owned()));
            steps.extend(indexes.split(['[', ']']).filter_map(|index| index.parse().ok()).map(Step::Index));
        }
        Self(steps)
    }

    /// The path one level up; the top stays the top.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Where a value stands, in byte offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// The opening quote of its key; none for list elements and the top.
    pub(super) key: Option<usize>,
    /// The value itself.
    pub(super) value: Range<usize>,
}

/// The place of `path` in `text` (JSON without comments), if it is there.
pub(super) fn locate(text: &str, path: &KeyPath) -> Option<Spot> {
    let bytes = text.as_bytes();
    let start = skip_space(bytes, 0);
    let mut spot = Spot { key: None, value: start..end_of_value(bytes, start) };
    for step in &path.0 {
        spot = match step {
            Step::Key(key) => members(text, spot.value.start)
                .filter(|member| member.key.is_some_and(|at| key_at(text, at).as_deref() == Some(key)))
                .last()?,
            Step::Index(index) => members(text, spot.value.start).nth(*index)?,
        };
    }
    Some(spot)
}

/// The place of `path`, or of the nearest thing around it that is in the file.
pub(super) fn locate_nearest(text: &str, path: &KeyPath) -> Spot {
    let mut path = path.clone();
    loop {
        if let Some(spot) = locate(text, &path) {
            return spot;
        }
        if path.0.is_empty() {
            return Spot { key: None, value: 0..0 };
        }
        path = path.parent();
    }
}

/// The members of the object, or the elements of the list, that opens at `start`.
fn members(text: &str, start: usize) -> impl Iterator<Item = Spot> + '_ {
    let bytes = text.as_bytes();
    let opening = bytes.get(start).copied();
    let mut at = start + 1;
    std::iter::from_fn(move || {
        if !matches!(opening, Some(b'{' | b'[')) {
            return None;
        }
        at = skip_space(bytes, at);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
        if matches!(bytes.get(at), None | Some(b'}' | b']')) {
            return None;
        }
        let mut key = None;
        if opening == Some(b'{') {
            if bytes.get(at) != Some(&b'"') {
                return None;
            }
            key = Some(at);
            at = skip_space(bytes, end_of_string(bytes, at));
            if bytes.get(at) != Some(&b':') {
                return None;
            }
            at = skip_space(bytes, at + 1);
        }
        let value = at..end_of_value(bytes, at);
        if value.is_empty() {
            return None;
        }
        at = value.end;
        Some(Spot { key, value })
    })
}

fn key_at(text: &str, at: usize) -> Option<String> {
    serde_json::from_str(text.get(at..end_of_string(text.as_bytes(), at))?).ok()
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// One past the value that begins at `start`. Counts brackets instead of calling itself, so depth costs nothing.
fn end_of_value(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#" { "server": { "port": 443 }, "users": [ { "uuid": "a]}" }, { "flow" : null } ],
        "sp\u0061ce": true, "port": 1, "port": 2 }"#;

    fn value(path: &str) -> Option<&'static str> {
        locate(TEXT, &KeyPath::parse(path)).map(|spot| &TEXT[spot.value])
    }

    #[test]
    fn values_are_found_by_key_and_index() {
        assert_eq!(value("server.port"), Some("443"));
        assert_eq!(value("server"), Some("{ \"port\": 443 }"));
        assert_eq!(value("users[0].uuid"), Some("\"a]}\""));
        assert_eq!(value("users[1].flow"), Some("null"));
        assert_eq!(value("space"), Some("true"), "the key is written with an escape");
    }

    #[test]
    fn the_last_of_two_equal_keys_is_found() {
        assert_eq!(value("port"), Some("2"));
    }

    #[test]
    fn the_key_position_is_its_opening_quote() {
        let spot = locate(TEXT, &KeyPath::parse("users[1].flow")).unwrap();
        assert!(TEXT[spot.key.unwrap()..].starts_with("\"flow\""));
    }

    #[test]
    fn what_is_not_there_is_not_found_but_its_surroundings_are() {
        assert_eq!(value("server.listen"), None);
        assert_eq!(value("users[2]"), None);
        assert_eq!(value("port.deeper"), None);
        let spot = locate_nearest(TEXT, &KeyPath::parse("users[1].email"));
        assert_eq!(&TEXT[spot.value], "{ \"flow\" : null }");
    }

    #[test]
    fn paths_read_back_what_they_show() {
        for text in ["", "server", "server.port", "users[1].flow", "a[0][2].b"] {
            assert_eq!(KeyPath::parse(text).to_string(), text);
        }
    }

    #[test]
    fn broken_text_ends_in_not_found_instead_of_a_panic() {
        for end in 0..TEXT.len() {
            let _ = locate(&TEXT[..end], &KeyPath::parse("users[1].flow"));
            let _ = locate_nearest(&TEXT[end..], &KeyPath::parse("users[1].flow"));
        }
        let deep = "[".repeat(100_000);
        assert_eq!(locate(&deep, &KeyPath::parse("a")), None);
    }
}
