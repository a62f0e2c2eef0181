//! The accounts by the clock: who may connect now, since when, and what a period has left.
//!
//! Knows the ledgers and the time it is told; changes nothing but what a ledger notes about time.

use std::sync::Arc;

use crate::app::accounts::standing::{Standing, period_start, standing};
use crate::app::config::User;
use crate::protocol::user_id::mask;
use crate::stats::{Ledger, Ledgers, UserTotals};

/// One entry per account, in the order of the configuration.
pub(super) struct Roll {
    ledgers: Vec<Arc<Ledger>>,
    standings: Vec<Standing>,
    /// Sessions of all time at the last look: what grew was used since.
    sessions_total: Vec<u64>,
}

impl Roll {
    pub(super) fn new(accounts: &[User], ledgers: &Ledgers, now: u64) -> Self {
        let ledgers: Vec<_> = accounts.iter().map(|user| ledgers.of(mask(user.id))).collect();
        let standings = accounts.iter().zip(&ledgers).map(|(user, ledger)| standing(user, ledger, now)).collect();
        let sessions_total = ledgers.iter().map(|ledger| ledger.totals().sessions_total).collect();
        Self { ledgers, standings, sessions_total }
    }

    /// Takes note of the time; true when somebody's standing has changed. `accounts` are those of [`Roll::new`].
    pub(super) fn tick(&mut self, accounts: &[User], now: u64) -> bool {
        let mut is_changed = false;
        for (place, (user, ledger)) in accounts.iter().zip(&self.ledgers).enumerate() {
            let totals = ledger.totals();
            if totals.sessions_active > 0 || totals.sessions_total > self.sessions_total[place] {
                self.sessions_total[place] = totals.sessions_total;
                ledger.note_seen(now);
            }
            if let Some(start) = period_start(&user.limits, now)
                && ledger.begin_period(start)
            {
                log::info!("user {}: a new period of the quota begins", user.email);
            }
            let stands = standing(user, ledger, now);
            is_changed |= std::mem::replace(&mut self.standings[place], stands) != stands;
        }
        is_changed
    }

    pub(super) fn totals(&self) -> impl Iterator<Item = UserTotals> {
        self.ledgers.iter().map(|ledger| ledger.totals())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::app::config::UsersFile;

    const DAY: u64 = 86_400;

    fn accounts(limits: &str) -> Vec<User> {
        let text = format!(r#"{{ "users": [ {{ "uuid": "a", "email": "a", "limits": {{ {limits} }} }} ] }}"#);
        UsersFile::parse(&text, Path::new("u"), None).unwrap().users
    }

    #[test]
    fn an_account_ends_so_many_days_after_its_first_session() {
        let (accounts, ledgers) = (accounts(r#""expires_after_days": 1"#), Ledgers::new(1));
        let mut roll = Roll::new(&accounts, &ledgers, 1000);
        assert!(!roll.tick(&accounts, 100 * DAY), "it was never used");
        // A session that begins and ends between two looks is a use, too.
        drop(ledgers.of(mask(accounts[0].id)).open_session(0, 0).unwrap());
        assert!(!roll.tick(&accounts, 100 * DAY));
        assert!(!roll.tick(&accounts, 101 * DAY - 1));
        assert!(roll.tick(&accounts, 101 * DAY));
        assert!(!roll.tick(&accounts, 102 * DAY), "told once");
    }

    #[test]
    fn a_used_quota_comes_back_with_the_next_period() {
        let (accounts, ledgers) = (accounts(r#""quota_bytes": 10, "quota_period": "day""#), Ledgers::new(1));
        let mut roll = Roll::new(&accounts, &ledgers, DAY);
        assert!(!roll.tick(&accounts, DAY));
        ledgers.of(mask(accounts[0].id)).lane(0).downlink_bytes.add(10);
        assert!(roll.tick(&accounts, 2 * DAY - 1));
        assert!(roll.tick(&accounts, 2 * DAY));
        assert!(!roll.tick(&accounts, 2 * DAY + 1));
    }
}
