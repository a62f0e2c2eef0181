//! The configuration file: read, checked, and turned into settings the program can use as they are.
//!
//! `keys.rs` has every key once, in the form of `section.rs` and with the kinds of `kinds.rs` and `oddities.rs`; from it
//! follow schema, defaults, checks, types and reference (`reference.rs`). `check.rs` has the rules between keys.
//! `text.rs` blanks comments; `locate.rs` finds the line of a complaint and `error.rs` words it; `not_built.rs` lists what
//! has no effect yet; `print.rs` shows the effective configuration. Nothing here opens any
//! file but the configuration, or changes it.

mod check;
mod error;
mod keys;
mod kinds;
mod locate;
mod merged;
mod not_built;
mod oddities;
mod print;
mod reference;
mod rules;
mod section;
mod settings;
mod text;
mod values;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use self::error::{ConfigError, ConfigErrors};
pub use self::keys::{
    Alert, CertificateFiles, ConnectionPool, Dns, Log, Monitoring, Outbound, Performance, ProcessLimits, Server,
    Timeouts, UserLimits,
};
pub use self::merged::{Fallback, Tls, User};
pub use self::reference::{example, table};
pub use self::settings::{FallbackDest, Flow, LogFormat, Prefer, QuotaPeriod, Receiver, Secret, TlsVersion};

use self::error::Complaint;
use self::keys::RawFile;
use self::locate::{KeyPath, Spot, Step};
use crate::app::exit::{self, Failure};
use crate::app::files::{folder_of, read_limited};

/// The file that is used when none is named.
pub const DEFAULT_FILE: &str = "config.json";

/// Everything the operator decides. See the types of the fields for ranges and units.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file as it was named.
    pub file: PathBuf,
    /// Listeners and workers.
    pub server: Server,
    /// Those in this file; no two with the same email, nor with the same id when bytes 6 and 7 are ignored.
    pub users: Vec<User>,
    /// Where more of them are.
    pub users_file: Option<PathBuf>,
    /// The flow of users without one of their own; `None` without TLS, where there is none.
    pub flow_with_tls: Option<Flow>,
    /// None = plain VLESS.
    pub tls: Option<Tls>,
    /// In the order of the file.
    pub fallbacks: Vec<Fallback>,
    /// For each source of connections.
    pub limits: ProcessLimits,
    /// The statistics interface.
    pub monitoring: Monitoring,
    /// Sizes and switches of the data path.
    pub performance: Performance,
    /// Spares per target, and the connect timeout.
    pub connection_pool: ConnectionPool,
    /// What clients may reach and how.
    pub outbound: Outbound,
    /// Seconds per phase.
    pub timeouts: Timeouts,
    /// Where log lines go.
    pub log: Log,
    warnings: Vec<String>,
    /// What the file says after defaults; for `effective_json` alone.
    source: RawFile,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// 66 if there is no such file, 77 if it may not be read, 78 with every problem found if it is wrong.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let bytes = read_limited(path, FILE_BYTES_MAX).map_err(|error| Failure::reading(path, &error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
            Failure::new(
                exit::CONFIG,
                format!("{}:{line}: the file is not UTF-8 text; save it as UTF-8", path.display()),
            )
        })?;
        Self::parse(&text, path).map_err(|errors| Failure::new(exit::CONFIG, errors.to_string()))
    }

    /// Checks `text`, the contents of `path`. The path is used for messages and to resolve relative paths only.
    ///
    /// # Errors
    /// All misspelt keys and wrong types; or, if there are none, all values that make no sense. At most 50 at a time.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        let reading = Reading { text, path };
        let mut json = text::blank_comments(text)
            .map_err(|comment| reading.single(comment.offset, "this /* comment has no closing */".to_owned()))?;
        let file = reading.structure(&mut json)?;
        let (mut config, problems) = check::check(file, path);
        if !problems.is_empty() {
            let errors = problems.into_iter().take(PROBLEMS_MAX).map(|problem| {
                let keys = KeyPath::parse(&problem.path);
                let spot = locate::locate_nearest(&json, &keys);
                reading.error(spot.value.start, &keys, problem.message)
            });
            return Err(sorted(errors.collect()));
        }
        config.warnings.extend(not_built::warnings(&json, &config));
        Ok(config)
    }

    /// What the operator should know although the configuration is usable; a line each, without a final full stop.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The configuration in effect, defaults included, as JSON without secrets: ids are cut to eight characters, the
    /// monitoring token is replaced by stars.
    pub fn effective_json(&self) -> String {
        print::effective_json(&self.source, &self.users)
    }

    /// `path` as it is meant in this file: relative paths begin at the folder of the configuration file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        resolve(&self.file, path)
    }
}

