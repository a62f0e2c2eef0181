//! A file that answers the questions: lines such as `port = 443`, `#` for comments.
//!
//! Owns its grammar and its keys. A key that is left out means the default.

use std::path::Path;

use crate::app::exit::{self, Failure};
use crate::app::files::read_limited;

/// The keys, in the order of the questions. `user` may stand several times, each with a name and, behind a blank, an
/// id.
pub(super) const KEYS: &[&str] = &[
    "listen",
    "port",
    "port_needs_root",
    "public_address",
    "user",
    "tls",
    "certificate",
    "cert_file",
    "key_file",
    "server_name",
    "flow",
    "monitoring",
    "monitoring_listen",
    "monitoring_port",
];

/// Nobody needs a larger one.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Answers that nobody has asked for yet.
#[derive(Debug)]
pub struct Answers {
    file: String,
    /// Line number, key, value.
    lines: Vec<(usize, String, String)>,
}

impl Answers {
    /// # Errors
    /// 66 or 77 if the file cannot be read, 78 for a line that is no answer.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read_limited(path, FILE_BYTES_MAX).map_err(|error| Failure::reading(path, &error))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::new(exit::CONFIG, format!("{} is not UTF-8 text", path.display())))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// # Errors
    /// 78 for a line that is no answer.
    pub fn parse(text: &str, file: &str) -> Result<Self, Failure> {
        let wrong = |number: usize, what: String| Failure::new(exit::CONFIG, format!("{file}:{number}: {what}"));
        let mut lines = Vec::<(usize, String, String)>::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
                return Err(wrong(number, "a line must be `key = value`, or a comment that begins with #".to_owned()));
            };
            if !KEYS.contains(&key) {
                return Err(wrong(number, format!("there is no question \"{key}\"; the keys are {}", KEYS.join(", "))));
            }
            if key != "user" && lines.iter().any(|(_, known, _)| known == key) {
                return Err(wrong(number, format!("{key} is answered twice")));
            }
            lines.push((number, key.to_owned(), value.to_owned()));
        }
        Ok(Self { file: file.to_owned(), lines })
    }

    /// The next answer to `key`, if there is one (an empty one means the default), and where it stands.
    pub(super) fn take(&mut self, key: &str) -> (Option<String>, String) {
        let Some(at) = self.lines.iter().position(|(_, known, _)| known == key) else {
            return (None, format!("{}: {key} (the default)", self.file));
        };
        let (number, _, value) = self.lines.remove(at);
        (Some(value).filter(|value| !value.is_empty()), format!("{}:{number}: {key}", self.file))
    }

    /// Whether there is another answer to `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.lines.iter().any(|(_, known, _)| known == key)
    }
}
