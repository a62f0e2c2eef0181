//! The targets of a session that has several: connections inside Mux, and UDP sockets.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use vless_rust::io::endpoint::Readiness;
use vless_rust::session::{GlobalId, Leg};

use super::datagrams::Net;
use super::peer::Peer;

pub(crate) struct Outlet {
    pub(crate) leg: Leg,
    pub(crate) end: End,
}

pub(crate) enum End {
    /// The target at this port.
    Tcp(u16, Box<Peer>),
    Udp(Option<GlobalId>, Rc<RefCell<Net>>),
}

impl Outlet {
    /// Bytes that went through its socket.
    pub(crate) fn moved(&self) -> usize {
        match &self.end {
            End::Tcp(_, peer) => peer.link.borrow().moved(),
            End::Udp(_, net) => net.borrow().moved(),
        }
    }

    /// Something happens behind the socket; false if nothing can.
    pub(crate) fn happens(&mut self, now: Instant) -> bool {
        match &mut self.end {
            End::Tcp(_, peer) => peer.link.borrow_mut().arrive() || peer.read() || peer.act(now),
            End::Udp(_, net) => net.borrow_mut().arrive(),
        }
    }

    /// The event that is due, if any.
    pub(crate) fn take_event(&mut self) -> Option<Readiness> {
        match &mut self.end {
            End::Tcp(_, peer) => peer.link.borrow_mut().take_event(),
            End::Udp(_, net) => net.borrow_mut().take_event(),
        }
    }
}
