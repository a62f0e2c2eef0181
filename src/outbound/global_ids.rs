//! XUDP's Global IDs: UDP sockets that outlive the connection they were opened through, for the whole process.
//!
//! A client that reconnects names its socket by an id of its own. The new connection, on whichever worker, goes on with
//! the same socket. So the peers see the same address and port. A socket that nobody holds is kept for a grace.
//!
//! The table is locked when a session opens or closes such a socket, never per datagram, and never across a system
//! call. It is bounded. Sessions beyond get an ordinary socket.
//!
//! Ids are kept per user: whoever guesses another user's id gains nothing. A user who may have no more sockets gives up
//! the one that has been without connection for the longest time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bound_socket::BoundSocket;
use crate::io::token::Token;
use crate::session::GlobalId;

/// Ids known at the same time.
const IDS_MAX: usize = 1 << 16;

/// A user's id and the user's name for a socket.
pub type Key = ([u8; 16], GlobalId);

/// Who holds a socket: a worker and the leg of a session of its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub worker: usize,
    pub token: Token,
}

/// The table, which all workers share.
#[derive(Debug, Default)]
pub struct GlobalIds {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    users: HashMap<[u8; 16], HashMap<GlobalId, Entry>>,
    /// Entries of all users.
    len: usize,
    /// The number of the last claim.
    claims: u64,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<BoundSocket>,
    /// The claim that counts. Claims it has overtaken change nothing any more.
    claim: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Held(Holder),
    /// Nobody's since then.
    Left(Instant),
}

/// A session's right to a Global ID's socket, given up when it is dropped.
#[derive(Debug)]
pub struct Claim {
    ids: Arc<GlobalIds>,
    key: Key,
    number: u64,
    /// Nobody will come back for the socket: no grace.
    is_final: bool,
}

impl GlobalIds {
    /// Takes over the socket that `key` names, if there is one. With it comes who held it until now, who must be told.
    pub fn take_over(self: &Arc<Self>, key: Key, holder: Holder) -> Option<(Arc<BoundSocket>, Claim, Option<Holder>)> {
        let mut table = self.lock();
        let number = table.next_claim();
        let entry = table.entry(key)?;
        entry.claim = number;
        entry.socket.pass_to(number);
        let previous = match std::mem::replace(&mut entry.state, State::Held(holder)) {
            State::Held(previous) => Some(previous),
            State::Left(_) => None,
        };
        Some((Arc::clone(&entry.socket), Claim::new(self, key, number), previous))
    }

    /// Enters a new socket under `key`. `None` when the table is full.
    pub fn enter(self: &Arc<Self>, key: Key, holder: Holder, socket: &Arc<BoundSocket>) -> Option<Claim> {
        let mut table = self.lock();
        if table.len >= IDS_MAX && table.entry(key).is_none() {
            return None;
        }
        let number = table.next_claim();
        socket.pass_to(number);
        let entry = Entry { socket: Arc::clone(socket), claim: number, state: State::Held(holder) };
        let replaced = table.users.entry(key.0).or_default().insert(key.1, entry);
        table.len += usize::from(replaced.is_none());
        drop(table);
        drop(replaced);
        Some(Claim::new(self, key, number))
    }

    /// Closes the sockets that nobody has claimed for `grace`. True while ids are left.
    pub fn sweep(&self, now: Instant, grace: Duration) -> bool {
        let mut table = self.lock();
        let mut expired = Vec::new();
        for entries in table.users.values_mut() {
            expired.extend(entries.extract_if(|_, entry| entry.is_expired(now, grace)));
        }
        table.users.retain(|_, entries| !entries.is_empty());
        table.len -= expired.len();
        let is_left = table.len > 0;
        // Closing sockets are system calls: not under the lock.
        drop(table);
        drop(expired);
        is_left
    }

    /// Closes the socket of `user` that nobody has claimed for the longest time. False when there is none.
    pub fn give_up_oldest(&self, user: [u8; 16]) -> bool {
        let mut table = self.lock();
        let Some(entries) = table.users.get(&user) else { return false };
        let left = entries.iter().filter_map(|(id, entry)| match entry.state {
            State::Left(since) => Some((since, *id)),
            State::Held(_) => None,
        });
        let Some((_, id)) = left.min() else { return false };
        let given_up = table.remove((user, id));
        drop(table);
        drop(given_up);
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn entry(&mut self, (user, id): Key) -> Option<&mut Entry> {
        self.users.get_mut(&user)?.get_mut(&id)
    }

    fn remove(&mut self, (user, id): Key) -> Option<Entry> {
        let entries = self.users.get_mut(&user)?;
        let removed = entries.remove(&id);
        if entries.is_empty() {
            self.users.remove(&user);
        }
        self.len -= usize::from(removed.is_some());
        removed
    }

    fn next_claim(&mut self) -> u64 {
        self.claims += 1;
        self.claims
    }
}

impl Entry {
    fn is_expired(&self, now: Instant, grace: Duration) -> bool {
        matches!(self.state, State::Left(since) if now.saturating_duration_since(since) >= grace)
    }
}

impl Claim {
    fn new(ids: &Arc<GlobalIds>, key: Key, number: u64) -> Self {
        Self { ids: Arc::clone(ids), key, number, is_final: false }
    }

