//! Destination addresses as VLESS and Mux.cool write them (VLESS-1): port, type, address.
//!
//! A [`Target`] is what a client asked for. It owns its domain name, so it outlives the buffer it was read from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a client wants to go: an address or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

/// The host part of a [`Target`].
///
/// A name is 1 to 255 bytes of `0-9 A-Z a-z - . _` and never the text of an IP address: such names are turned into
/// [`Host::Ip`] when they are decoded, and IPv4-mapped IPv6 addresses into IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Ip(IpAddr),
    Name(Box<str>),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
