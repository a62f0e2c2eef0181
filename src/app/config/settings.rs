//! Types of values that the program works with, where a number or a text would say too little.
//!
//! Every value is usable as it stands: ranges are checked, texts are parsed, relative paths are resolved, defaults are
//! filled in. Tests may change the public fields afterwards.

use std::fmt;
use std::path::PathBuf;

use super::keys::{CertificateFiles, UserLimits};

/// One account.
#[derive(Clone, PartialEq)]
pub struct User {
    /// The 16 bytes of the id, a credential. A free-form id of the file is already mapped to its version 5 UUID.
    pub id: [u8; 16],
    /// Unique; `user-N` (N = place in the file, from 1) where the file names none.
    pub email: String,
    /// What the file says, or what follows from `tls`.
    pub flow: Flow,
    /// Switched off, it is refused exactly as an unknown id is.
    pub enabled: bool,
    /// For people.
    pub note: String,
    /// What it may use.
    pub limits: UserLimits,
    /// Seconds since 1970, if that was written.
    pub created_at: Option<u64>,
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
            .finish_non_exhaustive()
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

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for whoever compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// When a quota begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaPeriod {
    /// Never.
    None,
    /// At midnight, UTC.
    Day,
    /// On Mondays.
    Week,
    /// On one day of each month.
    Month,
}

impl QuotaPeriod {
    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// Who is told of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// A line in the log.
    Log,
    /// A POST to this address.
    Webhook(String),
    /// A program and its arguments.
    Command(Vec<String>),
}