/// No sane configuration is larger; a mistyped path to a disk image is.
const FILE_BYTES_MAX: usize = 16 << 20;

/// How many problems are told at once. More of them have one cause, and each costs another walk through the file.
const PROBLEMS_MAX: usize = 50;

fn resolve(config_file: &Path, path: &Path) -> PathBuf {
    folder_of(config_file).join(path)
}

/// The place on the way `keys` where a list stands for an object. The parser takes such a list and fills the object's
/// keys in the order of `keys.rs`, so that its complaints would be about keys that nobody wrote.
fn list_for_object(keys: &KeyPath) -> Option<KeyPath> {
    let mut file = RawFile::default();
    file.users.push(keys::RawUser::default());
    file.tls.certificates.push(keys::RawCertificateFiles::default());
    file.fallbacks.push(keys::RawFallback::default());
    file.monitoring.alerts.push(keys::RawAlert::default());
    let mut meant = &serde_json::to_value(file).ok()?;
    for (depth, step) in keys.0.iter().enumerate() {
        meant = match (step, meant) {
            (Step::Index(_), Value::Object(_)) => return Some(KeyPath(keys.0[..depth].to_vec())),
            (Step::Index(_), meant) => meant.get(0)?,
            (Step::Key(key), meant) => meant.get(key)?,
        };
    }
    None
}

/// Whether `given` has a list somewhere where `meant` has an object; `keys` then is the way there.
fn find_list_for_object(given: &Value, meant: &Value, keys: &mut KeyPath) -> bool {
    let mut is_below = |step: Step, given: &Value, meant: &Value| {
        keys.0.push(step);
        let found = find_list_for_object(given, meant, keys);
        if !found {
            keys.0.pop();
        }
        found
    };
    match (given, meant) {
        (Value::Array(_), Value::Object(_)) => true,
        (Value::Object(given), Value::Object(meant)) => given
            .iter()
            .any(|(key, value)| meant.get(key).is_some_and(|meant| is_below(Step::Key(key.clone()), value, meant))),
        (Value::Array(given), Value::Array(meant)) => {
            given.iter().zip(meant).enumerate().any(|(at, (given, meant))| is_below(Step::Index(at), given, meant))
        }
        _ => false,
    }
}

