//! What is done to a worker while its sessions run: rules are replaced, sessions are cut, and others come after them.

use std::net::IpAddr;
use std::sync::Arc;

use vless_rust::io::token::Token;
use vless_rust::session::close::CloseReason;
use vless_rust::session::{SessionSettings, User};

use super::world::World;

impl World {
    /// Other rules, as a worker takes them over: sessions that are there see them from their next call on.
    pub(crate) fn adopt(&mut self, settings: SessionSettings) {
        self.settings = settings;
        for run in self.runs.iter_mut().filter(|run| run.wished.is_none()) {
            // Whoever has not been admitted may be a stranger by then.
            run.reasons.push(CloseReason::UnknownUser);
        }
    }

    /// Cuts all sessions that are meant, and says how many that were.
    pub(crate) fn cut_where(
        &mut self,
        reason: CloseReason,
        is_meant: impl Fn(IpAddr, Option<&Arc<User>>) -> bool,
    ) -> usize {
        let sessions = self.schedule.page(0, self.schedule.slots());
        let meant = sessions.filter(|(_, session)| is_meant(session.client_address().ip(), session.user()));
        let tokens: Vec<Token> = meant.map(|(token, _)| token).collect();
        for &token in &tokens {
            let number = self.runs.iter().position(|run| run.token == token).unwrap();
            self.runs[number].reasons.push(reason);
            self.cut(number, reason);
            assert_eq!(self.ended(number), Some(reason), "a session that is cut goes on");
        }
        tokens.len()
    }

    /// Makes room for the next sessions once all have ended; counters, timers and the places of sessions stay.
    pub(crate) fn begin_wave(&mut self) {
        assert!(!self.lives());
        self.runs.clear();
        self.steps = 0;
    }
}
