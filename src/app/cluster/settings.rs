//! From the configuration to what the cluster's thread obeys.

use std::path::PathBuf;
use std::time::Duration;

use super::engine::Access;
use crate::app::config::{Config, Flow};
use crate::app::exit::{self, Failure};
use crate::cluster::lease::WhenAway;

/// A node is gone, and what was lent to it is lent to others, after so many intervals without a sign of life.
const INTERVALS_UNTIL_GONE: u32 = 6;

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Settings {
    pub access: Access,
    pub node: String,
    pub prefix: String,
    pub interval: Duration,
    /// Until a silent node counts as gone.
    pub gone_after: Duration,
    pub lease_bytes: u64,
    pub away: WhenAway,
    pub folder: PathBuf,
    /// The flow of accounts that have none of their own.
    pub flow_with_tls: Option<Flow>,
}

impl Settings {
    /// `None`: this node is alone.
    ///
    /// # Errors
    /// 78 when the machine has no name that could be the node's.
    pub fn of(config: &Config) -> Result<Option<Self>, Failure> {
        let cluster = &config.cluster;
        let Some(url) = &cluster.url else { return Ok(None) };
        let node = match &cluster.node {
            Some(node) => node.clone(),
            None => name_of_machine()?,
        };
        Ok(Some(Self {
            access: Access { url: url.clone(), ca_file: cluster.ca_file.clone() },
            node,
            prefix: cluster.prefix.clone(),
            interval: cluster.interval,
            gone_after: cluster.interval * INTERVALS_UNTIL_GONE,
            lease_bytes: cluster.lease_bytes as u64,
            away: cluster.away,
            folder: cluster.folder.clone(),
            flow_with_tls: config.flow_with_tls,
        }))
    }

    /// A key in the engine.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }
}

fn name_of_machine() -> Result<String, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_plain && (1..=64).contains(&name.len()) {
        return Ok(name);
    }
    Err(Failure::new(exit::CONFIG, "cluster.node: the machine has no plain name; give this node one"))
}
