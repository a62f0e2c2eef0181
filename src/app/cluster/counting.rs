//! What was counted for accounts since the last look, by the ledgers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::app::config::UserLimits;
use crate::cluster::journal::{AccountKey, Bytes};
use crate::stats::Ledger;

/// Looks between which a ledger of an account that has gone is still counted: its sessions take a moment to end.
const LOOKS_AFTER_THE_END: u32 = 150;

/// An account of the cluster that this node serves.
#[derive(Clone, Debug)]
pub struct Served {
    pub key: AccountKey,
    /// Masked.
    pub id: [u8; 16],
    pub limits: UserLimits,
    pub ledger: Arc<Ledger>,
    /// What the ledger had counted when it began to be this account's: what it counted before was somebody else's.
    pub since: Bytes,
}

/// How far each ledger was counted.
#[derive(Debug, Default)]
pub struct Counting {
    /// By masked id.
    counted: HashMap<[u8; 16], Counted>,
}

#[derive(Debug)]
struct Counted {
    key: AccountKey,
    ledger: Arc<Ledger>,
    bytes: Bytes,
    /// Looks that are left, once the account is not served any more.
    looks_left: Option<u32>,
}

/// Deltas that are to be counted, and how far the ledgers are then.
#[derive(Debug, Default)]
pub struct Look {
    pub deltas: BTreeMap<AccountKey, Bytes>,
    now: Vec<([u8; 16], Bytes)>,
}

impl Counting {
    /// Counts for these accounts from now on, and for a while for those that have gone.
    pub fn adopt(&mut self, served: &[Served]) {
        for counted in self.counted.values_mut() {
            counted.looks_left.get_or_insert(LOOKS_AFTER_THE_END);
        }
        for one in served {
            let counted = self.counted.entry(one.id).or_insert_with(|| Counted {
                key: one.key.clone(),
                ledger: Arc::clone(&one.ledger),
                bytes: one.since,
                looks_left: None,
            });
            counted.looks_left = None;
            counted.key.clone_from(&one.key);
        }
    }

    /// What ledgers have counted beyond the last look that was [`Counting::done`].
    pub fn look(&self) -> Look {
        let mut look = Look::default();
        for (id, counted) in &self.counted {
            let totals = counted.ledger.totals();
            let now = Bytes { up: totals.uplink_bytes, down: totals.downlink_bytes };
            let (up, down) = (now.up - counted.bytes.up, now.down - counted.bytes.down);
            if up > 0 || down > 0 {
                let delta = look.deltas.entry(counted.key.clone()).or_default();
                delta.up += up;
                delta.down += down;
                look.now.push((*id, now));
            }
        }
        look
    }

    /// The deltas of `look` are in the journal.
    pub fn done(&mut self, look: &Look) {
        for (id, now) in &look.now {
            if let Some(counted) = self.counted.get_mut(id) {
                counted.bytes = *now;
            }
        }
        self.counted.retain(|_, counted| match &mut counted.looks_left {
            None => true,
            Some(0) => false,
            Some(looks) => {
                *looks -= 1;
                true
            }
        });
    }

    /// How much of the ledger with this id is in the journal.
    pub fn counted(&self, id: &[u8; 16]) -> u64 {
        self.counted.get(id).map_or(0, |counted| counted.bytes.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::app::config::UsersFile;

    fn served(key: &str, ledger: &Arc<Ledger>) -> Served {
        let text = r#"{ "users": [ { "uuid": "a" } ] }"#;
        let limits = UsersFile::parse(text, Path::new("u"), None).unwrap().users[0].limits.clone();
        Served { key: key.to_owned(), id: [1; 16], limits, ledger: Arc::clone(ledger), since: Bytes::default() }
    }

    #[test]
    fn every_byte_is_counted_once_and_again_only_if_it_was_not_kept() {
        let ledger = Arc::new(Ledger::new(1));
        ledger.lane(0).uplink_bytes.add(5);
        let mut counting = Counting::default();
        counting.adopt(&[served("a", &ledger)]);
        let lost = counting.look();
        assert_eq!(lost.deltas["a"], Bytes { up: 5, down: 0 });
        ledger.lane(0).downlink_bytes.add(7);
        let look = counting.look();
        assert_eq!(look.deltas["a"], Bytes { up: 5, down: 7 });
        counting.done(&look);
        assert_eq!(counting.counted(&[1; 16]), 12);
        assert!(counting.look().deltas.is_empty());
    }

    #[test]
    fn what_ends_after_the_account_has_gone_is_counted_for_it() {
        let ledger = Arc::new(Ledger::new(1));
        let mut counting = Counting::default();
        counting.adopt(&[served("a", &ledger)]);
        counting.adopt(&[]);
        ledger.lane(0).uplink_bytes.add(5);
        let look = counting.look();
        assert_eq!(look.deltas["a"].up, 5);
        for _ in 0..=LOOKS_AFTER_THE_END {
            let look = counting.look();
            counting.done(&look);
        }
        assert!(counting.counted.is_empty(), "not for ever");
        ledger.lane(0).uplink_bytes.add(3);
        let again = Served { since: Bytes { up: 5, down: 0 }, ..served("b", &ledger) };
        counting.adopt(&[again]);
        assert_eq!(counting.look().deltas["b"].up, 3, "who comes back does not count twice");
    }
}
