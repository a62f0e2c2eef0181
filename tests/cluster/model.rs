//! A model of the engine: what the scripts do, written a second time, so that the two can be held against each other.

use std::collections::{BTreeMap, HashMap};

use vless_rust::cluster::journal::AccountKey;
use vless_rust::cluster::lease::{LEASE_BYTES_MIN, Lease};
use vless_rust::cluster::report::{Report, ReportAnswer, ReportOutcome, Wish};

/// The engine's memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine {
    pub(crate) now_ms: u64,
    pub(crate) lease_ms: u64,
    pub(crate) quotas: HashMap<AccountKey, u64>,
    pub(crate) used: HashMap<AccountKey, Use>,
    pub(crate) applied: HashMap<(String, u64), u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) period: u64,
    pub(crate) base: u64,
    /// Bytes out and the end of the lease, by node.
    pub(crate) leases: BTreeMap<String, (u64, u64)>,
}

impl Use {
    pub(crate) fn total(&self) -> u64 {
        self.up + self.down
    }
}

impl Engine {
    pub(crate) fn report(&mut self, node: &str, report: &Report) -> ReportAnswer {
        let (boot, sequence) = (report.batch.boot, report.batch.sequence);
        let last = self.applied.get(&(node.to_owned(), boot)).copied().unwrap_or(0);
        if sequence > last + 1 && !report.skip {
            return ReportAnswer {
                outcome: ReportOutcome::Gap,
                sequence: last,
                at_ms: self.now_ms,
                leases: Vec::new(),
            };
        }
        let is_new = sequence > last;
        let mut leases = Vec::new();
        let wishes: HashMap<_, _> = report.wishes.iter().cloned().collect();
        for (account, bytes) in &report.batch.accounts {
            let wish = wishes.get(account).copied().unwrap_or_default();
            leases.extend(self.account(node, account, (bytes.up, bytes.down), is_new, wish));
        }
        for (account, wish) in report.wishes.iter().filter(|(key, _)| !report.batch.accounts.contains_key(key)) {
            leases.extend(self.account(node, account, (0, 0), is_new, *wish));
        }
        if is_new {
            self.applied.insert((node.to_owned(), boot), sequence);
        }
        let outcome = if is_new { ReportOutcome::Applied } else { ReportOutcome::Repeated };
        ReportAnswer { outcome, sequence: sequence.max(last), at_ms: self.now_ms, leases }
    }

    /// What a sign of life tells the node.
    pub(crate) fn applied(&self, node: &str) -> BTreeMap<u64, u64> {
        let own = self.applied.iter().filter(|((name, _), _)| name == node);
        own.map(|((_, boot), sequence)| (*boot, *sequence)).collect()
    }

    fn account(
        &mut self,
        node: &str,
        account: &str,
        (up, down): (u64, u64),
        is_new: bool,
        wish: Wish,
    ) -> Option<(AccountKey, Lease)> {
        let now = self.now_ms;
        let mut one = self.used.get(account).cloned().unwrap_or_default();
        if wish.period_start > one.period && wish.period_start * 1000 <= now {
            one.period = wish.period_start;
            one.base = one.total();
        }
        let mut mine = one.leases.get(node).map_or(0, |(bytes, _)| *bytes);
        if is_new {
            one.up += up;
            one.down += down;
            mine = mine.saturating_sub(up + down);
        }
        let quota = self.quotas.get(account).copied().unwrap_or(0);
        if quota == 0 {
            self.used.insert(account.to_owned(), one);
            return None;
        }
        one.leases.retain(|holder, (_, ends)| holder == node || *ends > now);
        let out: u64 = one.leases.iter().filter(|(holder, _)| *holder != node).map(|(_, (bytes, _))| bytes).sum();
        let mut lease = mine.min(wish.target_bytes);
        let used_bytes = one.total() - one.base;
        let mut left = quota.saturating_sub(used_bytes + out + lease);
        if wish.target_bytes > lease {
            let grant = (wish.target_bytes - lease).min(LEASE_BYTES_MIN.max(left / 4)).min(left);
            lease += grant;
            left -= grant;
        }
        one.leases.insert(node.to_owned(), (lease, now + self.lease_ms));
        self.used.insert(account.to_owned(), one);
        let ends_at_ms = now + self.lease_ms;
        Some((account.to_owned(), Lease { bytes: lease, left_bytes: left, used_bytes, ends_at_ms }))
    }
}
