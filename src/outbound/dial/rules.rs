//! What dials, look-ups and spares obey. It is made once per configuration, shared by all workers, and swapped whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::io::sockopt::SocketOptions;
use crate::outbound::connection_pool::PoolSettings;
use crate::outbound::policy::DestinationPolicy;
use crate::outbound::resolve::ResolverSettings;

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialRules {
    /// For look-up and connect together.
    pub connect_timeout: Duration,
    pub prefer: Prefer,
    /// The source address. Only its family is dialled.
    pub bind: Option<IpAddr>,
    pub policy: Arc<DestinationPolicy>,
    pub resolver: ResolverSettings,
    pub options: SocketOptions,
    /// Spare connections to targets. The figures are for the whole process. `None`: no spares are kept.
    pub pool: Option<PoolSettings>,
}

/// Which family is dialled first when a name has both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// IPv6 where the host has a route to the IPv6 internet. A family without a route is not asked for at all.
    #[default]
    Auto,
    /// IPv4, with IPv6 as the fallback.
    Ipv4,
    /// IPv6, with IPv4 as the fallback.
    Ipv6,
}
