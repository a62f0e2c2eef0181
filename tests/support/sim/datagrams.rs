//! A UDP socket of ours and the peers behind it, who answer every datagram with the same bytes. Edge-triggered like the
//! connections: an event comes only after the code saw "blocked" and something arrived since.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use vless_rust::io::datagram::{DatagramSocket, RecvFrom, SendTo};
use vless_rust::io::endpoint::Readiness;

/// Who answers.
pub(crate) const ANSWERER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 7);

#[derive(Default)]
pub(crate) struct Net {
    /// What our code sent, in order.
    pub(crate) sent: Vec<Vec<u8>>,
    /// So many of them were answered; the answers that were not received yet.
    pub(crate) answered: usize,
    arrived: VecDeque<Vec<u8>>,
    blocked: bool,
    pending: bool,
    pub(crate) closed: bool,
}

impl Net {
    /// Bytes and datagrams that moved through calls of our code.
    pub(crate) fn moved(&self) -> usize {
        let received = &self.sent[..self.answered - self.arrived.len()];
        self.sent.iter().chain(received).map(|datagram| 1 + datagram.len()).sum()
    }

    /// The next answer arrives; false if there is none.
    pub(crate) fn arrive(&mut self) -> bool {
        if self.closed || self.answered == self.sent.len() {
            return false;
        }
        self.arrived.push_back(self.sent[self.answered].clone());
        self.answered += 1;
        self.pending |= self.blocked;
        true
    }

    /// The event that is due, if any.
    pub(crate) fn take_event(&mut self) -> Option<Readiness> {
        if self.closed || !std::mem::take(&mut self.pending) {
            return None;
        }
        self.blocked = false;
        Some(Readiness { readable: true, ..Readiness::default() })
    }
}

/// Our end.
pub(crate) struct SimDatagrams(pub(crate) Rc<RefCell<Net>>);

impl DatagramSocket for SimDatagrams {
    fn recv_from(&mut self, into: &mut [u8]) -> RecvFrom {
        let mut net = self.0.borrow_mut();
        let Some(datagram) = net.arrived.pop_front() else {
            net.blocked = true;
            return RecvFrom::Blocked;
        };
        into[..datagram.len()].copy_from_slice(&datagram);
        RecvFrom::Datagram(datagram.len(), ANSWERER)
    }

    fn send_to(&mut self, bytes: &[u8], _: SocketAddr) -> SendTo {
        self.0.borrow_mut().sent.push(bytes.to_vec());
        SendTo::Sent
    }
}

impl Drop for SimDatagrams {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}
