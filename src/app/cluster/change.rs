//! A change of an account of the cluster: checked here by the rules of all accounts, made by the engine.
//!
//! Pure: from the accounts as they are known here and a wish to the arguments of the engine's script. The engine takes it
//! only if its list is still the one that was looked at, so no change is ever made to something nobody has seen.

use serde_json::Value;

use super::list::Listed;
use crate::app::accounts::change::{self, Change, Changed, Refusal};
use crate::app::config::{Config, Origin, User, UsersFile, user_json};
use crate::cluster::journal::AccountKey;
use crate::protocol::user_id::mask;

/// The form of records; readers leave out what they do not know.
const RECORD_FORMAT: u64 = 1;
/// Changes that the engine's log keeps: a node that was away for longer reads the whole list.
const LOG_CHANGES_MAX: &str = "10000";

/// A change that is ready for the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Of the list that it was made from.
    pub version: u64,
    pub key: AccountKey,
    pub operation: Operation,
    /// What was done, for log and events, such as `user anna added`.
    pub said: String,
    /// The account afterwards; `None` when it was removed.
    pub user: Option<User>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Put(Box<User>),
    Remove,
    /// What was used counts from 0 again.
    Reset,
    /// The wish is fulfilled already.
    Nothing,
}

/// Prepares `change` of the accounts in `listed`; `config` has those that are served here, from wherever. `now` is in
/// seconds since 1970, `new_id` a random id in case one is needed.
///
/// # Errors
/// Why not.
pub fn prepare(
    config: &Config,
    listed: &Listed,
    change: &Change,
    now: u64,
    new_id: uuid::Uuid,
) -> Result<Prepared, Refusal> {
    let email = match change {
        Change::Add(user) => user["email"].as_str().unwrap_or_default(),
        Change::Set { email, .. } | Change::Rotate { email } | Change::Remove { email } => email,
    };
    let known = listed.users.iter().find(|user| user.email == email);
    let is_new = matches!(change, Change::Add(_));
    if is_new && (known.is_some() || config.users.iter().any(|user| user.email == email)) {
        return Err(Refusal::Exists(email.to_owned()));
    }
    // The one account alone: whether it goes with all others is looked at afterwards.
    let mut alone = config.clone();
    alone.users = Vec::new();
    let of_file = known.map(|known| User { origin: Origin::UsersFile, ..known.clone() });
    let mut file = UsersFile { revision: listed.version, users: of_file.into_iter().collect() };
    let Changed { is_new, user, said, .. } = change::apply(&alone, &mut file, change, now, new_id)?;
    let user = user.map(|user| User { origin: Origin::Cluster, ..user });
    if let Some(user) = &user {
        fits(config, listed, known, user)?;
    }
    let key = known.and_then(|known| listed.keys.get(&mask(known.id)).cloned());
    let operation = match &user {
        _ if !is_new => Operation::Nothing,
        None => Operation::Remove,
        Some(user) => Operation::Put(Box::new(user.clone())),
    };
    let key = key.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    Ok(Prepared { version: listed.version, key, operation, said, user })
}

/// Prepares that what `email` has used counts from 0 again.
///
/// # Errors
/// When there is no such account.
pub fn prepare_reset(listed: &Listed, email: &str) -> Result<Prepared, Refusal> {
    let found = listed.users.iter().find(|user| user.email == email);
    let user = found.ok_or_else(|| Refusal::NotFound(email.to_owned()))?;
    let key = listed.keys.get(&mask(user.id)).cloned().ok_or_else(|| Refusal::NotFound(email.to_owned()))?;
    let said = format!("user {email}: what was used counts from 0 again");
    Ok(Prepared { version: listed.version, key, operation: Operation::Reset, said, user: Some(user.clone()) })
}

/// Whether `user`, which was `before`, has a name and an id of its own among all accounts.
fn fits(config: &Config, listed: &Listed, before: Option<&User>, user: &User) -> Result<(), Refusal> {
    if let Some(words) = config.clash_with_files(user) {
        return Err(Refusal::Invalid(words));
    }
    let others = listed.users.iter().filter(|other| before.is_none_or(|before| before.email != other.email));
    for other in others {
        if other.email == user.email {
            return Err(Refusal::Invalid(format!("email: there is a user \"{}\" in the cluster already", user.email)));
        }
        if mask(other.id) == mask(user.id) {
            return Err(Refusal::Invalid(format!("uuid: {} of the cluster has the same id", other.email)));
        }
    }
    Ok(())
}

