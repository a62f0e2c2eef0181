//! What is wrong with a configuration, said so that a stranger can mend it.
//!
//! Owns the error types, the translation of the JSON parser's words, and suggestions for misspelt words. Credentials
//! are never repeated, wherever they were put by mistake.

use std::fmt;

use uuid::Uuid;

use super::locate::{KeyPath, Step};

/// Nobody should have a shorter secret, and much that is shorter is none.
pub(in crate::app) const SECRET_BYTES_MIN: usize = 6;
/// Of an id in a message.
const ID_CHARS_SHOWN: usize = 8;
/// No key of ours is as long.
const KEY_CHARS_MAX: usize = 32;

/// One thing that is wrong. `Display` is a line such as
/// `config.json:12:15: timeouts.idle: must be between 1 and 86400 seconds, not 0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as the operator named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The key, such as `users[1].flow`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything found wrong in one reading, in the order of the file; never empty. `Display` writes a line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What the JSON parser complained about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// A key that does not exist here, and what to say.
    UnknownKey(String, String),
    /// A key that is given twice in one object.
    RepeatedKey(String),
    /// A key without which the object means nothing.
    MissingKey(String),
    /// A value of a wrong type, in our words.
    Value(String),
}

impl Complaint {
    /// Reads the parser's message about what stands at `path`; its wording is fixed in serde's `de::Error` trait.
    pub(super) fn read(message: &str, path: &str) -> Self {
        let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
        if let Some(rest) = message.strip_prefix("unknown field `") {
            let (key, expected) = rest.split_once('`').unwrap_or((rest, ""));
            let known = expected.split('`').skip(1).step_by(2).collect::<Vec<_>>();
            return Self::UnknownKey(key.to_owned(), advice_for_key(key, &known));
        }
        let quoted = |prefix: &str| message.strip_prefix(prefix).map(|rest| rest.trim_end_matches('`').to_owned());
        if let Some(key) = quoted("duplicate field `") {
            return Self::RepeatedKey(key);
        }
        if let Some(key) = quoted("missing field `") {
            return Self::MissingKey(key);
        }
        let typed = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
        if let Some((found, expected)) = typed.and_then(|text| text.rsplit_once(", expected ")) {
            let found = if is_confidential(path) { kind_in_words(found) } else { found_in_words(found) };
            return Self::Value(format!("must be {}, not {found}", expected_in_words(expected)));
        }
        // The parser's other words may repeat the value.
        let is_plain = !message.contains(['"', '`']);
        Self::Value(if is_plain { message.to_owned() } else { "this value does not belong here".to_owned() })
    }
}

/// What the parser says about text that is not JSON at all, with the usual cause.
pub(super) fn syntax_in_words(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    let hint = match message {
        m if m.starts_with("EOF") => "the file ends too early; is a closing } or ] or \" missing?",
        m if m.starts_with("expected `,`") => "is a comma missing before this, or a bracket too many?",
        m if m.starts_with("key must be a string") => "keys and texts need double quotes",
        m if m.starts_with("expected value") => "a value is missing, or a text without double quotes",
        m if m.starts_with("trailing characters") => "the file goes on after its last }; remove the rest",
        m if m.starts_with("control character") => "a text must end on the line it began; is a closing \" missing?",
        _ => "check this place against the examples",
    };
    format!("not valid JSON ({message}): {hint}")
}

/// `text`, which stands at `path`, as a message repeats it: only where it cannot be a secret that was put there by
/// mistake. Line and column lead to all others.
pub(super) fn quoted(path: &str, text: &str) -> String {
    let is_shown = !is_confidential(path) && is_harmless(text);
    if is_shown { format!("\"{text}\"") } else { "this text".to_owned() }
}

/// As [`quoted`], where one of `known` was expected: what is nearly one of them is no secret either.
pub(super) fn quoted_word(path: &str, text: &str, known: &[&str]) -> String {
    let is_near = !is_confidential(path) && !did_you_mean(text, known).is_empty();
    if is_near { format!("\"{text}\"") } else { quoted(path, text) }
}

/// `keys` as a message shows them. What stands in the place of a key and does not look like one is left out; of an id
/// the beginning is shown.
pub(super) fn shown(keys: &KeyPath) -> String {
    let cut = |step: &Step| match step {
        Step::Key(key) if is_id(key) => Step::Key(cut_id(key)),
        Step::Key(key) if !looks_like_a_key(key) => Step::Key("?".to_owned()),
        other => other.clone(),
    };
    KeyPath(keys.0.iter().map(cut).collect()).to_string()
}

/// The name of an account as a message shows it: who typed the id there finds its beginning.
pub(super) fn shown_name(email: &str) -> String {
    if is_id(email) { cut_id(email) } else { email.to_owned() }
}

fn cut_id(id: &str) -> String {
    id.chars().take(ID_CHARS_SHOWN).chain("...".chars()).collect()
}

/// Our keys are letters and underscores; so are nearly all mistyped ones.
fn looks_like_a_key(key: &str) -> bool {
    key.len() <= KEY_CHARS_MAX && key.bytes().all(|byte| byte.is_ascii_alphabetic() || b"_-".contains(&byte))
}

