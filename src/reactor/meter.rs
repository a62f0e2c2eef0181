//! What a session of a limited user takes of its user's limits in advance, and gives back.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::session::allowance::{Allowance, Limit, SPLICED_PER_WORK, Share};
use crate::session::{Undelivered, User};
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
    /// Of these, those that this call may receive.
    taken_bytes: u64,
    /// The session holds beginnings of so many bytes, for which nothing is reserved between its calls. A client that
    /// does not send the rest would keep the last bytes of the quota from everybody, and so would several that wait for
    /// each other's.
    beginning_bytes: u64,
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
                beginning_bytes: 0,
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
            let taken = if wanted > 0 { self.reserve(wanted) } else { 0 };
            if taken < wanted {
                self.uplink.allowed_bytes = self.uplink.allowed_bytes.min(taken.div_ceil(2));
                self.downlink.allowed_bytes = self.downlink.allowed_bytes.min(taken.div_ceil(2));
            }
            if taken == 0 {
                more_at = more_at.map(|due| due.max(now + QUOTA_RETRY));
            }
        }
        let limit = |direction: &Direction, more_at| {
            Some(Limit { bytes: usize::try_from(direction.allowed_bytes).unwrap_or(usize::MAX), more_at })
        };
        allowance.uplink.limit = limit(&self.uplink, more_at[0]);
        allowance.downlink.limit = limit(&self.downlink, more_at[1]);
    }

    /// Reserves the beginnings that the session holds, and up to `wanted` bytes that it may receive in the coming call;
    /// returns the latter.
    fn reserve(&mut self, wanted: u64) -> u64 {
        let reserved = self.ledger.take_quota(self.worker, wanted + self.beginning_bytes);
        let taken = reserved.saturating_sub(self.beginning_bytes);
        if taken == 0 {
            self.ledger.gate().quota.release(reserved);
            return 0;
        }
        self.taken_bytes = taken;
        self.reserved_bytes += reserved;
        self.beginning_bytes = 0;
        taken
    }

    /// Takes note of what the call has left, and of what the session has received and not delivered.
    pub(super) fn settle(&mut self, left: &Allowance, undelivered: Undelivered, now: Instant) {
        let gate = self.ledger.gate();
        let received = self.uplink.received(left.uplink) + self.downlink.received(left.downlink);
        self.uplink.settle(&gate.uplink, left.uplink, now);
        self.downlink.settle(&gate.downlink, left.downlink, now);
        self.beginning_bytes = undelivered.beginning_bytes;
        let owed = undelivered.bytes.saturating_sub(undelivered.beginning_bytes);
        let freed = self.reserved_bytes.saturating_sub(owed);
        if freed > 0 {
            let unused = (self.taken_bytes.saturating_sub(received) + undelivered.beginning_bytes).min(freed);
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
            // Bytes that are spliced are little work, so a turn may bring more of them.
            None => wanted * SPLICED_PER_WORK as u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::stats::gate::Limits;

    const TURN_BYTES: usize = 1 << 20;

    fn meters(quota_bytes: u64) -> [Meter; 2] {
        let ledger = Arc::new(Ledger::new(1));
        ledger.gate().adopt(Limits { quota_bytes, ..Limits::default() });
        [0, 1].map(|_| Meter {
            ledger: Arc::clone(&ledger),
            uplink: Direction::default(),
            downlink: Direction::default(),
            worker: 0,
            reserved_bytes: 0,
            taken_bytes: 0,
            beginning_bytes: 0,
        })
    }

    /// What the meter lets the uplink receive.
    fn allow(meter: &mut Meter) -> Allowance {
        let mut allowance = Allowance::turn(TURN_BYTES);
        meter.limit(&mut allowance, Instant::now());
        allowance
    }

    /// The call has received so much, all of it the beginning of something.
    fn receive_beginning(meter: &mut Meter, mut allowance: Allowance, bytes: usize) {
        allowance.uplink.receive(bytes);
        let beginning_bytes = bytes as u64;
        meter.settle(&allowance, Undelivered { bytes: beginning_bytes, beginning_bytes }, Instant::now());
    }

    #[test]
    fn a_quota_does_not_end_a_turn_of_splicing_early() {
        let [mut meter, _] = meters(1 << 40);
        assert_eq!(allow(&mut meter).downlink.spliced_bytes(), SPLICED_PER_WORK * TURN_BYTES);
    }

    #[test]
    fn the_beginning_of_a_record_keeps_nothing_of_a_quota_from_others() {
        let [mut one, mut other] = meters(20_000);
        let allowance = allow(&mut one);
        receive_beginning(&mut one, allowance, 16_000);
        let allowance = allow(&mut other);
        assert!(allowance.uplink.bytes() >= 10_000, "{allowance:?}");
        receive_beginning(&mut other, allowance, 10_000);
        // The rest of the first one's record.
        let allowance = allow(&mut one);
        assert!(allowance.uplink.bytes() > 0, "{allowance:?}");
    }
}
