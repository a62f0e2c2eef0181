//! Which accounts changed when, so that whoever has seen all of them needs only what is new.
//!
//! Every look at the accounts has a version. An account that is shown as it was before keeps the version of its last
//! change; of one that has gone the name is remembered for a while. Whoever has seen a version that this no longer reaches
//! back to needs the whole list.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::history::book::{Book, Entry, Key};
use super::history::ring::Moved;
use super::sample::UserSample;

/// Names of accounts that have gone, at the most.
const GONE_MAX: usize = 1000;

/// What is shown of an account beside its sample.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Record {
    pub lifetime: Moved,
    pub today_bytes: u64,
    pub month_bytes: u64,
    pub up_bps: u64,
    pub down_bps: u64,
    pub first_seen_at: Option<u64>,
    pub last_seen_at: Option<u64>,
}

impl Record {
    /// What `book` knows of `user`.
    pub fn of(book: &Book, user: &UserSample, unix_time: u64) -> Self {
        book.entry(Key::of(&user.ledger_id)).map(|entry| Self::new(entry, unix_time)).unwrap_or_default()
    }

    fn new(entry: &Entry, unix_time: u64) -> Self {
        let (today, month) = entry.series.today_and_month(unix_time);
        Self {
            lifetime: entry.lifetime(),
            today_bytes: today.total(),
            month_bytes: month.total(),
            up_bps: entry.up_bps,
            down_bps: entry.down_bps,
            first_seen_at: entry.first_seen_at,
            last_seen_at: entry.last_seen_at,
        }
    }
}

pub struct Roll {
    version: u64,
    /// What changed after this version is known.
    reaches_back_to: u64,
    by_email: HashMap<Arc<str>, Row>,
    /// Of all that is shown of all accounts, in their order.
    fingerprint: u64,
    /// The oldest first, each with the version in which it was missing.
    gone: VecDeque<(u64, Arc<str>)>,
}

struct Row {
    /// Of all that is shown of the account.
    fingerprint: u64,
    changed_in: u64,
    seen_in: u64,
}

impl Roll {
    /// Nobody yet. Versions begin at a number that no former process has come to.
    pub fn new(unix_time: u64) -> Self {
        // The lower bits count looks. There are a few in a second, so a process that starts later begins higher.
        let version = unix_time << 20;
        Self { version, reaches_back_to: version, by_email: HashMap::new(), fingerprint: 0, gone: VecDeque::new() }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same as long as all accounts are shown as they were, and for as long only.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Takes a new look at all accounts.
    pub fn update(&mut self, users: &[UserSample], book: &Book, unix_time: u64) {
        self.version += 1;
        let version = self.version;
        let mut all = DefaultHasher::new();
        for user in users {
            let mut hasher = DefaultHasher::new();
            (user, Record::of(book, user, unix_time)).hash(&mut hasher);
            let fingerprint = hasher.finish();
            fingerprint.hash(&mut all);
            match self.by_email.get_mut(&user.email) {
                Some(row) if row.fingerprint == fingerprint => row.seen_in = version,
                Some(row) => *row = Row { fingerprint, changed_in: version, seen_in: version },
                None => {
                    let row = Row { fingerprint, changed_in: version, seen_in: version };
                    self.by_email.insert(Arc::clone(&user.email), row);
                }
            }
        }
        self.fingerprint = all.finish();
        if self.by_email.len() > users.len() {
            let gone = self.by_email.extract_if(|_, row| row.seen_in != version);
            self.gone.extend(gone.map(|(email, _)| (version, email)));
        }
        while self.gone.len() > GONE_MAX {
            self.reaches_back_to = self.gone.pop_front().map_or(version, |(missing_in, _)| missing_in);
        }
    }

    /// The oldest version after which all changes are known.
    pub fn reaches_back_to(&self) -> u64 {
        self.reaches_back_to
    }

    /// Whether it is known what changed after `version`.
    pub fn knows(&self, version: u64) -> bool {
        (self.reaches_back_to..=self.version).contains(&version)
    }

    /// Whether the account of this name changed, or came, after `version`.
    pub fn has_changed(&self, email: &str, version: u64) -> bool {
        self.by_email.get(email).is_none_or(|row| row.changed_in > version)
    }

    /// How many did.
    pub fn changed_count(&self, version: u64) -> usize {
        self.by_email.values().filter(|row| row.changed_in > version).count()
    }

    /// The names of those that have gone after `version`. Of these, some may have come back.
    pub fn gone_since(&self, version: u64) -> impl Iterator<Item = &str> {
        self.gone.iter().filter(move |(missing_in, _)| *missing_in > version).map(|(_, email)| &**email)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::history::clock::Moment;

    fn users(emails: &[&str]) -> Vec<UserSample> {
        let one = |email: &&str| UserSample {
            email: (*email).into(),
            ledger_id: [email.len() as u8; 16],
            ..UserSample::default()
        };
        emails.iter().map(one).collect()
    }

    fn gone(roll: &Roll, version: u64) -> Vec<&str> {
        roll.gone_since(version).collect()
    }

    #[test]
    fn an_account_has_changed_when_anything_that_is_shown_of_it_has() {
        let (mut roll, mut book) = (Roll::new(1), Book::default());
        let mut all = users(&["a", "bb"]);
        let start = roll.version();
        roll.update(&all, &book, 5);
        assert!(roll.has_changed("a", start) && roll.knows(start) && !roll.knows(start - 1));
        let first = roll.version();
        roll.update(&all, &book, 5);
        assert_eq!((roll.changed_count(first), roll.changed_count(start)), (0, 2));
        all[1].note = "new".into();
        roll.update(&all, &book, 6);
        let second = roll.version();
        assert!(roll.has_changed("bb", first) && !roll.has_changed("a", first));
        // What the book knows is shown, too: a session of no bytes at all.
        all[0].totals.sessions_active = 1;
        book.update(&all, Moment::first(7), Duration::from_secs(1));
        all[0].totals.sessions_active = 0;
        roll.update(&all, &book, 7);
        assert!(roll.has_changed("a", second) && !roll.has_changed("bb", second));
        assert!(roll.has_changed("nobody", second) && !roll.knows(roll.version() + 1));
    }

    #[test]
    fn of_those_that_have_gone_the_names_are_known() {
        let (mut roll, book) = (Roll::new(1), Book::default());
        roll.update(&users(&["a", "bb"]), &book, 5);
        let before = roll.version();
        roll.update(&users(&["bb"]), &book, 6);
        assert_eq!((gone(&roll, before), gone(&roll, roll.version())), (vec!["a"], vec![]));
        let missing = roll.version();
        roll.update(&users(&["a", "bb"]), &book, 7);
        assert!(roll.has_changed("a", missing), "whoever comes back is new");
        for number in 0..GONE_MAX {
            roll.update(&users(&["bb", &format!("user-{number}")]), &book, 8);
        }
        assert_eq!(roll.gone.len(), GONE_MAX);
        assert!(!roll.knows(before), "too many have gone since");
        assert!(roll.knows(roll.version() - 1));
    }
}
