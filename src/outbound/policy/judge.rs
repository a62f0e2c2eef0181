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

    /// A judge whose word on addresses comes from the other end of `socket`.
    #[cfg(test)]
    pub fn told_by(socket: std::os::fd::OwnedFd) -> Self {
        let policy = DestinationPolicy::new(false, Vec::new(), Vec::new(), Vec::new());
        let routes = RefCell::new(Routes::told_by(socket));
        Self { policy: RefCell::new(Arc::new(policy)), routes, edition: Cell::new(0) }
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
        let mut routes = self.routes.borrow_mut();
        let way = routes.way(ip);
        if routes.take_overheard() {
            self.begin_edition();
        }
        way
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
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::*;
    use crate::outbound::routes::MEMORY;

    /// A message of the kernel's (struct nlmsghdr), with `byte` at the place where an answer has its type.
    fn message(kind: u16, sequence: u32, byte: u8) -> Vec<u8> {
        let head = [28_u32.to_ne_bytes(), u32::from(kind).to_ne_bytes(), sequence.to_ne_bytes(), [0; 4]];
        [&head.concat()[..], &[0; 7], &[byte], &[0; 4]].concat()
    }

    /// A judge whose kernel is at the other end of the socket.
    fn told_judge() -> (Judge, UnixDatagram) {
        let (socket, kernel) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        (Judge::told_by(socket.into()), kernel)
    }

    #[test]
    fn news_that_an_answer_swallows_begin_a_new_edition() {
        const NEWS: u16 = 20;
        const ROUTE: u16 = 24;
        let (judge, kernel) = told_judge();
        let [first, second] = [[9, 9, 9, 9], [9, 9, 9, 10]].map(IpAddr::from);
        kernel.send(&message(ROUTE, 1, 1)).unwrap();
        let edition = judge.edition();
        assert_eq!((judge.way(first), judge.edition()), (Way::There, edition));
        // The address came to this machine, and another question was put before anybody read that.
        kernel.send(&message(NEWS, 0, 0)).unwrap();
        kernel.send(&message(ROUTE, 2, 1)).unwrap();
        assert_eq!(judge.way(second), Way::There);
        assert_eq!(judge.edition(), edition + 1, "whoever was permitted asks again");
        judge.on_event();
        assert_eq!(judge.edition(), edition + 1, "the news are told once");
        kernel.send(&message(ROUTE, 3, 2)).unwrap();
        assert_eq!(judge.way(first), Way::Here, "nothing is remembered from before");
        // The answer that came with the news may be of before them: it is not remembered either.
        kernel.send(&message(ROUTE, 4, 2)).unwrap();
        assert_eq!(judge.way(second), Way::Here);
    }

    #[test]
    fn answers_right_behind_news_are_given_up_before_long() {
        let (judge, kernel) = told_judge();
        let (start, edition) = (Instant::now(), judge.edition());
        let after = |memories: u32| start + MEMORY * memories;
        judge.grow_old(start);
        judge.grow_old(after(1));
        assert_eq!(judge.edition(), edition, "without news nobody is made to ask again");
        kernel.send(&message(21, 0, 0)).unwrap();
        judge.on_event();
        assert_eq!(judge.edition(), edition + 1);
        judge.grow_old(after(1) + Duration::from_millis(1));
        assert_eq!(judge.edition(), edition + 1);
        for memories in 2..6 {
            judge.grow_old(after(memories));
        }
        assert_eq!(judge.edition(), edition + 3, "twice, because the first may follow at once");
    }

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
