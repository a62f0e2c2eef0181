//! The list of accounts: changes as they come, and all of it where one was missed.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::call::Call;
use super::engine::EngineError;
use super::files::SavedAccounts;
use super::joining::{all_records, version_of};
use super::list::List;
use super::member::Member;
use super::news::News;
use super::reply::{Reply, plain};
use super::status::Status;
use crate::cluster::script;
use crate::control::events::Level;

/// Changes that are read at once.
const CHANGES_MAX: &str = "500";
/// Attempts to read a list that changes all the while.
const ATTEMPTS: usize = 5;
/// The place in the log in front of the first change.
pub(super) const START: &str = "0-0";

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
            self.learn_history()?;
            self.list_has_changed();
        }
        if std::mem::take(&mut self.is_reload_wanted) { self.read_all() } else { Ok(()) }
    }

    /// Whether the list is another by this change; `None` where changes in front of it were missed.
    fn take_change(&mut self, fields: &HashMap<String, String>) -> Option<bool> {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let (account, said) = (field("account"), plain(field("by")));
        if self.doubt.is_some() {
            return Some(false);
        }
        if let Some(call) = Call::read(field("operation"), account) {
            // The node that calls has done it already.
            if field("record") != self.settings.node {
                self.hear_call(call, said);
            }
            return Some(false);
        }
        let version = script::number(field("version"))?;
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
        self.tell_user_event(&said);
        Some(true)
    }

    fn forget_lease_if_quota_changes(&mut self, account: &str, record: &Value) {
        let quota = record["limits"]["quota_bytes"].as_u64().unwrap_or(0);
        if quota != self.list.quota(account) {
            self.books.lock().node.forget(account);
        }
    }

    /// The engine says that its list has this version and belongs to this history. What was missed is read now.
    pub(super) fn look_at_list(&mut self, version: u64, history: &str) -> Result<(), EngineError> {
        if self.doubt.is_some() || self.heard.is_none() || self.list.is_doubtful(version, history) {
            return self.read_all();
        }
        self.is_unsaved |= self.list.learn(history);
        if version != self.list.version {
            self.follow(Duration::ZERO)?;
        }
        if version == self.list.version { Ok(()) } else { self.read_all() }
    }

    /// Reads the list whole, where there is an engine.
    pub(super) fn read_all(&mut self) -> Result<(), EngineError> {
        if self.engine.is_none() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let (before, history) = (self.engine_version()?, self.engine_history()?);
            let heard = self.newest_change()?;
            if self.list.is_doubtful(before, &history) {
                self.heard = Some(heard);
                self.keep_list(before);
                return Ok(());
            }
            let Some(engine) = &mut self.engine else { return Ok(()) };
            let records = all_records(engine, &self.settings)?;
            if self.engine_version()? != before {
                continue;
            }
            self.heard = Some(heard);
            if records.is_empty() && self.are_accounts_missing(before)? {
                self.keep_list(0);
                return Ok(());
            }
            if self.doubt.take().is_some() {
                log::info!("cluster: the engine has the accounts again");
                self.around.shared.tell(Status::connected);
            }
            self.is_unsaved |= self.list.learn(&history);
            let history = self.list.history().map(str::to_owned);
            let saved = SavedAccounts { version: before, history, records: records.into_iter().collect() };
            if before < self.list.version {
                self.warn_of_lost_changes(before);
            }
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

    /// The engine has dropped the accounts and kept other keys, as one does that evicts keys: their list is read least of
    /// all. At the version that we know there were some, and whoever removes the last one removes its name, too.
    fn are_accounts_missing(&mut self, version: u64) -> Result<bool, EngineError> {
        if self.list.is_empty() || version == self.list.version {
            return Ok(!self.list.is_empty());
        }
        let key = self.settings.key("emails");
        let Some(engine) = &mut self.engine else { return Ok(false) };
        let page = engine.call(&["HSCAN", &key, "0", "COUNT", "1"])?;
        let [next, names] = page.list() else { return Err(EngineError::Nonsense) };
        // A page may be empty where others are not.
        Ok(!names.list().is_empty() || next.text().is_some_and(|next| next != "0"))
    }

    fn warn_of_lost_changes(&self, version: u64) {
        let known = self.list.version;
        let text = format!(
            "the engine has version {version} of the accounts, this node has had {known}: changes are lost there"
        );
        log::warn!("cluster: {text}");
        let data = json!({ "version": version, "known": known });
        self.tell_event(Level::Warn, &text, ("accounts_older", data));
    }

    /// An engine that was emptied, or has other accounts than ours, is a mistake more often than a wish, and nobody is cut
    /// for it.
    fn keep_list(&mut self, version: u64) {
        let what = if version == 0 { "no accounts any more" } else { "other accounts than those of this cluster" };
        let text = format!(
            "the engine has {what}; this node goes on with the {} it has, and tells it nothing. Restore a backup of the \
             engine; or, if it was meant, stop the node and delete accounts.json in cluster.folder",
            self.list.len()
        );
        if self.doubt.as_ref() != Some(&text) {
            log::error!("cluster: {text}");
            let data = json!({ "n": self.list.len() });
            let coded = if version == 0 { ("accounts_gone", data) } else { ("accounts_foreign", data) };
            self.tell_event(Level::Error, &text, coded);
        }
        self.doubt = Some(text.clone());
        self.around.shared.tell(|status| status.disconnected(text));
    }

    /// With the first account the list has a history. An engine that is emptied right afterwards must be found out, too, so
    /// this does not wait for the next sign of life.
    fn learn_history(&mut self) -> Result<(), EngineError> {
        if self.list.history().is_none() {
            let history = self.engine_history()?;
            self.list.learn(&history);
        }
        Ok(())
    }

    /// What the engine calls the history of its list: it has a name since the first account was made, and another after it
    /// was emptied. Empty where no account was made yet.
    fn engine_history(&mut self) -> Result<String, EngineError> {
        let key = self.settings.key("about");
        let Some(engine) = &mut self.engine else { return Ok(String::new()) };
        Ok(engine.call(&["HGET", &key, "history"])?.text().unwrap_or_default())
    }

    fn engine_version(&mut self) -> Result<u64, EngineError> {
        let key = self.settings.key("version");
        let Some(engine) = &mut self.engine else { return Ok(0) };
        version_of(&engine.call(&["GET", &key])?)
    }

    fn newest_change(&mut self) -> Result<String, EngineError> {
        let key = self.settings.key("log");
        let Some(engine) = &mut self.engine else { return Ok(START.to_owned()) };
        let newest = engine.call(&["XREVRANGE", &key, "+", "-", "COUNT", "1"])?;
        let name = newest.list().first().and_then(|entry| entry.list().first()).and_then(Reply::text);
        Ok(name.unwrap_or_else(|| START.to_owned()))
    }
}