/// One attempt to read one file: turns byte offsets into errors that name file, line and column.
struct Reading<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Reading<'_> {
    /// Reads `json` into the schema. Each key that does not fit is noted and blanked, so that one pass over the file
    /// tells about all of them.
    fn structure(&self, json: &mut String) -> Result<RawFile, ConfigErrors> {
        let mut errors = Vec::new();
        loop {
            let mut parser = serde_json::Deserializer::from_str(json);
            let result = serde_path_to_error::deserialize(&mut parser);
            let ended = parser.end();
            match (result, ended) {
                (Ok(file), Ok(())) if errors.is_empty() => return self.refuse_lists_for_objects(json, file),
                (Ok(_), Ok(())) => return Err(sorted(errors)),
                (Err(error), _) if error.inner().is_data() => {
                    let (error, spot) = self.structure_error(json, &error);
                    // A key that is missing because it was blanked, or misspelt, has been complained about.
                    let inside = format!("{}.", error.path);
                    if spot.is_some() || !errors.iter().any(|known: &ConfigError| known.path.starts_with(&inside)) {
                        errors.push(error);
                    }
                    let blanked = spot.and_then(|spot| blank_member(json, &spot));
                    match blanked {
                        Some(shorter) if errors.len() < PROBLEMS_MAX => *json = shorter,
                        _ => return Err(sorted(errors)),
                    }
                }
                (Err(error), _) => return Err(self.syntax_error(json, error.inner())),
                (Ok(_), Err(error)) => return Err(self.syntax_error(json, &error)),
            }
        }
    }

    /// The parser takes a list for an object and fills its keys in the order of our schema, which nobody means.
    fn refuse_lists_for_objects(&self, json: &str, file: RawFile) -> Result<RawFile, ConfigErrors> {
        let given = serde_json::from_str(json).unwrap_or_default();
        let meant = serde_json::to_value(&file).unwrap_or_default();
        let mut keys = KeyPath::default();
        if !find_list_for_object(&given, &meant, &mut keys) {
            return Ok(file);
        }
        let start = locate::locate_nearest(json, &keys).value.start;
        Err(sorted(vec![self.error(start, &keys, "must be an object { ... }, not a list".to_owned())]))
    }

    /// The error in our words, and the member of an object that must go for the rest to be read.
    fn structure_error(
        &self,
        json: &str,
        error: &serde_path_to_error::Error<serde_json::Error>,
    ) -> (ConfigError, Option<Spot>) {
        let mut keys = keys_of(error.path());
        if let Some(list) = list_for_object(&keys) {
            let message = "must be an object { ... }, not a list".to_owned();
            let spot = locate::locate(json, &list);
            let start = spot.as_ref().map_or(0, |spot| spot.value.start);
            return (self.error(start, &list, message), spot);
        }
        let (key, message) = match Complaint::read(&error.inner().to_string(), &keys.to_string()) {
            Complaint::UnknownKey(key, message) => (Some(key), message),
            Complaint::RepeatedKey(key) => (Some(key), "this key is given twice here; keep one of them".to_owned()),
            Complaint::MissingKey(key) => {
                let start = locate::locate_nearest(json, &keys).value.start;
                return (self.error(start, &keys, format!("the key \"{key}\" is missing here")), None);
            }
            Complaint::Value(message) => (None, message),
        };
        let about_the_key = key.is_some();
        if let Some(key) = key.filter(|key| keys.0.last() != Some(&Step::Key(key.clone()))) {
            keys.0.push(Step::Key(key));
        }
        let Some(spot) = locate::locate(json, &keys) else {
            let start = locate::locate_nearest(json, &keys).value.start;
            return (self.error(start, &keys, message), None);
        };
        let offset = spot.key.filter(|_| about_the_key).unwrap_or(spot.value.start);
        (self.error(offset, &keys, message), Some(spot))
    }

    fn syntax_error(&self, json: &str, error: &serde_json::Error) -> ConfigErrors {
        let offset = text::offset_of(json, error.line(), error.column());
        self.single(offset, error::syntax_in_words(&error.to_string()))
    }

    fn single(&self, offset: usize, message: String) -> ConfigErrors {
        ConfigErrors(vec![self.error(offset, &KeyPath::default(), message)])
    }

    fn error(&self, offset: usize, keys: &KeyPath, message: String) -> ConfigError {
        let (line, column) = text::line_and_column(self.text, offset);
        ConfigError { file: self.path.display().to_string(), line, column, path: error::shown(keys), message }
    }
}

fn sorted(mut errors: Vec<ConfigError>) -> ConfigErrors {
    errors.sort_by_key(|error| (error.line, error.column));
    ConfigErrors(errors)
}

fn keys_of(path: &serde_path_to_error::Path) -> KeyPath {
    use serde_path_to_error::Segment;
    KeyPath(
        path.iter()
            .filter_map(|segment| match segment {
                Segment::Seq { index } => Some(Step::Index(*index)),
                Segment::Map { key } => Some(Step::Key(key.clone())),
                Segment::Enum { .. } | Segment::Unknown => None,
            })
            .collect(),
    )
}

/// `json` without the member at `spot` and the comma behind it; none for list elements, whose removal would renumber
/// the others.
fn blank_member(json: &str, spot: &Spot) -> Option<String> {
    let start = spot.key?;
    let rest = json.get(spot.value.end..)?;
    let gap = rest.len() - rest.trim_start().len();
    let end = spot.value.end + if rest.trim_start().starts_with(',') { gap + 1 } else { 0 };
    let blanks = json.get(start..end)?.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect::<String>();
    let blanked = format!("{}{blanks}{}", json.get(..start)?, json.get(end..)?);
    // Without a comma of its own it was the last member, and the comma before it now dangles.
    text::blank_comments(&blanked).ok()
}

#[cfg(test)]
mod tests;
