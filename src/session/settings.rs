//! What the configuration means to sessions: plain values, shared by all sessions of a set of rules.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Cidr, Fallbacks, TlsAcceptor, Users};
use crate::protocol::vision::Seed;

/// What the settings of the server mean to a session.
#[derive(Clone)]
pub struct SessionSettings {
    /// `None`: VLESS without TLS.
    pub tls: Option<TlsAcceptor>,
    /// Who passes clients on and says in a PROXY header who they are: from there it is mandatory, from elsewhere garbage.
    pub proxy_protocol_from: Arc<[Cidr]>,
    pub users: Arc<Users>,
    /// Where clients are passed on to that are no user's.
    pub fallbacks: Arc<Fallbacks>,
    pub timeouts: Timeouts,
    /// Parameters of Vision's padding lengths.
    pub vision_seed: Seed,
    /// Largest single read in the relay, 4096 to 131072.
    pub read_bytes_max: usize,
    pub udp: UdpSettings,
}

impl SessionSettings {
    /// Whether connections from `ip` begin with a PROXY header.
    pub fn is_announcer(&self, ip: IpAddr) -> bool {
        self.proxy_protocol_from.iter().any(|network| network.contains(ip))
    }
}

/// What the settings of the server mean to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct UdpSettings {
    /// A UDP socket is given up after this long without a datagram in either direction.
    pub timeout: Duration,
    /// A worker's memory for the datagram being received. What is longer is cut.
    pub recv_buffer_bytes: usize,
    /// UDP sockets of one user in the whole process.
    pub sockets_per_user_max: usize,
    /// A socket with a Global ID that nobody holds is kept for so long, and up to twice that: sockets are looked at as
    /// often.
    pub global_id_grace: Duration,
}

impl Default for UdpSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            recv_buffer_bytes: 1 << 16,
            sockets_per_user_max: 1024,
            // As with Xray.
            global_id_grace: Duration::from_mins(1),
        }
    }
}

/// The deadlines of a session's phases. The first three are absolute, the others count from the last progress.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From accept to the end of the TLS handshake.
    pub tls_handshake: Duration,
    /// From there, or from accept without TLS, to the first byte inside.
    pub first_byte: Duration,
    /// From the first byte to a complete request header.
    pub request: Duration,
    /// No payload byte in either direction.
    pub idle: Duration,
    /// One direction has ended, no payload byte in the other.
    pub half_close: Duration,
    /// Bytes wait and the peer takes none.
    pub write_stall: Duration,
}
