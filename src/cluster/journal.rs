//! What was counted and the engine may not know yet.
//!
//! Deltas are added as they are counted. Before they are sent they are sealed into a numbered [`Batch`], which never
//! changes again: it is sent under its number until the engine says that it was applied. A batch that was applied is
//! retained for a while, for an engine that comes back from a failure without its latest writes.
//!
//! On disk the journal is a list of lines, one JSON object each, only ever appended to; when it has grown it is written
//! anew with what still counts. A line without its line break was torn by a crash and does not count. Whatever
//! [`Journal::add`] has returned for survives the end of the process; after [`Journal::sync`] it survives that of the
//! machine, too. A batch always does before it is sent. The size follows from the number of accounts that had traffic, not
//! from how long the engine is away.

mod error;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use serde::{Deserialize, Serialize};

pub use self::error::JournalError;

/// Accounts in a batch at the most: one script call takes some milliseconds of the engine's time then.
pub const BATCH_ACCOUNTS_MAX: usize = 500;

/// Applied batches that are retained for an engine that forgets, and accounts in all of them. While quotas are used up
/// there may be ten batches a second, so many small ones must not push each other out.
const RETAINED_MAX: usize = 4096;
const RETAINED_ACCOUNTS_MAX: usize = 64 * BATCH_ACCOUNTS_MAX;

/// A journal that has grown by so many bytes, and to twice its size, is written anew.
const GROWTH_BYTES_MAX: usize = 1 << 20;

/// An account's name inside the cluster. It stays while id, email and everything else of the account change, and is no
/// credential.
pub type AccountKey = String;

/// Payload bytes of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    pub up: u64,
    pub down: u64,
}

impl Bytes {
    pub fn total(self) -> u64 {
        self.up.saturating_add(self.down)
    }

    fn add(&mut self, other: Self) {
        self.up = self.up.saturating_add(other.up);
        self.down = self.down.saturating_add(other.down);
    }
}

/// Deltas under a number. Numbers count from 1 within a boot of the node, without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub boot: u64,
    pub sequence: u64,
    pub accounts: BTreeMap<AccountKey, Bytes>,
}

/// Batches that nobody has any more: those of a boot in front of `sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub boot: u64,
    /// The first batch behind the gap.
    pub sequence: u64,
    /// How many are lost.
    pub lost: u64,
}

/// Where the lines are kept.
pub trait Store {
    /// All that was stored, maybe with a torn end.
    fn load(&mut self) -> io::Result<Vec<u8>>;
    /// Appends; it survives the end of the process.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was appended would survive the end of the machine.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes `bytes` for all that was stored, at once or not at all.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The journal of one node.
#[derive(Debug)]
pub struct Journal<S> {
    store: S,
    boot: u64,
    /// Of the latest batch of this boot.
    sequence: u64,
    /// Counted and in no batch yet.
    open: BTreeMap<AccountKey, Bytes>,
    /// Not known to be applied, oldest first.
    sealed: VecDeque<Batch>,
    /// Applied, oldest first.
    retained: VecDeque<Batch>,
    retained_accounts: usize,
    /// When it was last written anew.
    written_bytes: usize,
    grown_bytes: usize,
    is_synced: bool,
    /// An append failed, and part of its line may be stored.
    is_torn: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Boot(u64),
    Add(BTreeMap<AccountKey, Bytes>),
    /// What the batch holds is not open any more.
    Seal(Batch),
    /// Every batch of the boot up to the sequence was applied.
    Applied {
        boot: u64,
        sequence: u64,
    },
    /// A batch that was applied, in a journal that was written anew.
    Retained(Batch),
}

impl<S: Store> Journal<S> {
    /// Opens what is stored and begins a new boot. `boot` must not have been used by this node before.
    ///
    /// # Errors
    /// When the store fails, or holds something else than a journal.
    pub fn open(store: S, boot: u64) -> Result<Self, JournalError> {
        let mut journal = Self {
            store,
            boot,
            sequence: 0,
            open: BTreeMap::new(),
            sealed: VecDeque::new(),
            retained: VecDeque::new(),
            retained_accounts: 0,
            written_bytes: 0,
            grown_bytes: 0,
            is_synced: true,
            is_torn: false,
        };
        let stored = journal.store.load().map_err(JournalError::Io)?;
        journal.replay(&stored)?;
        journal.rewrite().map_err(JournalError::Io)?;
        Ok(journal)
    }

