//! The configuration file, key by key, as it may be written.
//!
//! Owns names and defaults, nothing else: numbers are as wide as JSON's and texts unread, so that the checks
//! (`check.rs`) can say what would be right instead of the parser saying what did not fit. Every key has a default;
//! only `users[].uuid` must be given. Unknown and repeated keys are errors of the parser.

use std::fmt;

use serde::de::{SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::locate::{KeyPath, Step};

/// The whole file. Its ids and token are credentials.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) users: Vec<User>,
    pub(super) tls: Tls,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) monitoring: Monitoring,
    pub(super) performance: Performance,
    pub(super) connection_pool: ConnectionPool,
    pub(super) outbound: Outbound,
    pub(super) timeouts: Timeouts,
    pub(super) log: Log,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").finish_non_exhaustive()
    }
}

/// The place on the way `keys` where a list stands for an object. The parser takes such a list and fills the object's
/// keys in the order of this file, so that its complaints would be about keys that nobody wrote.
pub(super) fn list_for_object(keys: &KeyPath) -> Option<KeyPath> {
    let mut file = File::default();
    file.users.push(User { uuid: String::new(), email: None, flow: None });
    let empty = String::new;
    file.tls.certificates.push(Certificate { cert_file: empty(), key_file: empty(), server_names: Vec::new() });
    file.fallbacks.push(Fallback { name: empty(), alpn: empty(), path: empty(), dest: empty(), xver: 0 });
    let mut meant = &serde_json::to_value(file).ok()?;
    for (depth, step) in keys.0.iter().enumerate() {
        meant = match (step, meant) {
            (Step::Index(_), Value::Object(_)) => return Some(KeyPath(keys.0[..depth].to_vec())),
            (Step::Index(_), meant) => meant.get(0)?,
            (Step::Key(key), meant) => meant.get(key)?,
        };
    }
    None
}

/// Where clients connect to.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Server {
    /// One IP address or a list of them.
    #[serde(deserialize_with = "one_or_many")]
    pub(super) listen: Vec<String>,
    pub(super) port: i64,
    /// What links name as this server: an address or a host name.
    pub(super) public_ip: Option<String>,
    /// 0 = one per core.
    pub(super) workers: i64,
}

impl Default for Server {
    fn default() -> Self {
        Self { listen: vec!["0.0.0.0".to_owned()], port: 443, public_ip: None, workers: 0 }
    }
}

/// One account.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object { \"uuid\": ... }")]
pub(super) struct User {
    pub(super) uuid: String,
    #[serde(default)]
    pub(super) email: Option<String>,
    /// None = `tls.xtls_flow` with TLS, no flow without.
    #[serde(default)]
    pub(super) flow: Option<String>,
}

/// TLS towards clients.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Tls {
    pub(super) enabled: bool,
    pub(super) cert_file: String,
    pub(super) key_file: String,
    pub(super) server_name: String,
    pub(super) xtls_flow: String,
    pub(super) alpn: Vec<String>,
    pub(super) min_version: String,
    /// Further certificates, chosen by the name the client asks for.
    pub(super) certificates: Vec<Certificate>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            enabled: false,
            cert_file: "certs/server.crt".to_owned(),
            key_file: "certs/server.key".to_owned(),
            server_name: "localhost".to_owned(),
            xtls_flow: "xtls-rprx-vision".to_owned(),
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
            min_version: "1.2".to_owned(),
            certificates: Vec::new(),
        }
    }
}

/// One further certificate.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object { \"cert_file\": ..., \"key_file\": ... }")]
pub(super) struct Certificate {
    pub(super) cert_file: String,
    pub(super) key_file: String,
    /// Empty = the names in the certificate.
    #[serde(default)]
    pub(super) server_names: Vec<String>,
}

/// Where a stranger's connection goes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object { \"dest\": ... }")]
pub(super) struct Fallback {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) alpn: String,
    #[serde(default)]
    pub(super) path: String,
    #[serde(deserialize_with = "number_or_text")]
    pub(super) dest: String,
    #[serde(default)]
    pub(super) xver: i64,
}

