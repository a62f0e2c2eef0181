//! Signs of life: what this node says of itself, and what the others say.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;

use super::engine::EngineError;
use super::member::{LastBeat, Member};
use super::reply::plain;
use super::status::{Facts, NODES_FROM, NODES_MAX, NodeStatus};
use crate::app::clock::unix_time;
use crate::cluster::script;
use crate::control::events::Level;
use crate::stats::totals;

/// The form of the data that this version writes.
pub(super) const DATA_FORMAT: u64 = 1;
/// Boots of which the engine is to know the latest batch, beside those of which we have something to tell: another server
/// that was started under our name may have made some of them, and would tell again what is forgotten.
const BOOTS_KEPT: usize = 256;

impl Member {
    /// Says that this node is there, and hears how the cluster stands.
    pub(super) fn beat(&mut self) -> Result<(), EngineError> {
        self.due.beat = Instant::now() + self.settings.interval;
        let facts = serde_json::to_string(&self.facts()).unwrap_or_default();
        let settings = &self.settings;
        let keys = ["nodes", &format!("node:{}", settings.node), "version", "about"].map(|name| settings.key(name));
        let gone_ms = settings.gone_after.as_millis().to_string();
        let mut arguments = vec![settings.node.clone(), self.boot.to_string(), gone_ms];
        arguments.extend(["facts".to_owned(), facts, "online".to_owned(), self.online_here()]);
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let words = engine.run(&script::BEAT, &keys, &arguments)?.texts().ok_or(EngineError::Nonsense)?;
        match words.as_slice() {
            [outcome, version, now_ms, _, history] if outcome == "ok" => {
                let (version, now_ms) = (script::number(version), script::number(now_ms));
                let (Some(version), Some(now_ms)) = (version, now_ms) else { return Err(EngineError::Nonsense) };
                self.look_at_list(version, history)?;
                self.look_at_nodes(now_ms)?;
                // What a wrong engine has is nobody's, and what it does not have is not lost.
                if self.doubt.is_some() {
                    return Ok(());
                }
                self.compare()?;
                self.look_at_usage()
            }
            [outcome, ..] if outcome == "taken" => {
                let name = &self.settings.node;
                Err(EngineError::Refused(format!("another server calls itself {name}; cluster.node must be another")))
            }
            _ => Err(EngineError::Nonsense),
        }
    }

    /// This node leaves: nobody needs to wait for it.
    pub(super) fn leave(&mut self) -> Result<(), EngineError> {
        let key = self.settings.key("nodes");
        let Some(engine) = &mut self.engine else { return Ok(()) };
        engine.call(&["ZREM", &key, &self.settings.node]).map(drop)
    }

    /// What the engine has of this node's batches.
    fn compare(&mut self) -> Result<(), EngineError> {
        let key = self.settings.key(&format!("applied:{}", self.settings.node));
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let pairs = engine.call(&["HGETALL", &key])?;
        let numbers = pairs.pairs().map(|(boot, sequence)| Some((boot.parse().ok()?, script::number(&sequence)?)));
        let applied: BTreeMap<u64, u64> = numbers.collect::<Option<_>>().ok_or(EngineError::Nonsense)?;
        let (forgotten, lost) = {
            let node = &mut self.books.lock().node;
            let (sealed, lost) = (node.sealed_batches(), node.lost_batches());
            node.on_applied(&applied);
            (node.sealed_batches().saturating_sub(sealed), node.lost_batches() - lost)
        };
        if forgotten > 0 {
            let text = format!(
                "the engine has lost {forgotten} batches of traffic that it had confirmed; they are sent again. It does \
                 not write everything to disk, or a backup was restored"
            );
            log::warn!("cluster: {text}");
            self.tell_event(Level::Warn, &text, ("batches_resent", json!({ "n": forgotten })));
        }
        if lost > 0 {
            let text =
                format!("the engine has lost {lost} batches of traffic for good: they are too old to be here still");
            log::error!("cluster: {text}");
            self.tell_event(Level::Error, &text, ("batches_lost", json!({ "n": lost })));
        }
        self.forget_boots(&applied)
    }

    /// Boots of which nothing is sent any more need not all be known for ever.
    fn forget_boots(&mut self, applied: &BTreeMap<u64, u64>) -> Result<(), EngineError> {
        let key = self.settings.key(&format!("applied:{}", self.settings.node));
        let oldest = self.books.lock().node.journal().oldest_boot();
        let earlier = applied.keys().rev().filter(|&&boot| boot < oldest);
        let old: Vec<String> = earlier.skip(BOOTS_KEPT).map(u64::to_string).collect();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        if old.is_empty() {
            return Ok(());
        }
        engine.call(&[vec!["HDEL".to_owned(), key], old].concat()).map(drop)
    }

    fn look_at_nodes(&mut self, now_ms: u64) -> Result<(), EngineError> {
        let gone_ms = self.settings.gone_after.as_millis() as u64;
        let key = self.settings.key("nodes");
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let known = engine.call(&["ZRANGE", &key, NODES_FROM, "-1", "WITHSCORES"])?;
        let known: Vec<_> = known.pairs().take(NODES_MAX).collect();
        let calls: Vec<_> = known
            .iter()
            .map(|(name, _)| vec!["HGET".to_owned(), self.settings.key(&format!("node:{name}")), "facts".to_owned()])
            .collect();
        let facts = if calls.is_empty() { Vec::new() } else { engine.call_all(&calls)? };
        let nodes = known.into_iter().zip(facts).map(|((name, seen_ms), facts)| {
            let silent_ms = now_ms.saturating_sub(seen_ms.parse::<f64>().unwrap_or(0.0) as u64);
            let (name, facts) = (plain(&name), Facts::read(&facts.text().unwrap_or_default()));
            NodeStatus { name, is_online: silent_ms < gone_ms, seen_seconds_ago: silent_ms / 1000, facts }
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        self.around.shared.tell(|status| status.nodes = nodes);
        Ok(())
    }

    fn facts(&mut self) -> Facts {
        let now = Instant::now();
        let sums = totals(self.around.reactor.counters().iter().map(AsRef::as_ref));
        let (up, down) = (sums.uplink_bytes, sums.downlink_bytes);
        let last = self.last_beat.replace(LastBeat { at: now, up, down });
        let speed = |now_bytes: u64, then: fn(&LastBeat) -> u64| {
            let last = last.as_ref()?;
            let passed = now.saturating_duration_since(last.at).as_secs_f64().max(0.1);
            Some((now_bytes.saturating_sub(then(last)) as f64 / passed) as u64)
        };
        let described = self.around.shared.described();
        let days = described
            .certificate_not_after
            .map(|not_after| (not_after.cast_signed() - unix_time().cast_signed()).div_euclid(86_400));
        Facts {
            format: DATA_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reach: described.reach,
            started_at: self.started_at,
            sessions: self.around.reactor.sessions() as u64,
            up_bytes_per_second: speed(up, |last| last.up).unwrap_or(0),
            down_bytes_per_second: speed(down, |last| last.down).unwrap_or(0),
            certificate_days: days,
            accounts_version: self.list.version,
            last_error: self.last_error.clone(),
        }
    }
}
