//! Why a dial failed.

use std::fmt;
use std::io::{self, ErrorKind};

use crate::io::sockopt::{is_out_of_ports, is_shortage};
use crate::outbound::policy::Refusal;
use crate::outbound::resolve::ResolveError;
use crate::session::DialFailure;
use crate::stats::Counters;

/// Why a dial failed. Where several addresses failed, it is the most telling reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialError {
    /// The name does not exist.
    NoSuchName,
    /// The name has no address of a family that is dialled.
    NoAddress,
    /// No name server answered in time.
    DnsTimeout,
    /// The name servers failed or refused to answer.
    DnsFailed,
    /// Too many look-ups were under way.
    DnsBusy,
    /// The destination policy refused every address there was.
    RefusedByPolicy(Refusal),
    /// The target refused the connection.
    Refused,
    /// There is no way to the target's network or host.
    Unreachable,
    /// Nobody answered before the deadline.
    TimedOut,
    /// No descriptor was left for a socket.
    NoDescriptors,
    /// No local port was free, or `outbound.bind` is no address of this machine any more.
    NoPorts,
    /// Anything else.
    Other(ErrorKind),
}

impl DialError {
    /// How much it tells about why the dial failed. The order, from the most telling one: a shortage of ours, what a
    /// target did, what the policy said, a look-up that failed, a name that has no address.
    pub(super) fn weight(self) -> u8 {
        match self {
            Self::NoSuchName | Self::NoAddress => 0,
            Self::DnsTimeout | Self::DnsFailed | Self::DnsBusy => 1,
            Self::RefusedByPolicy(_) => 2,
            Self::Refused | Self::Unreachable | Self::TimedOut | Self::Other(_) => 3,
            Self::NoDescriptors | Self::NoPorts => 4,
        }
    }

    /// Adds one to the counter of dials that ended like this.
    pub(super) fn count(self, counters: &Counters) {
        let counter = match self {
            Self::NoSuchName | Self::NoAddress | Self::DnsTimeout | Self::DnsFailed | Self::DnsBusy => {
                &counters.dials_unresolved
            }
            Self::RefusedByPolicy(_) => &counters.dials_refused_by_policy,
            Self::Refused | Self::Unreachable | Self::NoPorts | Self::Other(_) => &counters.dials_failed,
            Self::TimedOut => &counters.dials_timed_out,
            Self::NoDescriptors => &counters.dials_no_descriptors,
        };
        counter.add(1);
    }
}

impl From<&io::Error> for DialError {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            _ if is_shortage(error) => Self::NoDescriptors,
            _ if is_out_of_ports(error) => Self::NoPorts,
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Self::Unreachable,
            ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Other(kind),
        }
    }
}

impl From<ResolveError> for DialError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NoSuchName => Self::NoSuchName,
            ResolveError::NoAddress => Self::NoAddress,
            ResolveError::Timeout => Self::DnsTimeout,
            ResolveError::ServerFailure => Self::DnsFailed,
            ResolveError::Busy => Self::DnsBusy,
            ResolveError::NoDescriptors => Self::NoDescriptors,
        }
    }
}

impl From<DialError> for DialFailure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NoSuchName
            | DialError::NoAddress
            | DialError::DnsTimeout
            | DialError::DnsFailed
            | DialError::DnsBusy => Self::Unresolved,
            DialError::RefusedByPolicy(_) => Self::Policy,
            DialError::Refused | DialError::Unreachable | DialError::Other(_) => Self::Unreachable,
            DialError::TimedOut => Self::TimedOut,
            DialError::NoDescriptors | DialError::NoPorts => Self::NoResources,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("no such name"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::DnsTimeout => f.write_str("no name server answered in time"),
            Self::DnsFailed => f.write_str("the name servers failed"),
            Self::DnsBusy => f.write_str("too many look-ups under way"),
            Self::RefusedByPolicy(refusal) => write!(f, "refused by policy: {refusal}"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::TimedOut => f.write_str("timed out"),
            Self::NoDescriptors => f.write_str("out of descriptors"),
            Self::NoPorts => f.write_str("no local port is free"),
            Self::Other(kind) => write!(f, "{kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn shortages_of_ours_are_not_laid_at_the_targets_door() {
        for error in [DialError::NoDescriptors, DialError::NoPorts] {
            assert_eq!(DialFailure::from(error), DialFailure::NoResources);
            assert!(error.weight() > DialError::TimedOut.weight());
        }
    }

    #[test]
    fn system_errors_become_the_right_variant() {
        for (errno, expected) in [
            (Errno::MFILE, DialError::NoDescriptors),
            (Errno::NFILE, DialError::NoDescriptors),
            (Errno::CONNREFUSED, DialError::Refused),
            (Errno::NETUNREACH, DialError::Unreachable),
            (Errno::HOSTUNREACH, DialError::Unreachable),
            (Errno::TIMEDOUT, DialError::TimedOut),
            (Errno::NOSPC, DialError::NoDescriptors),
            (Errno::ADDRNOTAVAIL, DialError::NoPorts),
            (Errno::ADDRINUSE, DialError::NoPorts),
            (Errno::PERM, DialError::Other(ErrorKind::PermissionDenied)),
        ] {
            assert_eq!(DialError::from(&io::Error::from(errno)), expected);
        }
    }
}
