//! What goes to the engine: batches of traffic with wishes for quotas, changes of accounts, cuts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::change::Operation;
use super::engine::EngineError;
use super::member::Member;
use super::news::{Asked, Outcome};
use super::reply::plain;
use crate::cluster::journal::AccountKey;
use crate::cluster::script::{self, ReportHead};

/// Reports in one round at the most, so that a long absence is made up for in pieces.
const REPORTS_IN_A_ROUND: usize = 20;

impl Member {
    /// Sends what is due, or what cannot wait.
    pub(super) fn report_if_due(&mut self) -> Result<(), EngineError> {
        if self.doubt.is_some() {
            return Ok(());
        }
        let quotas = self.wanting();
        let is_due = self.due.report <= Instant::now();
        if !is_due && !self.books.lock().node.is_wanting(&quotas, self.now_ms()) {
            return Ok(());
        }
        if is_due {
            self.due.report = Instant::now() + self.settings.interval;
        }
        for _ in 0..REPORTS_IN_A_ROUND {
            if !self.report(&quotas)? {
                return Ok(());
            }
        }
        // More is left.
        self.due.report = Instant::now();
        Ok(())
    }

    /// Sends one batch; false when there is none.
    fn report(&mut self, quotas: &BTreeMap<AccountKey, u64>) -> Result<bool, EngineError> {
        let next = self.books.lock().node.next_report(quotas, self.now_ms());
        let report = match next {
            Ok(Some(report)) => report,
            Ok(None) => return Ok(false),
            Err(error) => {
                self.cannot_write(&error);
                return Ok(false);
            }
        };
        let settings = &self.settings;
        let lease_ms = settings.gone_after.as_millis() as u64;
        let head = ReportHead { prefix: &settings.prefix, node: &settings.node, lease_ms };
        let keys = [settings.key(&format!("applied:{}", settings.node)), settings.key("quotas")];
        let arguments = script::report_arguments(&head, &report.batch, report.skip, &report.wishes);
        let Some(engine) = &mut self.engine else { return Ok(false) };
        // Leases run from the question on, however long the answer takes: the engine's time is not later than we believe.
        let now_ms = self.clock.elapsed().as_millis() as u64;
        let words = engine.run(&script::REPORT, &keys, &arguments)?.texts().ok_or(EngineError::Nonsense)?;
        let answer = script::report_answer(&words, lease_ms).ok_or(EngineError::Nonsense)?;
        let taken = self.books.lock().node.on_answer(&report, &answer, now_ms);
        if let Err(error) = taken {
            self.cannot_write(&error);
        }
        self.around.shared.tell(|status| status.reports_total += 1);
        script::report_trouble(&words).map_or(Ok(true), |trouble| Err(EngineError::Refused(plain(trouble))))
    }

    /// Has a change made.
    pub(super) fn change(&mut self, asked: &Asked) -> Result<Outcome, EngineError> {
        if asked.prepared.operation == Operation::Nothing {
            return Ok(Outcome::Made);
        }
        let Some(engine) = &mut self.engine else {
            let words = self.last_error.clone().unwrap_or_else(|| "it was not reached yet".to_owned());
            return Ok(Outcome::Away(words));
        };
        if let Some(doubt) = &self.doubt {
            return Ok(Outcome::Refused(doubt.clone()));
        }
        let settings = &self.settings;
        let names = ["version", "accounts", "emails", "ids", "quotas", "log", "about"];
        let keys = names.map(|name| settings.key(name));
        let arguments = asked.prepared.arguments(&settings.prefix, &settings.node, &asked.by);
        let words = engine.run(&script::CHANGE, &keys, &arguments)?.texts().ok_or(EngineError::Nonsense)?;
        let outcome = match words.first().map(String::as_str) {
            Some("changed") => Outcome::Made,
            Some("stale" | "unknown") => Outcome::Stale,
            Some("email_taken") => Outcome::Refused("another account of the cluster has this email".to_owned()),
            Some("id_taken") => Outcome::Refused("another account of the cluster has this id".to_owned()),
            _ => return Err(EngineError::Nonsense),
        };
        // Whoever asked is to see it, and whoever was too late is to see what came before.
        self.follow(Duration::ZERO)?;
        Ok(outcome)
    }
}
