//! Scripted sockets, shared by the session and the world around it. They are edge-triggered: an event may come only after
//! the session was told "blocked".

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use vless_rust::io::datagram::{DatagramSocket, RecvFrom, SendTo};
use vless_rust::io::socket::{Recv, Sent, Socket};
use vless_rust::io::splice::KernelPipe;

/// One scripted stream socket, shared by the session and the world.
#[derive(Default)]
pub(crate) struct Wire {
    /// For the session to receive.
    pub(crate) incoming: VecDeque<u8>,
    pub(crate) is_ended: bool,
    pub(crate) is_reset: bool,
    /// What the session has sent.
    pub(crate) sent: Vec<u8>,
    pub(crate) room: usize,
    pub(crate) saw_shutdown: bool,
    /// The session was told "blocked" and no event since: an event may come.
    pub(crate) wants_read: bool,
    pub(crate) wants_write: bool,
}

pub(crate) struct Stream(pub(crate) Rc<RefCell<Wire>>);

impl Socket for Stream {
    fn recv(&mut self, into: &mut [u8]) -> Recv {
        let mut wire = self.0.borrow_mut();
        if wire.is_reset {
            return Recv::Failed;
        }
        let count = into.len().min(wire.incoming.len());
        if count == 0 && wire.is_ended {
            return Recv::End;
        }
        if count == 0 {
            wire.wants_read = true;
            return Recv::Blocked;
        }
        for (place, byte) in into.iter_mut().zip(wire.incoming.drain(..count)) {
            *place = byte;
        }
        Recv::Bytes(count)
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.saw_shutdown, "sent behind the end");
        if wire.is_reset {
            return Sent::Failed;
        }
        let count = bytes.len().min(wire.room);
        if count == 0 {
            wire.wants_write = true;
            return Sent::Blocked;
        }
        wire.room -= count;
        wire.sent.extend_from_slice(&bytes[..count]);
        Sent::Bytes(count)
    }

    fn recv_pipe(&mut self, _: &mut KernelPipe, _: usize) -> Option<Recv> {
        unreachable!("there are no pipes here")
    }

    fn send_pipe(&mut self, _: &mut KernelPipe) -> Sent {
        unreachable!("there are no pipes here")
    }

    fn shutdown_write(&mut self) {
        self.0.borrow_mut().saw_shutdown = true;
    }

    fn reset_on_close(&mut self) {}
}

/// One scripted datagram socket, shared likewise.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) incoming: VecDeque<(Vec<u8>, SocketAddr)>,
    pub(crate) sent: Vec<(Vec<u8>, SocketAddr)>,
    pub(crate) wants_read: bool,
}

pub(crate) struct Datagrams(pub(crate) Rc<RefCell<Net>>);

impl DatagramSocket for Datagrams {
    fn recv_from(&mut self, into: &mut [u8]) -> RecvFrom {
        let mut net = self.0.borrow_mut();
        let Some((bytes, source)) = net.incoming.pop_front() else {
            net.wants_read = true;
            return RecvFrom::Blocked;
        };
        into[..bytes.len()].copy_from_slice(&bytes);
        RecvFrom::Datagram(bytes.len(), source)
    }

    fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> SendTo {
        self.0.borrow_mut().sent.push((bytes.to_vec(), to));
        SendTo::Sent
    }
}
