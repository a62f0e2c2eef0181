//! What may be done to accounts.
//!
//! Pure: from the accounts as they are and a wish to the accounts as they should be, or a refusal. A wish that is
//! fulfilled already changes nothing, so every operation but a new id may be repeated.

use serde_json::{Map, Value, json};

use crate::app::clock::rfc3339_seconds;
use crate::app::config::{Config, Origin, User, UsersFile, user_json};
use crate::protocol::user_id::mask;

/// One operation on one account.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new account: the keys of a user as in the files. Without `uuid` it gets a random one.
    Add(Value),
    /// Some keys of a user, with their new values; those of `limits` likewise.
    Set {
        /// Whose.
        email: String,
        /// An object.
        patch: Value,
    },
    /// Gives the account a new id; the old one is unknown from then on.
    Rotate {
        /// Whose.
        email: String,
    },
    /// Removes the account.
    Remove {
        /// Whose.
        email: String,
    },
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such account.
    NotFound(String),
    /// There is such an account already.
    Exists(String),
    /// The account is in the configuration file, which nobody but people changes.
    Locked(String),
    /// The wish breaks a rule.
    Invalid(String),
    /// Somebody else was faster: the revision of the file is this.
    Stale(u64),
}

impl Refusal {
    /// For people.
    pub fn message(&self, config: &Config) -> String {
        match self {
            Self::NotFound(email) => format!("there is no user \"{email}\""),
            Self::Exists(email) => format!("there is a user \"{email}\" already; `vless-rust user set` changes one"),
            Self::Locked(email) => format!(
                "{email} is in {0}, which only people change: edit it there, then `vless-rust reload -c {0}`",
                config.file.display()
            ),
            Self::Invalid(message) => message.clone(),
            Self::Stale(revision) => {
                format!("somebody else changed the accounts meanwhile (revision {revision}); look again, then repeat")
            }
        }
    }
}

/// What came of a wish.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// False: the wish was fulfilled already.
    pub is_new: bool,
    /// Of the list with this change in it, and none that came later.
    pub revision: u64,
    /// The account after the change; `None` when it was removed.
    pub user: Option<User>,
    /// The id that the account had, if it has another now.
    pub old_id: Option<[u8; 16]>,
    /// What was done, for log and events, such as `user anna added`.
    pub said: String,
    /// The same for programs: the event's code, and an object.
    pub coded: (&'static str, Value),
}

/// Applies `change` to `file`, the present contents of the users file of `config`. `now` is in seconds since 1970,
/// `new_id` a random id in case one is needed. Only the account that is meant is checked: the others were, when they came.
///
/// # Errors
/// Why not; then `file` is as it was.
pub fn apply(
    config: &Config,
    file: &mut UsersFile,
    change: &Change,
    now: u64,
    new_id: uuid::Uuid,
) -> Result<Changed, Refusal> {
    let place = match change {
        Change::Add(_) => file.users.len(),
        Change::Set { email, .. } | Change::Rotate { email } | Change::Remove { email } => find(config, file, email)?,
    };
    let user = match change {
        Change::Add(user) => Some(added(config, file, user, now, new_id)?),
        Change::Set { patch, .. } => Some(patched(config, file, place, patch)?),
        Change::Rotate { .. } => Some(User { id: *new_id.as_bytes(), ..file.users[place].clone() }),
        Change::Remove { .. } => None,
    };
    if let Some(user) = &user {
        has_own_id(config, file, place, user)?;
    }
    let email = user.as_ref().map_or_else(|| file.users[place].email.clone(), |user| user.email.clone());
    let before = file.users.get(place);
    let is_new = user.as_ref() != before;
    let old_id = before.zip(user.as_ref()).filter(|(before, user)| before.id != user.id).map(|(before, _)| before.id);
    match user.clone() {
        Some(user) if place < file.users.len() => file.users[place] = user,
        Some(user) => file.users.push(user),
        None => drop(file.users.remove(place)),
    }
    file.revision += u64::from(is_new);
    let (said, coded) = describe(change, &email);
    Ok(Changed { is_new, revision: file.revision, user, old_id, said, coded })
}

