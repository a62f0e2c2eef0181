//! New clients: accepting while there is room, making some, and pausing when there is none.
//!
//! At the session limit and when descriptors are out, clients that are not admitted yet give way, the oldest first. A
//! client that means it is through its opening in no time, so a stranger cannot keep the place of a user. Nobody is cut
//! who has only just come, and nobody whose place nobody wants: without room the kernel is asked first whether somebody
//! waits.
//!
//! A source that has as much as a source may have is turned away at once, wherever it is. Addresses of this machine are
//! sources like all others. Balancers are not: the sources of their clients count, as soon as a client was announced.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;

use super::{Errands, STREAM_INTEREST, Worker};
use crate::io::socket::Socket;
use crate::io::token::Token;
use crate::reactor::accept::Accepted;
use crate::reactor::sources::{SourceRefusal, Visit};
use crate::reactor::timers::Timer;
use crate::session::{address_of, source_of};

/// Connections accepted per listener and turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting pauses when descriptors or sessions have run out or every attempt fails. The end of a session
/// ends the pause early.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The part of the sessions that clients which are not admitted may be, and so many that they may be in any case.
const OPENINGS_SHARE: usize = 4;
const OPENINGS_MIN: usize = 16;

impl Worker {
    pub(super) fn accept(&mut self) {
        for token in self.door.ready() {
            self.accept_from(token);
        }
    }

    fn accept_from(&mut self, token: Token) {
        let mut lost = 0;
        for _ in 0..ACCEPTS_PER_TURN {
            if self.door.is_paused() || !self.has_place(token) {
                return;
            }
            match self.door.accept(token) {
                Accepted::Client(stream, address) => self.receive(stream, address),
                Accepted::Blocked => return,
                Accepted::Lost(error) => {
                    self.base.counters.accept_errors.add(1);
                    lost += 1;
                    log::debug!("accept: {error}");
                    if lost == ACCEPTS_PER_TURN {
                        self.set_aside(token, &error);
                    }
                }
                // The kernel looks for a descriptor before it looks for a client.
                Accepted::NoDescriptors(_) if !self.door.is_awaited(token) => return,
                Accepted::NoDescriptors(_) if self.make_room() => {}
                Accepted::NoDescriptors(error) => {
                    self.base.counters.accept_paused_descriptors.add(1);
                    self.pause_accepting(&error.to_string());
                }
            }
        }
    }

    /// Whether one more session may begin, if need be in the place of a client that is not admitted. Pauses if not,
    /// unless nobody waits at this listener.
    fn has_place(&mut self, token: Token) -> bool {
        if self.is_full() && !self.door.is_awaited(token) {
            return false;
        }
        while self.is_full() {
            if !self.shed_opening() {
                self.base.counters.accept_paused_limit.add(1);
                let (openings, sessions) = (self.schedule.openings(), self.base.shared.sessions());
                let sessions_max = self.base.rules.sessions_max;
                self.pause_accepting(&format!(
                    "{sessions} of {sessions_max} sessions are in use, and {openings} of this worker's are not admitted"
                ));
                return false;
            }
        }
        true
    }

    /// There are as many sessions as there may be, or as many clients that are not admitted.
    fn is_full(&self) -> bool {
        let sessions_max = self.base.rules.sessions_max;
        let openings_max = (sessions_max / OPENINGS_SHARE / self.base.shared.workers).max(OPENINGS_MIN);
        self.schedule.openings() >= openings_max || self.base.shared.sessions() >= sessions_max
    }

    /// Cuts the client that has waited to be admitted for the longest time. False if there is none that has had its
    /// time.
    fn shed_opening(&mut self) -> bool {
        let is_shed = self.schedule.shed_oldest_opening(&mut self.stock.lend(&mut self.base));
        self.bury();
        is_shed
    }

    /// Frees descriptors: those that the target-facing side can do without, then those of clients that are not
    /// admitted. False if nothing was left to give way.
    pub(super) fn make_room(&mut self) -> bool {
        self.targets.make_room(&self.base) || self.shed_opening()
    }

    /// Leaves clients in the kernel's queue for a while.
    fn pause_accepting(&mut self, why: &str) {
        self.door.pause();
        self.retry_later(why);
    }

    /// Leaves a listener alone for a while. Usually a connection that was lost says nothing about the next. But a
    /// listener from which nothing else comes would keep every turn busy. The others go on.
    fn set_aside(&mut self, token: Token, error: &io::Error) {
        self.door.set_aside(token);
        self.retry_later(&format!("every accept fails: {error}"));
    }

    fn retry_later(&mut self, why: &str) {
        self.base.arm(Timer::Accept, self.base.now + ACCEPT_PAUSE);
        self.base.warn_of_shortage(format_args!("new clients wait: {why}"));
    }

    /// Takes a client in, unless its source has as much as a source may have.
    fn receive(&mut self, mut stream: TcpStream, address: SocketAddr) {
        // A balancer stands for many clients, who are not known before its header.
        if self.base.rules.session.is_announcer(address.ip()) {
            return self.admit(stream, address, None);
        }
        match self.enter(address.ip()) {
            Some(visit) => self.admit(stream, address, Some(visit)),
            // A reset costs neither side anything from here on.
            None => stream.reset_on_close(),
        }
    }

    /// A balancer has said who the client of `session` is.
    pub(super) fn let_in(&mut self, session: Token, client: IpAddr) {
        let visit = self.enter(client);
        let has_room = visit.is_some();
        if let Some(errands) = self.schedule.baggage(session) {
            errands.visit = visit;
        }
        let mut lent = self.stock.lend(&mut self.base);
        self.schedule.call(session, &mut lent, |session, cx| session.on_entered(has_room, cx));
    }

    /// Counts a session of a client from `ip`. `None`: its source has as much as a source may have.
    fn enter(&mut self, ip: IpAddr) -> Option<Visit> {
        let (sources, limits) = (&self.base.shared.sources, self.base.rules.sources);
        let (entered, forgotten) = sources.enter(source_of(ip), limits, self.base.now);
        self.base.counters.sources_forgotten.add(forgotten.sources);
        entered.map_err(|refusal| self.count_refusal(ip, refusal)).ok()
    }

    fn count_refusal(&mut self, ip: IpAddr, refusal: SourceRefusal) {
        let counters = &self.base.counters;
        let (counter, what) = match refusal {
            SourceRefusal::Sessions => (&counters.source_sessions_refused, "limits.sessions_per_source_max"),
            SourceRefusal::Openings => (&counters.source_openings_refused, "limits.handshakes_per_source_max"),
            SourceRefusal::Rate => (&counters.source_accepts_refused, "limits.accepts_per_source_per_second_max"),
        };
        counter.add(1);
        let source = address_of(source_of(ip));
        self.base.warn_of_refusal(format_args!("connections from {source} are refused: {what} is reached"));
    }

    fn admit(&mut self, stream: TcpStream, address: SocketAddr, visit: Option<Visit>) {
        let registry = self.poll.registry();
        let watch = |stream: &mut TcpStream, token: Token| registry.register(stream, token.into(), STREAM_INTEREST);
        let mut lent = self.stock.lend(&mut self.base);
        match self.schedule.admit(stream, address, Errands::new(visit, lent.worker), watch, &mut lent) {
            Ok(Some(_)) => self.base.shared.open_session(),
            Ok(None) => {}
            Err(error) => {
                self.base.counters.accept_errors.add(1);
                // This one is lost, those after it would be, too.
                self.pause_accepting(&format!("one cannot be watched: {error}"));
            }
        }
    }
}
