//! The worker's buffer pool: three tiers of buffers that sessions borrow while they have bytes to keep.
//!
//! Sockets are read into the worker's scratch memory. A session takes a buffer only for what is left over. Dropping the
//! buffer gives it back. So an idle session holds none, and the pool's size follows the bytes that wait, not the
//! sessions.
//!
//! The pool keeps returned buffers for the next taker, up to a number per tier. What a peak left behind is freed when
//! nobody needed it for a while. One pool belongs to one thread, and nothing in it is locked. Only the sum of what is
//! lent is shared with the other workers.

mod held;
mod names;

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

pub use self::held::Held;
pub use self::names::NamesCharge;
use crate::io::buf::Buf;
use crate::io::buffer_memory::BufferMemory;
use crate::io::moment::Moment;
use crate::io::taker::Taker;
pub use crate::io::tiers::{BUFFER_BYTES_MAX, TIER_BYTES, TIERS};

/// The most free buffers that are kept, per tier (5 MiB in all). What comes back beyond is freed.
const KEPT_PER_TIER: [usize; TIERS] = [256, 32, 16];

/// Buffers made at the start, per tier (320 KiB in all). Shrinking leaves as many.
const MADE_PER_TIER: [usize; TIERS] = [16, 2, 1];

/// Hands out buffers. It is cheap to clone: all clones share the same shelves.
#[derive(Clone)]
pub struct BufferPool {
    shelves: Rc<Shelves>,
}

struct Shelves {
    tiers: [Tier; TIERS],
    memory: Arc<BufferMemory>,
    /// Bytes lent to clients that are no users yet.
    opening_bytes: Cell<usize>,
    turn: Cell<Turn>,
    /// Whose place this is among all pools that share the memory.
    place: usize,
    /// Since when the first of those waits that wait for this pool, as all pools know it.
    waiting_since: Cell<Option<Moment>>,
}

/// Who may begin to receive now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Everybody, unless sessions wait for other pools: none does for this one.
    Everybodys,
    /// Nobody: sessions wait, and none of them has its turn.
    Nobodys,
    /// One of those who wait.
    Waiters,
}

/// What a buffer is borrowed for. This decides which limit it counts against, and with how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loan {
    /// Bytes of a client that is no user yet. They count against the pool's share for strangers.
    Opening,
    /// Bytes that wait to be sent. They count against the memory of relays.
    Waiting,
}

struct Tier {
    #[expect(clippy::vec_box, reason = "a buffer is lent in the box that it is kept in")]
    free: RefCell<Vec<Box<Lent>>>,
    kept_max: usize,
    /// The least number of free buffers since the last shrinking. Nobody needed so many.
    unneeded: Cell<usize>,
    usage: Cell<TierUsage>,
}

/// What a tier has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierUsage {
    /// Buffers lent now, and the most there ever were.
    pub lent: u64,
    pub lent_peak: u64,
    /// Buffers lent so far: kept ones, and those that had to be allocated.
    pub hits: u64,
    pub misses: u64,
    /// Buffers that came back.
    pub returned: u64,
    /// Free buffers kept now.
    pub kept: u64,
}

/// A borrowed buffer. Dropping it gives it back.
pub struct PooledBuf {
    /// Boxed, because a session has room for several and hardly ever any. `None` only while it is being dropped.
    lent: Option<Box<Lent>>,
    shelves: Rc<Shelves>,
}

/// A buffer, and on what terms it is lent.
struct Lent {
    buf: Buf,
    /// What it counts, in bytes: at least its capacity.
    charge: u32,
    /// Below [`TIERS`].
    tier: u8,
    loan: Loan,
}

/// Memory outside of the buffers that counts against the share of strangers until this is dropped.
pub struct OpeningCharge {
    bytes: usize,
    shelves: Rc<Shelves>,
}

impl BufferPool {
    /// A pool of its own, without a limit.
    #[expect(clippy::new_without_default, reason = "a pool is made once per worker, never by default")]
    pub fn new() -> Self {
        Self::with_memory(Arc::new(BufferMemory::unlimited()))
    }

    /// A pool that shares its limit with others. The first buffers are made now.
    pub fn with_memory(memory: Arc<BufferMemory>) -> Self {
        let bytes_per_tier = memory.kept_bytes_max() / TIERS;
        let tiers = std::array::from_fn(|tier| {
            let kept_max = KEPT_PER_TIER[tier].min(bytes_per_tier / TIER_BYTES[tier]);
            // The list of free buffers never grows, so giving one back allocates nothing.
            let mut free = Vec::with_capacity(kept_max);
            free.extend((0..MADE_PER_TIER[tier].min(kept_max)).map(|_| Box::new(Lent::new(tier))));
            Tier { unneeded: Cell::new(free.len()), free: RefCell::new(free), kept_max, usage: Cell::default() }
        });
        let (turn, place) = (Cell::new(Turn::Everybodys), memory.waits().join());
        let (opening_bytes, waiting_since) = (Cell::new(0), Cell::new(None));
        Self { shelves: Rc::new(Shelves { tiers, memory, opening_bytes, turn, place, waiting_since }) }
    }