/// The statistics interface.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Monitoring {
    pub(super) enabled: bool,
    pub(super) listen: String,
    pub(super) port: i64,
    pub(super) token: Option<String>,
    pub(super) speed_history_duration: i64,
    pub(super) broadcast_interval: i64,
    pub(super) websocket_max_connections: i64,
    pub(super) websocket_heartbeat_timeout: i64,
    /// 0 = what the descriptor limit allows.
    pub(super) vless_max_connections: i64,
    pub(super) state_file: String,
    pub(super) state_interval: i64,
    /// May change things; `token` may only look.
    pub(super) admin_token: Option<String>,
    /// A Unix socket for commands on this machine; none or empty = no socket.
    pub(super) socket: Option<String>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: "127.0.0.1".to_owned(),
            port: 9090,
            token: None,
            speed_history_duration: 60,
            broadcast_interval: 1,
            websocket_max_connections: 300,
            websocket_heartbeat_timeout: 60,
            vless_max_connections: 0,
            state_file: "state.json".to_owned(),
            state_interval: 10,
            admin_token: None,
            socket: Some("vless-rust.sock".to_owned()),
        }
    }
}

/// Sizes and switches of the data path.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Performance {
    pub(super) buffer_size: i64,
    pub(super) stats_batch_size: i64,
    pub(super) tcp_nodelay: bool,
    /// 0 = left to the kernel.
    pub(super) tcp_recv_buffer: i64,
    /// 0 = left to the kernel.
    pub(super) tcp_send_buffer: i64,
    pub(super) udp_timeout: i64,
    pub(super) udp_recv_buffer: i64,
    pub(super) udp_sockets_per_user_max: i64,
    /// 0 = from the memory of the machine or cgroup.
    pub(super) buffer_memory_max: i64,
    pub(super) vision_seed: Vec<i64>,
    pub(super) splice: bool,
}

impl Default for Performance {
    fn default() -> Self {
        Self {
            buffer_size: 131_072,
            stats_batch_size: 65_536,
            tcp_nodelay: true,
            tcp_recv_buffer: 0,
            tcp_send_buffer: 0,
            udp_timeout: 300,
            udp_recv_buffer: 65_536,
            udp_sockets_per_user_max: 1024,
            buffer_memory_max: 0,
            vision_seed: vec![900, 500, 900, 256],
            splice: true,
        }
    }
}

/// Connected spares per target, and the time a dial may take.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct ConnectionPool {
    pub(super) enabled: bool,
    pub(super) max_connections_per_host: i64,
    pub(super) max_idle_time: i64,
    pub(super) max_lifetime: i64,
    /// For look-up and dial together, also with the pool off.
    pub(super) connect_timeout: i64,
    pub(super) health_check_interval: i64,
    pub(super) enable_warmup: bool,
    pub(super) warmup_connections: i64,
    pub(super) warmup_targets: Vec<String>,
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self {
            enabled: true,
            max_connections_per_host: 20,
            max_idle_time: 300,
            max_lifetime: 1800,
            connect_timeout: 10,
            health_check_interval: 30,
            enable_warmup: true,
            warmup_connections: 3,
            warmup_targets: Vec::new(),
        }
    }
}

/// What clients may reach and how.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Outbound {
    pub(super) allow_private: bool,
    pub(super) allow: Vec<String>,
    pub(super) deny_ports: Vec<i64>,
    pub(super) prefer: String,
    pub(super) bind: Option<String>,
    pub(super) dns: Dns,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            allow_private: false,
            allow: Vec::new(),
            deny_ports: vec![25],
            prefer: "auto".to_owned(),
            bind: None,
            dns: Dns::default(),
        }
    }
}

/// Name look-up.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Dns {
    /// Empty = those of `/etc/resolv.conf`.
    pub(super) servers: Vec<String>,
    pub(super) timeout: i64,
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: 5 }
    }
}

/// Seconds per phase.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Timeouts {
    pub(super) tls_handshake: i64,
    pub(super) first_byte: i64,
    pub(super) request: i64,
    pub(super) idle: i64,
    pub(super) half_close: i64,
    pub(super) write_stall: i64,
    pub(super) drain: i64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { tls_handshake: 10, first_byte: 60, request: 10, idle: 300, half_close: 30, write_stall: 300, drain: 30 }
    }
}

/// Where log lines go and which.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object { ... }")]
pub(super) struct Log {
    pub(super) level: String,
    pub(super) file: Option<String>,
    pub(super) format: String,
    pub(super) access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), file: None, format: "text".to_owned(), access: false }
    }
}

/// A text, or a list of texts. serde's untagged enums would only say that nothing matched.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Deserialize::deserialize(value::SeqAccessDeserializer::new(list))
        }
    }
    deserializer.deserialize_any(OneOrMany)
}

/// A port written as a number, or a text.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct NumberOrText;
    impl Visitor<'_> for NumberOrText {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a port or a string")
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
            Ok(number.to_string())
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
            Ok(number.to_string())
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_any(NumberOrText)
}
