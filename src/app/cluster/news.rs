//! What the supervisor and the cluster's thread ask and tell each other.

use std::sync::mpsc::SyncSender;

use super::change::Prepared;
use crate::control::backend::{Denied, Done};

/// For the thread.
#[derive(Debug)]
pub enum Request {
    Change(Box<Asked>),
    /// Has the sessions of an account cut on all other nodes.
    Cut {
        email: String,
        by: String,
    },
    Stop,
}

/// A change that somebody waits for.
#[derive(Debug)]
pub struct Asked {
    pub prepared: Prepared,
    pub by: String,
    /// The status of the answer, should it be made.
    pub status: u16,
    pub reply: SyncSender<Result<Done, Denied>>,
}

/// For the supervisor.
#[derive(Debug)]
pub enum News {
    /// The list of accounts is another.
    Accounts,
    /// What came of a change; the list has it already.
    Changed { asked: Box<Asked>, outcome: Outcome },
    /// Somebody on another node wants the sessions of this account cut.
    Cut { email: String, said: String },
    /// What counts as used by this account is 0.
    Reset { key: String },
}

/// What the engine said to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Made,
    /// Somebody else was faster.
    Stale,
    Refused(String),
    /// The engine is away. A change that was on its way may have been made.
    Away(String),
}
