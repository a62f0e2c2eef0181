//! The configuration after all checks: what the rest of the program works with.
//!
//! Owns the types only. Every value here is usable as it stands: ranges are checked, texts are parsed, relative paths
//! are resolved, defaults are filled in. Built by `check.rs` alone; tests may change the public fields afterwards.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::outbound::policy::Cidr;

/// Where clients connect to.
#[derive(Debug, Clone)]
pub struct Server {
    /// At least one address, none twice. `::` means both families.
    pub listen: Vec<IpAddr>,
    /// 1..=65535.
    pub port: u16,
    /// What links name as this server, if the operator said so: an IP address or a host name, without brackets.
    pub public_host: Option<String>,
    /// Reactor threads, 0..=256; 0 = one per core.
    pub workers: usize,
}

/// One account.
#[derive(Clone)]
pub struct User {
    /// The 16 bytes of the id, a credential. A free-form id of the file is already mapped to its version 5 UUID.
    pub id: [u8; 16],
    /// Unique; `user-N` (N = place in the file, from 1) where the file names none.
    pub email: String,
    /// What the file says, or what follows from `tls`.
    pub flow: Flow,
}

impl User {
    /// The id in hexadecimal groups. This is the credential: for links, never for logs above debug.
    pub fn id_text(&self) -> String {
        uuid::Uuid::from_bytes(self.id).hyphenated().to_string()
    }

    /// The first eight characters of the id, which identify without giving access.
    pub fn masked_id(&self) -> String {
        format!("{}…", self.id_text().chars().take(8).collect::<String>())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.masked_id())
            .field("email", &self.email)
            .field("flow", &self.flow)
            .finish()
    }
}

/// The VLESS flow of an account. Both Vision values are the same account on the server; the suffix only tells the
/// client, through the link, to let QUIC pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// No flow.
    None,
    /// `xtls-rprx-vision`.
    Vision,
    /// `xtls-rprx-vision-udp443`.
    VisionUdp443,
}

impl Flow {
    /// As the configuration and a link write it; empty for none.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Vision => "xtls-rprx-vision",
            Self::VisionUdp443 => "xtls-rprx-vision-udp443",
        }
    }

    /// Whether requests of this account must use Vision.
    pub fn is_vision(self) -> bool {
        self != Self::None
    }
}

/// TLS towards clients.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The default certificate.
    pub main: CertificateFiles,
    /// Further ones, chosen by the name the client asks for.
    pub more: Vec<CertificateFiles>,
    /// A DNS name or an IP address.
    pub server_name: String,
    /// Protocol names of 1..=255 bytes, the preferred one first; empty = none is negotiated.
    pub alpn: Vec<String>,
    /// The oldest version accepted.
    pub min_version: TlsVersion,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM, the server's own certificate first.
    pub cert_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
    /// Lower-case names this certificate is for; empty = those in the certificate.
    pub server_names: Vec<String>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Where connections go that turn out not to be VLESS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// Lower-case server name, or empty = any.
    pub name: String,
    /// Negotiated protocol, or empty = any.
    pub alpn: String,
    /// Request path that begins with a slash, or empty = any.
    pub path: String,
    /// Where to.
    pub dest: FallbackDest,
    /// Version of the PROXY header to send first; 0 = none.
    pub xver: u8,
}

/// Where a fallback leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FallbackDest {
    /// TCP to a host name or address and port.
    Tcp(String, u16),
    /// A Unix socket in the file system.
    Unix(PathBuf),
    /// A Linux abstract socket: the name without its `@`, and whether it is padded with zeros to full length.
    Abstract {
        /// Without the leading `@`.
        name: String,
        /// Written as `@@name`.
        padded: bool,
    },
}

/// The statistics interface.
#[derive(Clone)]
pub struct Monitoring {
    /// Whether it is served at all.
    pub enabled: bool,
    /// Its own listener.
    pub listen: SocketAddr,
    /// The secret that callers must present; always set when `listen` is not a loopback address.
    pub token: Option<String>,
    /// How far back the speed history goes.
    pub speed_history_duration: Duration,
    /// Between two messages of the feed.
    pub broadcast_interval: Duration,
    /// Subscribers of the feed.
    pub websocket_max_connections: usize,
    /// After this long without a word a subscriber is dropped.
    pub websocket_heartbeat_timeout: Duration,
    /// VLESS sessions; 0 = what the descriptor limit allows.
    pub vless_max_connections: usize,
    /// Where totals live.
    pub state_file: PathBuf,
    /// Between two writes of it.
    pub state_interval: Duration,
    /// The secret of callers who may change things; those with `token` may only look.
    pub admin_token: Option<String>,
    /// A Unix socket that serves commands on this machine.
    pub socket: Option<PathBuf>,
}

