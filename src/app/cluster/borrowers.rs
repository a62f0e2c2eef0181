//! The accounts with a quota that are served here, when each was used, and which of its periods it is in.
//!
//! The engine believes whatever period a node names, unless its own clock has not come to it, and never goes back to an
//! earlier one. So a clock that is wrong for a second must not name one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counting::Served;
use crate::app::accounts::standing::period_start;
use crate::cluster::journal::AccountKey;
use crate::control::history::clock::SteadyClock;

/// What was lent for an account is kept for so long after its last session, for the next one not to wait.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The accounts with a quota that are served here.
#[derive(Debug, Default)]
pub(super) struct Borrowers {
    pub(super) accounts: HashMap<AccountKey, Borrower>,
    /// Somebody is about to use up what was lent.
    pub(super) is_in_need: bool,
    /// `None` until it was first asked for the time.
    clock: Option<SteadyClock>,
}

/// The accounts for which something is to be lent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wanting {
    /// Each with the start of its period.
    pub(super) accounts: BTreeMap<AccountKey, u64>,
    /// Those among all accounts here whose period has changed: what was lent for the one before is not for this one.
    pub(super) renewed: Vec<AccountKey>,
}

#[derive(Debug)]
pub(super) struct Borrower {
    pub(super) served: Served,
    pub(super) active_at: Option<Instant>,
    pub(super) sessions_total: u64,
    /// When the period began that the last lease was for, in seconds since 1970.
    pub(super) period_start: u64,
}

impl Borrowers {
    /// Seconds since 1970 at `now`, where the wall clock says `wall`.
    pub(super) fn unix_time(&mut self, now: Instant, wall: u64) -> u64 {
        self.clock.get_or_insert_with(|| SteadyClock::new(now, wall)).tick(now, wall).at
    }

    /// The accounts that are used here, or whose quota is spent, at `now`, where the wall clock says `wall`.
    pub(super) fn wanting(&mut self, now: Instant, wall: u64) -> Wanting {
        let seconds = self.unix_time(now, wall);
        let mut wanting = Wanting::default();
        for (key, borrower) in &mut self.accounts {
            let totals = borrower.served.ledger.totals();
            if totals.sessions_active > 0 || totals.sessions_total > borrower.sessions_total {
                borrower.sessions_total = totals.sessions_total;
                borrower.active_at = Some(now);
            }
            let start = period_start(&borrower.served.limits, seconds).unwrap_or(0);
            if start != borrower.period_start {
                borrower.period_start = start;
                wanting.renewed.push(key.clone());
            }
            let is_kept = borrower.active_at.is_some_and(|at| now < at + KEPT_FOR);
            if is_kept || borrower.served.ledger.gate().quota.is_spent() {
                wanting.accounts.insert(key.clone(), start);
            }
        }
        wanting
    }

    pub(super) fn adopt(&mut self, served: &Arc<Vec<Served>>) {
        let mut before = std::mem::take(&mut self.accounts);
        for one in served.iter().filter(|one| one.limits.quota_bytes > 0) {
            let borrower = match before.remove(&one.key) {
                Some(known) => Borrower { served: one.clone(), ..known },
                None => Borrower { served: one.clone(), active_at: None, sessions_total: 0, period_start: 0 },
            };
            self.accounts.insert(one.key.clone(), borrower);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::app::config::UsersFile;
    use crate::cluster::journal::Bytes;
    use crate::protocol::user_id::mask;
    use crate::stats::Ledgers;

    const DAY: u64 = 86_400;

    #[test]
    fn one_wrong_second_of_a_node_does_not_name_the_engine_another_period() {
        let limits = r#""quota_bytes": 100, "quota_period": "day""#;
        let text = format!(r#"{{ "users": [ {{ "uuid": "a", "email": "a", "limits": {{ {limits} }} }} ] }}"#);
        let user = UsersFile::parse(&text, Path::new("u"), None).unwrap().users.remove(0);
        let (id, ledgers) = (mask(user.id), Ledgers::new(1));
        let ledger = ledgers.of(id);
        let _session = ledger.open_session(0, 0).unwrap();
        let served = Served { key: "a".to_owned(), id, limits: user.limits, ledger, since: Bytes::default() };
        let mut borrowers = Borrowers::default();
        borrowers.adopt(&Arc::new(vec![served]));
        let (started, today) = (Instant::now(), 20_000 * DAY);
        let mut look = |second: u64, wrong_by: u64| {
            let wanting = borrowers.wanting(started + Duration::from_secs(second), today + second + wrong_by);
            (wanting.accounts["a"], wanting.renewed.len())
        };
        assert_eq!(look(0, 0), (today, 1));
        assert_eq!([look(1, 5000 * DAY), look(2, 0)], [(today, 0); 2]);
        assert_eq!(look(DAY, 0), (today + DAY, 1));
    }
}
