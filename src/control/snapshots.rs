//! Long answers as bytes, written once after each tick for all who want the same: the figures at a glance, and the list of
//! accounts. And how often the feed tells of accounts.
//!
//! Accounts are most of the bytes. A new reader of the feed gets all of them, and then those that changed. Where more
//! change than `ROWS_PER_SECOND_MAX`, it is told of them less often, so that a reader gets no more than so many in the
//! long run. Figures of the whole server come with every message.

use std::time::Duration;

use serde_json::json;
use tungstenite::Bytes;

use super::feed;
use super::http::gzip;
use super::http::response::{JSON, Reply};
use super::report::overview::{Scope, overview};
use super::report::users::Ids;
use super::report::{parts, users};
use super::roll::Roll;
use super::view::View;

/// Accounts that each reader of the feed is told of, in the long run.
const ROWS_PER_SECOND_MAX: usize = 1000;
/// Whoever has missed messages, or asks without the feed, gets what changed in the last so many versions, as few as reach
/// back to what it has seen. It gets some accounts again, and shares the bytes with others who missed something else.
const VERSIONS_BACK: [u64; 2] = [64, 4096];

/// What comes before and behind the figures in a message of the feed.
const MESSAGE_START: &[u8] = br#"{"type":"stats","payload":"#;
const MESSAGE_END: &[u8] = b"}";

#[derive(Default)]
pub struct Snapshots {
    figures: Vec<(Scope, Figures)>,
    lists: Vec<(Ids, Body)>,
    history: Option<Bytes>,
    pace: Pace,
}

/// The figures for one scope: the message of the feed, and the part of it that is the body of `/api/stats`.
struct Figures {
    message: Bytes,
    body: Body,
}

/// A body of JSON, and the same compressed as soon as somebody wants it so.
struct Body {
    plain: Bytes,
    gzip: Option<Bytes>,
}

/// When the feed tells of accounts again.
#[derive(Default)]
struct Pace {
    /// The version that readers were told of last.
    told: u64,
    /// Rows that they may get.
    allowance: usize,
}

/// What the readers of the feed are told of accounts this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    Nothing,
    /// What changed after this version, to those who have seen it.
    Since(u64),
}

impl Telling {
    /// What this means for a reader who has seen this version; `None`: it wants to know of no account.
    pub fn scope(self, roll: &Roll, seen: Option<u64>) -> Scope {
        match (self, seen) {
            (Self::Nothing, _) | (_, None) => Scope::Nobody,
            (Self::Since(version), Some(seen)) if seen >= version && roll.knows(version) && roll.knows(seen) => {
                Scope::Since(version)
            }
            (Self::Since(_), Some(seen)) => scope_after(roll, seen),
        }
    }
}

/// What somebody needs who has seen `seen` of the accounts.
pub fn scope_after(roll: &Roll, seen: u64) -> Scope {
    if !roll.knows(seen) {
        return Scope::All;
    }
    let missed = roll.version() - seen;
    let back = VERSIONS_BACK.into_iter().find(|back| missed <= *back);
    back.map_or(Scope::All, |back| Scope::Since((roll.version() - back).max(roll.reaches_back_to())))
}

impl Snapshots {
    /// Everything is to be written anew.
    pub fn forget(&mut self) {
        self.figures.clear();
        self.lists.clear();
        self.history = None;
    }

    /// Decides what the readers of the feed are told of accounts, so long after they were told the last time.
    pub fn next_telling(&mut self, roll: &Roll, passed: Duration) -> Telling {
        if self.pace.told == 0 {
            // Whoever reads already got all accounts when it came.
            self.pace.told = roll.version();
            return Telling::Nothing;
        }
        let earned = (passed.as_secs_f64() * ROWS_PER_SECOND_MAX as f64) as usize;
        let changed = roll.changed_count(self.pace.told);
        // What was not used is not kept: a quiet hour does not allow for a flood.
        self.pace.allowance = (self.pace.allowance + earned).min(changed.max(earned));
        if changed > self.pace.allowance {
            return Telling::Nothing;
        }
        self.pace.allowance -= changed;
        Telling::Since(std::mem::replace(&mut self.pace.told, roll.version()))
    }

    /// The feed's message with the figures.
    pub fn message(&mut self, view: &View, scope: Scope) -> &Bytes {
        &self.figures(view, scope).message
    }

    /// The answer to `/api/stats`.
    pub fn reply(&mut self, view: &View, scope: Scope, takes_gzip: bool) -> Reply {
        self.figures(view, scope).body.reply(takes_gzip)
    }

    fn figures(&mut self, view: &View, scope: Scope) -> &mut Figures {
        find_or_make(&mut self.figures, scope, || Figures::new(view, scope))
    }

