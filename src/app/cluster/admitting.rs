//! Tells the engine who is here, where addresses or sessions are limited, and has those leave who are too many.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::counting::Served;
use super::engine::EngineError;
use super::member::Member;
use super::presence::Told;
use crate::cluster::script;
use crate::reactor::request::{CutQuery, LedgerRef, ListQuery, SessionId, Which};
use crate::session::address_of;
use crate::session::close::CloseReason;

/// What the engine was told holds for so long, unless it is told again.
const HOLDS: Duration = Duration::from_secs(90);
/// How long the workers' answers may take.
const LIST_TIMEOUT: Duration = Duration::from_millis(500);
/// Sessions of one account that are looked at.
const LIST_MAX: usize = 10_000;

impl Member {
    /// Tells the engine who is here, and has those leave who are too many.
    pub(super) fn tell_presence(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        let head = [self.settings.prefix.clone(), self.settings.node.clone(), HOLDS.as_millis().to_string()];
        self.tell_addresses(&head, now)?;
        self.tell_sessions(&head, now)
    }

    fn tell_addresses(&mut self, head: &[String; 3], now: Instant) -> Result<(), EngineError> {
        let wishes = self.presence.wishes(now);
        let Some(engine) = self.engine.as_mut().filter(|_| !wishes.is_empty()) else { return Ok(()) };
        let mut arguments = head.to_vec();
        for wish in &wishes {
            arguments.extend([wish.key.clone(), address_of(wish.source).to_string(), wish.limit.clone()]);
        }
        let answer = engine.run(&script::ADMIT, &[], &arguments)?;
        for (wish, answer) in wishes.iter().zip(answer.list()) {
            let has_to_leave = self.presence.on_answer(wish, answer.number() == Some(1), now);
            let Some(served) = self.presence.ledger(&wish.key).filter(|_| has_to_leave) else { continue };
            served.ledger.gate().refuse(wish.source);
            let which = Which::LedgerFrom(LedgerRef(served.ledger.clone()), wish.source);
            // New sessions from there are refused, so there is nobody to be asked twice.
            let _ = self.around.reactor.cut(&CutQuery { which, reason: CloseReason::UserAddressesLimit });
        }
        Ok(())
    }

    fn tell_sessions(&mut self, head: &[String; 3], now: Instant) -> Result<(), EngineError> {
        let counts = self.presence.counts(now);
        let Some(engine) = self.engine.as_mut().filter(|_| !counts.is_empty()) else { return Ok(()) };
        let mut arguments = head.to_vec();
        for (one, count) in &counts {
            arguments.extend([one.key.clone(), count.to_string()]);
        }
        let answer = engine.run(&script::SESSIONS, &[], &arguments)?;
        for ((one, count), elsewhere) in counts.iter().zip(answer.list()) {
            let elsewhere = elsewhere.number().unwrap_or(0) as usize;
            let before = self.presence.sessions.insert(one.key.clone(), Told { count: *count, at: now });
            let before = before.map_or(0, |told| told.count);
            one.ledger.gate().set_sessions_elsewhere(elsewhere);
            let excess = count.saturating_add(elsewhere).saturating_sub(one.limits.sessions_max);
            // Whoever had them before keeps them; the node on which one was opened too many closes it.
            if excess.min(count.saturating_sub(before)) > 0 {
                self.cut_newest(one, excess, before);
            }
        }
        Ok(())
    }

    /// Cuts the newest `excess` sessions of an account, but not the `kept` oldest.
    fn cut_newest(&self, one: &Served, excess: usize, kept: usize) {
        let deadline = Instant::now() + LIST_TIMEOUT;
        let account = Some(LedgerRef(Arc::clone(&one.ledger)));
        let query = ListQuery { account, limit: LIST_MAX, ..ListQuery::default() };
        let answers = self.around.reactor.list(&query);
        let mut sessions: Vec<(SessionId, Duration)> = Vec::new();
        loop {
            match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Ok(page)) => sessions.extend(page.sessions.iter().map(|(id, view)| (*id, view.age))),
                Ok(Err(_)) => {}
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => break,
            }
        }
        sessions.sort_by_key(|(_, age)| *age);
        // Some may have ended by themselves meanwhile.
        let count = excess.min(sessions.len().saturating_sub(kept));
        for (id, _) in sessions.into_iter().take(count) {
            let query = CutQuery { which: Which::Session(id), reason: CloseReason::UserSessionsLimit };
            let _ = self.around.reactor.cut(&query);
        }
    }
}
