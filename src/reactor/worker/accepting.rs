//! New clients: accepting while there is room, and pausing when there is none.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::TcpStream;

use super::{ACCEPT_LEG, CLIENT_LEG, STREAM_INTEREST, Session, Slot, Worker, worker_token};
use crate::io::alarm::Alarm;
use crate::io::token::{INDEX_LIMIT, Kind, Token, next_generation};
use crate::reactor::accept::{self, Accepted};

/// Connections accepted per listener and turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting pauses when descriptors or sessions have run out or every attempt fails; the end of a session ends
/// it early.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A shortage is logged at most this often.
const SHORTAGE_LOG_INTERVAL: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) fn accept(&mut self) {
        for number in 0..self.listeners.len() {
            let mut budget = ACCEPTS_PER_TURN;
            let mut lost = 0;
            while self.listeners[number].ready && !self.accept_paused && budget > 0 {
                budget -= 1;
                if self.shared.sessions.load(Ordering::Relaxed) >= self.rules.sessions_max {
                    self.counters.accept_paused_limit.add(1);
                    self.pause_accepting(&format!("all {} sessions are in use", self.rules.sessions_max));
                    break;
                }
                match accept::accept(&self.listeners[number].socket) {
                    Accepted::Client(stream, address) => self.admit(stream, address),
                    Accepted::Blocked => self.listeners[number].ready = false,
                    Accepted::Lost(error) => {
                        self.counters.accept_errors.add(1);
                        lost += 1;
                        log::debug!("accept: {error}");
                        if lost == ACCEPTS_PER_TURN {
                            self.set_aside(number, &error);
                        }
                    }
                    Accepted::NoDescriptors(_) if self.make_room() => {}
                    Accepted::NoDescriptors(error) => {
                        self.counters.accept_paused_descriptors.add(1);
                        self.pause_accepting(&error.to_string());
                    }
                }
            }
        }
    }

    /// Leaves clients in the kernel's queue for a while. The listeners stay marked as ready.
    fn pause_accepting(&mut self, why: &str) {
        self.accept_paused = true;
        self.retry_later(why);
    }

    /// Usually a connection that was lost says nothing about the next. A listener from which nothing else comes is left
    /// alone for a while, or it would keep every turn busy; the others go on.
    fn set_aside(&mut self, number: usize, error: &io::Error) {
        self.listeners[number].ready = false;
        self.retry_later(&format!("every accept fails: {error}"));
    }

    fn retry_later(&mut self, why: &str) {
        self.accept_alarm.arm(self.now + ACCEPT_PAUSE, worker_token(ACCEPT_LEG), &mut self.timers, self.now);
        self.warn_of_shortage(format_args!("new clients wait: {why}"));
    }

    /// Tells the operator that something has run out, now and then.
    pub(super) fn warn_of_shortage(&mut self, what: fmt::Arguments<'_>) {
        if self.shortage_logged_at.is_none_or(|at| at + SHORTAGE_LOG_INTERVAL <= self.now) {
            self.shortage_logged_at = Some(self.now);
            log::warn!("worker {}: {what}", self.number);
        }
    }

    /// The pause is over. Listeners that were set aside report no event again, so all of them are looked at.
    pub(super) fn resume_accepting(&mut self) {
        self.accept_paused = false;
        for listener in &mut self.listeners {
            listener.ready = true;
        }
    }

    fn admit(&mut self, mut stream: TcpStream, address: SocketAddr) {
        let entry = self.sessions.vacant_entry();
        if entry.key() >= INDEX_LIMIT {
            return;
        }
        self.generation = next_generation(self.generation);
        let token = Token::new(Kind::Session, self.generation, entry.key(), CLIENT_LEG);
        if let Err(error) = self.poll.registry().register(&mut stream, token.into(), STREAM_INTEREST) {
            self.counters.accept_errors.add(1);
            // This one is lost, those after it would be, too.
            self.pause_accepting(&format!("one cannot be watched: {error}"));
            return;
        }
        let session = Box::new(Session::new(stream, address, &self.rules.session, self.now));
        let mut slot = Slot {
            generation: self.generation,
            session,
            dials: Vec::new(),
            alarm: Alarm::default(),
            later: None,
            queued: false,
            starved: false,
            has_target: false,
        };
        if let Some(deadline) = slot.session.deadline(&self.rules.session) {
            slot.alarm.arm(deadline, token, &mut self.timers, self.now);
        }
        entry.insert(slot);
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        self.counters.sessions_accepted.add(1);
        self.counters.sessions_active.add(1);
    }
}