    /// A buffer of the smallest tier that holds `bytes`, or the largest tier if none does.
    pub fn take(&self, bytes: usize, loan: Loan) -> PooledBuf {
        self.take_announced(bytes, 0, loan)
    }

    /// The memory that [`BufferPool::take`] takes for so many bytes.
    pub fn buffer_bytes(bytes: usize) -> usize {
        TIER_BYTES.iter().copied().find(|&size| size >= bytes).unwrap_or(BUFFER_BYTES_MAX)
    }

    /// The same for something that was announced to become larger, and counts as that.
    pub(super) fn take_announced(&self, bytes: usize, announced_bytes: usize, loan: Loan) -> PooledBuf {
        let tier = TIER_BYTES.iter().position(|&size| size >= bytes).unwrap_or(TIERS - 1);
        let charge = TIER_BYTES[tier].max(announced_bytes);
        self.shelves.lend(loan, charge);
        let mut lent = self.shelves.tiers[tier].take(tier);
        (lent.charge, lent.loan) = (charge as u32, loan);
        PooledBuf { lent: Some(lent), shelves: Rc::clone(&self.shelves) }
    }

    /// A buffer that starts with a copy of `bytes`, which must not be more than [`BUFFER_BYTES_MAX`].
    pub fn take_with(&self, bytes: &[u8], loan: Loan) -> PooledBuf {
        let mut buf = self.take(bytes.len(), loan);
        let fits = buf.append(bytes);
        debug_assert!(fits, "more bytes than the largest buffer holds");
        buf
    }

    /// Whether a direction that holds nothing may receive. If not, it waits, and asks again when its turn comes.
    pub fn may_begin(&self) -> bool {
        !self.others_wait() && self.shelves.memory.may_begin()
    }

    /// Whether `bytes` more of memory may be lent, whoever waits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.shelves.memory.has_room(bytes)
    }

    /// The memory that [`BufferPool::hold`] takes for so many bytes.
    pub fn hold_bytes(&self, bytes: usize) -> usize {
        held::hold_bytes(bytes, self.is_tight())
    }

    /// Whether the last words of a peer that is gone may be received.
    pub fn may_hear_farewell(&self) -> bool {
        self.shelves.memory.may_hear_farewell()
    }

    pub(super) fn is_tight(&self) -> bool {
        self.shelves.memory.is_tight()
    }

    /// Says since when the first of those waits that wait for this pool. Until it is their turn nobody else begins,
    /// whichever pool it asks.
    pub fn let_wait(&self, since: Option<Moment>) {
        let shelves = &self.shelves;
        shelves.turn.set(if since.is_some() { Turn::Nobodys } else { Turn::Everybodys });
        if shelves.waiting_since.get() != since {
            shelves.waiting_since.set(since);
            shelves.memory.waits().set(shelves.place, since);
        }
    }

    /// It is the turn of one of those who wait, until [`BufferPool::let_wait`].
    pub fn let_waiter_begin(&self) {
        self.shelves.turn.set(Turn::Waiters);
    }

    /// Those who wait for this pool look for memory. They must do so many times in a second, or nobody leaves them any.
    pub fn look(&self, now: Instant) {
        self.shelves.memory.waits().look(self.shelves.place, now.into());
    }

    /// Whether there is room for one of those who wait for this pool, and none waits for another that comes before.
    pub fn may_serve_waiting(&self, now: Instant) -> bool {
        let Shelves { memory, place, .. } = &*self.shelves;
        memory.may_begin() && !memory.waits().is_others_turn(*place, now.into())
    }

    /// Whether others wait for memory, for this pool or another.
    pub fn others_wait(&self) -> bool {
        match self.shelves.turn.get() {
            Turn::Everybodys => self.shelves.memory.waits().is_anybody(),
            Turn::Nobodys => true,
            Turn::Waiters => false,
        }
    }

    /// Counts `bytes` of memory that is not the pool's as if they were lent with [`Loan::Opening`].
    pub fn charge_opening(&self, bytes: usize) -> OpeningCharge {
        let shelves = Rc::clone(&self.shelves);
        shelves.opening_bytes.set(shelves.opening_bytes.get() + bytes);
        OpeningCharge { bytes, shelves }
    }

    /// The most to receive at a time for this taker, in bytes, so that what may be left over fits the memory that is
    /// left. It also holds for a direction that goes on although [`BufferPool::may_begin`] says no.
    pub fn read_bytes_max(&self, taker: Taker) -> usize {
        self.shelves.memory.read_bytes_max(taker)
    }

    /// Bytes lent to clients that are no users yet, and the most that this should be.
    pub fn opening_bytes(&self) -> (usize, usize) {
        (self.shelves.opening_bytes.get(), self.shelves.memory.opening_bytes_max())
    }

    /// Buffers lent out now.
    pub fn held(&self) -> usize {
        self.usage().iter().map(|usage| usage.lent as usize).sum()
    }

    /// Bytes of memory in the buffers lent out now.
    pub fn held_bytes(&self) -> usize {
        self.usage().iter().zip(TIER_BYTES).map(|(usage, size)| usage.lent as usize * size).sum()
    }

    /// What each tier has done so far.
    pub fn usage(&self) -> [TierUsage; TIERS] {
        std::array::from_fn(|tier| self.shelves.tiers[tier].usage())
    }

    /// Whether more free buffers are kept than at the start, so that [`BufferPool::shrink`] may find some that nobody
    /// needs.
    pub fn is_grown(&self) -> bool {
        self.shelves.tiers.iter().zip(MADE_PER_TIER).any(|(tier, made)| tier.free.borrow().len() > made)
    }

    /// Frees half of the free buffers that nobody needed since the last call.
    pub fn shrink(&self) {
        for (tier, made) in self.shelves.tiers.iter().zip(MADE_PER_TIER) {
            tier.shrink(made);
        }
    }
}