/// Too short for a secret, or an address.
pub(super) fn is_harmless(text: &str) -> bool {
    let is_part = |part: &str| part.len() <= 5 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = text.contains(['.', ':']) && text.split(['.', ':', '/', '[', ']']).all(is_part);
    text.len() < SECRET_BYTES_MIN || is_address || text == "localhost"
}

/// Texts in these sections may be ids or the token, also under a wrong key.
fn is_confidential(path: &str) -> bool {
    matches!(path.split(['.', '[']).next(), Some("users" | "monitoring"))
}

pub(super) fn is_id(text: &str) -> bool {
    Uuid::parse_str(text).is_ok()
}

/// `; did you mean "word"?` when one of `known` is nearly `given`, else an empty text.
pub(in crate::app) fn did_you_mean(given: &str, known: &[&str]) -> String {
    let folded = given.to_lowercase();
    let edits = |word: &str| if folded.starts_with(word) { 1 } else { distance(&folded, word) };
    let nearest = known.iter().filter(|word| !word.is_empty()).map(|word| (edits(word), word)).min();
    match nearest {
        Some((edits, word)) if edits <= 1 + word.len() / 4 => format!("; did you mean \"{word}\"?"),
        _ => String::new(),
    }
}

fn advice_for_key(key: &str, known: &[&str]) -> String {
    // What other servers' files call the same thing.
    let elsewhere = match key {
        "id" => "uuid",
        "clients" => "users",
        "cert" | "certificateFile" | "certificate_path" => "cert_file",
        "key" | "keyFile" | "key_path" => "key_file",
        "serverName" => "server_name",
        _ => "",
    };
    if known.contains(&elsewhere) {
        return format!("unknown key; did you mean \"{elsewhere}\"?");
    }
    match did_you_mean(key, known) {
        suggestion if suggestion.is_empty() => format!("unknown key; the keys here are {}", known.join(", ")),
        suggestion => format!("unknown key{suggestion}"),
    }
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "i64" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list [ ... ]",
        other => other,
    }
}

/// What kind of value was found, without the value.
fn kind_in_words(found: &str) -> String {
    match found.split(' ').next() {
        Some("string") => "a string".to_owned(),
        Some("integer" | "floating") => "a number".to_owned(),
        _ => found_in_words(found),
    }
}

fn found_in_words(found: &str) -> String {
    match found {
        "null" => "null".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        _ => match found.split_once(' ') {
            Some(("string", text)) if is_harmless(text.trim_matches('"')) => format!("the string {text}"),
            Some(("string", _)) => "a string".to_owned(),
            _ => match found.split('`').nth(1) {
                Some(literal) => literal.to_owned(),
                None => found.to_owned(),
            },
        },
    }
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.chars().take(64).collect::<Vec<_>>(), b.chars().collect::<Vec<_>>());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint<T: serde::de::DeserializeOwned>(json: &str) -> Complaint {
        match serde_json::from_str::<T>(json) {
            Ok(_) => panic!("{json} was accepted"),
            Err(error) => Complaint::read(&error.to_string(), "log.level"),
        }
    }

    #[test]
    fn wrong_types_are_told_in_plain_words() {
        assert_eq!(complaint::<i64>("\"5\""), Complaint::Value("must be a whole number, not the string \"5\"".into()));
        assert_eq!(complaint::<i64>("1.5"), Complaint::Value("must be a whole number, not 1.5".into()));
        assert_eq!(complaint::<bool>("[]"), Complaint::Value("must be true or false, not a list".into()));
        assert_eq!(complaint::<Vec<String>>("{}"), Complaint::Value("must be a list [ ... ], not an object".into()));
        assert_eq!(complaint::<String>("null"), Complaint::Value("must be a string, not null".into()));
    }

    #[test]
    fn a_misspelt_key_gets_a_suggestion_and_a_strange_one_the_list() {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            #[serde(rename = "listen")]
            _listen: u8,
            #[serde(rename = "port")]
            _port: u8,
        }
        let Complaint::UnknownKey(key, advice) = complaint::<Keys>("{\"prot\":1}") else { panic!() };
        assert_eq!((key.as_str(), advice.as_str()), ("prot", "unknown key; did you mean \"port\"?"));
        let Complaint::UnknownKey(_, advice) = complaint::<Keys>("{\"banana\":1}") else { panic!() };
        assert_eq!(advice, "unknown key; the keys here are listen, port");
        assert_eq!(complaint::<Keys>("{\"port\":1,\"port\":2}"), Complaint::RepeatedKey("port".into()));
        assert_eq!(complaint::<Keys>("{\"port\":1}"), Complaint::MissingKey("listen".into()));
    }

    #[test]
    fn words_of_other_servers_are_known() {
        assert_eq!(advice_for_key("id", &["uuid", "email"]), "unknown key; did you mean \"uuid\"?");
    }

    #[test]
    fn suggestions_need_a_near_miss() {
        assert_eq!(did_you_mean("WARNING", &["error", "warn", "info"]), "; did you mean \"warn\"?");
        assert_eq!(did_you_mean("verbose", &["error", "warn", "info"]), "");
        assert_eq!(did_you_mean("Inf", &["error", "warn", "info"]), "; did you mean \"info\"?");
        assert_eq!(did_you_mean("", &["error"]), "");
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
