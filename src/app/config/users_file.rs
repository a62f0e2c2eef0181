//! The users file: accounts that commands, the API and the page may change.
//!
//! Owns its form. It has the same keys for a user as the configuration, and the same checks; who writes it, and when,
//! is not known here.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ConfigErrors;
use super::keys::UserKeys;
use super::kinds::Count;
use super::merged::{Origin, User};
use super::reading::Reading;
use super::rules::Check;
use super::section::{Entries, Kind, Row, Section, entries, member, section};
use super::settings::Flow;

section! {
    /// What the file says.
    Keys from RawKeys, "an object { \"users\": ... }" {
        version: Count = Count(1, 1..=1, ""), "the form of this file";
        revision: Count = Count(0, 0..=i64::MAX, ""), "counts the changes";
        users: Entries<UserKeys> = entries(), "the accounts";
    }
}

/// The users file after all checks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsersFile {
    /// Counts the changes, so that two who change it do not undo each other's work.
    pub revision: u64,
    /// In the order of the file.
    pub users: Vec<User>,
}

impl UsersFile {
    /// Checks `text`, the contents of `path`; `flow_with_tls` as in [`super::Config`].
    ///
    /// # Errors
    /// As [`super::Config::parse`].
    pub fn parse(text: &str, path: &Path, flow_with_tls: Option<Flow>) -> Result<Self, ConfigErrors> {
        let file = Reading::<Keys>::new(text, path)?;
        let mut check = Check::new(path);
        let keys = Keys::check(&file.raw, "", &mut check);
        let users = check.users(Origin::UsersFile, keys.users, flow_with_tls);
        file.refuse(check.problems)?;
        Ok(Self { revision: keys.revision as u64, users })
    }

    /// The text of a file with these contents.
    pub fn text(&self) -> String {
        let users = self.users.iter().map(WrittenUser::of).collect();
        let file = WrittenFile { revision: self.revision, users, version: 1 };
        serde_json::to_string_pretty(&file).expect("it has texts and numbers only") + "\n"
    }
}

/// A user as the file writes it, with the whole id.
pub fn user_json(user: &User) -> Value {
    serde_json::to_value(WrittenUser::of(user)).expect("it has texts and numbers only")
}

/// The file as it is written, without a detour through values: it is written at every change, and may be long. The fields
/// are in the order of the alphabet, in which values would write them, too.
#[derive(Serialize)]
struct WrittenFile<'a> {
    revision: u64,
    users: Vec<WrittenUser<'a>>,
    version: u8,
}

#[derive(Serialize)]
struct WrittenUser<'a> {
    created_at: Option<String>,
    email: &'a str,
    enabled: bool,
    flow: Option<&'static str>,
    limits: WrittenLimits,
    note: &'a str,
    uuid: String,
}

#[derive(Serialize)]
struct WrittenLimits {
    addresses_max: usize,
    down_bytes_per_second_max: usize,
    expires_after_days: usize,
    expires_at: Option<String>,
    quota_bytes: usize,
    quota_day: usize,
    quota_period: &'static str,
    sessions_max: usize,
    up_bytes_per_second_max: usize,
}

impl<'a> WrittenUser<'a> {
    fn of(user: &'a User) -> Self {
        let limits = &user.limits;
        Self {
            created_at: user.created_at.map(super::values::time_text),
            email: &user.email,
            enabled: user.enabled,
            flow: user.given_flow.map(Flow::as_str),
            limits: WrittenLimits {
                addresses_max: limits.addresses_max,
                down_bytes_per_second_max: limits.down_bytes_per_second_max,
                expires_after_days: limits.expires_after_days,
                expires_at: limits.expires_at.map(super::values::time_text),
                quota_bytes: limits.quota_bytes,
                quota_day: limits.quota_day,
                quota_period: limits.quota_period.as_str(),
                sessions_max: limits.sessions_max,
                up_bytes_per_second_max: limits.up_bytes_per_second_max,
            },
            note: &user.note,
            uuid: user.id_text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<UsersFile, ConfigErrors> {
        UsersFile::parse(text, Path::new("/etc/users.json"), Some(Flow::Vision))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = r#"{ "version": 1, "revision": 7, "users": [ { "uuid": "example", "email": "a@b", "note": "é",
            "enabled": false, "created_at": "2026-01-31T12:00:00Z", "limits": { "quota_bytes": 5, "quota_period": "month",
            "quota_day": 3, "expires_at": "2026-02-01", "addresses_max": 2, "down_bytes_per_second_max": 9 } },
            { "uuid": "other", "flow": "none" } ] }"#;
        let file = parsed(text).unwrap();
        assert_eq!((file.revision, file.users[0].flow, file.users[1].flow), (7, Flow::Vision, Flow::None));
        assert_eq!(parsed(&file.text()).unwrap(), file);
        // Who has no flow of his own goes with the configuration.
        let without_tls = UsersFile::parse(&file.text(), Path::new("u"), None).unwrap();
        assert_eq!(without_tls.users[0].flow, Flow::None);
    }

    #[test]
    fn every_key_of_a_user_is_written() {
        let file = parsed(r#"{ "users": [ { "uuid": "example", "email": "a@b" } ] }"#).unwrap();
        let Value::Object(written) = user_json(&file.users[0]) else { panic!("no object") };
        let Value::Object(limits) = &written["limits"] else { panic!("no object") };
        let rows = UserKeys::rows("");
        let known = |prefix: &str| rows.iter().filter_map(|row| row.key.strip_prefix(prefix)).collect::<Vec<_>>();
        for key in known("limits.") {
            assert!(limits.contains_key(key), "{key}");
        }
        assert_eq!(written.len() + limits.len(), rows.len() + 1, "\"limits\" itself has no row");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let errors =
            parsed("{ \"users\": [\n { \"uuid\": \"example\", \"limits\": { \"quota_day\": 29 } } ] }").unwrap_err();
        assert_eq!(
            errors.to_string(),
            "/etc/users.json:2:48: users[0].limits.quota_day: must be between 1 and 28, not 29"
        );
        let newer = parsed("{ \"version\": 2 }").unwrap_err().to_string();
        assert!(newer.contains(":1:14: version: must be between 1 and 1, not 2"), "{newer}");
    }
}
