//! One exchange with the engine: a batch and wishes go out, and leases come back.

use super::journal::{AccountKey, Batch};
use super::lease::Lease;

/// What an account with a quota wants of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The lease that this node wants to hold once the batch is applied; 0 gives all of it back.
    pub target_bytes: u64,
    /// When the quota's period began, in seconds of the engine's clock; 0 without periods.
    pub period_start: u64,
}

/// One call of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub batch: Batch,
    /// Batches in front of it are lost, and the engine is to take it nevertheless.
    pub skip: bool,
    pub wishes: Vec<(AccountKey, Wish)>,
}

/// What the engine said to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAnswer {
    pub outcome: ReportOutcome,
    /// The latest batch of the boot that is applied.
    pub sequence: u64,
    /// The engine's clock.
    pub at_ms: u64,
    pub leases: Vec<(AccountKey, Lease)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportOutcome {
    Applied,
    /// It was applied before, and nothing was counted again.
    Repeated,
    /// Batches in front of it are missing, and nothing was applied.
    Gap,
}
