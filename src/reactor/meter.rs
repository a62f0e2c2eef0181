//! What a session of a limited user takes of its user's limits in advance, and gives back.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::session::User;
use crate::session::allowance::{Allowance, Limit, Share};
use crate::stats::Ledger;
use crate::stats::gate::{Bucket, Taken};

/// How long a session waits before it asks again for a quota that others have reserved. Once it is used up, the session
/// is cut instead.
const QUOTA_RETRY: Duration = Duration::from_millis(50);

/// The instant from which all workers measure the time of limits.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One session's dealings with the limits of its user. Dropping it gives everything back.
pub(super) struct Meter {
    ledger: Arc<Ledger>,
    uplink: Direction,
    downlink: Direction,
    worker: usize,
    /// Bytes of the quota reserved for this session: those of this call, and those received and not delivered.
    reserved_bytes: u64,
    /// Of these, those of this call.
    taken_bytes: u64,
}

#[derive(Default)]
struct Direction {
    /// Bytes of the speed limit that are this session's.
    taken: Option<Taken>,
    /// What the call may receive.
    allowed_bytes: u64,
}

impl Meter {
    /// A meter for a session of `user` that `worker` serves, if there is anything to measure.
    pub(super) fn of(user: &User, worker: usize) -> Option<Box<Self>> {
        user.ledger.gate().meters().then(|| {
            Box::new(Self {
                ledger: Arc::clone(&user.ledger),
                uplink: Direction::default(),
                downlink: Direction::default(),
                worker,
                reserved_bytes: 0,
                taken_bytes: 0,
            })
        })
    }

    /// Sets what the coming call may receive.
    pub(super) fn limit(&mut self, allowance: &mut Allowance, now: Instant) {
        let gate = self.ledger.gate();
        let sessions = gate.sessions_active() as u64;
        self.uplink.take(&gate.uplink, allowance.uplink, sessions, now);
        self.downlink.take(&gate.downlink, allowance.downlink, sessions, now);
        let mut more_at = [self.uplink.due(), self.downlink.due()];
        self.taken_bytes = 0;
        if gate.quota.is_set() {
            let wanted = self.uplink.allowed_bytes + self.downlink.allowed_bytes;
            let reserved = if wanted > 0 { self.ledger.take_quota(self.worker, wanted) } else { 0 };
            self.taken_bytes = reserved;
            self.reserved_bytes += reserved;
            if reserved < wanted {
                self.uplink.allowed_bytes = self.uplink.allowed_bytes.min(reserved.div_ceil(2));
                self.downlink.allowed_bytes = self.downlink.allowed_bytes.min(reserved.div_ceil(2));
            }
            if reserved == 0 {
                more_at = more_at.map(|due| due.max(now + QUOTA_RETRY));
            }
        }
        let limit = |direction: &Direction, more_at| {
            Some(Limit { bytes: usize::try_from(direction.allowed_bytes).unwrap_or(usize::MAX), more_at })
        };
        allowance.uplink.limit = limit(&self.uplink, more_at[0]);
        allowance.downlink.limit = limit(&self.downlink, more_at[1]);
    }

    /// Takes note of what the call has left, and of the bytes that it has received and not delivered.
    pub(super) fn settle(&mut self, left: &Allowance, undelivered_bytes: u64, now: Instant) {
        let gate = self.ledger.gate();
        let received = self.uplink.received(left.uplink) + self.downlink.received(left.downlink);
        self.uplink.settle(&gate.uplink, left.uplink, now);
        self.downlink.settle(&gate.downlink, left.downlink, now);
        let freed = self.reserved_bytes.saturating_sub(undelivered_bytes);
        if freed > 0 {
            let unused = self.taken_bytes.saturating_sub(received).min(freed);
            self.ledger.settle_quota(self.worker, self.taken_bytes, freed - unused, unused);
            self.reserved_bytes -= freed;
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let gate = self.ledger.gate();
        gate.quota.release(self.reserved_bytes);
        for (bucket, direction) in [(&gate.uplink, &self.uplink), (&gate.downlink, &self.downlink)] {
            bucket.give_back(direction.taken.map_or(0, |taken| taken.bytes));
        }
    }
}

impl Direction {
    fn take(&mut self, bucket: &Bucket, share: Share, sessions: u64, now: Instant) {
        let wanted = share.work_bytes as u64;
        if self.taken.is_none() {
            self.taken = bucket.take(wanted, sessions, since_start(now));
        }
        self.allowed_bytes = match self.taken {
            None => wanted,
            Some(taken) if taken.due <= since_start(now) => taken.bytes,
            Some(_) => 0,
        };
    }

    /// When what was booked may be used.
    fn due(&self) -> Instant {
        *START + Duration::from_nanos(self.taken.map_or(0, |taken| taken.due))
    }

    /// Bytes that the call has received.
    fn received(&self, left: Share) -> u64 {
        self.allowed_bytes.saturating_sub(left.limit.map_or(0, |limit| limit.bytes as u64))
    }

    fn settle(&mut self, bucket: &Bucket, left: Share, now: Instant) {
        let Some(taken) = self.taken.filter(|taken| taken.due <= since_start(now)) else { return };
        let rest = Taken { bytes: taken.bytes.saturating_sub(self.received(left)), ..taken };
        // A session that stopped because its turn was over goes on with the rest in the next. Any other has no use for
        // it.
        self.taken = (left.work_bytes == 0 && rest.bytes > 0).then_some(rest);
        if self.taken.is_none() {
            bucket.give_back(rest.bytes);
        }
    }
}

fn since_start(now: Instant) -> u64 {
    // A program that runs for longer than 584 years is not expected.
    now.saturating_duration_since(*START).as_nanos() as u64
}