/// In words, and for programs. `Set` says which keys, but not their values: a note may be private.
fn describe(change: &Change, email: &str) -> (String, (&'static str, Value)) {
    let whom = json!({ "user": email });
    let (said, code) = match change {
        Change::Add(_) => ("added", "user_added"),
        Change::Rotate { .. } => ("given a new id", "user_rotated"),
        Change::Remove { .. } => ("removed", "user_removed"),
        Change::Set { patch, .. } => match only_enabled(patch) {
            Some(true) => ("enabled", "user_enabled"),
            Some(false) => ("disabled", "user_disabled"),
            None => {
                let keys = keys_of(patch);
                let said = format!("user {email} changed: {}", keys.join(", "));
                return (said, ("user_changed", json!({ "user": email, "keys": keys })));
            }
        },
    };
    (format!("user {email} {said}"), (code, whom))
}

/// What `enabled` becomes, if nothing else is set.
fn only_enabled(patch: &Value) -> Option<bool> {
    let patch = patch.as_object().filter(|patch| patch.len() == 1)?;
    patch.get("enabled").map(|enabled| *enabled == Value::Bool(true))
}

fn keys_of(patch: &Value) -> Vec<String> {
    let outer = patch.as_object().into_iter().flatten();
    let keys = outer.flat_map(|(key, value)| match value {
        Value::Object(inner) => inner.keys().cloned().collect::<Vec<_>>(),
        _ => vec![key.clone()],
    });
    keys.collect()
}

/// The account that `user` asks for.
fn added(config: &Config, file: &UsersFile, user: &Value, now: u64, new_id: uuid::Uuid) -> Result<User, Refusal> {
    let mut user = object(user)?.clone();
    let email = match user.get("email") {
        Some(Value::String(email)) if !email.is_empty() => email.as_str(),
        _ => return Err(nameless()),
    };
    if is_taken(config, file, email) {
        return Err(Refusal::Exists(email.to_owned()));
    }
    user.entry("uuid").or_insert_with(|| new_id.to_string().into());
    user.insert("created_at".to_owned(), rfc3339_seconds(now).into());
    checked(config, &Value::Object(user))
}

/// The account at `place` with what `patch` sets.
fn patched(config: &Config, file: &UsersFile, place: usize, patch: &Value) -> Result<User, Refusal> {
    let before = &file.users[place];
    let mut user = user_json(before);
    set(&mut user, patch)?;
    match user["email"].as_str() {
        Some(email) if email != before.email && is_taken(config, file, email) => {
            return Err(Refusal::Exists(email.to_owned()));
        }
        None if user["email"].is_null() => return Err(nameless()),
        // What is no name is refused like any other value that breaks a rule.
        Some(_) | None => {}
    }
    checked(config, &user)
}

fn nameless() -> Refusal {
    Refusal::Invalid("email: a name is needed, which no other user has".to_owned())
}

/// Somebody has this name already, in one file or the other.
fn is_taken(config: &Config, file: &UsersFile, email: &str) -> bool {
    let locked = config.users.iter().filter(|known| known.origin == Origin::Configuration);
    locked.chain(&file.users).any(|known| known.email == email)
}

/// Puts the keys of `patch` into `user`.
fn set(user: &mut Value, patch: &Value) -> Result<(), Refusal> {
    for (key, value) in object(patch)? {
        match (key.as_str(), value) {
            ("uuid" | "created_at", _) => {
                return Err(Refusal::Invalid(format!("{key}: cannot be set; `vless-rust user rotate` gives a new id")));
            }
            ("limits", Value::Object(limits)) => {
                for (name, limit) in limits {
                    user["limits"][name] = limit.clone();
                }
            }
            _ => user[key] = value.clone(),
        }
    }
    Ok(())
}

fn object(value: &Value) -> Result<&Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| Refusal::Invalid("an object { ... } with the keys of a user is needed".to_owned()))
}