    fn replay(&mut self, stored: &[u8]) -> Result<(), JournalError> {
        let whole =
            stored.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| stored.get(..end).unwrap_or(&[]));
        let lines = whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Option<Line>> = lines.map(|line| serde_json::from_slice(line).ok()).collect();
        // A batch is synced with all lines in front of it. What came behind the last one may be left in any state by a
        // machine that has lost its power.
        let is_batch = |line: &Option<Line>| matches!(line, Some(Line::Seal(_)));
        let stored_for_good = lines.iter().rposition(is_batch).map_or(0, |last| last + 1);
        for (number, line) in lines.into_iter().enumerate() {
            match line {
                Some(line) => self.take_line(line),
                None if number < stored_for_good => return Err(JournalError::BadLine(number + 1)),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: Line) {
        match line {
            Line::Boot(_) => {}
            Line::Add(deltas) => self.add_open(&deltas),
            Line::Seal(batch) => {
                subtract(&mut self.open, &batch.accounts);
                self.sealed.push_back(batch);
            }
            Line::Applied { boot, sequence } => self.move_applied(boot, sequence),
            Line::Retained(batch) => self.retain(batch),
        }
    }

    /// Adds what was counted. Returns when it would survive the end of the process.
    ///
    /// # Errors
    /// When the store fails; nothing was added then, and the caller offers the same bytes again with the next.
    pub fn add(&mut self, deltas: &BTreeMap<AccountKey, Bytes>) -> io::Result<()> {
        if deltas.is_empty() {
            return Ok(());
        }
        self.append(&Line::Add(deltas.clone()))?;
        self.add_open(deltas);
        self.rewrite_if_grown()
    }

    /// Returns when all that was added would survive the end of the machine.
    ///
    /// # Errors
    /// When the store fails; then the journal is written anew with the next line.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.is_torn = true;
            self.store.sync()?;
            (self.is_synced, self.is_torn) = (true, false);
        }
        Ok(())
    }

    /// The batch to send next: the oldest that is not known to be applied, or a new one of what was counted since.
    ///
    /// # Errors
    /// When the store fails: a batch must not be sent before it would survive a crash.
    pub fn next_batch(&mut self) -> io::Result<Option<&Batch>> {
        if self.sealed.is_empty() && !self.open.is_empty() {
            let first = self.open.iter().take(BATCH_ACCOUNTS_MAX);
            let accounts = first.map(|(key, bytes)| (key.clone(), *bytes)).collect();
            self.seal(accounts)?;
        }
        Ok(self.sealed.front())
    }

    /// A new batch without deltas, for an account that only wants a lease.
    ///
    /// # Errors
    /// As for [`Journal::next_batch`].
    pub fn empty_batch(&mut self) -> io::Result<Option<&Batch>> {
        if self.sealed.is_empty() {
            self.seal(BTreeMap::new())?;
        }
        Ok(self.sealed.front())
    }

    fn seal(&mut self, accounts: BTreeMap<AccountKey, Bytes>) -> io::Result<()> {
        let batch = Batch { boot: self.boot, sequence: self.sequence + 1, accounts };
        self.append(&Line::Seal(batch.clone()))?;
        self.sync()?;
        self.sequence = batch.sequence;
        subtract(&mut self.open, &batch.accounts);
        self.sealed.push_back(batch);
        Ok(())
    }

    /// The engine has applied every batch of `boot` up to `sequence`.
    ///
    /// # Errors
    /// When the store fails. The batches are then sent again after a crash, which the engine notices; so this line is not
    /// synced either.
    pub fn applied(&mut self, boot: u64, sequence: u64) -> io::Result<()> {
        self.move_applied(boot, sequence);
        self.append(&Line::Applied { boot, sequence })?;
        self.rewrite_if_grown()
    }

    fn move_applied(&mut self, boot: u64, sequence: u64) {
        while let Some(batch) = self.sealed.front()
            && batch.boot == boot
            && batch.sequence <= sequence
        {
            if let Some(batch) = self.sealed.pop_front() {
                self.retain(batch);
            }
        }
    }

    fn retain(&mut self, batch: Batch) {
        self.retained_accounts += batch.accounts.len();
        self.retained.push_back(batch);
        while self.retained.len() > RETAINED_MAX || self.retained_accounts > RETAINED_ACCOUNTS_MAX {
            let Some(oldest) = self.retained.pop_front() else { return };
            self.retained_accounts -= oldest.accounts.len();
        }
    }

