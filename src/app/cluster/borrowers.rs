//! The accounts with a quota that are served here, and when each was used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::counting::Served;
use crate::cluster::journal::AccountKey;

/// The accounts with a quota that are served here.
#[derive(Debug, Default)]
pub(super) struct Borrowers {
    pub(super) accounts: HashMap<AccountKey, Borrower>,
    /// Somebody is about to use up what was lent.
    pub(super) is_in_need: bool,
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