fn find(config: &Config, file: &UsersFile, email: &str) -> Result<usize, Refusal> {
    if let Some(place) = file.users.iter().position(|user| user.email == email) {
        return Ok(place);
    }
    let locked = config.users.iter().any(|user| user.email == email && user.origin == Origin::Configuration);
    Err(if locked { Refusal::Locked(email.to_owned()) } else { Refusal::NotFound(email.to_owned()) })
}

/// The account that `user` means, by the rules that a file must obey.
fn checked(config: &Config, user: &Value) -> Result<User, Refusal> {
    let text = json!({ "version": 1, "users": [user] }).to_string();
    let path = config.users_file.clone().unwrap_or_default();
    let alone = UsersFile::parse(&text, &path, config.flow_with_tls).map_err(|errors| {
        // Places are those of a text that nobody sees, and the number of the user says nothing.
        let lines = errors.0.iter().map(|error| {
            let key = error.path.split_once("].").map_or(error.path.as_str(), |(_, key)| key);
            format!("{key}: {}", error.message)
        });
        Refusal::Invalid(lines.collect::<Vec<_>>().join("\n"))
    })?;
    alone.users.into_iter().next().ok_or_else(nameless)
}

/// Nobody in either file but the account at `place` itself has the id of `user`.
fn has_own_id(config: &Config, file: &UsersFile, place: usize, user: &User) -> Result<(), Refusal> {
    let id = mask(user.id);
    let is_same = |other: &User| mask(other.id) == id;
    let locked = |other: &User| other.origin == Origin::Configuration && is_same(other);
    let other = match config.users.iter().position(locked) {
        Some(locked) => config.place_of(locked),
        None => match file.users.iter().enumerate().find(|(at, other)| *at != place && is_same(other)) {
            Some((_, other)) => other.email.clone(),
            None => return Ok(()),
        },
    };
    Err(Refusal::Invalid(format!(
        "uuid: {} has the same id as {other} (the third group of four digits does not count); give one of them a new id",
        user.email
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use uuid::Uuid;

    fn config() -> Config {
        let text = r#"{ "users": [ { "uuid": "example", "email": "locked@x" } ], "tls": { "enabled": true } }"#;
        Config::parse(text, Path::new("/etc/vless/config.json")).unwrap()
    }

    /// With the list as it is afterwards.
    fn applied(file: &UsersFile, change: &Change) -> Result<(Changed, UsersFile), Refusal> {
        let mut next = file.clone();
        let result = apply(&config(), &mut next, change, 1_769_860_800, Uuid::from_u128(7));
        let is_new = result.as_ref().is_ok_and(|changed| changed.is_new);
        assert_eq!(is_new, next.users != file.users);
        assert_eq!(next.revision, file.revision + u64::from(is_new));
        result.map(|changed| (changed, next))
    }

    fn with_anna() -> UsersFile {
        applied(&UsersFile::default(), &Change::Add(json!({ "email": "anna" }))).unwrap().1
    }

    fn set(patch: Value) -> Change {
        Change::Set { email: "anna".to_owned(), patch }
    }

    #[test]
    fn a_new_user_has_an_id_a_date_and_the_next_revision() {
        let file = with_anna();
        assert_eq!((file.revision, file.users.len()), (1, 1));
        assert_eq!(file.users[0].id, *Uuid::from_u128(7).as_bytes());
        assert_eq!(file.users[0].created_at, Some(1_769_860_800));
    }

    #[test]
    fn names_and_ids_of_both_files_are_taken() {
        let add = |user: Value| applied(&with_anna(), &Change::Add(user)).unwrap_err();
        assert_eq!(add(json!({ "email": "anna" })), Refusal::Exists("anna".into()));
        assert_eq!(add(json!({ "email": "locked@x" })), Refusal::Exists("locked@x".into()));
        let Refusal::Invalid(message) = add(json!({ "email": "b", "uuid": "example" })) else { panic!() };
        assert!(message.contains("same id as users[0] (locked@x) of /etc/vless/config.json"), "{message}");
        let Refusal::Invalid(message) = add(json!({ "email": "b", "uuid": Uuid::from_u128(7).to_string() })) else {
            panic!()
        };
        assert!(message.starts_with("uuid: b has the same id as anna"), "{message}");
        assert!(matches!(add(json!({})), Refusal::Invalid(_)));
        assert!(matches!(add(json!([])), Refusal::Invalid(_)));
    }

    #[test]
    fn keys_are_set_one_by_one_and_a_repetition_changes_nothing() {
        let file = with_anna();
        let change = set(json!({ "note": "n", "limits": { "quota_bytes": 5 } }));
        let (changed, file) = applied(&file, &change).unwrap();
        assert_eq!(changed.said, "user anna changed: quota_bytes, note");
        assert_eq!(changed.coded, ("user_changed", json!({ "user": "anna", "keys": ["quota_bytes", "note"] })));
        assert_eq!((changed.revision, file.revision, file.users[0].limits.quota_bytes), (2, 2, 5));
        assert!(!applied(&file, &change).unwrap().0.is_new);
        let (_, again) = applied(&file, &set(json!({ "limits": { "sessions_max": 3 } }))).unwrap();
        assert_eq!((again.users[0].limits.quota_bytes, again.users[0].limits.sessions_max), (5, 3));
    }

    #[test]
    fn what_breaks_a_rule_is_told_by_its_key_alone() {
        let refused = |patch: Value| match applied(&with_anna(), &set(patch)).unwrap_err() {
            Refusal::Invalid(message) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(json!({ "limits": { "quota_day": 29 } })),
            "limits.quota_day: must be between 1 and 28, not 29"
        );
        assert!(refused(json!({ "limits": { "quotabytes": 1 } })).contains("did you mean \"quota_bytes\"?"));
        assert!(refused(json!({ "uuid": "x" })).contains("user rotate"));
        assert!(refused(json!({ "email": "a\nb" })).contains("email: must be 1 to 255 characters"));
        assert!(refused(json!({ "email": null })).starts_with("email: a name is needed"));
        assert!(refused(json!({ "email": 5 })).starts_with("email: "));
        let taken = applied(&with_anna(), &set(json!({ "email": "locked@x" }))).unwrap_err();
        assert_eq!(taken, Refusal::Exists("locked@x".into()));
    }

    #[test]
    fn a_user_may_be_renamed_rotated_disabled_and_removed() {
        let file = with_anna();
        let (renamed, _) = applied(&file, &set(json!({ "email": "anne" }))).unwrap();
        assert_eq!(renamed.user.as_ref().map(|user| user.email.as_str()), Some("anne"));
        let (disabled, _) = applied(&file, &set(json!({ "enabled": false }))).unwrap();
        assert_eq!((disabled.said.as_str(), disabled.user.unwrap().enabled), ("user anna disabled", false));
        assert_eq!(disabled.coded, ("user_disabled", json!({ "user": "anna" })));
        let (rotate, mut list) = (Change::Rotate { email: "anna".into() }, file.clone());
        let rotated = apply(&config(), &mut list, &rotate, 0, Uuid::from_u128(8)).unwrap();
        assert_ne!(rotated.user.unwrap().id, file.users[0].id);
        assert_eq!((rotated.old_id, renamed.old_id), (Some(file.users[0].id), None));
        let (removed, list) = applied(&file, &Change::Remove { email: "anna".into() }).unwrap();
        assert_eq!((list.users.len(), removed.user), (0, None));
    }

    #[test]
    fn the_accounts_of_the_configuration_are_locked_and_others_unknown() {
        let remove = |email: &str| applied(&with_anna(), &Change::Remove { email: email.to_owned() }).unwrap_err();
        assert_eq!(remove("locked@x"), Refusal::Locked("locked@x".into()));
        assert_eq!(remove("nobody"), Refusal::NotFound("nobody".into()));
        let message = remove("locked@x").message(&config());
        assert!(message.contains("vless-rust reload -c /etc/vless/config.json"), "{message}");
    }
}
