//! All clients by number. Numbers only grow and are never used again, so an event that comes late finds nobody.
//!
//! HTTP clients have a number of places, and each source has a share of them: whoever opens connections without end takes
//! places from itself. Readers of the feed have a limit of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::feed::Reader;
use super::guard::Grant;
use super::http::connection::Connection;
use super::http::stream::Peer;
use super::http::waiting::Waiting;

/// HTTP clients at the same time.
pub const HTTP_MAX: usize = 512;
/// Of one source.
const SHARE: usize = HTTP_MAX / 4;
/// Of one source on this machine: all clients of a proxy in front come from there, and yet some places are left for an
/// operator who comes from elsewhere.
const SHARE_LOCAL: usize = HTTP_MAX / 4 * 3;

/// One client.
pub enum Client {
    Http {
        connection: Box<Connection>,
        /// At least one request was answered.
        was_served: bool,
    },
    /// A reader of the feed, and what it was let in for.
    Feed(Box<Reader>, Grant),
}

impl Client {
    /// The long pieces of memory that this client keeps by not taking them yet.
    fn waiting(&self, number: usize) -> Vec<Held> {
        let (http, feed) = match self {
            Self::Http { connection, .. } => (connection.waiting(), None),
            Self::Feed(reader, _) => (None, Some(reader.waiting())),
        };
        let all = http.into_iter().chain(feed.into_iter().flatten());
        all.map(|(waiting, since)| Held { number, waiting, since }).collect()
    }
}

/// A piece of memory that a client keeps.
struct Held {
    number: usize,
    waiting: Waiting,
    since: Instant,
}

/// What a new client ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// All places are taken.
    Places,
    /// Its source has its share.
    Share,
}

/// Whether there is a place for a new client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    There,
    /// Another had to go.
    Made(Limit),
    /// All others are being served.
    Lacking(Limit),
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
        self.by_number.values().filter(|client| matches!(client, Client::Feed(..))).count()
    }

    /// The numbers of the feed's readers.
    pub fn reader_numbers(&self) -> Vec<usize> {
        let readers = self.by_number.iter().filter(|(_, client)| matches!(client, Client::Feed(..)));
        readers.map(|(number, _)| *number).collect()
    }

    /// Makes sure of a place for a client from `peer`, if there can be one. Whose source has its share takes the place of
    /// one of that source.
    pub fn make_room(&mut self, peer: Peer) -> Room {
        let share = if peer.is_local() { SHARE_LOCAL } else { SHARE };
        let source = peer.source();
        let (limit, evicted) = if self.http().filter(|http| http.connection.peer().source() == source).count() >= share
        {
            (Limit::Share, self.evict(|candidate| candidate.source() == source))
        } else if self.http().count() >= HTTP_MAX {
            (Limit::Places, self.evict(|_| true))
        } else {
            return Room::There;
        };
        if evicted { Room::Made(limit) } else { Room::Lacking(limit) }
    }

    /// Removes the client that has owed us a request the longest, rather one that never sent any. Where nobody owes one,
    /// guessers of tokens and clients that do not take their answers hold all places, and the oldest of them goes: whoever
    /// comes now is answered long before it is the oldest. False if all are being served.
    fn evict(&mut self, is_candidate: impl Fn(Peer) -> bool) -> bool {
        let candidates = || self.http().filter(|http| is_candidate(http.connection.peer()));
        let oldest = |served| candidates().find(|http| http.connection.owes_request() && http.was_served == served);
        let holder = || candidates().find(|http| http.connection.holds_its_place());
        let Some(Http { number, .. }) = oldest(false).or_else(|| oldest(true)).or_else(holder) else { return false };
        self.by_number.remove(&number);
        true
    }

    /// Removes clients until what waits for them to be taken is no more than so many bytes, first whoever takes the longest.
    /// What several wait for counts once. Returns how many had to go.
    pub fn shed(&mut self, bytes_max: usize) -> u64 {
        let mut shed = 0;
        loop {
            let held: Vec<_> = self.by_number.iter().flat_map(|(number, client)| client.waiting(*number)).collect();
            let pieces: BTreeMap<_, _> = held.iter().map(|held| (held.waiting.end, held.waiting.bytes)).collect();
            // One piece may be as long as it is.
            if pieces.len() <= 1 || pieces.values().sum::<usize>() <= bytes_max {
                return shed;
            }
            let Some(slowest) = held.iter().min_by_key(|held| held.since) else { return shed };
            self.by_number.remove(&slowest.number);
            shed += 1;
        }
    }

    /// The HTTP clients, the oldest first.
    fn http(&self) -> impl Iterator<Item = Http<'_>> {
        self.by_number.iter().filter_map(|(number, client)| match client {
            Client::Http { connection, was_served } => {
                Some(Http { number: *number, connection, was_served: *was_served })
            }
            Client::Feed(..) => None,
        })
    }

    /// When the next deadline is. Readers are looked at with every sweep; their limits are in seconds.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.http().map(|http| http.connection.deadline()).min()
    }

    /// The numbers of those whose deadline has passed.
    pub fn due(&self, heartbeat: Duration, now: Instant) -> Vec<usize> {
        let due = self.by_number.iter().filter(|(_, client)| match client {
            Client::Http { connection, .. } => connection.deadline() <= now,
            Client::Feed(reader, _) => reader.check(heartbeat, now).is_err(),
        });
        due.map(|(number, _)| *number).collect()
    }
}

/// One HTTP client.
struct Http<'a> {
    number: usize,
    connection: &'a Connection,
    was_served: bool,
}
