//! What one user's limits let through: speeds, a quota, sources and sessions at the same time.
//!
//! A [`Gate`] is shared by all workers and touched once per call of a session, never per chunk, and not at all where the
//! user has no such limit. Sessions take bytes in advance and give back what they did not use. All times are nanoseconds
//! since one instant that the workers agree on.
//!
//! Speed: a bucket is the instant up to which its bytes are given out. Whoever finds it empty books the next bytes and is
//! told when they are due, so sessions take turns in the order in which they came.
//!
//! Quota: see [`Quota`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::quota::Quota;

/// A pause saves up the bytes of so much time at the most, in nanoseconds. The timers that end a wait are coarser than
/// 16 ms, so it must be a good deal more than that.
const BURST: u64 = NANOSECONDS / 4;
/// A booking is for the bytes of so much time, in nanoseconds, divided by the sessions that share the bucket. It is longer
/// than timers are late, or whoever wakes first would find what belongs to the others.
const BOOKING: u64 = NANOSECONDS / 20;
/// A booking has so many bytes at least and at most, whatever the speed.
const BOOKING_BYTES: std::ops::RangeInclusive<u64> = 2048..=4 << 20;
/// A guest may stay for so many looks at the clock, of which there is one a second.
const GUEST_LOOKS: u32 = 60;
/// After a guest nobody is let in beyond the limit for so many looks.
const CLOSED_LOOKS: u32 = 600;
/// A source that has too many others on other nodes stays refused for so many looks.
const REFUSED_LOOKS: u32 = 30;
/// Sources of one user that are refused at the same time; of more the first ones are let in again.
const REFUSED_MAX: usize = 64;
const NANOSECONDS: u64 = 1_000_000_000;

/// How much one user may have at the same time or in the same period; 0 is "as much as there is".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes of both directions in a period.
    pub quota_bytes: u64,
    /// What a worker takes of the quota in advance; see [`Quota`].
    pub slice_bytes: u64,
    pub up_bytes_per_second_max: u64,
    pub down_bytes_per_second_max: u64,
    pub sessions_max: usize,
    /// Source addresses; see [`Source`].
    pub addresses_max: usize,
    /// The quota is shared with other nodes: only what [`Quota::lend`] says may be used of it.
    pub is_shared: bool,
}

/// Where a client comes from: an IPv4 address, or the first half of an IPv6 address, which one customer has to himself. No
/// address of the internet has a first half that looks like an IPv4 address.
pub type Source = u64;

/// Why a user gets no further session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Sessions,
    Addresses,
}

/// One user's limits and how far they are used up.
#[derive(Debug, Default)]
pub struct Gate {
    /// Bytes are limited: a speed or a quota is set.
    meters: AtomicBool,
    pub quota: Quota,
    pub uplink: Bucket,
    pub downlink: Bucket,
    sessions_max: AtomicUsize,
    addresses_max: AtomicUsize,
    /// Sessions of the user on other nodes, as far as is known.
    sessions_elsewhere: AtomicUsize,
    /// Sessions at the moment, for whoever only wants to know how many there are.
    active: AtomicUsize,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_source: HashMap<Source, usize>,
    guest: Guest,
    /// Sources that are refused for so many looks more, because the user has as many as allowed on other nodes.
    refused: Vec<(Source, u32)>,
}

/// A source beyond the limit, which is let in for a while: a phone that changes networks has two addresses until its old
/// connections are known to be dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Guest {
    #[default]
    None,
    /// It has been there for `age` looks at the clock.
    Present { source: Source, age: u32 },
    /// Nobody is let in beyond the limit for `looks` looks more.
    Closed { looks: u32 },
}

/// A speed limit.
#[derive(Debug, Default)]
pub struct Bucket {
    /// 0: no limit.
    bytes_per_second: AtomicU64,
    /// The instant up to which its bytes are given out, in nanoseconds.
    given_until: AtomicU64,
}

/// Bytes from a [`Bucket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub bytes: u64,
    /// The instant from which they may be used, in nanoseconds.
    pub due: u64,
}

impl Gate {
    /// Obeys `limits` from now on, for sessions that are there already, too.
    pub fn adopt(&self, limits: Limits) {
        self.quota.adopt(limits.quota_bytes, limits.slice_bytes, limits.is_shared);
        self.uplink.adopt(limits.up_bytes_per_second_max);
        self.downlink.adopt(limits.down_bytes_per_second_max);
        self.sessions_max.store(limits.sessions_max, Ordering::Relaxed);
        self.addresses_max.store(limits.addresses_max, Ordering::Relaxed);
        let meters = limits.quota_bytes | limits.up_bytes_per_second_max | limits.down_bytes_per_second_max;
        self.meters.store(meters > 0, Ordering::Relaxed);
    }

    /// Bytes are limited.
    pub fn meters(&self) -> bool {
        self.meters.load(Ordering::Relaxed)
    }

