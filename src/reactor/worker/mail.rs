//! What lies in the inbox, and doing it.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::Worker;
use super::listing::Listing;
use crate::reactor::inbox::{Mail, Word};
use crate::reactor::request::{Busy, CutQuery, End, LedgerRef, Request, Which};
use crate::reactor::timers::Timer;
use crate::session::User;
use crate::session::source_of;

/// Letters read in a turn: cutting looks at every session.
const LETTERS_PER_TURN: usize = 16;

/// Lists under way at the most: each is read once per turn.
const LISTINGS_MAX: usize = 64;

impl Worker {
    pub(super) fn read_mail(&mut self) {
        if !self.has_mail {
            return;
        }
        for _ in 0..LETTERS_PER_TURN {
            match self.inbox.take() {
                Some(Mail::End(End::Drain(timeout))) => {
                    let deadline = self.base.now + timeout;
                    self.targets.close_pool(&self.base.counters);
                    self.drain_deadline = Some(deadline);
                    self.base.arm(Timer::Drain, deadline);
                    self.door.remove_all();
                }
                Some(Mail::End(End::Stop)) => self.stopped = true,
                Some(Mail::Rules(rules)) => {
                    self.base.rules = Arc::clone(&rules);
                    self.targets.adopt(Arc::clone(&rules.dial), &mut self.base, self.poll.registry());
                    // There may be room for more sessions now.
                    self.door.end_pause();
                }
                Some(Mail::Word(Word::LoseUdp(token, id))) => self.lose_udp(token, id),
                Some(Mail::Word(Word::GiveUpSpares)) => {
                    self.targets.dialer.give_up_spares(&self.base.counters);
                }
                Some(Mail::Request(request)) => self.serve_request(request),
                None => {
                    self.has_mail = false;
                    return;
                }
            }
        }
    }

    fn serve_request(&mut self, request: Request) {
        match request {
            Request::List { reply, .. } if self.listings.len() >= LISTINGS_MAX => drop(reply.send(Err(Busy))),
            Request::List { query, reply } => self.listings.push_back(Listing::new(self.base.number, query, reply)),
            Request::Cut { query, reply } => self.cut_sessions(&query, &reply),
            Request::AddListener { id, socket } => {
                if self.drain_deadline.is_some() {
                    return;
                }
                if let Err(error) = self.door.add(id, socket, self.poll.registry()) {
                    log::error!("worker {}: cannot watch a listener: {error}", self.base.number);
                }
            }
            Request::RemoveListener(id) => self.door.remove(id),
        }
    }

    /// Cuts what a query names, and says how many that were.
    fn cut_sessions(&mut self, query: &CutQuery, reply: &Sender<Result<usize, Busy>>) {
        let slots = self.schedule.slots();
        let is_meant = |client: std::net::IpAddr, user: Option<&Arc<User>>| match &query.which {
            Which::Session(_) => false,
            Which::Ledger(LedgerRef(ledger)) => user.is_some_and(|user| Arc::ptr_eq(&user.ledger, ledger)),
            Which::Source(source) => client == *source,
            Which::LedgerFrom(LedgerRef(ledger), source) => {
                source_of(client) == *source && user.is_some_and(|user| Arc::ptr_eq(&user.ledger, ledger))
            }
        };
        let tokens: Vec<_> = match &query.which {
            Which::Session(id) => vec![id.token],
            Which::Ledger(_) | Which::Source(_) | Which::LedgerFrom(..) => {
                let sessions = self.schedule.page(0, slots);
                let meant = sessions.filter(|(_, session)| is_meant(session.client_address().ip(), session.user()));
                meant.map(|(token, _)| token).collect()
            }
        };
        let mut lent = self.stock.lend(&mut self.base);
        let cut = tokens.into_iter().filter(|&token| self.schedule.cut(token, query.reason, &mut lent)).count();
        self.bury();
        // Nobody listening any more is nobody's loss.
        let _ = reply.send(Ok(cut));
    }

    /// Goes on with lists that were asked for.
    pub(super) fn list(&mut self) {
        for _ in 0..self.listings.len() {
            let Some(mut listing) = self.listings.pop_front() else { return };
            if !listing.read_on(&self.schedule, self.base.now) {
                self.listings.push_back(listing);
            }
        }
    }
}
