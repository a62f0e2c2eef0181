//! The way to the engine: when it is tried, what is found out first, and what is said when it is lost.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::engine::{Engine, EngineError};
use super::following::START;
use super::member::Member;
use super::status::Status;
use crate::control::events::Level;

/// Between two looks at the clock while the next attempt is waited for.
const NAP: Duration = Duration::from_millis(100);

impl Member {
    pub(super) fn connect_if_due(&mut self) -> Result<(), EngineError> {
        let left = self.retry.left();
        if !left.is_zero() {
            thread::sleep(left.min(NAP));
            return Ok(());
        }
        self.engine = Some(Engine::connect(&self.settings.access)?);
        self.look_for_what_was_heard()?;
        // Who we are, what the engine has of us, and which accounts there are: then the connection is worth something.
        self.beat()?;
        self.follow(Duration::ZERO)?;
        // An engine that is doubted is as good as none.
        if self.doubt.is_none() {
            self.around.shared.tell(Status::connected);
        }
        if self.retry.succeeded() {
            self.tell_event(Level::Info, "the engine of the cluster answers again", ("engine_back", Value::Null));
        }
        Ok(())
    }

    /// An engine that does not know the last change that we heard of has another past: a backup was restored, or a copy
    /// that lacked the latest changes took its place. By now it may have as many changes as we know of, so its version
    /// says nothing, and the list has to be read whole.
    fn look_for_what_was_heard(&mut self) -> Result<(), EngineError> {
        let Some(heard) = self.heard.clone().filter(|heard| heard != START) else { return Ok(()) };
        let key = self.settings.key("log");
        let Some(engine) = &mut self.engine else { return Ok(()) };
        if engine.call(&["XREVRANGE", &key, &heard, &heard, "COUNT", "1"])?.list().is_empty() {
            self.heard = None;
        }
        Ok(())
    }

    /// Nothing more comes of this connection.
    pub(super) fn lose(&mut self, error: &EngineError) {
        self.engine = None;
        self.presence.forget();
        let words = error.to_string();
        if self.retry.failed() {
            log::warn!("cluster: {} is away: {words}", self.settings.access.url);
            let text = format!("the engine of the cluster is away: {words}");
            self.tell_event(Level::Warn, &text, ("engine_away", json!({ "error": words })));
        }
        self.last_error = Some(words.clone());
        self.around.shared.tell(|status| {
            status.disconnected(words);
            status.failures_total += 1;
        });
    }
}
