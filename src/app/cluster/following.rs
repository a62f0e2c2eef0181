//! The list of accounts: changes as they come, and all of it where one was missed.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::call::Call;
use super::engine::EngineError;
use super::files::SavedAccounts;
use super::joining::all_records;
use super::list::List;
use super::member::Member;
use super::news::News;
use super::reply::Reply;
use crate::control::events::Level;

/// Changes that are read at once.
const CHANGES_MAX: &str = "500";
/// Attempts to read a list that changes all the while.
const ATTEMPTS: usize = 5;
/// The place in the log in front of the first change.
const START: &str = "0-0";

impl Member {
    /// Takes the changes that there are, or those that come within `wait`.
    pub(super) fn follow(&mut self, wait: Duration) -> Result<(), EngineError> {
        let Some(heard) = self.heard.clone() else { return self.read_all() };
        let key = self.settings.key("log");
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let millis = wait.as_millis().to_string();
        let mut words = vec!["XREAD", "COUNT", CHANGES_MAX];
        if !wait.is_zero() {
            words.extend(["BLOCK", &millis]);
        }
        words.extend(["STREAMS", &key, &heard]);
        let answer = engine.call_waiting(&words, wait)?;
        let Some(stream) = answer.list().first() else { return Ok(()) };
        let mut is_changed = false;
        for entry in stream.list().get(1).map(Reply::list).unwrap_or_default() {
            let name = entry.list().first().and_then(Reply::text).ok_or(EngineError::Nonsense)?;
            let fields: HashMap<_, _> = entry.list().get(1).map(Reply::pairs).into_iter().flatten().collect();
            self.heard = Some(name);
            match self.take_change(&fields) {
                Some(did_change) => is_changed |= did_change,
                // A change was missed.
                None => return self.read_all(),
            }
        }
        if is_changed {
            self.list_has_changed();
        }
        if std::mem::take(&mut self.is_reload_wanted) { self.read_all() } else { Ok(()) }
    }

    /// Whether the list is another by this change; `None` where changes in front of it were missed.
    fn take_change(&mut self, fields: &HashMap<String, String>) -> Option<bool> {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let (account, said) = (field("account"), field("by"));
        if let Some(call) = Call::read(field("operation"), account) {
            // The node that calls has done it already.
            if field("record") != self.settings.node {
                self.hear_call(call, said);
            }
            return Some(false);
        }
        let version = field("version").parse::<u64>().ok()?;
        if version <= self.list.version {
            return Some(false);
        }
        if version != self.list.version + 1 {
            return None;
        }
        match field("operation") {
            "put" => {
                let record = serde_json::from_str(field("record")).unwrap_or(Value::Null);
                self.forget_lease_if_quota_changes(account, &record);
                self.list.put(account.to_owned(), record);
            }
            "remove" => {
                self.books.lock().node.forget(account);
                self.list.remove(account);
            }
            "reset" => {
                self.books.lock().node.forget(account);
                self.news.push(News::Reset { key: account.to_owned() });
            }
            // Of a newer version of this program.
            _ => return None,
        }
        self.list.version = version;
        log::info!("cluster: {said}");
        self.tell_user_event(said);
        Some(true)
    }

    fn forget_lease_if_quota_changes(&mut self, account: &str, record: &Value) {
        let quota = record["limits"]["quota_bytes"].as_u64().unwrap_or(0);
        if quota != self.list.quota(account) {
            self.books.lock().node.forget(account);
        }
    }

    /// The engine says that its list has this version. What was missed is read now.
    pub(super) fn look_at_version(&mut self, version: u64) -> Result<(), EngineError> {
        if version != self.list.version || self.heard.is_none() {
            self.follow(Duration::ZERO)?;
        }
        if version == self.list.version || version == 0 && self.is_emptied {
            return Ok(());
        }
        if version < self.list.version && version > 0 {
            let text = format!(
                "the engine has version {version} of the accounts, this node has had {}: changes are lost there",
                self.list.version
            );
            log::warn!("cluster: {text}");
            let data = json!({ "version": version, "known": self.list.version });
            self.tell_event(Level::Warn, &text, ("accounts_older", data));
            return self.read_all();
        }
        if version > self.list.version || version == 0 { self.read_all() } else { Ok(()) }
    }

    /// Reads the list whole, where there is an engine.
    pub(super) fn read_all(&mut self) -> Result<(), EngineError> {
        if self.engine.is_none() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let before = self.engine_version()?;
            if before == 0 && !self.list.is_empty() {
                return self.keep_list();
            }
            let heard = self.newest_change()?;
            let Some(engine) = &mut self.engine else { return Ok(()) };
            let records = all_records(engine, &self.settings)?;
            if self.engine_version()? != before {
                continue;
            }
            self.is_emptied = false;
            self.heard = Some(heard);
            let saved = SavedAccounts { version: before, records: records.into_iter().collect() };
            if saved != self.list.saved() {
                for (key, _) in &saved.records {
                    self.books.lock().node.forget(key);
                }
                self.list = List::new(saved, self.settings.flow_with_tls);
                log::info!("cluster: {} accounts, version {before}", self.list.len());
                self.list_has_changed();
            }
            return Ok(());
        }
        // It changes all the while; the next sign of life is the next attempt.
        Ok(())
    }

    /// An engine without any account is a mistake more often than a wish, and nobody is cut for it.
    fn keep_list(&mut self) -> Result<(), EngineError> {
        self.heard = Some(self.newest_change()?);
        if !std::mem::replace(&mut self.is_emptied, true) {
            let text = format!(
                "the engine has no accounts any more; this node goes on with the {} it has. Restore a backup, or stop the \
                 nodes and delete accounts.json in cluster.folder",
                self.list.len()
            );
            log::error!("cluster: {text}");
            self.tell_event(Level::Error, &text, ("accounts_gone", json!({ "n": self.list.len() })));
            self.around.shared.tell(|status| status.error = Some(text));
        }
        Ok(())
    }

    fn engine_version(&mut self) -> Result<u64, EngineError> {
        let key = self.settings.key("version");
        let Some(engine) = &mut self.engine else { return Ok(0) };
        Ok(engine.call(&["GET", &key])?.number().unwrap_or(0))
    }

    fn newest_change(&mut self) -> Result<String, EngineError> {
        let key = self.settings.key("log");
        let Some(engine) = &mut self.engine else { return Ok(START.to_owned()) };
        let newest = engine.call(&["XREVRANGE", &key, "+", "-", "COUNT", "1"])?;
        let name = newest.list().first().and_then(|entry| entry.list().first()).and_then(Reply::text);
        Ok(name.unwrap_or_else(|| START.to_owned()))
    }
}
