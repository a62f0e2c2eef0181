//! Types of values that the program works with, where a number or a text would say too little.
//!
//! Every value is usable as it stands: ranges are checked, texts are parsed, relative paths are resolved, defaults are
//! filled in. Tests may change the public fields afterwards.

use std::fmt;
use std::path::PathBuf;

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

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
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
    /// A site that the server serves itself: a folder, a page, or nothing in particular.
    BuiltIn(Option<PathBuf>),
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
