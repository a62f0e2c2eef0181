//! Warnings of accounts, such as of a quota that is nearly used up: all nodes see the reason, and one of them tells it.

use super::engine::EngineError;
use super::member::Member;
use super::news::{News, Warning};
use crate::cluster::script;

impl Member {
    /// Has the supervisor tell a warning, unless another node has told it. While the engine is away every node tells.
    pub(super) fn warn(&mut self, warning: Box<Warning>) -> Result<(), EngineError> {
        let asked = self.is_first(&warning);
        if !matches!(asked, Ok(false)) {
            self.news.push(News::Warn(warning));
        }
        asked.map(drop)
    }

    fn is_first(&mut self, warning: &Warning) -> Result<bool, EngineError> {
        let key = self.settings.key(&format!("use:{}", warning.account));
        let arguments = [warning.event.code.clone(), warning.of.clone()];
        let Some(engine) = self.engine.as_mut().filter(|_| self.doubt.is_none()) else { return Ok(true) };
        Ok(engine.run(&script::WARN, &[key], &arguments)?.number() != Some(0))
    }
}
