//! The cluster as the control plane sees it.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::news::Request;
use super::status::{NodeStatus, Shared};
use crate::control::sample::{ClusterSample, NodeSample};

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

    /// Has the sessions of an account cut on all other nodes, as soon as they hear of it.
    pub fn cut(&self, email: &str, by: &str) {
        if self.requests.try_send(Request::Cut { email: email.to_owned(), by: by.to_owned() }).is_err() {
            log::warn!("cluster: the sessions of {email} are cut on this node only, because too much waits");
        }
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
