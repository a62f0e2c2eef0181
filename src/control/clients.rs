//! All clients by number. Numbers only grow and are never used again, so an event that comes late finds nobody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::feed::Reader;
use super::http::connection::Connection;

/// HTTP clients at the same time.
pub const HTTP_MAX: usize = 512;

/// One client.
pub enum Client {
    Http {
        connection: Box<Connection>,
        /// At least one request was answered.
        was_served: bool,
    },
    Feed(Box<Reader>),
}

/// The clients, the oldest first.
pub struct Clients {
    by_number: BTreeMap<usize, Client>,
    next: usize,
}

impl Clients {
    /// Nobody yet; the first will have the number `first`.
    pub fn new(first: usize) -> Self {
        Self { by_number: BTreeMap::new(), next: first }
    }

    /// A number for a new client.
    pub fn number(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    pub fn insert(&mut self, number: usize, client: Client) {
        self.by_number.insert(number, client);
    }

    pub fn get(&mut self, number: usize) -> Option<&mut Client> {
        self.by_number.get_mut(&number)
    }

    pub fn remove(&mut self, number: usize) -> Option<Client> {
        self.by_number.remove(&number)
    }

    /// HTTP clients and readers.
    pub fn count(&self) -> usize {
        self.by_number.len()
    }

    pub fn readers(&self) -> usize {
        self.by_number.values().filter(|client| matches!(client, Client::Feed(_))).count()
    }

    /// The numbers of the feed's readers.
    pub fn reader_numbers(&self) -> Vec<usize> {
        let readers = self.by_number.iter().filter(|(_, client)| matches!(client, Client::Feed(_)));
        readers.map(|(number, _)| *number).collect()
    }

    pub fn is_full(&self) -> bool {
        self.count() - self.readers() >= HTTP_MAX
    }

    /// Removes the client that has owed us a request the longest, rather one that never sent any. Where nobody owes one,
    /// guessers of tokens and clients that do not take their answers hold all places, and the oldest of them goes: whoever
    /// comes now is answered long before it is the oldest. False if all are being served.
    pub fn evict(&mut self) -> bool {
        let http = self.by_number.iter().filter_map(|(number, client)| match client {
            Client::Http { connection, was_served } => Some((*number, connection, *was_served)),
            Client::Feed(_) => None,
        });
        let oldest = |served| {
            http.clone().find(|(_, connection, was_served)| connection.owes_request() && *was_served == served)
        };
        let holder = || http.clone().find(|(_, connection, _)| connection.holds_its_place());
        let Some((number, ..)) = oldest(false).or_else(|| oldest(true)).or_else(holder) else { return false };
        self.by_number.remove(&number);
        true
    }

    /// When the next deadline is. Readers are looked at with every sweep; their limits are in seconds.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.by_number.values().filter_map(|client| match client {
            Client::Http { connection, .. } => Some(connection.deadline()),
            Client::Feed(_) => None,
        });
        deadlines.min()
    }

    /// The numbers of those whose deadline has passed.
    pub fn due(&self, heartbeat: Duration, now: Instant) -> Vec<usize> {
        let due = self.by_number.iter().filter(|(_, client)| match client {
            Client::Http { connection, .. } => connection.deadline() <= now,
            Client::Feed(reader) => reader.check(heartbeat, now).is_err(),
        });
        due.map(|(number, _)| *number).collect()
    }
}
