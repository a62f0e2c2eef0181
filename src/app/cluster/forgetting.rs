//! A node that is gone for good, and should not be listed any more.

use std::sync::mpsc::SyncSender;

use serde_json::json;

use super::engine::EngineError;
use super::member::Member;
use super::news::Forgotten;
use crate::cluster::script;
use crate::control::events::{Event, Kind, Level};

impl Member {
    /// Has the engine forget a node, and tells whoever asked.
    pub(super) fn forget_node(
        &mut self,
        node: &str,
        by: &str,
        reply: &SyncSender<Forgotten>,
    ) -> Result<(), EngineError> {
        let outcome = self.try_to_forget(node);
        let told = outcome.as_ref().map_or_else(|error| Forgotten::Away(error.to_string()), Clone::clone);
        if told == Forgotten::Done {
            let text = format!("the node {node} is not listed any more");
            log::info!("cluster: {text} (by {by})");
            let event = Event::new(Kind::Cluster, Level::Info, text).by(by);
            self.around.control.report(event.coded("node_forgotten", json!({ "node": node })));
        }
        // Nobody waits any more: it was done all the same.
        let _ = reply.try_send(told);
        match outcome {
            // Whoever looks now is to see it.
            Ok(Forgotten::Done) => self.beat(),
            other => other.map(drop),
        }
    }

    fn try_to_forget(&mut self, node: &str) -> Result<Forgotten, EngineError> {
        let away = self.doubt.clone().or_else(|| self.last_error.clone());
        let Some(engine) = self.engine.as_mut().filter(|_| self.doubt.is_none()) else {
            return Ok(Forgotten::Away(away.unwrap_or_else(|| "it was not reached yet".to_owned())));
        };
        let keys = ["nodes".to_owned(), format!("node:{node}")].map(|name| self.settings.key(&name));
        let arguments = [node.to_owned(), self.settings.gone_after.as_millis().to_string()];
        let words = engine.run(&script::FORGET, &keys, &arguments)?.texts().ok_or(EngineError::Nonsense)?;
        let silent_ms = words.get(1).and_then(|text| script::number(text)).ok_or(EngineError::Nonsense)?;
        match words.first().map(String::as_str) {
            Some("forgotten") => Ok(Forgotten::Done),
            Some("unknown") => Ok(Forgotten::Unknown),
            Some("there") => Ok(Forgotten::There(silent_ms / 1000)),
            _ => Err(EngineError::Nonsense),
        }
    }
}
