//! The policy as one worker applies it. Dials and datagram sockets outlive a change of rules, and are judged by those
//! of now.
//!
//! All who ask share one judge. Nobody keeps an answer beyond the [`Judge::edition`] under which it was given.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;

use super::{DestinationPolicy, Refusal};
use crate::io::token::Token;
use crate::outbound::routes::{Routes, Way};

/// The destination policy of one worker as it is now, and the kernel's word on addresses.
#[derive(Debug)]
pub struct Judge {
    policy: RefCell<Arc<DestinationPolicy>>,
    routes: RefCell<Routes>,
    edition: Cell<u64>,
}

impl Judge {
    /// A judge that applies `policy`. `source` is the address that dials and datagrams leave from, if that is fixed.
    pub fn new(policy: Arc<DestinationPolicy>, source: Option<IpAddr>) -> Self {
        Self { policy: RefCell::new(policy), routes: RefCell::new(Routes::open(source)), edition: Cell::new(0) }
    }

    /// Makes events come with `token` when addresses of this machine change. They are for [`Judge::on_event`].
    ///
    /// # Errors
    /// When the kernel cannot watch one more descriptor.
    pub fn watch(&self, registry: &Registry, token: Token) -> io::Result<()> {
        self.routes.borrow().watch(registry, token)
    }

    /// Changes the rules. Answers given earlier count no more.
    pub fn adopt(&self, policy: Arc<DestinationPolicy>, source: Option<IpAddr>) {
        self.policy.replace(policy);
        self.routes.borrow_mut().set_source(source);
        self.begin_edition();
    }

    /// Addresses of this machine may have changed.
    pub fn on_event(&self) {
        if self.routes.borrow_mut().take_news() {
            self.begin_edition();
        }
    }

    /// Lets routes be looked up again from time to time. Callers tell the time before they ask.
    pub fn grow_old(&self, now: Instant) {
        if self.routes.borrow_mut().grow_old(now) {
            self.begin_edition();
        }
    }

    /// A number that changes whenever an answer may have changed.
    pub fn edition(&self) -> u64 {
        self.edition.get()
    }

    /// Where packets to `ip` go.
    pub fn way(&self, ip: IpAddr) -> Way {
        self.routes.borrow_mut().way(ip)
    }

    /// Judges an address that is about to be dialled or sent to; see [`DestinationPolicy::check`].
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn check(&self, address: SocketAddr) -> Result<(), Refusal> {
        self.policy.borrow().check(address, |ip| self.way(ip))
    }

    /// Judges an address that clients may hear from; see [`DestinationPolicy::check_range`].
    ///
    /// # Errors
    /// The range that is refused.
    pub fn check_range(&self, ip: IpAddr) -> Result<(), Refusal> {
        self.policy.borrow().check_range(ip, |ip| self.way(ip))
    }

    /// See [`DestinationPolicy::may_have_spares`].
    pub fn may_have_spares(&self, address: SocketAddr) -> bool {
        self.policy.borrow().may_have_spares(address, |ip| self.way(ip))
    }

    fn begin_edition(&self) {
        self.edition.set(self.edition.get().wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_rules_count_at_once_and_answers_of_the_old_ones_are_told_apart() {
        let policy = |ports: &[u16]| Arc::new(DestinationPolicy::new(false, Vec::new(), ports.to_vec(), Vec::new()));
        let (judge, address) = (Judge::new(policy(&[]), None), SocketAddr::from(([1, 1, 1, 1], 443)));
        let edition = judge.edition();
        assert_eq!(judge.check(address), Ok(()));
        judge.adopt(policy(&[443]), None);
        assert_eq!(judge.check(address), Err(Refusal::Port));
        assert_ne!(judge.edition(), edition);
    }
}
