//! What others want of the whole cluster: who is online, and words that all nodes are to hear.

use std::sync::mpsc::SyncSender;

use serde_json::json;

use super::call::Call;
use super::engine::EngineError;
use super::member::Member;
use super::news::News;
use super::online::{self, NodeOnline};
use crate::cluster::journal::AccountKey;

impl Member {
    /// Another node calls.
    pub(super) fn hear_call(&mut self, call: Call, said: String) {
        // However often it is called for at once, once is enough.
        if call == Call::Reload && std::mem::replace(&mut self.is_reload_wanted, true) {
            return;
        }
        self.news.push(News::Called { call, said });
    }

    /// Tells all other nodes. Those of an older version leave out what they do not know.
    pub(super) fn call_others(&mut self, call: &Call, by: &str) -> Result<(), EngineError> {
        let said = format!("{} (by {by} on {})", call.said(), self.settings.node);
        let (key, (operation, account)) = (self.settings.key("log"), call.words());
        // The nodes of another cluster are not ours to order about.
        let Some(engine) = self.engine.as_mut().filter(|_| self.doubt.is_none()) else { return Ok(()) };
        let words = ["XADD", &key, "MAXLEN", "~", "10000", "*", "version", "0", "operation", operation];
        let words = [&words[..], &["account", account, "record", &self.settings.node, "by", &said]].concat();
        engine.call(&words).map(drop)
    }

    /// Answers who is online on the other nodes, of all accounts or of `account`; nothing where the engine is away.
    pub(super) fn tell_online(
        &mut self,
        account: Option<&AccountKey>,
        reply: &SyncSender<Option<Vec<NodeOnline>>>,
    ) -> Result<(), EngineError> {
        let nodes = self.around.shared.status().nodes;
        let Some(engine) = self.engine.as_mut() else {
            let _ = reply.try_send(None);
            return Ok(());
        };
        let mut found = Vec::new();
        for node in nodes.into_iter().filter(|node| node.is_online && node.name != self.settings.node) {
            let key = self.settings.key(&format!("node:{}", node.name));
            // One after the other, because each may be long.
            let text = engine.call(&["HGET", &key, "online"])?.text();
            let mut online = text.map(|text| online::read(&text)).unwrap_or_default();
            online.retain(|key, _| account.is_none_or(|account| account == key));
            found.push(NodeOnline { node: node.name, seconds_ago: node.seen_seconds_ago, online });
        }
        // Nobody waits any more: nothing is lost.
        let _ = reply.try_send(Some(found));
        Ok(())
    }

    /// What this node says of who is online here.
    pub(super) fn online_here(&self) -> String {
        let (_, served) = self.around.shared.served();
        json!(online::here(&served)).to_string()
    }
}
