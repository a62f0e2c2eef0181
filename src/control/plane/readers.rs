//! The readers of the feed: how a client becomes one, what all of them are told, and when one has to go.

use std::time::{Duration, Instant};

use tungstenite::protocol::frame::coding::CloseCode;

use super::Plane;
use crate::control::clients::Client;
use crate::control::desk::Newcomer;
use crate::control::feed::{Gone, Reader};
use crate::control::handshake;
use crate::control::http::response::Reply;
use crate::control::report::overview::Scope;

/// Readers of the feed beyond their limit that are being told so.
const SURPLUS_READERS_MAX: usize = 64;

impl Plane {
    /// Makes a reader of the client with this number, for as long as its grant holds.
    ///
    /// # Errors
    /// The answer to one who comes when even those are too many who are being told that there are too many.
    pub(super) fn subscribe(&mut self, number: usize, newcomer: &Newcomer, now: Instant) -> Result<(), Reply> {
        let (readers, readers_max) = (self.clients.readers(), self.desk.view.settings.feed_clients_max);
        if readers >= readers_max + SURPLUS_READERS_MAX {
            return Err(Reply::error(503, "busy", "too many readers of the feed").with("Retry-After", "10"));
        }
        let Some(Client::Http { connection, .. }) = self.clients.remove(number) else { return Ok(()) };
        let (stream, early) = connection.into_upgraded();
        let mut reader = Reader::new(stream, handshake::accept(&newcomer.key), early, now);
        if readers >= readers_max {
            reader.close(CloseCode::Again, "too many readers", now);
        } else {
            reader.offer(&self.desk.history(), now);
            let (snapshot, version) = self.desk.snapshot(newcomer.scope);
            reader.offer_snapshot(&snapshot, version, now);
            if newcomer.scope == Scope::Nobody {
                reader.leave_accounts_out();
            }
        }
        let result = reader.on_ready(true, now);
        self.clients.insert(number, Client::Feed(Box::new(reader), newcomer.grant));
        self.keep_reader(number, result);
        Ok(())
    }

    pub(super) fn keep_reader(&mut self, number: usize, result: Result<(), Gone>) {
        if let Err(gone) = result {
            self.clients.remove(number);
            self.listeners.refill_reserve();
            self.desk.view.own.feed_clients_dropped_total += u64::from(gone == Gone::Silent);
        }
    }

    pub(super) fn tell_news(&mut self, now: Instant) {
        for message in self.desk.take_news() {
            self.tell_readers(now, |reader| {
                reader.offer(&message, now);
            });
        }
    }

    /// Tells all readers how the server stands, so long after the last time. Who still has a snapshot waiting gets none.
    pub(super) fn tell_figures(&mut self, passed: Duration, now: Instant) {
        let telling = self.desk.next_telling(passed);
        for number in self.clients.reader_numbers() {
            if let Some(Client::Feed(reader, _)) = self.clients.get(number)
                && reader.takes_snapshot()
            {
                let scope = telling.scope(&self.desk.view.roll, reader.seen());
                let (snapshot, version) = self.desk.snapshot(scope);
                reader.offer_snapshot(&snapshot, version, now);
                let result = reader.on_ready(false, now);
                self.keep_reader(number, result);
            }
        }
    }

    pub(super) fn tell_readers(&mut self, now: Instant, mut tell: impl FnMut(&mut Reader)) {
        for number in self.clients.reader_numbers() {
            if let Some(Client::Feed(reader, _)) = self.clients.get(number) {
                tell(reader);
                let result = reader.on_ready(false, now);
                self.keep_reader(number, result);
            }
        }
    }

    /// Closes the feed of everybody whose token or login has gone, or gives another right than when the feed began. A page
    /// that may still look comes back at once, and learns what it may do now.
    pub(super) fn close_unwelcome(&mut self, now: Instant) {
        for number in self.clients.reader_numbers() {
            if let Some(Client::Feed(reader, grant)) = self.clients.get(number)
                && !self.desk.holds(*grant, now)
            {
                reader.turn_out(CloseCode::Policy, "the right to look has changed", now);
                let result = reader.on_ready(false, now);
                self.keep_reader(number, result);
            }
        }
    }
}
