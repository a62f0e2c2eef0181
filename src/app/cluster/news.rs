//! What the supervisor and the cluster's thread ask and tell each other.

use std::sync::mpsc::SyncSender;

use super::call::Call;
use super::change::Prepared;
use super::online::NodeOnline;
use crate::cluster::journal::AccountKey;
use crate::control::backend::{Denied, Done};
use crate::control::events::Event;

/// For the thread.
#[derive(Debug)]
pub enum Request {
    Change(Box<Asked>),
    /// Has all other nodes do something; the answer says whether the engine has taken it.
    Call {
        call: Call,
        by: String,
        reply: SyncSender<bool>,
    },
    /// Who is online on the other nodes, of all accounts or of one. Without an answer the engine is away.
    Online {
        account: Option<AccountKey>,
        reply: SyncSender<Option<Vec<NodeOnline>>>,
    },
    /// Takes a node off the list that is gone for good.
    Forget {
        node: String,
        by: String,
        reply: SyncSender<Forgotten>,
    },
    /// A warning that one node of the cluster is to tell.
    Warn(Box<Warning>),
    Stop,
}

/// Something that an operator should hear of an account, once.
#[derive(Debug)]
pub struct Warning {
    pub account: AccountKey,
    /// What it warns of: with another quota, or another end of the account, it is another warning.
    pub of: String,
    pub event: Event,
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
    /// Somebody on another node wants this done here, too.
    Called { call: Call, said: String },
    /// What counts as used by this account is 0.
    Reset { key: String },
    /// No other node has told this.
    Warn(Box<Warning>),
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

/// What came of the wish that a node is not listed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forgotten {
    Done,
    /// No node of this name is listed.
    Unknown,
    /// It has given a sign of life so many seconds ago.
    There(u64),
    /// The engine is away.
    Away(String),
}
