//! The part of an account's quota that this node may use up without asking.
//!
//! The engine grants a lease and remembers how much of it is out. What the node has used comes off with the next batch.
//! So what may still be used is what the engine said is out, less what was counted and is not applied there yet. A
//! lease ends with its time: the engine then gives the rest to others, and the node must not use it.

/// Below this a grant is not made smaller any more, except by what is left.
pub const LEASE_BYTES_MIN: u64 = 1 << 20;

/// What the engine said about an account's quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Out to this node, after the batch that the answer was for.
    pub bytes: u64,
    /// Left in the quota besides all leases that are out.
    pub left_bytes: u64,
    /// Used in the present period by all nodes, as far as the engine was told, this node's batch included.
    pub used_bytes: u64,
    /// When the lease ends, in milliseconds of the engine's clock.
    pub ends_at_ms: u64,
}

/// What a node does where a lease has ended because the engine is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// Goes on with what was left when the engine was last heard.
    #[default]
    Serve,
    /// Takes the lease for used up.
    Refuse,
}

impl Lease {
    /// What may still be used, where `unapplied_bytes` were counted since the answer.
    pub fn usable_bytes(&self, unapplied_bytes: u64, now_ms: u64, when_away: WhenAway) -> u64 {
        let granted = match when_away {
            _ if now_ms < self.ends_at_ms => self.bytes,
            WhenAway::Serve => self.bytes.saturating_add(self.left_bytes),
            WhenAway::Refuse => 0,
        };
        granted.saturating_sub(unapplied_bytes)
    }

    /// How much more to ask for: enough to have `slice_bytes` in hand, once less than half of that is.
    pub fn wanted_bytes(&self, unapplied_bytes: u64, slice_bytes: u64) -> u64 {
        let in_hand = self.bytes.saturating_sub(unapplied_bytes);
        if in_hand < slice_bytes / 2 { slice_bytes - in_hand } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Lease = Lease { bytes: 100, left_bytes: 1000, used_bytes: 7, ends_at_ms: 50 };

    #[test]
    fn what_was_counted_since_the_answer_comes_off() {
        assert_eq!(LEASE.usable_bytes(30, 49, WhenAway::Refuse), 70);
        assert_eq!(LEASE.usable_bytes(130, 49, WhenAway::Serve), 0);
    }

    #[test]
    fn a_lease_that_has_ended_is_worth_what_the_operator_decided() {
        assert_eq!(LEASE.usable_bytes(30, 50, WhenAway::Refuse), 0);
        assert_eq!(LEASE.usable_bytes(30, 50, WhenAway::Serve), 1070);
    }

    #[test]
    fn more_is_asked_for_once_less_than_half_a_slice_is_in_hand() {
        assert_eq!(LEASE.wanted_bytes(0, 200), 0);
        assert_eq!(LEASE.wanted_bytes(1, 200), 101);
        assert_eq!(LEASE.wanted_bytes(500, 200), 200);
    }
}
