//! What a node sends next, and what an answer means for its totals and leases.
//!
//! Owns the journal and the leases. The caller counts, asks for the next report, sends it, and brings the answer, or
//! nothing if none came: the same batch is then the next report again. The caller also brings the time, of a clock that
//! only goes forward; the engine's clock is known from its answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use super::journal::{AccountKey, BATCH_ACCOUNTS_MAX, Bytes, Journal, JournalError, Store};
use super::lease::{Lease, WhenAway};
use super::report::{Report, ReportAnswer, ReportOutcome, Wish};

/// How a quota stands on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    /// What may still be used before the engine is asked.
    pub bytes: u64,
    /// There is no more: the engine has none, or is away and nothing may be used without it.
    pub is_all: bool,
    /// Used in the present period by all nodes, as far as is known here.
    pub used_bytes: u64,
}

impl Known {
    /// Half of the lease's time has passed.
    fn is_half_over(&self, engine_ms: u64) -> bool {
        engine_ms.saturating_sub(self.granted_at_ms) > self.lease.ends_at_ms.saturating_sub(self.granted_at_ms) / 2
    }
}

/// One node's share of the totals.
#[derive(Debug)]
pub struct Node<S> {
    journal: Journal<S>,
    slice_bytes: u64,
    when_away: WhenAway,
    leases: HashMap<AccountKey, Known>,
    /// The engine's clock less ours.
    clock_offset_ms: i64,
    /// First batches behind gaps, by boot and sequence: the engine is told to take them nevertheless.
    skips: BTreeSet<(u64, u64)>,
    /// The engine may have forgotten batches: it must say what it has before more is sent.
    must_compare: bool,
    lost_batches: u64,
}

/// A lease, and the batch that its answer was for.
#[derive(Clone, Copy, Debug)]
struct Known {
    lease: Lease,
    /// By the engine's clock.
    granted_at_ms: u64,
    boot: u64,
    sequence: u64,
}

