//! What the control plane shows, as plain data taken from the rest once a second.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::stats::pools::{ConnectionPoolStats, MemoryPoolStats};
use crate::stats::{TimingTotals, Totals, UserTotals};

/// The state of the server at one moment. Every counter began at 0 with the process.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub totals: Totals,
    pub memory_pool: MemoryPoolStats,
    pub connection_pool: ConnectionPoolStats,
    /// Sessions that ended, by reason. Every known reason is there.
    pub closes: Vec<(&'static str, u64)>,
    /// Clients that were not served, by reason. Every known reason is there.
    pub rejected: Vec<(&'static str, u64)>,
    /// Sessions alive now, and how many there may be.
    pub sessions: u64,
    pub sessions_max: u64,
    pub users: Vec<UserSample>,
    /// Changes with every change of an account.
    pub users_revision: u64,
    pub state: ServerState,
    pub workers: u64,
    pub certificates: Vec<CertificateSample>,
    pub last_reload: Option<ReloadSample>,
    pub timings: TimingTotals,
    /// Log lines that were dropped because the log could not follow.
    pub log_lines_dropped: u64,
    /// `None`: this node is alone.
    pub cluster: Option<ClusterSample>,
}

/// How the cluster stands, seen from this node.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterSample {
    /// The name of this node.
    pub node: String,
    /// The engine answers.
    #[serde(rename = "connected")]
    pub is_connected: bool,
    /// For how long it has not; 0 while it does.
    pub away_seconds: u64,
    /// Why it is away, or what else is wrong.
    pub error: Option<String>,
    pub accounts_version: u64,
    pub accounts: u64,
    /// Accounts that are not served here because a file of this node has the same email or id; each in words.
    pub clashes: Vec<String>,
    /// Accounts whose traffic the engine was not told yet.
    pub untold_accounts: u64,
    /// Batches of traffic that the engine lost for good.
    pub lost_batches: u64,
    pub reports_total: u64,
    pub failures_total: u64,
    /// The engine's clock less that of this machine, in milliseconds.
    pub clock_offset_ms: i64,
    pub nodes: Vec<NodeSample>,
}

/// One node of the cluster, as it described itself last.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeSample {
    pub name: String,
    pub online: bool,
    pub seen_seconds_ago: u64,
    pub address: String,
    pub version: String,
    pub data_format: u64,
    pub started_at: u64,
    pub sessions: u64,
    pub upload_bps: u64,
    pub download_bps: u64,
    pub certificate_days: Option<i64>,
    pub accounts_version: u64,
    pub last_error: Option<String>,
}

/// Whether the server takes new clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// The workers are not all up yet.
    #[default]
    Starting,
    Serving,
    Draining,
}

/// One account.
#[derive(Clone, Debug, Default, Hash)]
pub struct UserSample {
    /// The credential. Shown whole to the admin right alone.
    pub id: [u8; 16],
    /// The id in the form under which what was used is kept.
    pub ledger_id: [u8; 16],
    pub email: Arc<str>,
    pub note: Arc<str>,
    pub flow: &'static str,
    pub enabled: bool,
    pub state: UserState,
    /// The account is in the configuration file, which nobody but the operator writes.
    pub locked: bool,
    pub totals: UserTotals,
    /// Where live sessions come from.
    pub addresses: Vec<IpAddr>,
    pub quota_used_bytes: u64,
    pub quota_resets_at: Option<u64>,
    pub created_at: Option<u64>,
    pub expires_at: Option<u64>,
    pub limits: UserLimits,
}

/// Whether an account is served, and if not, why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    #[default]
    Active,
    Disabled,
    Expired,
    QuotaUsed,
}

impl UserState {
    pub const ALL: [(Self, &str); 4] = [
        (Self::Active, "active"),
        (Self::Disabled, "disabled"),
        (Self::Expired, "expired"),
        (Self::QuotaUsed, "quota_used"),
    ];
}

/// What an account may use; 0 is no limit.
#[derive(Clone, Debug, Default, Hash, Serialize)]
pub struct UserLimits {
    pub quota_bytes: u64,
    /// `none`, `day`, `week` or `month`.
    pub quota_period: &'static str,
    pub quota_day: u64,
    /// RFC 3339.
    pub expires_at: Option<String>,
    pub expires_after_days: u64,
    pub addresses_max: u64,
    pub sessions_max: u64,
    pub up_bytes_per_second_max: u64,
    pub down_bytes_per_second_max: u64,
}

/// One certificate shown to clients.
#[derive(Clone, Debug, Default)]
pub struct CertificateSample {
    pub names: Vec<String>,
    pub issuer: String,
    pub self_signed: bool,
    pub not_after: u64,
    /// Of the certificate in DER, in hexadecimal: what Xray and mihomo pin, and what links carry.
    pub pin_sha256: String,
    /// Of the public key, in Base64: what sing-box pins.
    pub public_key_sha256: String,
}

/// How the last reload went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReloadSample {
    pub at: u64,
    pub ok: bool,
    /// In words: `users +1 -0`.
    pub changes: Vec<String>,
    /// The same for programs: objects whose `code` says what each is.
    pub changed: Vec<Value>,
    /// Keys whose new values hold only after a restart.
    pub needs_restart: Vec<String>,
    pub error: Option<String>,
}