    /// The answer to `/api/users`.
    pub fn accounts(&mut self, view: &View, ids: Ids, takes_gzip: bool) -> Reply {
        let make = || {
            let list = users::list(view, 0..view.sample.users.len(), ids);
            // What is shown always becomes JSON.
            Body { plain: serde_json::to_vec(&list).unwrap_or_default().into(), gzip: None }
        };
        find_or_make(&mut self.lists, ids, make).reply(takes_gzip)
    }

    /// The first message of a new reader of the feed.
    pub fn history(&mut self, view: &View) -> &Bytes {
        self.history.get_or_insert_with(|| {
            let message = json!({ "type": "history", "payload": parts::speed_history(view) });
            feed::encode(|bytes| bytes.extend(message.to_string().into_bytes()))
        })
    }
}

fn find_or_make<K: Copy + PartialEq, V>(made: &mut Vec<(K, V)>, key: K, make: impl FnOnce() -> V) -> &mut V {
    let known = made.iter().position(|(known, _)| *known == key);
    let index = known.unwrap_or_else(|| {
        made.push((key, make()));
        made.len() - 1
    });
    &mut made[index].1
}

impl Body {
    fn reply(&mut self, takes_gzip: bool) -> Reply {
        let reply = Reply::new(200, JSON, self.plain.clone());
        if takes_gzip && self.plain.len() >= gzip::BYTES_MIN {
            return reply.with_packed(|body| self.gzip.get_or_insert_with(|| gzip::pack(body)).clone());
        }
        reply
    }
}

impl Figures {
    fn new(view: &View, scope: Scope) -> Self {
        let mut text_bytes = 0;
        let message = feed::encode(|bytes| {
            let head_bytes = bytes.len();
            bytes.extend_from_slice(MESSAGE_START);
            // Writing into memory does not fail, and what is shown always becomes JSON.
            let _ = serde_json::to_writer(&mut *bytes, &overview(view, scope));
            bytes.extend_from_slice(MESSAGE_END);
            text_bytes = bytes.len() - head_bytes;
        });
        let start = message.len() - text_bytes + MESSAGE_START.len();
        let plain = message.slice(start..message.len() - MESSAGE_END.len());
        Self { message, body: Body { plain, gzip: None } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::history::book::Book;
    use crate::control::sample::UserSample;

    const SECOND: Duration = Duration::from_secs(1);

    fn users(count: usize) -> Vec<UserSample> {
        (0..count).map(|n| UserSample { email: n.to_string().into(), ..UserSample::default() }).collect()
    }

    /// The rows that a reader who misses nothing gets in so many seconds, in each of which so many accounts change.
    fn rows(changing: usize, seconds: usize) -> usize {
        let (mut roll, book, mut users) = (Roll::new(1), Book::default(), users(5000));
        let mut snapshots = Snapshots::default();
        roll.update(&users, &book, 0);
        snapshots.next_telling(&roll, SECOND);
        let mut rows = 0;
        for _ in 0..seconds {
            users[..changing].iter_mut().for_each(|user| user.quota_used_bytes += 1);
            roll.update(&users, &book, 0);
            if let Telling::Since(version) = snapshots.next_telling(&roll, SECOND) {
                rows += roll.changed_count(version);
            }
        }
        rows
    }

    #[test]
    fn a_reader_is_told_of_a_bounded_number_of_accounts_in_the_long_run() {
        assert_eq!(rows(3, 100), 300, "few come with every message");
        assert_eq!(rows(1000, 100), 100_000);
        assert_eq!(rows(5000, 100), 100_000, "all of them every five seconds");
        assert_eq!(rows(2500, 100), 82_500, "all of them every three seconds");
    }

    #[test]
    fn whoever_missed_something_gets_what_changed_since() {
        let (mut roll, book, users) = (Roll::new(1), Book::default(), users(1));
        let start = roll.version();
        for _ in 0..100 {
            roll.update(&users, &book, 0);
        }
        let now = roll.version();
        assert_eq!(Telling::Nothing.scope(&roll, Some(now)), Scope::Nobody);
        let telling = Telling::Since(now - 1);
        assert_eq!(telling.scope(&roll, None), Scope::Nobody);
        assert_eq!([now, now - 1].map(|seen| telling.scope(&roll, Some(seen))), [Scope::Since(now - 1); 2]);
        assert_eq!([now - 2, now - 64].map(|seen| telling.scope(&roll, Some(seen))), [Scope::Since(now - 64); 2]);
        assert_eq!([now - 65, start].map(|seen| telling.scope(&roll, Some(seen))), [Scope::Since(start); 2]);
        assert_eq!([0, start - 1, now + 1].map(|seen| telling.scope(&roll, Some(seen))), [Scope::All; 3]);
    }
}
