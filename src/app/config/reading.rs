//! One reading of one file: from text to an object of the file, or to errors that name file, line and column.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::error::{self, Complaint, ConfigError, ConfigErrors};
use super::locate::{self, KeyPath, Spot, Step};
use super::rules::Problem;
use super::section::Section;
use super::text;

/// How many problems are told at once. More of them have one cause, and each costs another walk through the file.
pub(super) const PROBLEMS_MAX: usize = 50;

/// A file whose keys and types are right.
pub(super) struct Reading<'a, T: Section> {
    place: Place<'a>,
    /// The text without comments.
    pub(super) json: String,
    pub(super) raw: T::Raw,
}

impl<'a, T: Section> Reading<'a, T> {
    /// Reads `text`, the contents of `path`.
    ///
    /// # Errors
    /// All misspelt keys and wrong types, as far as they can be found together.
    pub(super) fn new(text: &'a str, path: &'a Path) -> Result<Self, ConfigErrors> {
        let place = Place { text, path };
        let mut json = text::blank_comments(text)
            .map_err(|comment| place.single(comment.offset, "this /* comment has no closing */".to_owned()))?;
        let raw = place.structure::<T>(&mut json)?;
        Ok(Self { place, json, raw })
    }

    /// # Errors
    /// The problems, at their places; none if there are none.
    pub(super) fn refuse(&self, problems: Vec<Problem>) -> Result<(), ConfigErrors> {
        if problems.is_empty() {
            return Ok(());
        }
        let errors = problems.into_iter().take(PROBLEMS_MAX).map(|problem| {
            let keys = KeyPath::parse(&problem.path);
            let spot = locate::locate_nearest(&self.json, &keys);
            self.place.error(spot.value.start, &keys, problem.message)
        });
        Err(sorted(errors.collect()))
    }
}

/// Turns byte offsets into errors that name file, line and column.
struct Place<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Place<'_> {
    /// Reads `json` into the schema. Each key that does not fit is noted and blanked, so that one pass over the file
    /// tells about all of them.
    fn structure<T: Section>(&self, json: &mut String) -> Result<T::Raw, ConfigErrors> {
        let mut errors = Vec::new();
        loop {
            let mut parser = serde_json::Deserializer::from_str(json);
            let result = serde_path_to_error::deserialize(&mut parser);
            let ended = parser.end();
            match (result, ended) {
                (Ok(file), Ok(())) if errors.is_empty() => return self.refuse_lists_for_objects(json, file),
                (Ok(_), Ok(())) => return Err(sorted(errors)),
                (Err(error), _) if error.inner().is_data() => {
                    let (error, spot) = self.structure_error::<T>(json, &error);
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
    fn refuse_lists_for_objects<R: Serialize>(&self, json: &str, file: R) -> Result<R, ConfigErrors> {
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
    fn structure_error<T: Section>(
        &self,
        json: &str,
        error: &serde_path_to_error::Error<serde_json::Error>,
    ) -> (ConfigError, Option<Spot>) {
        let mut keys = keys_of(error.path());
        if let Some(list) = list_for_object::<T>(&keys) {
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

/// The place on the way `keys` where a list stands for an object. The parser takes such a list and fills the object's
/// keys in the order of `keys.rs`, so that its complaints would be about keys that nobody wrote.
fn list_for_object<T: Section>(keys: &KeyPath) -> Option<KeyPath> {
    let mut meant = &serde_json::to_value(T::sample()).ok()?;
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
