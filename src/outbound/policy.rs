//! Which addresses clients may reach through this server.
//!
//! The policy judges the address that is about to be dialled, after name resolution. So a name that points into a
//! private network (by mistake, or by a name server that changes its answers) gains nothing. The policy owns the
//! configured exceptions and knows neither sessions nor names. It is not asked about name servers and the source
//! address, which the operator chose. Of fallbacks and warm-up targets it refuses only the server's own listeners.
//!
//! The order of judgement:
//!
//! 1. the server's own listeners,
//! 2. what else is the server's: its dashboard, and the engine of its cluster,
//! 3. denied ports,
//! 4. the operator's `allow` list, which cannot lift the first three,
//! 5. the private and reserved ranges,
//! 6. the addresses that end on this machine, public ones included. A service behind a host firewall that trusts the
//!    loopback interface is not to be reached through this server.

pub mod judge;
mod ranges;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::routes::Way;
pub use crate::session::{Cidr, ParseCidrError};

const THIS_MACHINE: &str = "an address of this machine";

/// The rules, made once per configuration and shared by all workers.
#[derive(Clone, Debug)]
pub struct DestinationPolicy {
    allow_private: bool,
    allow: Vec<Cidr>,
    deny_ports: Vec<u16>,
    own_listeners: Vec<SocketAddr>,
    guarded: Vec<SocketAddr>,
}

/// Why an address may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It lies in a private or reserved range. The text names the range for a log line.
    Private(&'static str),
    /// It is a listener of this server: a client would talk to the server through the server.
    OwnListener,
    /// It is the server's dashboard or the engine of its cluster.
    Guarded,
    /// The port is denied.
    Port,
    /// Nobody can say now where the address ends, for want of a descriptor. This is no word of the policy.
    Undecided,
}

impl DestinationPolicy {
    /// Rules from the configuration. `own_listeners` are the addresses this server listens on, as bound. One with a
    /// wildcard address covers every address of this machine. An address that reaches this machine only through
    /// somebody else's translation (the public address of a cloud machine) cannot be found here, so the caller adds it.
    pub fn new(allow_private: bool, allow: Vec<Cidr>, deny_ports: Vec<u16>, own_listeners: Vec<SocketAddr>) -> Self {
        let own_listeners = own_listeners.into_iter().map(canonical).collect();
        Self { allow_private, allow, deny_ports, own_listeners, guarded: Vec::new() }
    }

    /// The same policy, which also keeps clients from `guarded`: services that take whoever comes from this machine for a
    /// friend. Who may reach private networks may not reach them. The operator may, with a fallback.
    #[must_use]
    pub fn guarding(mut self, guarded: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.guarded = guarded.into_iter().map(canonical).collect();
        self
    }

    /// Judges an address that is about to be dialled. `way` says where addresses end.
    ///
    /// # Errors
    ///
    /// The first rule that refuses it.
    pub fn check(&self, address: SocketAddr, mut way: impl FnMut(IpAddr) -> Way) -> Result<(), Refusal> {
        let address = canonical(address);
        let embedded = ranges::embedded_ipv4(address.ip()).map(|ip| SocketAddr::new(ip.into(), address.port()));
        for address in [Some(address), embedded].into_iter().flatten() {
            if leads_to(&self.own_listeners, address, &mut way)? {
                return Err(Refusal::OwnListener);
            }
            if leads_to(&self.guarded, address, &mut way)? {
                return Err(Refusal::Guarded);
            }
        }
        if self.deny_ports.contains(&address.port()) {
            return Err(Refusal::Port);
        }
        self.check_range(address.ip(), way)
    }

    /// Judges an address that clients may hear from: where it lies.
    ///
    /// # Errors
    ///
    /// The range that is refused.
    pub fn check_range(&self, ip: IpAddr, mut way: impl FnMut(IpAddr) -> Way) -> Result<(), Refusal> {
        let ip = ip.to_canonical();
        if self.allow_private || self.allow.iter().any(|cidr| cidr.contains(ip)) {
            return Ok(());
        }
        if let Some(range) = ranges::reserved_range(ip) {
            return Err(Refusal::Private(range));
        }
        let embedded = ranges::embedded_ipv4(ip).map(IpAddr::V4);
        [Some(ip), embedded].into_iter().flatten().try_for_each(|ip| self.check_machine(ip, &mut way))
    }

    /// Whether connections to this address may be made before anybody asks for them. [`DestinationPolicy::check`] must
    /// let it pass. Private networks get none, unless the operator let that network through by name.
    pub fn may_have_spares(&self, address: SocketAddr, mut way: impl FnMut(IpAddr) -> Way) -> bool {
        let ip = canonical(address).ip();
        let is_admitted = self.allow.iter().any(|cidr| cidr.contains(ip));
        self.check(address, &mut way).is_ok() && (is_admitted || (is_public(ip) && way(ip) != Way::Here))
    }

    /// Refuses addresses that end on this machine: those that the kernel knows, and those of listeners. A listener's
    /// may be a public address that somebody else translates.
    fn check_machine(&self, ip: IpAddr, mut way: impl FnMut(IpAddr) -> Way) -> Result<(), Refusal> {
        let is_listener = self.own_listeners.iter().any(|listener| listener.ip() == ip);
        match if is_listener { Way::Here } else { way(ip) } {
            Way::Here => Err(Refusal::Private(THIS_MACHINE)),
            Way::Unknown => Err(Refusal::Undecided),
            Way::There | Way::Nowhere => Ok(()),
        }
    }
}

/// Whether a connection to `address` would come to one of `listeners`.
fn leads_to(
    listeners: &[SocketAddr],
    address: SocketAddr,
    mut way: impl FnMut(IpAddr) -> Way,
) -> Result<bool, Refusal> {
    let ip = address.ip();
    for listener in listeners.iter().filter(|listener| listener.port() == address.port()) {
        // The kernel delivers a connection to the unspecified address to this machine itself.
        let is_it = listener.ip() == ip || (ip.is_unspecified() && listener.ip().is_loopback());
        // An IPv6 wildcard listens on both families unless told otherwise.
        let covers_family = listener.is_ipv6() || address.is_ipv4();
        let way = if listener.ip().is_unspecified() && covers_family { way(ip) } else { Way::There };
        match way {
            _ if is_it => return Ok(true),
            Way::Here => return Ok(true),
            Way::Unknown => return Err(Refusal::Undecided),
            Way::There | Way::Nowhere => {}
        }
    }
    Ok(false)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(range) => f.write_str(range),
            Self::OwnListener => f.write_str("the server's own listener"),
            Self::Guarded => f.write_str("the server's dashboard or engine"),
            Self::Port => f.write_str("the port"),
            Self::Undecided => f.write_str("nobody can say now where it ends"),
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

#[cfg(test)]
mod tests;
