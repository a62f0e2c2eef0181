//! Limits of addresses and sessions over all nodes: what the engine was told of who is here, and who has to leave.
//!
//! A worker lets a client in by what is known on this node. The engine is asked right afterwards, within a tenth of a
//! second, and counts each address and session once; whoever was the last is cut then. While the engine is away each node
//! obeys the limits by itself.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::counting::Served;
use crate::cluster::journal::AccountKey;
use crate::stats::gate::Source;

/// What the engine was told is told again after so long.
const TOLD_AGAIN: Duration = Duration::from_secs(30);
/// How often the sessions on other nodes are asked for while there are some here.
const SESSIONS_INTERVAL: Duration = Duration::from_secs(1);
/// A source that the engine refuses may stay for so long, if it is the only one of its account here: a phone that changes
/// networks has two addresses until its old connections are known to be dead.
const GUEST_STAYS: Duration = Duration::from_secs(60);
const GUEST_ASKS: Duration = Duration::from_secs(5);
/// Sources of one account that are looked at.
const SOURCES_MAX: usize = 256;
/// Wishes in one call.
const WISHES_MAX: usize = 500;
/// What the engine was told of the accounts with such limits.
#[derive(Default)]
pub(super) struct Presence {
    limited: Vec<Served>,
    addresses: HashMap<(AccountKey, Source), Held>,
    pub(super) sessions: HashMap<AccountKey, Told>,
}

struct Held {
    asked_at: Instant,
    /// Since when the engine refuses it; `None`: it is admitted.
    refused_since: Option<Instant>,
}

pub(super) struct Told {
    pub(super) count: usize,
    pub(super) at: Instant,
}

/// What is wanted of the engine for one address.
pub(super) struct Wish {
    pub(super) key: AccountKey,
    pub(super) source: Source,
    /// As the script wants it.
    pub(super) limit: String,
}

impl Presence {
    pub(super) fn adopt(&mut self, served: &[Served]) {
        let is_limited = |one: &&Served| one.limits.addresses_max > 0 || one.limits.sessions_max > 0;
        self.limited = served.iter().filter(is_limited).cloned().collect();
    }

    /// The engine may have forgotten what it was told.
    pub(super) fn forget(&mut self) {
        self.addresses.clear();
        self.sessions.clear();
        for one in &self.limited {
            one.ledger.gate().set_sessions_elsewhere(0);
        }
    }

    pub(super) fn wishes(&mut self, now: Instant) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut gone: HashSet<_> = self.addresses.keys().cloned().collect();
        for one in self.limited.iter().filter(|one| one.limits.addresses_max > 0) {
            if one.ledger.gate().sessions_active() == 0 {
                continue;
            }
            for source in one.ledger.gate().sources(SOURCES_MAX) {
                let place = (one.key.clone(), source);
                gone.remove(&place);
                let is_due = self.addresses.get(&place).is_none_or(|held| {
                    let interval = if held.refused_since.is_some() { GUEST_ASKS } else { TOLD_AGAIN };
                    now >= held.asked_at + interval
                });
                if is_due {
                    wishes.push(Wish { key: one.key.clone(), source, limit: one.limits.addresses_max.to_string() });
                }
            }
        }
        for (key, source) in gone {
            wishes.push(Wish { key, source, limit: "-1".to_owned() });
        }
        wishes.truncate(WISHES_MAX);
        wishes
    }

    /// The engine has answered; returns whether the source has to leave now.
    pub(super) fn on_answer(&mut self, wish: &Wish, is_admitted: bool, now: Instant) -> bool {
        let place = (wish.key.clone(), wish.source);
        if wish.limit == "-1" {
            self.addresses.remove(&place);
            return false;
        }
        let known = self.addresses.get(&place).and_then(|held| held.refused_since);
        let refused_since = (!is_admitted).then(|| known.unwrap_or(now));
        let others = self.addresses.iter().filter(|((key, source), _)| *key == wish.key && *source != wish.source);
        let has_guest = others.into_iter().any(|(_, held)| held.refused_since.is_some());
        self.addresses.insert(place, Held { asked_at: now, refused_since });
        refused_since.is_some_and(|since| has_guest || now >= since + GUEST_STAYS)
    }

    pub(super) fn ledger(&self, key: &str) -> Option<&Served> {
        self.limited.iter().find(|one| one.key == key)
    }

    /// Accounts whose sessions the engine should hear of, with their number here.
    pub(super) fn counts(&self, now: Instant) -> Vec<(Served, usize)> {
        let limited = self.limited.iter().filter(|one| one.limits.sessions_max > 0);
        let counts = limited.filter_map(|one| {
            let count = one.ledger.gate().sessions_active();
            let told = self.sessions.get(&one.key);
            let known = told.map_or(0, |told| told.count);
            let is_old = told.is_none_or(|told| now >= told.at + SESSIONS_INTERVAL);
            (count != known || (count > 0 && is_old)).then(|| (one.clone(), count))
        });
        counts.take(WISHES_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(source: Source) -> Wish {
        Wish { key: "a".to_owned(), source, limit: "1".to_owned() }
    }

    #[test]
    fn one_guest_may_stay_for_a_while_and_a_second_has_to_leave() {
        let (mut presence, start) = (Presence::default(), Instant::now());
        assert!(!presence.on_answer(&wish(1), true, start));
        assert!(!presence.on_answer(&wish(2), false, start), "a guest");
        assert!(presence.on_answer(&wish(3), false, start), "one guest is enough");
        let leave = Wish { limit: "-1".to_owned(), ..wish(3) };
        assert!(!presence.on_answer(&leave, false, start));
        assert!(!presence.on_answer(&wish(2), false, start + GUEST_STAYS / 2));
        assert!(presence.on_answer(&wish(2), false, start + GUEST_STAYS));
        assert!(!presence.on_answer(&wish(2), true, start + GUEST_STAYS), "there is room now");
    }
}
