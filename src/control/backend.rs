//! What the control plane asks of the rest of the server.
//!
//! The trait is implemented where everything is known, outside this module; tests implement it, too.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::sample::Sample;

/// The rest of the server.
pub trait Backend: Send + Sync + 'static {
    /// The present state. Called once a second on the control thread: it must neither block nor take long.
    fn sample(&self) -> Sample;

    /// The last sample before another process takes over: what is counted from here on is told to that process.
    fn last_sample(&self) -> Sample {
        self.sample()
    }

    /// Does what a client with the right to it has asked for. Called on a thread of its own, one order after the other;
    /// it may take seconds.
    ///
    /// # Errors
    /// Why it was not done, in the words that the client gets.
    fn execute(&self, order: Order) -> Result<Done, Denied>;

    /// Does what several clients have asked for at the same time, and answers each. What costs as much for many as for one
    /// may be done once for all of them.
    fn execute_all(&self, orders: Vec<Order>) -> Vec<Result<Done, Denied>> {
        orders.into_iter().map(|order| self.execute(order)).collect()
    }

    /// What accounts want kept in the state file beside traffic. Called on the control thread, like `sample`.
    fn accounts_state(&self) -> Value {
        Value::Null
    }
}

/// An order, with everything needed to obey it. A change of an account has the revision of the list that the client has
/// seen; `None`: it is to be made whatever the list is now.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    Sessions(SessionQuery),
    Cut {
        query: CutQuery,
        by: String,
    },
    AddUser {
        user: Value,
        revision: Option<u64>,
        by: String,
    },
    PatchUser {
        email: String,
        change: Value,
        revision: Option<u64>,
        by: String,
    },
    RemoveUser {
        email: String,
        revision: Option<u64>,
        by: String,
    },
    /// Sets what counts against the quota.
    ResetUser {
        email: String,
        used_bytes: u64,
        revision: Option<u64>,
        by: String,
    },
    /// Gives the user a new id.
    RotateUser {
        email: String,
        revision: Option<u64>,
        by: String,
    },
    Link {
        email: String,
    },
    QrCode {
        email: String,
    },
    Reload {
        by: String,
    },
    /// The same on all nodes of the cluster.
    ReloadAll {
        by: String,
    },
    /// Who is online on all nodes of the cluster; `None`: all accounts.
    Online {
        user: Option<String>,
    },
    /// Takes a node of the cluster off the list that is gone for good.
    ForgetNode {
        node: String,
        by: String,
    },
    /// The program that is there now takes over from this process.
    Upgrade {
        by: String,
    },
}

impl Order {
    /// It changes an account, or the list of them.
    pub fn changes_account(&self) -> bool {
        matches!(
            self,
            Self::AddUser { .. } | Self::PatchUser { .. } | Self::RemoveUser { .. } | Self::RotateUser { .. }
        )
    }
}

/// Which live sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// The id of the last session of the page before.
    pub after: Option<String>,
    pub user: Option<String>,
    pub source: Option<IpAddr>,
    pub target: Option<String>,
    pub limit: usize,
}

/// Which live sessions to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutQuery {
    Session(String),
    User(String),
    Source(IpAddr),
}

/// What an order came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Sessions(SessionPage),
    Cut {
        sessions: usize,
        took: Duration,
        /// Whether the other nodes of the cluster were told; `None`: they need not be.
        others_told: Option<bool>,
    },
    /// A body that goes out as it is, with the revision of the list of users where it belongs to one.
    Json {
        status: u16,
        body: Value,
        revision: Option<u64>,
    },
    Svg(String),
}

/// Some live sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionPage {
    /// Sessions alive now that the filters let through.
    pub total: usize,
    pub connections: Vec<SessionLine>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// One live session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionLine {
    pub id: String,
    pub user: String,
    pub client: String,
    pub target: String,
    pub flow: String,
    pub state: String,
    pub mode: String,
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub age_seconds: u64,
}

/// Why an order was not obeyed.
#[derive(Clone, Debug, PartialEq)]
pub struct Denied {
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// Further members of the answer beside `error`.
    pub beside: Option<Value>,
}

impl Denied {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), beside: None }
    }

    /// There is nobody and nothing of that name.
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", format!("there is no {what}"))
    }
}