    /// Lets a session in, unless the user has as many as a user may have.
    ///
    /// # Errors
    /// Which limit it was.
    pub fn enter(&self, source: Source) -> Result<(), Refusal> {
        let sessions_max = self.sessions_max.load(Ordering::Relaxed);
        let addresses_max = self.addresses_max.load(Ordering::Relaxed);
        let mut sessions = self.sessions();
        let elsewhere = self.sessions_elsewhere.load(Ordering::Relaxed);
        if sessions_max > 0 && self.sessions_active().saturating_add(elsewhere) >= sessions_max {
            return Err(Refusal::Sessions);
        }
        if sessions.refused.iter().any(|(refused, _)| *refused == source) {
            return Err(Refusal::Addresses);
        }
        if addresses_max > 0 && !sessions.admits(source, addresses_max) {
            return Err(Refusal::Addresses);
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        *sessions.by_source.entry(source).or_default() += 1;
        Ok(())
    }

    /// A session from `source` has ended.
    pub fn leave(&self, source: Source) {
        let mut sessions = self.sessions();
        self.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = sessions.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                sessions.by_source.remove(&source);
            }
        }
        // Memory of a crowd that has gone.
        if sessions.by_source.is_empty() {
            sessions.by_source = HashMap::new();
        }
    }

    /// Notes how many sessions of the user are on other nodes.
    pub fn set_sessions_elsewhere(&self, count: usize) {
        self.sessions_elsewhere.store(count, Ordering::Relaxed);
    }

    /// Lets nobody in from `source` for a while: the user has as many sources as allowed on other nodes.
    pub fn refuse(&self, source: Source) {
        let mut sessions = self.sessions();
        sessions.refused.retain(|(refused, _)| *refused != source);
        if sessions.refused.len() >= REFUSED_MAX {
            sessions.refused.remove(0);
        }
        sessions.refused.push((source, REFUSED_LOOKS));
    }

    /// Sessions at the moment.
    pub fn sessions_active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Distinct sources with a session.
    pub fn addresses(&self) -> usize {
        self.sessions().by_source.len()
    }

    /// The `count` smallest of the distinct sources, in order: a list that is shown must not jump.
    pub fn sources(&self, count: usize) -> Vec<Source> {
        let mut sources: Vec<_> = self.sessions().by_source.keys().copied().collect();
        sources.sort_unstable();
        sources.truncate(count);
        sources
    }

    /// A second has passed. A guest whose time is over is to be cut.
    pub fn look(&self) -> Option<Source> {
        let addresses_max = self.addresses_max.load(Ordering::Relaxed);
        let mut sessions = self.sessions();
        sessions.refused.retain_mut(|(_, looks)| {
            *looks = looks.saturating_sub(1);
            *looks > 0
        });
        let is_over = addresses_max > 0 && sessions.by_source.len() > addresses_max;
        let (guest, overdue) = match sessions.guest {
            Guest::Present { source, age } if is_over && age >= GUEST_LOOKS => {
                (Guest::Closed { looks: CLOSED_LOOKS }, Some(source))
            }
            Guest::Present { source, age } if is_over => (Guest::Present { source, age: age + 1 }, None),
            Guest::Closed { looks: looks @ 1.. } => (Guest::Closed { looks: looks - 1 }, None),
            Guest::None | Guest::Present { .. } | Guest::Closed { .. } => (Guest::None, None),
        };
        sessions.guest = guest;
        overdue
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn admits(&mut self, source: Source, addresses_max: usize) -> bool {
        if self.by_source.contains_key(&source) || self.by_source.len() < addresses_max {
            return true;
        }
        if self.guest == Guest::None && self.by_source.len() == addresses_max {
            self.guest = Guest::Present { source, age: 0 };
            return true;
        }
        false
    }
}

impl Bucket {
    fn adopt(&self, bytes_per_second: u64) {
        if self.bytes_per_second.swap(bytes_per_second, Ordering::Relaxed) != bytes_per_second {
            self.given_until.store(0, Ordering::Relaxed);
        }
    }

    /// Takes bytes at `now`, about `wanted` or fewer, or books the next ones where none are there. `sessions` share the
    /// bucket. `None`: there is no limit.
    pub fn take(&self, wanted: u64, sessions: u64, now: u64) -> Option<Taken> {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        if rate == 0 {
            return None;
        }
        let (least, most) = BOOKING_BYTES.into_inner();
        let booking = (bytes_in(BOOKING, rate) / sessions.max(1)).clamp(least, most);
        let mut given_until = self.given_until.load(Ordering::Relaxed);
        loop {
            let start = given_until.max(now.saturating_sub(BURST));
            let there = bytes_in(now.saturating_sub(start), rate);
            // What has gathered in a pause is for all of them.
            let share = (there / sessions.max(1)).min(wanted).max(booking);
            let bytes = if there >= booking { share } else { booking };
            let due = start + time_of(bytes, rate);
            match self.given_until.compare_exchange(given_until, due, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Taken { bytes, due }),
                Err(others) => given_until = others,
            }
        }
    }

    /// Gives back bytes that were taken and not used.
    pub fn give_back(&self, bytes: u64) {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        if bytes > 0 && rate > 0 {
            let time = time_of(bytes, rate);
            let less = |given_until: u64| Some(given_until.saturating_sub(time));
            let _ = self.given_until.try_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

fn bytes_in(time: u64, rate: u64) -> u64 {
    (u128::from(time) * u128::from(rate) / u128::from(NANOSECONDS)) as u64
}

fn time_of(bytes: u64, rate: u64) -> u64 {
    (u128::from(bytes) * u128::from(NANOSECONDS)).div_ceil(u128::from(rate)) as u64
}

#[cfg(test)]
mod tests;
