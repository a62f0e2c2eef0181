//! What is remembered of each user, also of those who are not there any more.
//!
//! An entry goes by a digest of the user's id, so that nobody can connect with what is in a state file. Counters of the
//! process begin at 0; what former processes counted is the entry's base.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::ring::Moved;
use super::series::{SavedSeries, Series, Subject};
use super::speeds;
use crate::control::format::hex;
use crate::control::sample::UserSample;

/// Users remembered at the most. Where there are more, those are forgotten who have no account, the longest unseen first.
const ENTRIES_MAX: usize = 20_000;
/// Buckets of all users' histories together. Where there are more, the users longest unseen lose their finest resolution.
const POINTS_MAX: usize = 200_000;

/// A user's name in the book: half of a SHA-256 digest of the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 16]);

impl Key {
    pub fn of(ledger_id: &[u8; 16]) -> Self {
        let digest = digest(&SHA256, ledger_id);
        let mut key = [0; 16];
        key.copy_from_slice(&digest.as_ref()[..16]);
        Self(key)
    }

    fn text(self) -> String {
        hex(&self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        if text.len() != 32 {
            return None;
        }
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(key))
    }
}

/// One user.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Bytes that former processes counted.
    base: Moved,
    /// Bytes of this process, as of the last sample.
    counted: Moved,
    pub up_bps: u64,
    pub down_bps: u64,
    pub first_seen_at: Option<u64>,
    pub last_seen_at: Option<u64>,
    pub series: Series,
    /// The user is among the accounts.
    is_present: bool,
}

impl Entry {
    fn new() -> Self {
        Self {
            base: Moved::default(),
            counted: Moved::default(),
            up_bps: 0,
            down_bps: 0,
            first_seen_at: None,
            last_seen_at: None,
            series: Series::new(Subject::User),
            is_present: true,
        }
    }

    /// Everything this user ever moved.
    pub fn lifetime(&self) -> Moved {
        Moved {
            up_bytes: self.base.up_bytes + self.counted.up_bytes,
            down_bytes: self.base.down_bytes + self.counted.down_bytes,
        }
    }
}

/// As the state file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedEntry {
    key: String,
    upload_bytes: u64,
    download_bytes: u64,
    first_seen_at: Option<u64>,
    last_seen_at: Option<u64>,
    history: SavedSeries,
}

/// All users.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<Key, Entry>,
}

impl Book {
    pub fn entry(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    /// Takes the counters of all accounts at `now`, `passed` after the last time.
    pub fn update(&mut self, users: &[UserSample], now: Moment, passed: Duration) {
        for entry in self.entries.values_mut() {
            entry.is_present = false;
            (entry.up_bps, entry.down_bps) = (0, 0);
        }
        for user in users {
            let entry = self.entries.entry(Key::of(&user.ledger_id)).or_insert_with(Entry::new);
            let counted = Moved { up_bytes: user.totals.uplink_bytes, down_bytes: user.totals.downlink_bytes };
            // A ledger that was forgotten and made anew starts over; what it had counted is the past.
            if counted.up_bytes < entry.counted.up_bytes || counted.down_bytes < entry.counted.down_bytes {
                entry.base = entry.lifetime();
                entry.counted = Moved::default();
            }
            let moved = Moved {
                up_bytes: counted.up_bytes - entry.counted.up_bytes,
                down_bytes: counted.down_bytes - entry.counted.down_bytes,
            };
            entry.is_present = true;
            entry.counted = counted;
            (entry.up_bps, entry.down_bps) = speeds(moved, passed);
            entry.series.add(now, moved, (entry.up_bps, entry.down_bps));
            if moved.total() > 0 || user.totals.sessions_active > 0 {
                // A first time that is yet to come was told by a clock that was ahead.
                entry.first_seen_at = Some(entry.first_seen_at.map_or(now.at, |first| first.min(now.at)));
                entry.last_seen_at = Some(now.at);
            }
        }
        self.forget_absent();
        self.make_room(now);
    }

    fn forget_absent(&mut self) {
        if self.entries.len() <= ENTRIES_MAX {
            return;
        }
        let mut absent: Vec<_> = self.entries.iter().filter(|(_, entry)| !entry.is_present).collect();
        absent.sort_by_key(|(_, entry)| entry.last_seen_at);
        let surplus = self.entries.len() - ENTRIES_MAX;
        let surplus: Vec<_> = absent.into_iter().take(surplus).map(|(key, _)| *key).collect();
        for key in surplus {
            self.entries.remove(&key);
        }
    }

    /// Forgets what is the least missed when there are too many buckets: the old ones first.
    fn make_room(&mut self, now: Moment) {
        let count = |entries: &HashMap<Key, Entry>| entries.values().map(|entry| entry.series.points()).sum::<usize>();
        // A clock that may yet be set right must not say what is old.
        if now.is_settled && count(&self.entries) > POINTS_MAX {
            self.entries.values_mut().for_each(|entry| entry.series.forget_old(now.at));
        }
        let mut points = count(&self.entries);
        if points <= POINTS_MAX {
            return;
        }
        let mut entries: Vec<_> = self.entries.values_mut().collect();
        entries.sort_by_key(|entry| entry.last_seen_at);
        for entry in entries {
            while points > POINTS_MAX {
                let before = entry.series.points();
                if !entry.series.coarsen() {
                    break;
                }
                points -= before - entry.series.points();
            }
        }
    }

    pub fn save(&self) -> Vec<SavedEntry> {
        let mut saved: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.first_seen_at.is_some())
            .map(|(key, entry)| SavedEntry {
                key: key.text(),
                upload_bytes: entry.lifetime().up_bytes,
                download_bytes: entry.lifetime().down_bytes,
                first_seen_at: entry.first_seen_at,
                last_seen_at: entry.last_seen_at,
                history: entry.series.save(),
            })
            .collect();
        saved.sort_by(|a, b| a.key.cmp(&b.key));
        saved
    }

