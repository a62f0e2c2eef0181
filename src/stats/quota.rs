//! What is left of a user's quota, and who has taken it in advance.
//!
//! Bytes that sessions may receive, or have received and not delivered, are reserved. Used and reserved bytes together
//! never pass the quota by more than 32 KiB for each worker and direction.
//!
//! Workers do not meet at the quota in every call of a session: each takes a slice in advance, serves its sessions from it,
//! and tells what it has spent when that is a slice again. A [`Lease`] is what one worker has of both. Near the end of the
//! quota there are no slices, and who finds nothing left takes back those that others still have.
//!
//! Where the quota is shared by several nodes, all of this holds for the part of it that this node was lent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Near the end of a quota a session still gets enough for the longest TLS record, or nothing would get through whole.
const RESERVED_BYTES_MIN: u64 = 32 << 10;
/// The end is near when less than so many slices for each worker are left.
const SLICES_LEFT_MIN: u64 = 4;

/// Payload bytes of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Those that count against the quota.
    pub in_period: u64,
    /// Those of this process, which never become fewer.
    pub ever: u64,
}

/// A quota and what is reserved of it.
#[derive(Debug, Default)]
pub struct Quota {
    /// 0: there is none.
    bytes: AtomicU64,
    reserved_bytes: AtomicU64,
    /// What a worker takes in advance; 0: nothing.
    slice_bytes: AtomicU64,
    /// What a worker takes in advance now: `slice_bytes`, or 0 near the end of the quota.
    slice_now_bytes: AtomicU64,
    /// Several nodes share the quota.
    is_shared: AtomicBool,
    /// Of a shared quota: [`Used::ever`] may become so much.
    lent_until: AtomicU64,
    /// Of a shared quota: nothing of it is to be had any more.
    is_spent: AtomicBool,
}

/// What one worker has of a quota. The worker changes it, and whoever finds the quota used up takes it back.
#[derive(Debug, Default)]
pub struct Lease {
    /// Reserved, and not given to a session: a slice, and what sessions did not need.
    held_bytes: AtomicU64,
    /// Delivered, and still reserved.
    spent_bytes: AtomicU64,
}

