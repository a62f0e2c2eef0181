//! Rights to sockets besides the client's and the target's that every session has, so that nobody takes them all.
//!
//! UDP sockets are limited by user. Sockets of sessions inside Mux connections, TCP and UDP, are also limited for all
//! users together: one connection may ask for a thousand, and each costs a descriptor of the process. Dropping a right
//! gives it back, together with the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::User;
use crate::stats::Ledger;

/// The right to one of the UDP sockets that a user may have in the whole process. Dropping it gives it back.
#[derive(Debug)]
pub struct UdpPermit {
    ledger: Arc<Ledger>,
}

impl UdpPermit {
    /// `None` when `user` has `sockets_max` already.
    pub fn take(user: &User, sockets_max: usize) -> Option<Self> {
        user.ledger.take_udp_socket(sockets_max).then(|| Self { ledger: Arc::clone(&user.ledger) })
    }
}

impl Drop for UdpPermit {
    fn drop(&mut self) {
        self.ledger.give_udp_socket();
    }
}

/// How many sockets sessions inside Mux connections have in the whole process, and how many they may have.
#[derive(Debug)]
pub struct MuxSockets {
    open: AtomicUsize,
    sockets_max: usize,
    per_user_max: usize,
}

impl MuxSockets {
    /// At most `sockets_max` at the same time, half of them one user's.
    pub fn new(sockets_max: usize) -> Self {
        Self { open: AtomicUsize::new(0), sockets_max, per_user_max: sockets_max.div_ceil(2) }
    }
}

/// The right to one socket of a session inside a Mux connection. Dropping it gives it back.
#[derive(Debug)]
pub struct MuxPermit {
    sockets: Arc<MuxSockets>,
    ledger: Arc<Ledger>,
}

impl MuxPermit {
    /// `None` when `user`, or all users together, have as many as they may have.
    pub fn take(sockets: &Arc<MuxSockets>, user: &User) -> Option<Self> {
        if !user.ledger.take_mux_socket(sockets.per_user_max) {
            return None;
        }
        let more = |open: usize| (open < sockets.sockets_max).then_some(open + 1);
        if sockets.open.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            user.ledger.give_mux_socket();
            return None;
        }
        Some(Self { sockets: Arc::clone(sockets), ledger: Arc::clone(&user.ledger) })
    }
}

impl Drop for MuxPermit {
    fn drop(&mut self) {
        self.sockets.open.fetch_sub(1, Ordering::Relaxed);
        self.ledger.give_mux_socket();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::addons::Flow;

    #[test]
    fn one_user_gets_half_and_all_together_what_there_is() {
        let user = |id| Arc::new(User { id, email: String::new(), flow: Flow::None, ledger: Arc::new(Ledger::new(1)) });
        let users = [[1; 16], [2; 16], [3; 16]].map(user);
        let sockets = Arc::new(MuxSockets::new(5));
        let take = |user: usize| MuxPermit::take(&sockets, &users[user]);
        let first: Vec<_> = (0..9).filter_map(|_| take(0)).collect();
        assert_eq!(first.len(), 3);
        let second: Vec<_> = (0..9).filter_map(|_| take(1)).collect();
        assert_eq!(second.len(), 2);
        assert!(take(2).is_none());
        drop(first);
        let third: Vec<_> = (0..9).filter_map(|_| take(2)).collect();
        assert_eq!(third.len(), 3, "a refusal takes nothing from anybody");
    }
}