    pub fn restore(saved: Vec<SavedEntry>) -> Self {
        let entries = saved.into_iter().filter_map(|saved| {
            let entry = Entry {
                base: Moved { up_bytes: saved.upload_bytes, down_bytes: saved.download_bytes },
                first_seen_at: saved.first_seen_at,
                last_seen_at: saved.last_seen_at,
                series: Series::restore(Subject::User, saved.history),
                is_present: false,
                ..Entry::new()
            };
            Some((Key::parse(&saved.key)?, entry))
        });
        Self { entries: entries.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::history::series::Range;

    fn user(id: u8, up: u64, active: u64) -> UserSample {
        let mut user = UserSample { ledger_id: [id; 16], ..UserSample::default() };
        user.totals.uplink_bytes = up;
        user.totals.sessions_active = active;
        user
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn key(id: u8) -> Key {
        Key::of(&[id; 16])
    }

    #[test]
    fn bytes_become_speeds_and_totals() {
        let mut book = Book::default();
        book.update(&[user(1, 100, 0)], Moment::first(1000), SECOND);
        book.update(&[user(1, 250, 0)], Moment::first(1001), SECOND);
        let entry = book.entry(key(1)).unwrap();
        assert_eq!((entry.up_bps, entry.lifetime().up_bytes), (150, 250));
        assert_eq!((entry.first_seen_at, entry.last_seen_at), (Some(1000), Some(1001)));
    }

    #[test]
    fn totals_go_on_after_a_restart_a_return_and_a_new_ledger() {
        let mut book = Book::default();
        book.update(&[user(1, 100, 0)], Moment::first(1000), SECOND);
        let saved = serde_json::to_string(&book.save()).unwrap();
        assert!(!saved.contains("01010101"));
        let mut book = Book::restore(serde_json::from_str(&saved).unwrap());
        book.update(&[user(1, 7, 0)], Moment::first(2000), SECOND);
        book.update(&[], Moment::first(2001), SECOND);
        assert_eq!(book.entry(key(1)).unwrap().up_bps, 0);
        book.update(&[user(1, 8, 0)], Moment::first(2002), SECOND);
        assert_eq!(book.entry(key(1)).unwrap().lifetime().up_bytes, 108);
        book.update(&[user(1, 2, 0)], Moment::first(2003), SECOND);
        assert_eq!(book.entry(key(1)).unwrap().lifetime().up_bytes, 110);
    }

    #[test]
    fn an_idle_session_is_a_sign_of_life() {
        let mut book = Book::default();
        book.update(&[user(1, 0, 1), user(2, 0, 0)], Moment::first(1000), SECOND);
        assert_eq!(book.entry(key(1)).unwrap().last_seen_at, Some(1000));
        assert_eq!(book.entry(key(2)).unwrap().last_seen_at, None);
    }

    #[test]
    fn memory_is_bounded_and_the_longest_unseen_pay() {
        let mut book = Book::default();
        let users: Vec<_> = (0..600_u64)
            .map(|number| {
                let mut user = user(0, 1, 0);
                user.ledger_id[..8].copy_from_slice(&number.to_be_bytes());
                user
            })
            .collect();
        let first = Key::of(&users[0].ledger_id);
        book.update(&users[..1], Moment::first(0), SECOND);
        // More days and hours than fit for all of them.
        for day in 1..400_u64 {
            let now: Vec<_> = users[1..]
                .iter()
                .map(|user| {
                    let mut user = user.clone();
                    user.totals.uplink_bytes = 1 + day;
                    user
                })
                .collect();
            book.update(&now, Moment::first(day * 86_400), SECOND);
        }
        assert!(book.entries.values().map(|entry| entry.series.points()).sum::<usize>() <= POINTS_MAX + 600 * 366);
        let first = book.entry(first).unwrap();
        assert_eq!(first.series.extract(Range::Hour, 0).points.len(), 0);
        assert_eq!(first.series.extract(Range::Year, 0).points.len(), 1);
    }
}