    /// What arrives at `socket` is for whoever has this claim: no later one has taken it over.
    pub fn counts_for(&self, socket: &BoundSocket) -> bool {
        socket.is_for(self.number)
    }

    /// Giving it up closes the socket.
    pub fn make_final(&mut self) {
        self.is_final = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.ids.lock();
        let Some(entry) = table.entry(self.key).filter(|entry| entry.claim == self.number) else { return };
        entry.state = State::Left(Instant::now());
        let closed = if self.is_final { table.remove(self.key) } else { None };
        drop(table);
        drop(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::token::Kind;
    use crate::session::permits::UdpPermit;
    use crate::session::{Flow, User};
    use crate::stats::Ledger;

    const GRACE: Duration = Duration::from_mins(1);
    const KEY: Key = ([1; 16], [2; 8]);

    fn holder(worker: usize) -> Holder {
        Holder { worker, token: Token::new(Kind::Session, 1, 7, 2) }
    }

    fn socket() -> (Arc<User>, Arc<BoundSocket>) {
        let ledger = Arc::new(Ledger::new(1));
        let user = Arc::new(User { id: KEY.0, email: String::new(), flow: Flow::Vision, ledger });
        let permit = UdpPermit::take(&user, 1).unwrap();
        (user, Arc::new(BoundSocket::bind(None, permit, None).unwrap()))
    }

    #[test]
    fn the_next_claim_gets_the_same_socket_and_learns_who_held_it() {
        let (ids, (_, socket)) = (Arc::new(GlobalIds::default()), socket());
        let first = ids.enter(KEY, holder(0), &socket).unwrap();
        let (again, second, previous) = ids.take_over(KEY, holder(1)).unwrap();
        assert!(Arc::ptr_eq(&again, &socket));
        assert_eq!(previous, Some(holder(0)));
        drop(first);
        let (_, _third, previous) = ids.take_over(KEY, holder(0)).unwrap();
        assert_eq!(previous, Some(holder(1)), "a claim that was overtaken does not release the socket");
        drop(second);
        assert!(ids.sweep(Instant::now() + 2 * GRACE, GRACE), "it is held");
    }

    #[test]
    fn a_socket_without_holder_is_closed_after_the_grace_and_its_permit_given_back() {
        let (ids, (user, socket)) = (Arc::new(GlobalIds::default()), socket());
        drop(ids.enter(KEY, holder(0), &socket).unwrap());
        drop(socket);
        let now = Instant::now();
        assert!(ids.sweep(now + GRACE / 2, GRACE));
        assert_eq!(user.ledger.udp_sockets(), 1);
        assert!(!ids.sweep(now + 2 * GRACE, GRACE));
        assert_eq!(user.ledger.udp_sockets(), 0);
        assert!(ids.take_over(KEY, holder(0)).is_none());
    }

    #[test]
    fn the_socket_that_was_left_first_is_given_up_first_and_a_held_one_never() {
        let ids = Arc::new(GlobalIds::default());
        let (users, sockets): (Vec<_>, Vec<_>) = (0..3).map(|_| socket()).unzip();
        let claims = sockets.iter().enumerate().map(|(number, socket)| {
            let key = (KEY.0, [number as u8; 8]);
            ids.enter(key, holder(0), socket).unwrap()
        });
        let mut claims: Vec<_> = claims.collect();
        drop(sockets);
        drop(claims.remove(1));
        std::thread::sleep(Duration::from_millis(2));
        drop(claims.remove(0));
        let open = || users.iter().map(|user| user.ledger.udp_sockets()).collect::<Vec<_>>();
        assert!(!ids.give_up_oldest([9; 16]), "others' sockets are theirs");
        assert!(ids.give_up_oldest(KEY.0));
        assert_eq!(open(), [1, 0, 1]);
        assert!(ids.give_up_oldest(KEY.0));
        assert_eq!(open(), [0, 0, 1]);
        assert!(!ids.give_up_oldest(KEY.0), "the last is held");
    }

    #[test]
    fn a_socket_that_its_session_will_not_come_back_for_is_closed_at_once() {
        let (ids, (user, socket)) = (Arc::new(GlobalIds::default()), socket());
        let mut claim = ids.enter(KEY, holder(0), &socket).unwrap();
        drop(socket);
        claim.make_final();
        let (socket, second, _) = ids.take_over(KEY, holder(1)).unwrap();
        drop((claim, socket));
        assert_eq!(user.ledger.udp_sockets(), 1, "it was taken over before");
        drop(second);
        let (socket, mut third, _) = ids.take_over(KEY, holder(1)).unwrap();
        third.make_final();
        drop((third, socket));
        assert_eq!(user.ledger.udp_sockets(), 0);
        assert!(!ids.sweep(Instant::now(), GRACE), "nothing is left behind");
    }

    #[test]
    fn ids_of_other_users_are_other_sockets() {
        let (ids, (_, socket)) = (Arc::new(GlobalIds::default()), socket());
        let _claim = ids.enter(KEY, holder(0), &socket).unwrap();
        assert!(ids.take_over(([9; 16], KEY.1), holder(0)).is_none());
    }
}
