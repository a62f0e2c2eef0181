//! What several keys mean together: an account, TLS, a fallback.
//!
//! Owns the types only; `check.rs` makes them.

use std::fmt;

use super::keys::{CertificateFiles, UserLimits};
use super::settings::{FallbackDest, Flow, TlsVersion};

/// One account.
#[derive(Clone, PartialEq)]
pub struct User {
    /// The 16 bytes of the id, a credential. A free-form id of the file is already mapped to its version 5 UUID.
    pub id: [u8; 16],
    /// Unique; `user-N` (N = place in the file, from 1) where the file names none.
    pub email: String,
    /// What the file says, or what follows from `tls`.
    pub flow: Flow,
    /// What the file says.
    pub given_flow: Option<Flow>,
    /// Switched off, it is refused exactly as an unknown id is.
    pub enabled: bool,
    /// For people.
    pub note: String,
    /// What it may use.
    pub limits: UserLimits,
    /// Seconds since 1970, if that was written.
    pub created_at: Option<u64>,
    /// Where it is kept.
    pub origin: Origin,
}

/// Where an account is kept, and so who may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration, which only people change.
    Configuration,
    /// The users file, which commands, the API and the page change.
    UsersFile,
    /// The engine of the cluster, in which commands, the API and the page of any node change it.
    Cluster,
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

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq)]
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
