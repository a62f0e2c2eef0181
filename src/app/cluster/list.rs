//! The accounts of the cluster as this node knows them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::files::SavedAccounts;
use super::reply::plain;
use crate::app::config::{Flow, User, cluster_user};
use crate::cluster::journal::AccountKey;
use crate::protocol::user_id::mask;

/// All accounts at one version.
#[derive(Debug)]
pub struct List {
    pub version: u64,
    /// As the engine calls it; `None` before that is known.
    history: Option<String>,
    flow_with_tls: Option<Flow>,
    accounts: BTreeMap<AccountKey, Account>,
}

#[derive(Clone, Debug)]
struct Account {
    record: Value,
    /// `None`: the record breaks a rule, and nobody is served for it.
    user: Option<User>,
}

/// The list for those who serve it.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub version: u64,
    pub users: Vec<User>,
    /// By masked id.
    pub keys: HashMap<[u8; 16], AccountKey>,
}

impl Listed {
    /// What the cluster calls this account.
    pub fn key(&self, user: &User) -> Option<&AccountKey> {
        self.keys.get(&mask(user.id))
    }

    /// The name of the account with this masked id.
    pub fn email(&self, id: &[u8; 16]) -> Option<String> {
        self.users.iter().find(|user| mask(user.id) == *id).map(|user| user.email.clone())
    }
}

impl List {
    /// `flow_with_tls` as in the configuration.
    pub fn new(saved: SavedAccounts, flow_with_tls: Option<Flow>) -> Self {
        let SavedAccounts { version, history, .. } = saved;
        let mut list = Self { version, history, flow_with_tls, accounts: BTreeMap::new() };
        for (key, record) in saved.records {
            list.put(key, record);
        }
        list
    }

    /// Takes a record for the account `key`.
    pub fn put(&mut self, key: AccountKey, record: Value) {
        let user = cluster_user(&record, self.flow_with_tls);
        if let Err(message) = &user {
            let name = plain(record["email"].as_str().unwrap_or("an account without a name"));
            log::error!("cluster: {name} cannot be served: {message}");
        }
        self.accounts.insert(key, Account { record, user: user.ok() });
    }

    /// The account is gone.
    pub fn remove(&mut self, key: &str) {
        self.accounts.remove(key);
    }

    /// Whether an engine with this version and history is hardly the one that this list came from: it has no accounts any
    /// more, or those of another cluster.
    pub fn is_doubtful(&self, version: u64, history: &str) -> bool {
        let is_other = self.history.as_ref().is_some_and(|known| !history.is_empty() && known != history);
        !self.accounts.is_empty() && (version == 0 || is_other)
    }

    /// The engine has said what it calls the history of this list; returns whether that is new.
    pub fn learn(&mut self, history: &str) -> bool {
        let is_new = !history.is_empty() && self.history.as_deref() != Some(history);
        if is_new {
            self.history = Some(history.to_owned());
        }
        is_new
    }

    /// What the engine calls the history of this list.
    pub fn history(&self) -> Option<&str> {
        self.history.as_deref()
    }

    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    pub fn saved(&self) -> SavedAccounts {
        let records = self.accounts.iter().map(|(key, account)| (key.clone(), account.record.clone()));
        SavedAccounts { version: self.version, history: self.history.clone(), records: records.collect() }
    }

    pub fn listed(&self) -> Listed {
        let served = self.accounts.iter().filter_map(|(key, account)| Some((key, account.user.as_ref()?)));
        let keys = served.clone().map(|(key, user)| (mask(user.id), key.clone())).collect();
        Listed { version: self.version, users: served.map(|(_, user)| user.clone()).collect(), keys }
    }

    /// The quota of an account in bytes; 0: none.
    pub fn quota(&self, key: &str) -> u64 {
        let user = self.accounts.get(key).and_then(|account| account.user.as_ref());
        user.map_or(0, |user| user.limits.quota_bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    #[test]
    fn records_that_break_a_rule_are_kept_and_not_served() {
        let good = json!({ "uuid": "a", "email": "a", "limits": { "quota_bytes": 5 } });
        let bad = json!({ "uuid": "b", "email": "b", "limits": { "quota_day": 77 } });
        let records = vec![("1".to_owned(), good), ("2".to_owned(), bad)];
        let saved = SavedAccounts { version: 3, history: None, records };
        let mut list = List::new(saved.clone(), None);
        let listed = list.listed();
        assert_eq!((listed.users.len(), listed.keys.len(), list.len()), (1, 1, 2));
        assert_eq!((list.quota("1"), list.quota("2"), list.quota("3")), (5, 0, 0));
        assert_eq!(list.saved(), saved);
        list.remove("1");
        assert!(list.listed().users.is_empty());
    }

    #[test]
    fn an_engine_without_accounts_or_with_another_history_is_doubted_by_who_has_accounts() {
        let record = json!({ "uuid": "a", "email": "a" });
        let saved = SavedAccounts { version: 3, history: None, records: vec![("1".to_owned(), record)] };
        let mut list = List::new(saved, None);
        assert!(list.is_doubtful(0, "") && !list.is_doubtful(2, "") && !list.is_doubtful(2, "one"));
        assert!(list.learn("one") && !list.learn("one") && !list.learn(""));
        assert!(list.is_doubtful(9, "two") && !list.is_doubtful(9, "one") && !list.is_doubtful(9, ""));
        list.remove("1");
        assert!(!list.is_doubtful(0, "") && !list.is_doubtful(9, "two"), "there is nothing to lose");
    }
}
