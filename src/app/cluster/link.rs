//! The cluster as the control plane sees it.

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use serde_json::Value;

use super::call::Call;
use super::news::{Forgotten, Request};
use super::online::{self, NodeOnline};
use super::status::{NodeStatus, Shared};
use crate::control::sample::{ClusterSample, NodeSample};

/// How long the cluster's thread may take to ask the engine.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Cheap to clone.
#[derive(Clone)]
pub struct Link {
    pub(super) requests: SyncSender<Request>,
    pub(super) shared: Arc<Shared>,
}

impl Link {
    /// How the cluster stands.
    pub fn sample(&self) -> ClusterSample {
        let status = self.shared.status();
        ClusterSample {
            is_connected: status.is_connected,
            away_seconds: status.away_since.map_or(0, |since| since.elapsed().as_secs()),
            error: status.error,
            accounts_version: status.version,
            accounts: status.accounts,
            clashes: status.clashes,
            untold_accounts: status.untold_accounts,
            lost_batches: status.lost_batches,
            reports_total: status.reports_total,
            failures_total: status.failures_total,
            clock_offset_ms: status.clock_offset_ms,
            nodes: status.nodes.into_iter().map(node).collect(),
            node: status.node,
        }
    }

    /// Has all other nodes do something, as soon as they hear of it; false where the engine has not taken it.
    pub fn call(&self, call: Call, by: &str) -> bool {
        let (reply, answer) = mpsc::sync_channel(1);
        let request = Request::Call { call, by: by.to_owned(), reply };
        self.requests.try_send(request).is_ok() && answer.recv_timeout(CALL_TIMEOUT) == Ok(true)
    }

    /// Takes a node off the list that is gone for good.
    pub fn forget(&self, node: &str, by: &str) -> Forgotten {
        let (reply, answer) = mpsc::sync_channel(1);
        let request = Request::Forget { node: node.to_owned(), by: by.to_owned(), reply };
        let asked = self.requests.try_send(request).is_ok();
        let answer = if asked { answer.recv_timeout(CALL_TIMEOUT).ok() } else { None };
        answer.unwrap_or_else(|| Forgotten::Away("it does not answer in time".to_owned()))
    }

    /// Who is online on all nodes, of all accounts or of the one called `user`.
    pub fn online(&self, user: Option<&str>) -> Value {
        let (listed, (_, served)) = (self.shared.listed(), self.shared.served());
        let account = user.and_then(|user| listed.users.iter().find(|known| known.email == user));
        let account = account.and_then(|user| listed.key(user).cloned());
        let (reply, answer) = mpsc::sync_channel(1);
        let asked = self.requests.try_send(Request::Online { account, reply }).is_ok();
        let others = if asked { answer.recv_timeout(CALL_TIMEOUT).ok().flatten() } else { None };
        let is_complete = others.is_some();
        let node = self.shared.status().node;
        let mut nodes = vec![NodeOnline { node, seconds_ago: 0, online: online::here(&served) }];
        nodes.extend(others.unwrap_or_default());
        online::answer(&listed, &nodes, user, is_complete)
    }
}

fn node(node: NodeStatus) -> NodeSample {
    let facts = node.facts;
    let host = &facts.reach.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    NodeSample {
        name: node.name,
        online: node.is_online,
        seen_seconds_ago: node.seen_seconds_ago,
        address: format!("{host}:{}", facts.reach.port),
        version: facts.version,
        data_format: facts.format,
        started_at: facts.started_at,
        sessions: facts.sessions,
        upload_bps: facts.up_bytes_per_second,
        download_bps: facts.down_bytes_per_second,
        certificate_days: facts.certificate_days,
        accounts_version: facts.accounts_version,
        last_error: facts.last_error,
    }
}