    /// Compares with what the engine says is applied, by boot: what it has forgotten is to be sent again. Returns the
    /// gaps, batches that are neither applied there nor retained here, and so are lost to the engine.
    pub fn compare(&mut self, applied: &BTreeMap<u64, u64>) -> Vec<Gap> {
        let known = |boot: u64| applied.get(&boot).copied().unwrap_or(0);
        let (forgotten, retained) =
            self.retained.drain(..).partition(|batch: &Batch| batch.sequence > known(batch.boot));
        self.retained = retained;
        self.retained_accounts = self.retained.iter().map(|batch| batch.accounts.len()).sum();
        let later = std::mem::replace(&mut self.sealed, forgotten);
        self.sealed.extend(later);
        let mut gaps: Vec<Gap> = Vec::new();
        for batch in &self.sealed {
            // Those of a boot are in order, but not always side by side.
            let is_first = gaps.iter().all(|gap| gap.boot != batch.boot);
            if is_first {
                let lost = batch.sequence.saturating_sub(known(batch.boot).saturating_add(1));
                gaps.push(Gap { boot: batch.boot, sequence: batch.sequence, lost });
            }
        }
        gaps.retain(|gap| gap.lost > 0);
        gaps
    }

    /// What was counted for `account` since the batch `sequence` of `boot` was sealed.
    pub fn counted_after(&self, account: &str, boot: u64, sequence: u64) -> u64 {
        let later = self.sealed.iter().filter(|batch| batch.boot != boot || batch.sequence > sequence);
        let all = later.filter_map(|batch| batch.accounts.get(account)).chain(self.open.get(account));
        all.fold(0, |sum, bytes| sum.saturating_add(bytes.total()))
    }

    /// Accounts that were counted and are in no batch yet.
    pub fn open_accounts(&self) -> usize {
        self.open.len()
    }

    /// Accounts in batches that are not known to be applied.
    pub fn sealed_accounts(&self) -> usize {
        self.sealed.iter().map(|batch| batch.accounts.len()).sum()
    }

    /// The first boot of which anything may be sent (again).
    pub fn oldest_boot(&self) -> u64 {
        let boots = self.sealed.iter().chain(&self.retained).map(|batch| batch.boot);
        boots.min().unwrap_or(self.boot).min(self.boot)
    }

    /// Batches that are not known to be applied.
    pub fn sealed_batches(&self) -> usize {
        self.sealed.len()
    }

    /// The store, after the node has ended.
    pub fn into_store(self) -> S {
        self.store
    }

    fn add_open(&mut self, deltas: &BTreeMap<AccountKey, Bytes>) {
        for (key, bytes) in deltas {
            self.open.entry(key.clone()).or_default().add(*bytes);
        }
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        if self.is_torn {
            // What is appended behind a torn line could not be read.
            self.rewrite()?;
        }
        let bytes = encode(line)?;
        self.is_torn = true;
        self.store.append(&bytes)?;
        (self.is_synced, self.is_torn) = (false, false);
        self.grown_bytes += bytes.len();
        Ok(())
    }

    fn rewrite_if_grown(&mut self) -> io::Result<()> {
        let is_grown = self.grown_bytes > GROWTH_BYTES_MAX.max(self.written_bytes);
        if is_grown { self.rewrite() } else { Ok(()) }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut bytes = encode(&Line::Boot(self.boot))?;
        for batch in &self.retained {
            bytes.extend(encode(&Line::Retained(batch.clone()))?);
        }
        // A sealed batch takes its accounts out of what is open, so these are added in front of it.
        for batch in &self.sealed {
            bytes.extend(encode(&Line::Add(batch.accounts.clone()))?);
            bytes.extend(encode(&Line::Seal(batch.clone()))?);
        }
        if !self.open.is_empty() {
            bytes.extend(encode(&Line::Add(self.open.clone()))?);
        }
        self.store.replace(&bytes)?;
        (self.written_bytes, self.grown_bytes) = (bytes.len(), 0);
        (self.is_synced, self.is_torn) = (true, false);
        Ok(())
    }
}

fn encode(line: &Line) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn subtract(open: &mut BTreeMap<AccountKey, Bytes>, taken: &BTreeMap<AccountKey, Bytes>) {
    for (key, bytes) in taken {
        if let Some(rest) = open.get_mut(key) {
            rest.up = rest.up.saturating_sub(bytes.up);
            rest.down = rest.down.saturating_sub(bytes.down);
            if rest.total() == 0 {
                open.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
