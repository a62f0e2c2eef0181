//! How much a session may do in one call, set from outside: its share of the worker's turn, and what its user's limits
//! let through.
//!
//! Each direction has a [`Share`] of its own and takes from it what it does. Two things may run out. Work is the
//! worker's time, measured in bytes, and more of it comes with the next turn. Bytes are what a speed limit or a quota
//! lets through, and more of them come at an instant that whoever set the limit knows.

use std::time::Instant;

use super::pause::Pause;

/// The usual work of one direction in one turn, in bytes. A busy session must not starve the others.
pub const TURN_BYTES_MAX: usize = 1 << 20;

/// What a packet, frame or chunk costs of a turn's work besides its bytes. Passing it on takes a system call, however
/// short it is.
pub const PACKET_COST_BYTES: usize = 1 << 10;

/// So many bytes through a kernel pipe count as one byte of work. They take 0.2 CPU seconds per GiB, those through TLS 0.6
/// to 0.8 (measured). A worker's usual share is then a whole pipe: cut in four, the same bytes cost half as much again,
/// because each piece ends with a small segment and wakes the peer.
pub const SPLICED_PER_WORK: usize = 4;

/// What is left to a session in this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub uplink: Share,
    pub downlink: Share,
}

/// What is left to one direction in this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Work, in bytes. A packet counts [`PACKET_COST_BYTES`] more than it carries.
    pub work_bytes: usize,
    /// What a limit lets through.
    pub limit: Option<Limit>,
}

/// A speed limit or a quota, as far as this call is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes that may be received now.
    pub bytes: usize,
    /// When there will be more.
    pub more_at: Instant,
}

impl Allowance {
    /// When a limit that is used up lets something through again. `None`: no limit is used up.
    pub fn more_at(&self) -> Option<Instant> {
        let used_up = [self.uplink, self.downlink].into_iter().filter_map(|share| share.limit);
        used_up.filter(|limit| limit.bytes == 0).map(|limit| limit.more_at).min()
    }

    /// A turn of so much work in each direction, and no limit.
    pub fn turn(work_bytes: usize) -> Self {
        let share = Share { work_bytes, limit: None };
        Self { uplink: share, downlink: share }
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self::turn(TURN_BYTES_MAX)
    }
}

impl Share {
    /// The most bytes to receive at once. 0: something has run out.
    pub fn bytes(&self) -> usize {
        self.limit.map_or(self.work_bytes, |limit| limit.bytes.min(self.work_bytes))
    }

    /// The most bytes to receive at once through a kernel pipe. 0: something has run out.
    pub fn spliced_bytes(&self) -> usize {
        let work_bytes = self.work_bytes.saturating_mul(SPLICED_PER_WORK);
        self.limit.map_or(work_bytes, |limit| limit.bytes.min(work_bytes))
    }

    /// What a direction waits for that can do nothing more in this call; `None`: it goes on. A limit is for receiving: where
    /// something `was_received` that only has to be passed on, that goes on whatever the limit says. It counts against the
    /// limit already, and others would wait for it in vain.
    pub fn pause(&self, was_received: bool) -> Option<Pause> {
        if !was_received && self.limit.is_some_and(|limit| limit.bytes == 0) {
            return Some(Pause::Later);
        }
        (self.work_bytes == 0).then_some(Pause::Again)
    }

    /// Counts received bytes.
    pub fn receive(&mut self, bytes: usize) {
        self.work(bytes);
        self.pass(bytes);
    }

    /// Counts bytes that were received through a kernel pipe.
    pub fn receive_spliced(&mut self, bytes: usize) {
        self.work(bytes.div_ceil(SPLICED_PER_WORK));
        self.pass(bytes);
    }

    fn pass(&mut self, bytes: usize) {
        if let Some(limit) = &mut self.limit {
            limit.bytes = limit.bytes.saturating_sub(bytes);
        }
    }

    /// Counts one packet, frame or chunk of so many bytes.
    pub fn receive_packet(&mut self, bytes: usize) {
        self.work(PACKET_COST_BYTES);
        self.receive(bytes);
    }

    /// Counts work that was done for bytes received before.
    pub fn work(&mut self, bytes: usize) {
        self.work_bytes = self.work_bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_goes_before_the_turn_and_counts_received_bytes_only() {
        let more_at = Instant::now();
        let mut share = Share { work_bytes: 5000, limit: Some(Limit { bytes: 300, more_at }) };
        share.work(PACKET_COST_BYTES);
        assert_eq!((share.bytes(), share.pause(false)), (300, None));
        share.receive(200);
        assert_eq!(share.bytes(), 100);
        share.receive(200);
        assert_eq!((share.bytes(), share.pause(false), share.pause(true)), (0, Some(Pause::Later), None));
        assert_eq!(Allowance { uplink: share, ..Allowance::default() }.more_at(), Some(more_at));
        share.limit = None;
        assert_eq!(share.spliced_bytes(), SPLICED_PER_WORK * share.work_bytes);
        let before = share.work_bytes;
        share.receive_spliced(SPLICED_PER_WORK + 1);
        assert_eq!(share.work_bytes, before - 2);
        share.work(9000);
        assert_eq!((share.pause(false), share.pause(true)), (Some(Pause::Again), Some(Pause::Again)));
    }
}
