//! A list of live sessions, read bit by bit so that no turn gets long.

use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::reactor::request::{Busy, ListPage, ListQuery, SessionId};
use crate::reactor::schedule::{Baggage, Schedule};

/// Slots looked at in a turn, for each list.
const SLOTS_PER_TURN: usize = 256;

/// Sessions in a page at the most, whatever was asked for.
const PAGE_SESSIONS_MAX: usize = 1000;

pub(super) struct Listing {
    query: ListQuery,
    reply: Sender<Result<ListPage, Busy>>,
    /// The slot to read next.
    next: usize,
    page: ListPage,
}

impl Listing {
    pub(super) fn new(worker: usize, query: ListQuery, reply: Sender<Result<ListPage, Busy>>) -> Self {
        Self { query, reply, next: 0, page: ListPage { worker, sessions: Vec::new(), matching: 0 } }
    }

    /// Reads some more slots. True when the list is complete and was answered.
    pub(super) fn read_on<S, D, B>(&mut self, schedule: &Schedule<S, D, B>, now: Instant) -> bool
    where
        S: Socket,
        D: DatagramSocket,
        B: Baggage,
    {
        let limit = self.query.limit.min(PAGE_SESSIONS_MAX);
        for (token, session) in schedule.page(self.next, SLOTS_PER_TURN) {
            let view = session.view(now);
            if !self.query.admits(&view) {
                continue;
            }
            self.page.matching += 1;
            let id = SessionId { worker: self.page.worker, token };
            if self.page.sessions.len() < limit && self.is_behind(id) {
                self.page.sessions.push((id, view));
            }
        }
        self.next += SLOTS_PER_TURN;
        if self.next < schedule.slots() {
            return false;
        }
        let page = ListPage { sessions: std::mem::take(&mut self.page.sessions), ..self.page };
        // Nobody listening any more is nobody's loss.
        let _ = self.reply.send(Ok(page));
        true
    }

    /// The session comes behind the one after which the list begins.
    fn is_behind(&self, id: SessionId) -> bool {
        self.query.after.is_none_or(|after| (id.worker, id.token.index()) > (after.worker, after.token.index()))
    }
}