impl fmt::Debug for Monitoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitoring")
            .field("enabled", &self.enabled)
            .field("listen", &self.listen)
            .field("vless_max_connections", &self.vless_max_connections)
            .finish_non_exhaustive()
    }
}

/// Sizes and switches of the data path.
#[derive(Debug, Clone)]
pub struct Performance {
    /// Largest single read in bytes, 4096..=131072.
    pub buffer_size: usize,
    /// Bytes after which counters are published.
    pub stats_batch_size: usize,
    /// `TCP_NODELAY` on both legs.
    pub tcp_nodelay: bool,
    /// `SO_RCVBUF` in bytes; none = left to the kernel.
    pub tcp_recv_buffer: Option<usize>,
    /// `SO_SNDBUF` in bytes; none = left to the kernel.
    pub tcp_send_buffer: Option<usize>,
    /// A UDP target is given up after this long without a datagram.
    pub udp_timeout: Duration,
    /// User-space receive buffer per worker in bytes, at least 65535.
    pub udp_recv_buffer: usize,
    /// UDP sockets one account may hold.
    pub udp_sockets_per_user_max: usize,
    /// Cap on buffer memory in bytes; none = from the memory of the machine or cgroup.
    pub buffer_memory_max: Option<usize>,
    /// Vision's padding lengths: long below a, uniform b, plus c; short uniform d. b and d are at least 1.
    pub vision_seed: [u16; 4],
    /// Whether direct connections may be spliced.
    pub splice: bool,
}

/// Connected spares per target, and the time a dial may take.
#[derive(Debug, Clone)]
pub struct ConnectionPool {
    /// Whether spares are kept.
    pub enabled: bool,
    /// Spares per target in the whole process.
    pub max_connections_per_host: usize,
    /// A spare is closed after waiting this long.
    pub max_idle_time: Duration,
    /// A spare is closed at this age.
    pub max_lifetime: Duration,
    /// For look-up and dial together, also with the pool off.
    pub connect_timeout: Duration,
    /// Between two checks of a spare.
    pub health_check_interval: Duration,
    /// Whether `warmup_targets` get spares at start.
    pub enable_warmup: bool,
    /// How many each.
    pub warmup_connections: usize,
    /// Host name or address, and port.
    pub warmup_targets: Vec<(String, u16)>,
}

/// What clients may reach and how.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Whether private, loopback and other special addresses may be reached.
    pub allow_private: bool,
    /// Networks let through all the same.
    pub allow: Vec<Cidr>,
    /// Ports refused.
    pub deny_ports: Vec<u16>,
    /// Which address family is tried first.
    pub prefer: Prefer,
    /// Source address of dials.
    pub bind: Option<IpAddr>,
    /// Name servers in the order to ask them; empty = those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
    /// For one name over all servers and repeats.
    pub dns_timeout: Duration,
}

/// Which address family a dial tries first. The other one is still used when the first does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The order of RFC 8305: IPv6 first where the machine has it.
    Auto,
    /// IPv4 first.
    Ipv4,
    /// IPv6 first.
    Ipv6,
}

/// One per phase. The first three are absolute, the next three count from the last progress.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From accept to the end of the TLS handshake.
    pub tls_handshake: Duration,
    /// From there (without TLS: from accept) to the first byte.
    pub first_byte: Duration,
    /// From the first byte to a complete request header.
    pub request: Duration,
    /// No payload byte in either direction.
    pub idle: Duration,
    /// No byte in the remaining direction after the other one ended.
    pub half_close: Duration,
    /// Bytes wait and the peer takes none.
    pub write_stall: Duration,
    /// What live sessions get at shutdown; may be zero.
    pub drain: Duration,
}

/// Where log lines go and which.
#[derive(Debug, Clone)]
pub struct Log {
    /// The least important level still written.
    pub level: log::LevelFilter,
    /// None = stderr.
    pub file: Option<PathBuf>,
    /// Text for people or JSON for programs, for both log and access lines.
    pub format: LogFormat,
    /// Whether each session leaves a line.
    pub access: bool,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
