//! Accounts of another panel's export, added one after the other.
//!
//! Those that are there already, by name, are left as they are, so an import may be repeated.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Place, Said, Shape, words};
use crate::app::accounts::change::{Change, apply};
use crate::app::accounts::import::{self, Broken, Imported};
use crate::app::clock::unix_time;
use crate::app::config::{Config, UsersFile};
use crate::app::exit::{self, Failure};

/// What came of an entry of the export.
enum Outcome {
    Added,
    AlreadyThere,
    NotAdded(String),
    /// Of a dry run.
    WouldBeAdded,
    WouldNotBeAdded(String),
    Unreadable(String),
}

struct Entry {
    /// Its name; of one that cannot be read its place.
    name: String,
    outcome: Outcome,
    used_bytes: u64,
    /// Why what was used is not carried over.
    not_carried: Option<String>,
}

/// Where accounts are added.
enum Target<'a> {
    Real(&'a Place),
    /// For a dry run: the accounts as they would be.
    Scratch(&'a Config, UsersFile),
}

/// Imports the accounts in `file`, or says what would be done.
pub(super) fn imported(
    place: &Place,
    config: &Config,
    (file, is_dry): (&Path, bool),
    shape: Shape,
) -> Result<Said, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::reading(file, &error))?;
    let export =
        import::read(&text).map_err(|error| Failure::new(exit::CONFIG, format!("{}: {error}", file.display())))?;
    let mut known = place.names()?;
    let mut target = if is_dry { Target::Scratch(config, config.of_users_file()) } else { Target::Real(place) };
    let accounts = export.accounts.into_iter().map(|account| target.add(account, &mut known));
    let entries: Vec<_> = accounts.chain(export.broken.into_iter().map(Entry::broken)).collect();
    Ok(match shape {
        Shape::Json => {
            let all: Vec<_> = entries.iter().map(Entry::json).collect();
            Said { stdout: format!("{:#}\n", Value::from(all)), notes: Vec::new() }
        }
        Shape::Words => Said {
            stdout: entries.iter().map(|entry| entry.line() + "\n").collect(),
            notes: entries.iter().filter_map(Entry::note).collect(),
        },
    })
}

impl Target<'_> {
    fn add(&mut self, account: Imported, known: &mut HashSet<String>) -> Entry {
        let name = account.values["email"].as_str().unwrap_or_default().to_owned();
        let mut entry =
            Entry { name, outcome: Outcome::AlreadyThere, used_bytes: account.used_bytes, not_carried: None };
        if known.contains(&entry.name) {
            return entry;
        }
        let change = Change::Add(account.values);
        entry.outcome = match self {
            Self::Real(place) => match place.change(&change) {
                Ok(_) => Outcome::Added,
                Err(failure) => Outcome::NotAdded(failure.to_string()),
            },
            Self::Scratch(config, file) => match apply(config, file, &change, unix_time(), uuid::Uuid::new_v4()) {
                Ok(_) => Outcome::WouldBeAdded,
                Err(refusal) => Outcome::WouldNotBeAdded(refusal.message(config)),
            },
        };
        if let (Self::Real(place), Outcome::Added, 1..) = (self, &entry.outcome, entry.used_bytes) {
            entry.not_carried = place.reset(&entry.name, entry.used_bytes).err().map(|failure| failure.to_string());
        }
        if matches!(entry.outcome, Outcome::Added | Outcome::WouldBeAdded) {
            known.insert(entry.name.clone());
        }
        entry
    }
}

impl Entry {
    fn broken(Broken { place, why }: Broken) -> Self {
        Self { name: place, outcome: Outcome::Unreadable(why), used_bytes: 0, not_carried: None }
    }

    fn line(&self) -> String {
        let used = match self.used_bytes {
            0 => String::new(),
            bytes => format!(", {} used", words::bytes(bytes)),
        };
        let what = match &self.outcome {
            Outcome::Added => format!("added{used}"),
            Outcome::AlreadyThere => "is there already, left as it is".to_owned(),
            Outcome::NotAdded(why) => format!("not added: {why}"),
            Outcome::WouldBeAdded => format!("would be added{used}"),
            Outcome::WouldNotBeAdded(why) => format!("would not be added: {why}"),
            Outcome::Unreadable(why) => format!("cannot be read: {why}"),
        };
        format!("{}: {what}", self.name)
    }

    fn note(&self) -> Option<String> {
        let why = self.not_carried.as_ref()?;
        Some(format!("{}: what was used there is not carried over: {why}", self.name))
    }

    fn json(&self) -> Value {
        let (outcome, why) = match &self.outcome {
            Outcome::Added => ("added", None),
            Outcome::AlreadyThere => ("already_there", None),
            Outcome::NotAdded(why) => ("not_added", Some(why.clone())),
            Outcome::WouldBeAdded => ("would_be_added", None),
            Outcome::WouldNotBeAdded(why) => ("would_not_be_added", Some(why.clone())),
            Outcome::Unreadable(why) => ("unreadable", Some(why.clone())),
        };
        let name = if matches!(self.outcome, Outcome::Unreadable(_)) { "place" } else { "email" };
        json!({ name: self.name, "outcome": outcome, "used_bytes": self.used_bytes, "error": why.or_else(|| self.note()) })
    }
}
