//! Which addresses clients may reach through this server.
//!
//! The policy judges the address that is about to be dialled, after name resolution, so a name that points into a
//! private network (by mistake, or by a name server that changes its answers) gains nothing. It owns the configured
//! exceptions and knows neither sessions nor names. It is not asked about addresses the operator chose: name servers,
//! fallbacks, warm-up targets, the source address.
//!
//! Order of judgement: the server's own listeners, denied ports, the operator's `allow` list, then the private and
//! reserved ranges. The first two cannot be lifted by `allow`.

mod cidr;
pub mod judge;
mod local;
mod ranges;

pub use cidr::{Cidr, ParseCidrError};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Ports refused unless the configuration says otherwise: mail submission between servers, which spammers seek.
pub const DEFAULT_DENY_PORTS: &[u16] = &[25];

/// The rules, made once per configuration and shared by all workers.
#[derive(Clone, Debug)]
pub struct DestinationPolicy {
    allow_private: bool,
    allow: Vec<Cidr>,
    deny_ports: Vec<u16>,
    own_listeners: Vec<SocketAddr>,
    is_local: fn(IpAddr) -> bool,
}

/// Why an address may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It lies in a private or reserved range; the text names the range for a log line.
    Private(&'static str),
    /// It is a listener of this server: a client would talk to the server through the server.
    OwnListener,
    /// The port is denied.
    Port,
}

impl DestinationPolicy {
    /// Rules from the configuration. `own_listeners` are the addresses this server listens on, as bound; one with a
    /// wildcard address covers every address of this machine. An address that reaches this machine only through
    /// somebody else's translation (the public address of a cloud machine) cannot be found here: the caller adds it.
    pub fn new(allow_private: bool, allow: Vec<Cidr>, deny_ports: Vec<u16>, own_listeners: Vec<SocketAddr>) -> Self {
        let own_listeners = own_listeners.into_iter().map(canonical).collect();
        Self { allow_private, allow, deny_ports, own_listeners, is_local: local::is_local }
    }

    /// Judges an address that is about to be dialled. Costs three system calls when the port is that of a wildcard
    /// listener, none otherwise.
    ///
    /// # Errors
    ///
    /// The first rule that refuses it.
    pub fn check(&self, address: SocketAddr) -> Result<(), Refusal> {
        let address = canonical(address);
        let embedded = ranges::embedded_ipv4(address.ip()).map(IpAddr::V4);
        if self.is_own_listener(address)
            || embedded.is_some_and(|ip| self.is_own_listener(SocketAddr::new(ip, address.port())))
        {
            return Err(Refusal::OwnListener);
        }
        if self.deny_ports.contains(&address.port()) {
            return Err(Refusal::Port);
        }
        self.check_range(address.ip())
    }

    /// Judges an address that clients may hear from: where it lies. Costs no system call.
    ///
    /// # Errors
    ///
    /// The range that is refused.
    pub fn check_range(&self, ip: IpAddr) -> Result<(), Refusal> {
        let ip = ip.to_canonical();
        if self.allow_private || self.allow.iter().any(|cidr| cidr.contains(ip)) {
            return Ok(());
        }
        match ranges::reserved_range(ip) {
            Some(range) => Err(Refusal::Private(range)),
            None => Ok(()),
        }
    }

    /// Whether connections to an address that [`DestinationPolicy::check`] lets pass may be made before anybody asks for
    /// them: not into private networks, unless the operator let that network through by name.
    pub fn may_have_spares(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let is_admitted = self.allow.iter().any(|cidr| cidr.contains(address.ip()));
        self.check(address).is_ok() && (is_admitted || is_public(address.ip()))
    }

    fn is_own_listener(&self, address: SocketAddr) -> bool {
        self.own_listeners.iter().any(|listener| {
            if listener.port() != address.port() {
                return false;
            }
            if !listener.ip().is_unspecified() {
                // The kernel delivers a connection to the unspecified address to this machine itself.
                return listener.ip() == address.ip() || (address.ip().is_unspecified() && listener.ip().is_loopback());
            }
            // An IPv6 wildcard listens on both families unless told otherwise.
            let covers_family = listener.is_ipv6() || address.is_ipv4();
            covers_family && (address.ip().is_unspecified() || (self.is_local)(address.ip()))
        })
    }

    #[cfg(test)]
    fn with_local_addresses(mut self, is_local: fn(IpAddr) -> bool) -> Self {
        self.is_local = is_local;
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(range) => f.write_str(range),
            Self::OwnListener => f.write_str("the server's own listener"),
            Self::Port => f.write_str("the port"),
        }
    }
}

/// Whether `ip` is an address of the public internet, that is in no private or reserved range in any spelling.
pub fn is_public(ip: IpAddr) -> bool {
    ranges::reserved_range(ip).is_none()
}

/// The address as it is dialled: IPv4-mapped IPv6 means IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether the host has a route that `probe` would take, found without sending anything.
pub(super) fn has_route(probe: SocketAddr) -> bool {
    local::source_towards(probe).is_ok()
}

/// A global IPv4 address to ask the routing table about.
pub(super) const IPV4_PROBE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), 53);
/// A global IPv6 address to ask the routing table about.
pub(super) const IPV6_PROBE: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)), 53);

#[cfg(test)]
mod tests;
