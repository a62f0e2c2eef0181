//! What the cluster's thread and the rest of the server tell each other: small values behind short locks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::counting::Served;
use super::links::Reach;
use super::list::Listed;
use super::reply::plain;

/// Nodes of a cluster at the most; of what else the engine names nothing is read.
pub(super) const NODES_MAX: usize = 1000;
/// Where in the engine's list they begin: the latest sign of life is the last, so that those that are gone hide nobody.
pub const NODES_FROM: &str = "-1000";

/// Shared by the thread, the supervisor and whoever shows how the cluster stands.
#[derive(Debug, Default)]
pub struct Shared {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    listed: Arc<Listed>,
    served: Arc<Vec<Served>>,
    /// Counts the changes of `served`.
    served_changes: u64,
    described: Described,
    status: Status,
}

/// What follows from this node's configuration and certificates.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// When the first certificate ends, in seconds since 1970.
    pub certificate_not_after: Option<u64>,
    pub reach: Reach,
}

/// How the cluster stands, seen from this node.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub node: String,
    pub is_connected: bool,
    /// Since when the engine is away; `None` while it is there.
    pub away_since: Option<Instant>,
    /// Why the engine is away, or what else is wrong.
    pub error: Option<String>,
    /// Of the list of accounts.
    pub version: u64,
    pub accounts: u64,
    /// Accounts that cannot be served here, because a file has the same email or id; each in words.
    pub clashes: Vec<String>,
    /// Accounts whose traffic the engine was not told yet.
    pub untold_accounts: u64,
    pub lost_batches: u64,
    pub reports_total: u64,
    pub failures_total: u64,
    /// The engine's clock less ours, in milliseconds.
    pub clock_offset_ms: i64,
    pub nodes: Vec<NodeStatus>,
}

impl Status {
    /// The engine answers, and has this cluster's accounts.
    pub(super) fn connected(&mut self) {
        self.is_connected = true;
        self.away_since = None;
        self.error = None;
    }

    /// It does not.
    pub(super) fn disconnected(&mut self, why: String) {
        self.is_connected = false;
        self.away_since.get_or_insert_with(Instant::now);
        self.error = Some(why);
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStatus {
    pub name: String,
    pub is_online: bool,
    pub seen_seconds_ago: u64,
    pub facts: Facts,
}

/// What a node says of itself, as it is written; what is not known here is left out.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Of the data that it writes.
    pub format: u64,
    /// Of the program.
    pub version: String,
    pub reach: Reach,
    pub started_at: u64,
    pub sessions: u64,
    pub up_bytes_per_second: u64,
    pub down_bytes_per_second: u64,
    /// Until the first certificate ends; `None` without TLS.
    pub certificate_days: Option<i64>,
    /// Of the list of accounts that it serves.
    pub accounts_version: u64,
    pub last_error: Option<String>,
}

impl Facts {
    /// What a node has said of itself; nothing where it is not to be understood.
    pub fn read(text: &str) -> Self {
        let mut facts: Self = serde_json::from_str(text).unwrap_or_default();
        let reach = &mut facts.reach;
        let words = [&mut facts.version, &mut reach.host].into_iter().chain(&mut facts.last_error);
        for words in words.chain(reach.tls.iter_mut().map(|tls| &mut tls.server_name)) {
            *words = plain(words);
        }
        facts
    }
}

impl Shared {
    /// The newest list of accounts.
    pub fn listed(&self) -> Arc<Listed> {
        Arc::clone(&self.lock().listed)
    }

    pub(super) fn list(&self, listed: Listed) {
        self.lock().listed = Arc::new(listed);
    }

    /// Tells which accounts are served, and what is wrong with the others.
    pub fn serve(&self, served: Vec<Served>, clashes: Vec<String>) {
        let mut inner = self.lock();
        inner.served = Arc::new(served);
        inner.served_changes += 1;
        inner.status.clashes = clashes;
    }

    /// The accounts that are served, and how often they have changed.
    pub fn served(&self) -> (u64, Arc<Vec<Served>>) {
        let inner = self.lock();
        (inner.served_changes, Arc::clone(&inner.served))
    }

    /// Tells what this node is to say of itself.
    pub fn describe(&self, described: Described) {
        self.lock().described = described;
    }

    pub(super) fn described(&self) -> Described {
        self.lock().described.clone()
    }

    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock().status);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