impl Quota {
    pub(super) fn adopt(&self, bytes: u64, slice_bytes: u64, is_shared: bool) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.slice_bytes.store(slice_bytes, Ordering::Relaxed);
        // The next who asks finds out how near the end is.
        self.slice_now_bytes.store(0, Ordering::Relaxed);
        self.is_shared.store(is_shared, Ordering::Relaxed);
        if !is_shared {
            self.is_spent.store(false, Ordering::Relaxed);
        }
    }

    /// Lends this node a part of a shared quota: what may be used until [`Used::ever`] is `until`.
    pub fn lend(&self, until: u64) {
        self.lent_until.store(until, Ordering::Relaxed);
    }

    /// What [`Quota::lend`] said last.
    pub fn lent_until(&self) -> u64 {
        self.lent_until.load(Ordering::Relaxed)
    }

    /// Says whether a shared quota is spent: nothing of it is to be had any more.
    pub fn set_spent(&self, is_spent: bool) {
        self.is_spent.store(is_spent && self.is_shared.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether the quota is shared and spent.
    pub fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    /// Whether there is a quota at all.
    pub fn is_set(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > 0
    }

    /// Takes up to `wanted` bytes for a session of the worker with `lease`; `leases` are those of all workers, and `used`
    /// says how much of the quota is gone. Returns how many it got; 0: nothing is left for now.
    pub fn take<'a>(
        &self,
        wanted: u64,
        lease: &Lease,
        leases: impl ExactSizeIterator<Item = &'a Lease>,
        used: impl Fn() -> Used,
    ) -> u64 {
        let held = lease.take(wanted);
        if held == wanted {
            return held;
        }
        let workers = leases.len() as u64;
        let mut got = held + self.reserve(wanted - held, workers, &used);
        if got < wanted {
            self.release(got);
            for lease in leases {
                self.release(lease.take_back());
            }
            got = self.reserve(wanted, workers, &used);
        }
        let slice = got.saturating_sub(wanted);
        lease.held_bytes.fetch_add(slice, Ordering::Relaxed);
        got - slice
    }

    /// Ends a call for which a session of the worker with `lease` had taken `taken` bytes: `delivered` of all that was
    /// reserved for it were delivered, and `left` are left over.
    pub fn settle(&self, lease: &Lease, taken: u64, delivered: u64, left: u64) {
        let slice = self.slice_now_bytes.load(Ordering::Relaxed);
        // What is left makes up for the next call, which wants as much; what is beyond that and a slice others may want.
        let held_max = if slice > 0 { slice.saturating_add(taken) } else { 0 };
        for (bytes, more, most) in [(&lease.held_bytes, left, held_max), (&lease.spent_bytes, delivered, slice)] {
            if more > 0 && bytes.fetch_add(more, Ordering::Relaxed) + more > most {
                self.release(bytes.swap(0, Ordering::Relaxed));
            }
        }
    }

    /// Gives reserved bytes back: they were delivered and counted, or will not come.
    pub fn release(&self, bytes: u64) {
        if bytes > 0 {
            let less = |reserved: u64| Some(reserved.saturating_sub(bytes));
            let _ = self.reserved_bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Reserves `wanted` bytes and a slice, or what is left.
    fn reserve(&self, wanted: u64, workers: u64, used: impl Fn() -> Used) -> u64 {
        let quota = self.bytes.load(Ordering::Relaxed);
        let slice = self.slice_bytes.load(Ordering::Relaxed);
        let is_shared = self.is_shared.load(Ordering::Relaxed);
        let mut reserved = self.reserved_bytes.load(Ordering::Relaxed);
        loop {
            // What is delivered is counted first and released then, so the sum is never too small.
            let used = used();
            let of_quota = quota.saturating_sub(used.in_period.saturating_add(reserved));
            let of_lent = self.lent_until().saturating_sub(used.ever.saturating_add(reserved));
            let left = if is_shared { of_quota.min(of_lent) } else { of_quota };
            let is_near = left < slice.saturating_mul(SLICES_LEFT_MIN * workers);
            let slice_now = if is_near { 0 } else { slice };
            self.slice_now_bytes.store(slice_now, Ordering::Relaxed);
            if left == 0 {
                return 0;
            }
            let taken = wanted.saturating_add(slice_now).min(left.max(RESERVED_BYTES_MIN));
            match self.reserved_bytes.compare_exchange(reserved, reserved + taken, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return taken,
                Err(others) => reserved = others,
            }
        }
    }
}

impl Lease {
    /// Up to `wanted` bytes of what is held.
    fn take(&self, wanted: u64) -> u64 {
        let mut taken = 0;
        let less = |held: u64| {
            taken = held.min(wanted);
            (taken > 0).then_some(held - taken)
        };
        if self.held_bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() { taken } else { 0 }
    }

    fn take_back(&self) -> u64 {
        self.held_bytes.swap(0, Ordering::Relaxed) + self.spent_bytes.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::cell::Cell;

    struct Books {
        quota: Quota,
        leases: Vec<Lease>,
        used: Cell<u64>,
    }

    impl Books {
        fn new(bytes: u64, slice_bytes: u64, workers: usize) -> Self {
            let quota = Quota::default();
            quota.adopt(bytes, slice_bytes, false);
            Self { quota, leases: (0..workers).map(|_| Lease::default()).collect(), used: Cell::new(0) }
        }

        fn take(&self, worker: usize, wanted: u64) -> u64 {
            self.quota.take(wanted, &self.leases[worker], self.leases.iter(), || Used {
                in_period: self.used.get(),
                ever: self.used.get(),
            })
        }

        fn deliver(&self, worker: usize, bytes: u64, left: u64) {
            self.used.set(self.used.get() + bytes);
            self.quota.settle(&self.leases[worker], bytes + left, bytes, left);
        }

        fn reserved(&self) -> u64 {
            self.quota.reserved_bytes.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_quota_is_reserved_before_it_is_used_and_never_passed_by_more_than_a_record() {
        let books = Books::new(1 << 20, 0, 1);
        let in_flight: Vec<_> =
            std::iter::repeat_with(|| books.take(0, 100_000)).take_while(|bytes| *bytes > 0).collect();
        let reserved: u64 = in_flight.iter().sum();
        assert!((1 << 20..(1 << 20) + RESERVED_BYTES_MIN).contains(&reserved));
        // Half of what was reserved never came.
        for bytes in in_flight {
            books.deliver(0, bytes / 2, bytes - bytes / 2);
        }
        assert_eq!(books.take(0, 100_000), 100_000);
    }

    #[test]
    fn a_slice_serves_many_calls_and_what_was_spent_is_told_a_slice_at_a_time() {
        let books = Books::new(1 << 30, 64 << 10, 2);
        // Calls want much and move little.
        assert_eq!(books.take(0, 100_000), 100_000);
        books.deliver(0, 1000, 99_000);
        let reserved = books.reserved();
        assert_eq!(reserved, 100_000 + (64 << 10));
        for _ in 0..64 {
            assert_eq!(books.take(0, 100_000), 100_000);
            books.deliver(0, 1000, 99_000);
            assert_eq!(books.reserved(), reserved, "nobody else is asked");
        }
        for _ in 0..1000 {
            assert_eq!(books.take(0, 100_000), 100_000);
            books.deliver(0, 1000, 99_000);
            assert!(books.reserved() <= 200_000 + 2 * (64 << 10));
        }
    }

    #[test]
    fn near_the_end_nothing_is_kept_and_what_others_kept_is_taken_back() {
        let books = Books::new(4 << 20, 64 << 10, 2);
        assert_eq!(books.take(1, 1000), 1000);
        books.deliver(1, 1000, 0);
        assert!(books.leases[1].held_bytes.load(Ordering::Relaxed) > 0);
        let mut got = 1000;
        loop {
            let bytes = books.take(0, 50_000);
            if bytes == 0 {
                break;
            }
            got += bytes;
            books.deliver(0, bytes, 0);
        }
        assert!((4 << 20..(4 << 20) + RESERVED_BYTES_MIN).contains(&got), "{got}");
        assert_eq!(books.reserved(), 0);
    }

    #[test]
    fn a_slice_that_comes_with_what_others_gave_back_is_kept() {
        let books = Books::new(4 << 20, 64 << 10, 2);
        assert_eq!(books.take(1, 2 << 20), 2 << 20);
        books.deliver(1, 0, 2 << 20);
        assert_eq!(books.take(0, 3 << 20), 3 << 20);
        assert_eq!(books.leases[0].held_bytes.load(Ordering::Relaxed), 64 << 10);
        books.deliver(0, 3 << 20, 0);
        while books.take(0, 50_000) > 0 {
            books.deliver(0, 50_000, 0);
        }
        assert_eq!(books.reserved(), 0);
    }

    #[test]
    fn whatever_the_slice_all_of_the_quota_is_used_and_no_more() {
        for slice in [1, 1000, 64 << 10, 1 << 30] {
            for workers in [1, 2, 7] {
                let books = Books::new(10_000_000, slice, workers);
                let (mut turn, mut idle) = (0, 0);
                while idle < workers {
                    let worker = turn % workers;
                    let bytes = books.take(worker, 1 + (turn as u64 * 7919) % 90_000);
                    idle = if bytes == 0 { idle + 1 } else { 0 };
                    let delivered = bytes - bytes / 3;
                    books.deliver(worker, delivered, bytes - delivered);
                    turn += 1;
                }
                let over = books.used.get().checked_sub(10_000_000).expect("all of it");
                assert!(over <= RESERVED_BYTES_MIN, "{slice} x {workers}: {over}");
            }
        }
    }

    #[test]
    fn a_quota_that_is_renewed_goes_on() {
        let books = Books::new(100_000, 64 << 10, 2);
        while books.take(0, 50_000) > 0 {
            books.deliver(0, 50_000, 0);
        }
        books.used.set(0);
        assert_eq!(books.take(1, 50_000), 50_000);
    }

    #[test]
    fn of_a_shared_quota_only_what_was_lent_is_reserved() {
        for slice in [0, 64 << 10] {
            let (quota, lease) = (Quota::default(), Lease::default());
            quota.adopt(10 << 20, slice, true);
            let used = Used { in_period: 5 << 20, ever: 1 << 20 };
            let take = |used| quota.take(100_000, &lease, [&lease].into_iter(), || used);
            assert_eq!(take(used), 0, "nothing was lent yet");
            quota.lend((1 << 20) + 150_000);
            assert_eq!((take(used), take(used), take(used)), (100_000, 50_000, 0));
            quota.lend(u64::MAX);
            assert_eq!(take(Used { in_period: 10 << 20, ever: 1 << 20 }), 0, "the quota holds, too");
            quota.set_spent(true);
            assert!(quota.is_spent());
            quota.adopt(10 << 20, slice, false);
            assert!(!quota.is_spent(), "it is not shared any more");
        }
    }
}
