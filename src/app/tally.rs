//! What is counted across a change of process: how much at one moment, and what another process adds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Payload up and down at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub all: (u64, u64),
    /// By ledger; those that never moved anything may be missing.
    pub ledgers: HashMap<[u8; 16], (u64, u64)>,
    /// Sessions alive.
    pub sessions: usize,
}

/// Whoever knows what is counted.
pub trait Counting: Send + Sync {
    /// What the state file was told last.
    fn saved(&self) -> Counts;

    /// What is counted now.
    fn counts(&self) -> Counts;
}

/// What the process before this one has counted since it let go of the state file.
#[derive(Debug, Default)]
pub struct OldCounts {
    pub uplink_bytes: AtomicU64,
    pub downlink_bytes: AtomicU64,
    /// Sessions that it still has.
    pub sessions: AtomicU64,
    /// It has not ended.
    pub is_there: AtomicBool,
}

/// The id that these hexadecimal digits are.
pub fn unhex(text: &str) -> Option<[u8; 16]> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(u128::to_be_bytes)
}
