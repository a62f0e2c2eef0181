//! What the operator decided about the control plane. A reload replaces it whole.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::alerts::{Rule, default_rules};
use super::guard::Keys;
use super::listeners::Places;

#[derive(Clone)]
pub struct Settings {
    /// How messages call this server.
    pub server: String,
    /// Where to listen; read at the start only.
    pub places: Places,
    pub keys: Keys,
    /// Seconds of speeds kept.
    pub speed_history_s: usize,
    /// Between two snapshots of the feed.
    pub broadcast_interval: Duration,
    pub feed_clients_max: usize,
    /// A feed client silent for so long is dropped.
    pub heartbeat_timeout: Duration,
    /// `monitoring.vless_max_connections` as configured.
    pub sessions_max_configured: usize,
    /// Read at the start only.
    pub state_file: Option<PathBuf>,
    pub state_interval: Duration,
    /// Series for each user in the metrics, up to [`super::metrics::USERS_MAX`] users.
    pub metrics_users: bool,
    pub rules: Vec<Rule>,
    /// Whether clients are served over TLS.
    pub tls: bool,
    /// The section `performance` of the configuration.
    pub performance: Value,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: "vless-rust".to_owned(),
            places: Places::default(),
            keys: Keys::default(),
            speed_history_s: 60,
            broadcast_interval: Duration::from_secs(1),
            feed_clients_max: 300,
            heartbeat_timeout: Duration::from_secs(60),
            sessions_max_configured: 0,
            state_file: None,
            state_interval: Duration::from_secs(10),
            metrics_users: true,
            rules: default_rules(),
            tls: false,
            performance: Value::Null,
        }
    }
}
