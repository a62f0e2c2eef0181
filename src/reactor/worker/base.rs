//! What all parts of a worker need: who it is, what time it is, what it obeys and what it counts.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Parts;
use crate::io::timer::TimerWheel;
use crate::io::token::Token;
use crate::reactor::inbox::{Inbox, Word};
use crate::reactor::pulse::Pulse;
use crate::reactor::rules::Rules;
use crate::reactor::shared::Shared;
use crate::reactor::timers::{Timer, Timers};
use crate::stats::Counters;

/// A shortage, or a refusal, is logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

pub(super) struct Base {
    pub(super) number: usize,
    /// Read once per turn.
    pub(super) now: Instant,
    pub(super) timers: TimerWheel<Token>,
    pub(super) alarms: Timers,
    pub(super) rules: Arc<Rules>,
    pub(super) counters: Arc<Counters>,
    pub(super) shared: Arc<Shared>,
    inboxes: Arc<[Inbox]>,
    shortage_logged_at: Option<Instant>,
    refusal_logged_at: Option<Instant>,
}

impl Base {
    pub(super) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            number: parts.number,
            now,
            timers: TimerWheel::new(now),
            alarms: Timers::default(),
            rules: parts.rules,
            counters: parts.counters,
            shared: parts.shared,
            inboxes: parts.inboxes,
            shortage_logged_at: None,
            refusal_logged_at: None,
        }
    }

    /// This worker's.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        self.shared.pulses.get(self.number).cloned().unwrap_or_default()
    }

    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        self.alarms.arm(timer, at, &mut self.timers, self.now);
    }

    /// Tells another worker something; false when its inbox is full.
    pub(super) fn tell(&self, worker: usize, word: Word) -> bool {
        self.inboxes.get(worker).is_some_and(|inbox| inbox.tell(word))
    }

    /// The numbers of the other workers.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.number;
        (0..self.inboxes.len()).filter(move |&number| number != own)
    }

    /// Tells the operator that something has run out, now and then.
    pub(super) fn warn_of_shortage(&mut self, what: fmt::Arguments<'_>) {
        if self.shortage_logged_at.is_none_or(|at| at + LOG_INTERVAL <= self.now) {
            self.shortage_logged_at = Some(self.now);
            log::warn!("worker {}: {what}", self.number);
        }
    }

    /// Tells the operator whom a limit keeps out, now and then.
    pub(super) fn warn_of_refusal(&mut self, what: fmt::Arguments<'_>) {
        if self.refusal_logged_at.is_none_or(|at| at + LOG_INTERVAL <= self.now) {
            self.refusal_logged_at = Some(self.now);
            log::warn!("worker {}: {what}", self.number);
        }
    }

    /// Closes UDP sockets whose clients did not come back, and looks again while there are some.
    pub(super) fn sweep_global_ids(&mut self) {
        let grace = self.rules.session.udp.global_id_grace;
        if self.shared.global_ids.sweep(self.now, grace) {
            self.arm(Timer::SweepGlobalIds, self.now + grace);
        }
    }
}
