//! Who is on the other side of a session, and whose counters its bytes go to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::books::Books;
use super::{Fallback, Flow, Target, User};
use crate::io::moment::Moment;
use crate::stats::SessionPermit;
use crate::stats::gate::Source;

/// The other side of a session.
pub(super) enum Party {
    /// Nobody we know: not yet, or not any more after a refusal.
    ///
    /// With what it has connected to, where somebody else has accepted it. Boxed: few clients have one.
    Stranger(Option<Box<SocketAddr>>),
    /// A stranger who is passed on to a fallback; `None`: to a site of this process, which must not live for as long as a
    /// visitor stays, once another has taken its place.
    Fallback(Option<Arc<Fallback>>),
    /// The client of a user whose request was accepted. Boxed: a client that says nothing has no account.
    User(Box<Account>),
}

/// What is known of a client once its request was accepted.
pub(super) struct Account {
    pub(super) user: Arc<User>,
    /// `None` where every session inside has its own.
    pub(super) target: Option<Target>,
    pub(super) flow: Flow,
    /// When its request was accepted.
    pub(super) asked_at: Moment,
    /// What a relay of packets has counted, once it is over.
    pub(super) books: Option<Box<Books>>,
    pub(super) _permit: SessionPermit,
}

impl Party {
    pub(super) fn account(&self) -> Option<&Account> {
        match self {
            Self::Stranger(_) | Self::Fallback(_) => None,
            Self::User(account) => Some(account),
        }
    }

    pub(super) fn account_mut(&mut self) -> Option<&mut Account> {
        match self {
            Self::Stranger(_) | Self::Fallback(_) => None,
            Self::User(account) => Some(account),
        }
    }

    /// Not a user: what is kept for it is the strangers' share of memory.
    pub(super) fn is_stranger(&self) -> bool {
        !matches!(self, Self::User(_))
    }

    /// The name of the fallback that it was passed on to.
    pub(super) fn fallback(&self) -> Option<String> {
        match self {
            Self::Fallback(Some(fallback)) => Some(format!("fallback {}", fallback.dest)),
            Self::Fallback(None) => Some("fallback builtin".to_owned()),
            _ => None,
        }
    }
}

/// One customer's network: an IPv4 address, or the /64 of an IPv6 address.
pub fn source_of(client: IpAddr) -> Source {
    match client.to_canonical() {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
    }
}

/// For people: the address that [`source_of`] was given, of IPv6 the first of its /64.
pub fn address_of(source: Source) -> IpAddr {
    match u32::try_from(source) {
        Ok(ip) => Ipv4Addr::from(ip).into(),
        Err(_) => Ipv6Addr::from(u128::from(source) << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_lead_back_to_addresses() {
        let back = |text: &str| address_of(source_of(text.parse().unwrap())).to_string();
        assert_eq!(back("203.0.113.7"), "203.0.113.7");
        assert_eq!(back("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(back("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