impl Drop for Shelves {
    fn drop(&mut self) {
        self.memory.waits().set(self.place, None);
    }
}

impl Shelves {
    fn lend(&self, loan: Loan, bytes: usize) {
        match loan {
            Loan::Opening => self.opening_bytes.set(self.opening_bytes.get() + bytes),
            Loan::Waiting => self.memory.lend(bytes),
        }
    }

    fn give_back(&self, loan: Loan, bytes: usize) {
        match loan {
            Loan::Opening => self.opening_bytes.set(self.opening_bytes.get() - bytes),
            Loan::Waiting => self.memory.give_back(bytes),
        }
    }
}

impl Tier {
    #[expect(clippy::unnecessary_box_returns, reason = "the box is kept, too")]
    fn take(&self, tier: usize) -> Box<Lent> {
        let mut free = self.free.borrow_mut();
        let kept = free.pop();
        self.unneeded.set(self.unneeded.get().min(free.len()));
        let mut usage = self.usage.get();
        usage.lent += 1;
        usage.lent_peak = usage.lent_peak.max(usage.lent);
        if kept.is_some() {
            usage.hits += 1;
        } else {
            usage.misses += 1;
        }
        self.usage.set(usage);
        kept.unwrap_or_else(|| Box::new(Lent::new(tier)))
    }

    fn give_back(&self, mut lent: Box<Lent>) {
        let mut usage = self.usage.get();
        usage.lent -= 1;
        usage.returned += 1;
        self.usage.set(usage);
        let mut free = self.free.borrow_mut();
        if free.len() < self.kept_max {
            lent.buf.reset(0);
            free.push(lent);
        }
    }

    fn usage(&self) -> TierUsage {
        TierUsage { kept: self.free.borrow().len() as u64, ..self.usage.get() }
    }

    fn shrink(&self, made: usize) {
        let mut free = self.free.borrow_mut();
        let surplus = free.len().saturating_sub(made).min(self.unneeded.get().div_ceil(2));
        let left = free.len() - surplus;
        free.truncate(left);
        self.unneeded.set(left);
    }
}

impl OpeningCharge {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for OpeningCharge {
    fn drop(&mut self) {
        self.shelves.opening_bytes.set(self.shelves.opening_bytes.get() - self.bytes);
    }
}

impl Lent {
    fn new(tier: usize) -> Self {
        Self { buf: Buf::new(TIER_BYTES[tier]), charge: 0, tier: tier as u8, loan: Loan::Waiting }
    }

    /// A buffer of nobody's, without memory.
    fn none() -> Self {
        Self { buf: Buf::empty(), charge: 0, tier: 0, loan: Loan::Waiting }
    }
}

impl PooledBuf {
    /// Counts the buffer from now on as borrowed for something else.
    pub fn lend_as(&mut self, loan: Loan) {
        if let Some(lent) = &mut self.lent {
            self.shelves.give_back(lent.loan, lent.charge as usize);
            lent.loan = loan;
            self.shelves.lend(loan, lent.charge as usize);
        }
    }
}

impl Deref for PooledBuf {
    type Target = Buf;

    fn deref(&self) -> &Buf {
        static NONE: LazyLock<Lent> = LazyLock::new(Lent::none);
        &self.lent.as_deref().unwrap_or_else(|| &NONE).buf
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut Buf {
        &mut self.lent.get_or_insert_with(|| Box::new(Lent::none())).buf
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            self.shelves.give_back(lent.loan, lent.charge as usize);
            self.shelves.tiers[usize::from(lent.tier)].give_back(lent);
        }
    }
}

#[cfg(test)]
mod tests;