impl Prepared {
    /// The arguments of the script; `by` and `node` say who does it and where.
    pub fn arguments(&self, prefix: &str, node: &str, by: &str) -> Vec<String> {
        let said = format!("{} (by {by} on {node})", self.said);
        let (word, user) = match &self.operation {
            Operation::Put(user) => ("put", Some(user)),
            Operation::Remove => ("remove", None),
            Operation::Reset | Operation::Nothing => ("reset", None),
        };
        let of_user = |text: fn(&User) -> String| user.map(|user| text(user)).unwrap_or_default();
        vec![
            prefix.to_owned(),
            self.version.to_string(),
            word.to_owned(),
            self.key.clone(),
            of_user(|user| record(user).to_string()),
            of_user(|user| user.email.clone()),
            of_user(masked_id),
            of_user(|user| user.limits.quota_bytes.to_string()),
            said,
            LOG_CHANGES_MAX.to_owned(),
            // Should this be the first account, which no engine has had before.
            uuid::Uuid::new_v4().simple().to_string(),
        ]
    }
}

/// An account as the engine keeps it.
fn record(user: &User) -> Value {
    let mut record = user_json(user);
    record["format"] = RECORD_FORMAT.into();
    record["masked_id"] = masked_id(user).into();
    record
}

fn masked_id(user: &User) -> String {
    uuid::Uuid::from_bytes(mask(user.id)).simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use serde_json::json;
    use uuid::Uuid;

    use crate::app::cluster::files::SavedAccounts;
    use crate::app::cluster::list::List;

    fn config() -> Config {
        let text = r#"{ "users": [ { "uuid": "local", "email": "local" } ], "users_file": null,
            "cluster": { "url": "unix:///nowhere" } }"#;
        Config::parse(text, Path::new("/etc/vless/config.json")).unwrap()
    }

    fn listed() -> Listed {
        let record = |email: &str| json!({ "uuid": email, "email": email });
        let records = vec![("k1".to_owned(), record("anna")), ("k2".to_owned(), record("bob"))];
        List::new(SavedAccounts { version: 9, history: None, records }, None).listed()
    }

    fn prepared(change: &Change) -> Result<Prepared, Refusal> {
        let config = config().with_cluster(9, &listed().users).0;
        prepare(&config, &listed(), change, 0, Uuid::from_u128(5))
    }

    fn set(patch: Value) -> Change {
        Change::Set { email: "anna".to_owned(), patch }
    }

    #[test]
    fn a_change_carries_the_version_that_was_seen_and_the_account_as_it_will_be() {
        let change = prepared(&set(json!({ "limits": { "quota_bytes": 7 } }))).unwrap();
        let arguments = change.arguments("p", "fra-1", "command");
        assert_eq!(arguments[..4], ["p", "9", "put", "k1"]);
        assert_eq!((arguments[5].as_str(), arguments[7].as_str()), ("anna", "7"));
        assert_eq!(arguments[8], "user anna changed: quota_bytes (by command on fra-1)");
        let record: Value = serde_json::from_str(&arguments[4]).unwrap();
        assert_eq!((&record["format"], &record["masked_id"]), (&json!(1), &json!(arguments[6])));
        let again = crate::app::config::cluster_user(&record, None).unwrap();
        assert_eq!(Some(again), change.user);
        let removal = prepared(&Change::Remove { email: "bob".to_owned() }).unwrap();
        assert_eq!((removal.operation, removal.key.as_str()), (Operation::Remove, "k2"));
        assert_eq!(prepared(&set(json!({ "enabled": true }))).unwrap().operation, Operation::Nothing);
    }

    #[test]
    fn names_and_ids_are_taken_wherever_they_are_kept() {
        let add = |user: Value| prepared(&Change::Add(user)).unwrap_err();
        assert_eq!(add(json!({ "email": "anna" })), Refusal::Exists("anna".into()));
        assert_eq!(add(json!({ "email": "local" })), Refusal::Exists("local".into()));
        let words = |refusal| match refusal {
            Refusal::Invalid(words) => words,
            other => panic!("{other:?}"),
        };
        let same_id = words(add(json!({ "email": "c", "uuid": "local" })));
        assert_eq!(same_id, "c of the cluster has the same id as users[0] (local) of /etc/vless/config.json");
        assert!(words(add(json!({ "email": "c", "uuid": "bob" }))).contains("bob of the cluster"));
        assert!(words(prepared(&set(json!({ "email": "bob" }))).unwrap_err()).contains("\"bob\" in the cluster"));
        let unknown = Change::Rotate { email: "nobody".to_owned() };
        assert_eq!(prepared(&unknown).unwrap_err(), Refusal::NotFound("nobody".into()));
    }

    #[test]
    fn a_new_account_has_a_key_that_is_no_credential() {
        let added = prepared(&Change::Add(json!({ "email": "new" }))).unwrap();
        let Operation::Put(user) = &added.operation else { panic!("{added:?}") };
        assert_eq!((user.origin, added.key.len()), (Origin::Cluster, 32));
        assert!(!user.id_text().replace('-', "").contains(&added.key));
    }
}
