//! The policy as one worker applies it: the rules of now, for dials and datagram sockets that outlive a change of them.
//!
//! All who ask share one judge. Nobody keeps an answer beyond the [`Judge::edition`] under which it was given.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{DestinationPolicy, Refusal};

/// The destination policy of one worker, as it is now.
#[derive(Debug)]
pub struct Judge {
    policy: RefCell<Arc<DestinationPolicy>>,
    edition: Cell<u64>,
}

impl Judge {
    pub fn new(policy: Arc<DestinationPolicy>) -> Self {
        Self { policy: RefCell::new(policy), edition: Cell::new(0) }
    }

    /// Changes the rules; answers given earlier count no more.
    pub fn adopt(&self, policy: Arc<DestinationPolicy>) {
        self.policy.replace(policy);
        self.edition.set(self.edition.get().wrapping_add(1));
    }

    /// A number that changes whenever an answer may have changed.
    pub fn edition(&self) -> u64 {
        self.edition.get()
    }

    /// Judges an address that is about to be dialled or sent to; see [`DestinationPolicy::check`].
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn check(&self, address: SocketAddr) -> Result<(), Refusal> {
        self.policy.borrow().check(address)
    }

    /// Judges an address that clients may hear from; see [`DestinationPolicy::check_range`].
    ///
    /// # Errors
    /// The range that is refused.
    pub fn check_range(&self, ip: IpAddr) -> Result<(), Refusal> {
        self.policy.borrow().check_range(ip)
    }

    /// See [`DestinationPolicy::may_have_spares`].
    pub fn may_have_spares(&self, address: SocketAddr) -> bool {
        self.policy.borrow().may_have_spares(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_rules_count_at_once_and_answers_of_the_old_ones_are_told_apart() {
        let policy = |ports: &[u16]| Arc::new(DestinationPolicy::new(false, Vec::new(), ports.to_vec(), Vec::new()));
        let (judge, address) = (Judge::new(policy(&[])), SocketAddr::from(([1, 1, 1, 1], 443)));
        let edition = judge.edition();
        assert_eq!(judge.check(address), Ok(()));
        judge.adopt(policy(&[443]));
        assert_eq!(judge.check(address), Err(Refusal::Port));
        assert_ne!(judge.edition(), edition);
    }
}
