//! Quotas: how much of each may be used on this node, told to the gates of the accounts.

use std::collections::BTreeMap;
use std::time::Instant;

use super::member::Member;
use crate::app::clock::unix_time;
use crate::cluster::journal::AccountKey;
use crate::cluster::lease::WhenAway;

impl Member {
    /// The accounts with a quota that are used here, each with the start of its period. Those whose quota is spent are
    /// asked for, too: something may come back.
    pub(super) fn wanting(&mut self) -> BTreeMap<AccountKey, u64> {
        let wanting = self.borrowers.wanting(Instant::now(), unix_time());
        for key in wanting.renewed {
            self.books.lock().node.forget(&key);
        }
        wanting.accounts
    }

    /// Tells the gates what was lent.
    pub(super) fn lend(&mut self) {
        let (now_ms, is_here) = (self.now_ms(), self.engine.is_some() && self.doubt.is_none());
        let slice = self.settings.lease_bytes;
        let mut is_in_need = false;
        // What was counted and what may be used belong together.
        let books = self.books.lock();
        for (key, borrower) in &self.borrowers.accounts {
            let ledger = &borrower.served.ledger;
            let (gate, counted) = (ledger.gate(), books.counting.counted(&borrower.served.id));
            let quota = borrower.served.limits.quota_bytes as u64;
            let (until, is_all) = match books.node.usable(key, now_ms) {
                Some(usable) => {
                    ledger.set_used_at(counted, usable.used_bytes);
                    (counted.saturating_add(usable.bytes), usable.is_all)
                }
                // The engine was not asked yet.
                None if is_here => (counted, false),
                None if self.settings.away == WhenAway::Refuse => (counted, true),
                None => {
                    let used = ledger.used();
                    (used.ever.saturating_add(quota.saturating_sub(used.in_period)), false)
                }
            };
            gate.quota.lend(until);
            let ever = ledger.used().ever;
            gate.quota.set_spent(is_all && ever >= until);
            let is_low = until.saturating_sub(ever) < slice / 2;
            is_in_need |= is_here && is_low && !is_all && gate.sessions_active() > 0;
        }
        self.borrowers.is_in_need = is_in_need;
    }
}
