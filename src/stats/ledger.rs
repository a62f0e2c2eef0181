//! What is counted for one user, and the registry that keeps it.
//!
//! A [`Ledger`] belongs to a user id, not to an account: it outlives a changed configuration, a new name, and the removal
//! and return of the user. [`Ledgers`] is the only place that makes one. Knows nothing of users, only their ids.
//!
//! Byte counts have a lane per worker with one writer each. Counts that several workers change (sockets open now) are
//! atomics, touched when a socket opens or closes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Counter;
use super::gate::{Gate, Refusal, Source};
use super::quota::{Lease, Used};

/// From this many ledgers on, those of absent users that never carried a byte are forgotten when a new one is made: users
/// who come and go must not add up.
const LEDGERS_UNUSED_MAX: usize = 4096;

/// A noted time that is more than so many seconds ahead of the clock was noted while the clock was wrong, and is given up.
/// Whoever sets the clock back by less, in order to get a quota anew, gains nothing.
const CLOCK_AHEAD_MAX: u64 = 86_400;

/// What is said to be used is taken for this at the most: more than any quota is, and what comes on top of it does not come to
/// 2^64 bytes, after which it would begin anew.
const USED_BYTES_MAX: u64 = 1 << 62;

/// One user's counters.
#[derive(Debug)]
pub struct Ledger {
    lanes: Box<[Lane]>,
    /// UDP sockets open now.
    udp_sockets: AtomicUsize,
    /// Sockets of sessions inside Mux connections open now.
    mux_sockets: AtomicUsize,
    /// The sum of all payload bytes at which `used_bytes` was 0, modulo 2^64.
    used_since: AtomicU64,
    /// Seconds since 1970 of the first and the last use; 0: never.
    first_seen: AtomicU64,
    last_seen: AtomicU64,
    /// Seconds since 1970 when the period of the quota began; 0: there was none.
    period_start: AtomicU64,
    /// What its user was warned of; see [`Warned`].
    warned: AtomicU64,
    gate: Gate,
}

/// What one worker counts for one user.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Lane {
    pub uplink_bytes: Counter,
    pub downlink_bytes: Counter,
    pub udp_uplink_packets: Counter,
    pub udp_downlink_packets: Counter,
    sessions_total: Counter,
    sessions_active: Counter,
    lease: Lease,
}

/// One user's sums over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct UserTotals {
    pub uplink_bytes: u64,
    pub downlink_bytes: u64,
    pub udp_uplink_packets: u64,
    pub udp_downlink_packets: u64,
    pub sessions_total: u64,
    pub sessions_active: u64,
    /// UDP sockets open now.
    pub udp_sockets: u64,
}

impl Ledger {
    /// A ledger at zero for `workers` workers (at least one).
    pub fn new(workers: usize) -> Self {
        Self {
            lanes: (0..workers.max(1)).map(|_| Lane::default()).collect(),
            udp_sockets: AtomicUsize::new(0),
            mux_sockets: AtomicUsize::new(0),
            used_since: AtomicU64::new(0),
            first_seen: AtomicU64::new(0),
            last_seen: AtomicU64::new(0),
            period_start: AtomicU64::new(0),
            warned: AtomicU64::new(0),
            gate: Gate::default(),
        }
    }

    /// The lane that `worker` writes. Workers beyond the number given to [`Ledger::new`] share the first lane, which
    /// would break the rule of one writer: the caller numbers its workers from zero.
    pub fn lane(&self, worker: usize) -> &Lane {
        debug_assert!(worker < self.lanes.len());
        &self.lanes[if worker < self.lanes.len() { worker } else { 0 }]
    }

    /// What the user's limits let through.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Counts a session that `worker` serves for a client at `source`. The worker drops the permit when the session ends.
    ///
    /// # Errors
    /// When the user has as many sessions, or sources, as a user may have; then nothing is counted.
    pub fn open_session(self: &Arc<Self>, worker: usize, source: Source) -> Result<SessionPermit, Refusal> {
        self.gate.enter(source)?;
        let lane = self.lane(worker);
        lane.sessions_total.add(1);
        lane.sessions_active.add(1);
        Ok(SessionPermit { ledger: Arc::clone(self), worker, source })
    }

    /// Takes up to `wanted` bytes of the quota for a session that `worker` serves. Returns how many it got; 0: nothing is
    /// left for now.
    pub fn take_quota(&self, worker: usize, wanted: u64) -> u64 {
        let leases = self.lanes.iter().map(|lane| &lane.lease);
        self.gate.quota.take(wanted, &self.lane(worker).lease, leases, || self.used())
    }