impl<S: Store> Node<S> {
    /// Opens the journal in `store`. `boot` must be greater than that of every earlier start of this node.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn open(store: S, boot: u64, slice_bytes: u64, when_away: WhenAway) -> Result<Self, JournalError> {
        Ok(Self {
            journal: Journal::open(store, boot)?,
            slice_bytes,
            when_away,
            leases: HashMap::new(),
            clock_offset_ms: 0,
            skips: BTreeSet::new(),
            must_compare: true,
            lost_batches: 0,
        })
    }

    /// Adds what was counted; see [`Journal::add`].
    ///
    /// # Errors
    /// When the store fails; the caller offers the same bytes again.
    pub fn count(&mut self, deltas: &BTreeMap<AccountKey, Bytes>) -> io::Result<()> {
        self.journal.add(deltas)
    }

    /// See [`Journal::sync`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn sync(&mut self) -> io::Result<()> {
        self.journal.sync()
    }

    /// Nothing is sent before [`Node::on_applied`]: at the start, and after an answer that did not fit.
    pub fn must_compare(&self) -> bool {
        self.must_compare
    }

    /// The engine said which batches of this node it has applied: the latest by boot. To be brought with every sign of
    /// life, because an engine that fails over forgets in silence.
    pub fn on_applied(&mut self, applied: &BTreeMap<u64, u64>) {
        self.must_compare = false;
        for gap in self.journal.compare(applied) {
            if self.skips.insert((gap.boot, gap.sequence)) {
                self.lost_batches += gap.lost;
            }
        }
    }

    /// What to send next, if anything. `quotas` are the accounts with a quota that have sessions here, each with the
    /// start of its period.
    ///
    /// # Errors
    /// When the journal's store fails.
    pub fn next_report(&mut self, quotas: &BTreeMap<AccountKey, u64>, now_ms: u64) -> io::Result<Option<Report>> {
        if self.must_compare {
            return Ok(None);
        }
        let wanting = self.wishes(quotas, self.engine_ms(now_ms));
        let batch = match self.journal.next_batch()? {
            Some(batch) => Some(batch.clone()),
            None if wanting.is_empty() => None,
            None => self.journal.empty_batch()?.cloned(),
        };
        let Some(batch) = batch else { return Ok(None) };
        // What was counted after this batch comes off the lease later: it is wanted besides.
        let wishes = wanting.into_iter().map(|(key, period_start, slice_bytes)| {
            let later = self.journal.counted_after(&key, batch.boot, batch.sequence);
            (key, Wish { target_bytes: if slice_bytes == 0 { 0 } else { slice_bytes + later }, period_start })
        });
        let skip = self.skips.contains(&(batch.boot, batch.sequence));
        Ok(Some(Report { wishes: wishes.collect(), skip, batch }))
    }

    /// An account wants something that the engine may have.
    pub fn is_wanting(&self, quotas: &BTreeMap<AccountKey, u64>, now_ms: u64) -> bool {
        !self.must_compare && !self.wishes(quotas, self.engine_ms(now_ms)).is_empty()
    }

    /// Accounts that want more than they hold, or hold what they do not need, or whose lease is half over: key, period
    /// start, slice.
    fn wishes(&self, quotas: &BTreeMap<AccountKey, u64>, engine_ms: u64) -> Vec<(AccountKey, u64, u64)> {
        let active = quotas.iter().filter(|(key, _)| {
            self.leases.get(*key).is_none_or(|known| {
                let wanted_bytes = known.lease.wanted_bytes(self.unapplied(key, known), self.slice_bytes);
                // Where the engine has nothing left, others may give something back; that takes as long as leases last.
                known.is_half_over(engine_ms) || (wanted_bytes > 0 && known.lease.left_bytes > 0)
            })
        });
        let idle = self.leases.iter().filter(|(key, known)| known.lease.bytes > 0 && !quotas.contains_key(*key));
        let wishes = active
            .map(|(key, period)| (key.clone(), *period, self.slice_bytes))
            .chain(idle.map(|(key, _)| (key.clone(), 0, 0)));
        wishes.take(BATCH_ACCOUNTS_MAX).collect()
    }

    /// The engine answered to the batch of `report`.
    ///
    /// # Errors
    /// When the journal's store fails.
    pub fn on_answer(&mut self, report: &Report, answer: &ReportAnswer, now_ms: u64) -> io::Result<()> {
        self.clock_offset_ms = answer.at_ms.cast_signed() - now_ms.cast_signed();
        let boot = report.batch.boot;
        if answer.outcome == ReportOutcome::Gap {
            self.must_compare = true;
            return Ok(());
        }
        self.skips.remove(&(boot, report.batch.sequence));
        for (account, lease) in &answer.leases {
            let sequence = report.batch.sequence;
            let known = Known { lease: *lease, granted_at_ms: answer.at_ms, boot, sequence };
            self.leases.insert(account.clone(), known);
        }
        self.journal.applied(boot, answer.sequence)
    }

    /// The engine was asked what all nodes have used of `account`, without this node having reported it.
    pub fn on_used(&mut self, account: &str, used_bytes: u64) {
        if let Some(known) = self.leases.get_mut(account) {
            known.lease.used_bytes = used_bytes;
        }
    }

    /// How the quota of `account` stands; `None` while the engine was never asked.
    pub fn usable(&self, account: &str, now_ms: u64) -> Option<Usable> {
        let known = self.leases.get(account)?;
        let engine_ms = self.engine_ms(now_ms);
        let unapplied = self.unapplied(account, known);
        let lease = &known.lease;
        Some(Usable {
            bytes: lease.usable_bytes(unapplied, engine_ms, self.when_away),
            is_all: lease.left_bytes == 0 || (self.when_away == WhenAway::Refuse && engine_ms >= lease.ends_at_ms),
            used_bytes: lease.used_bytes.saturating_add(unapplied),
        })
    }

    /// The engine's clock less ours, in milliseconds, as of its last answer.
    pub fn clock_offset_ms(&self) -> i64 {
        self.clock_offset_ms
    }

    fn engine_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.clock_offset_ms)
    }

    /// The account's quota was changed or is gone: what was known of it does not hold any more.
    pub fn forget(&mut self, account: &str) {
        self.leases.remove(account);
    }

    /// Batches that are not known to be applied.
    pub fn sealed_batches(&self) -> usize {
        self.journal.sealed_batches()
    }

    /// Batches that the engine has lost and that are not retained here any more.
    pub fn lost_batches(&self) -> u64 {
        self.lost_batches
    }

    /// The journal, for figures.
    pub fn journal(&self) -> &Journal<S> {
        &self.journal
    }

    /// The store, after the node has ended.
    pub fn into_store(self) -> S {
        self.journal.into_store()
    }

    fn unapplied(&self, account: &str, known: &Known) -> u64 {
        self.journal.counted_after(account, known.boot, known.sequence)
    }
}