    /// Ends a call for which a session that `worker` serves had taken `taken` bytes of the quota: `delivered` of all that
    /// it ever took were delivered, and `left` are left over.
    pub fn settle_quota(&self, worker: usize, taken: u64, delivered: u64, left: u64) {
        self.gate.quota.settle(&self.lane(worker).lease, taken, delivered, left);
    }

    /// UDP sockets open now.
    pub fn udp_sockets(&self) -> usize {
        self.udp_sockets.load(Ordering::Relaxed)
    }

    /// Counts one more UDP socket, unless there are `sockets_max` already. Any worker may call this.
    pub fn take_udp_socket(&self, sockets_max: usize) -> bool {
        take_one(&self.udp_sockets, sockets_max)
    }

    /// Counts one UDP socket less.
    pub fn give_udp_socket(&self) {
        self.udp_sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more socket of a session inside a Mux connection, unless there are `sockets_max` already. Any worker may
    /// call this.
    pub fn take_mux_socket(&self, sockets_max: usize) -> bool {
        take_one(&self.mux_sockets, sockets_max)
    }

    /// Counts one socket of a session inside a Mux connection less.
    pub fn give_mux_socket(&self) {
        self.mux_sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// The sums over all workers.
    pub fn totals(&self) -> UserTotals {
        let start = UserTotals { udp_sockets: self.udp_sockets() as u64, ..UserTotals::default() };
        self.lanes.iter().fold(start, |sum, lane| UserTotals {
            uplink_bytes: sum.uplink_bytes + lane.uplink_bytes.value(),
            downlink_bytes: sum.downlink_bytes + lane.downlink_bytes.value(),
            udp_uplink_packets: sum.udp_uplink_packets + lane.udp_uplink_packets.value(),
            udp_downlink_packets: sum.udp_downlink_packets + lane.udp_downlink_packets.value(),
            udp_sockets: sum.udp_sockets,
            sessions_total: sum.sessions_total + lane.sessions_total.value(),
            sessions_active: sum.sessions_active + lane.sessions_active.value(),
        })
    }

    /// Payload bytes of both directions that count against the user's quota: all since the last
    /// [`Ledger::set_used_bytes`], and what that said.
    pub fn used_bytes(&self) -> u64 {
        self.payload_bytes().wrapping_sub(self.used_since.load(Ordering::Relaxed))
    }

    /// What is used, for [`Quota`](super::quota::Quota).
    pub fn used(&self) -> Used {
        let ever = self.payload_bytes();
        Used { in_period: ever.wrapping_sub(self.used_since.load(Ordering::Relaxed)), ever }
    }

    /// Says that `used` bytes counted as used, those of other nodes included, when this process had counted `ever` bytes.
    pub fn set_used_at(&self, ever: u64, used: u64) {
        self.used_since.store(ever.wrapping_sub(used.min(USED_BYTES_MAX)), Ordering::Relaxed);
    }

    /// Says how many bytes count as used now: 0 for a new period, else what a former process counted.
    pub fn set_used_bytes(&self, bytes: u64) {
        self.set_used_at(self.payload_bytes(), bytes);
    }

    /// Notes a use at `now`, in seconds since 1970. What a clock noted that was far ahead does not stay.
    pub fn note_seen(&self, now: u64) {
        // Whoever has the clock is one thread, so a look before the write is enough.
        let (first, last) = (self.first_seen.load(Ordering::Relaxed), self.last_seen.load(Ordering::Relaxed));
        if first == 0 || first > now.saturating_add(CLOCK_AHEAD_MAX) {
            self.first_seen.store(now, Ordering::Relaxed);
        }
        if now > last || last > now.saturating_add(CLOCK_AHEAD_MAX) {
            self.last_seen.store(now, Ordering::Relaxed);
        }
    }

    /// When the user was first seen, in seconds since 1970.
    pub fn first_seen(&self) -> Option<u64> {
        Some(self.first_seen.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    /// When the user was last seen, in seconds since 1970.
    pub fn last_seen(&self) -> Option<u64> {
        Some(self.last_seen.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    /// Begins the period of the quota that began at `start`, at `now`: nothing is used any more. Does nothing if this or a
    /// later period has begun already, so a clock that is set back renews nothing. A period that is far in the future was
    /// begun by a clock that was wrong, and is forgotten. Returns whether the quota was renewed.
    pub fn begin_period(&self, start: u64, now: u64) -> bool {
        let known = self.period_start.load(Ordering::Relaxed);
        if known > now.saturating_add(CLOCK_AHEAD_MAX) {
            self.period_start.store(start, Ordering::Relaxed);
            return false;
        }
        if start <= known {
            return false;
        }
        self.period_start.store(start, Ordering::Relaxed);
        // The first period that is known of does not renew: what was used before belongs to it.
        if known > 0 {
            self.set_used_bytes(0);
        }
        known > 0
    }

    /// Notes whether there is reason for a warning; true if there was none until now.
    pub fn warn(&self, of: Warned, is_due: bool) -> bool {
        // Whoever warns is one thread.
        let before = self.warned.load(Ordering::Relaxed);
        let after = if is_due { before | of.bit() } else { before & !of.bit() };
        self.warned.store(after, Ordering::Relaxed);
        is_due && before != after
    }

    /// What has to outlive the process.
    pub fn notes(&self) -> Notes {
        Notes {
            used_bytes: self.used_bytes(),
            first_seen: self.first_seen.load(Ordering::Relaxed),
            last_seen: self.last_seen.load(Ordering::Relaxed),
            period_start: self.period_start.load(Ordering::Relaxed),
            warned: self.warned.load(Ordering::Relaxed),
        }
    }

    /// Goes on where `notes` end: those of a former process, or of an id that the user had before.
    pub fn take_over(&self, notes: &Notes) {
        self.set_used_bytes(self.used_bytes().saturating_add(notes.used_bytes));
        self.first_seen.store(notes.first_seen, Ordering::Relaxed);
        self.last_seen.fetch_max(notes.last_seen, Ordering::Relaxed);
        self.period_start.store(notes.period_start, Ordering::Relaxed);
        self.warned.store(notes.warned, Ordering::Relaxed);
    }

    fn payload_bytes(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.uplink_bytes.value() + lane.downlink_bytes.value()).sum()
    }
}

/// What is kept of a ledger when the process ends. Times are seconds since 1970, 0: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    pub used_bytes: u64,
    pub first_seen: u64,
    pub last_seen: u64,
    pub period_start: u64,
    /// So that nobody is warned of the same again.
    #[serde(skip_serializing_if = "is_zero")]
    pub warned: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a user is warned of once, until there is no reason any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warned {
    /// Most of the quota is used.
    QuotaLow,
    /// The account ends soon.
    EndNear,
}

impl Warned {
    fn bit(self) -> u64 {
        1 << self as u64
    }
}

/// One session of a user, counted as active until this is dropped.
#[derive(Debug)]
pub struct SessionPermit {
    ledger: Arc<Ledger>,
    worker: usize,
    source: Source,
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.ledger.lane(self.worker).sessions_active.sub(1);
        self.ledger.gate.leave(self.source);
    }
}

/// The ledgers of all users that this process has known, by user id.
#[derive(Debug)]
pub struct Ledgers {
    workers: usize,
    by_id: Mutex<HashMap<[u8; 16], Arc<Ledger>>>,
}

impl Ledgers {
    /// No ledger yet; each will have lanes for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, by_id: Mutex::default() }
    }

    /// The ledger of the user with this id, made if there is none. Ids that mean the same user must be given in the same
    /// form.
    pub fn of(&self, id: [u8; 16]) -> Arc<Ledger> {
        let mut by_id = self.lock();
        let known = by_id.len();
        match by_id.entry(id) {
            Entry::Occupied(ledger) => Arc::clone(ledger.get()),
            Entry::Vacant(place) => {
                let ledger = Arc::clone(place.insert(Arc::new(Ledger::new(self.workers))));
                if known >= LEDGERS_UNUSED_MAX {
                    forget_unused(&mut by_id);
                }
                ledger
            }
        }
    }

    /// The ledger of the user with this id, if the user was ever known.
    pub fn find(&self, id: &[u8; 16]) -> Option<Arc<Ledger>> {
        self.lock().get(id).cloned()
    }

    /// What has to outlive the process, of every ledger that has something to say.
    pub fn notes(&self) -> Vec<([u8; 16], Notes)> {
        let by_id = self.lock();
        let notes = by_id.iter().map(|(id, ledger)| (*id, ledger.notes()));
        notes.filter(|(_, notes)| *notes != Notes::default()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Arc<Ledger>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_unused(by_id: &mut HashMap<[u8; 16], Arc<Ledger>>) {
    by_id.retain(|_, ledger| {
        Arc::strong_count(ledger) > 1 || ledger.totals().sessions_total > 0 || ledger.notes() != Notes::default()
    });
}

/// Adds one to `open` unless it is `most` already.
fn take_one(open: &AtomicUsize, most: usize) -> bool {
    let more = |open: usize| (open < most).then_some(open + 1);
    open.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

#[cfg(test)]
mod tests;
