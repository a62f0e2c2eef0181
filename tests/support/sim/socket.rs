//! A TCP connection as the kernel on our side would have it, with all its freedom: partial reads and writes, a bounded
//! send window, late ends, resets, and edge-triggered events and not one more.
//!
//! The strict rule: an event comes only after the code saw "blocked" and something changed since. Real kernels send
//! more, but code that needs more loses a wake-up some day. Errors are as observed on Linux: a reset is reported once, by
//! whichever of receive and send is called first, then receiving says "end" and sending "broken pipe"; after a FIN of the
//! peer sending says "broken pipe" at once; bytes that came before a reset can still be read; closing with unread bytes,
//! or receiving some after closing, resets.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use vless_rust::io::endpoint::Readiness;
use vless_rust::io::socket::{Recv, Sent, Socket};
use vless_rust::io::splice::KernelPipe;

use super::rng::Rng;

/// How a connection behaves.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    /// Bytes at most per receive and per send of ours, chosen anew each time.
    pub(crate) recv_max: usize,
    pub(crate) send_max: usize,
    /// Bytes at most that arrive at once.
    pub(crate) arrive_max: usize,
    /// Bytes we may have sent and the peer has not read.
    pub(crate) window: usize,
    /// Free room at which a blocked sender hears that it may go on.
    pub(crate) low_water: usize,
    /// Chance in percent that a call blocks although it could go on, as if the change came right after it.
    pub(crate) block_chance: usize,
}

impl Manners {
    /// A connection that is never in the way.
    pub(crate) fn smooth() -> Self {
        let all = 1 << 30;
        Self { recv_max: all, send_max: all, arrive_max: all, window: 256 << 10, low_water: 1, block_chance: 0 }
    }
}

/// How our end of a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    InOrder,
    Reset,
}

/// One connection: everything either side ever sent, and how far it got.
pub(crate) struct Link {
    pub(crate) manners: Manners,
    rng: Rng,
    /// From the peer: all it sent; of these the ones that arrived, and the ones our code received.
    pub(crate) coming: Vec<u8>,
    pub(crate) arrived: usize,
    pub(crate) received: usize,
    /// Calls with which it received them.
    pub(crate) receives: usize,
    pub(crate) peer_fin: bool,
    pub(crate) end_arrived: bool,
    pub(crate) peer_reset: bool,
    pub(crate) reset_arrived: bool,
    reset_reported: bool,
    /// From us: all our code sent, and how much of it the peer has read.
    pub(crate) going: Vec<u8>,
    pub(crate) peer_read: usize,
    /// Our code ended its direction by `shutdown_write`.
    pub(crate) shut: bool,
    reset_on_close: bool,
    pub(crate) closed: Option<Closed>,
    read_blocked: bool,
    write_blocked: bool,
    /// What the next event says.
    pending: Readiness,
    /// Calls on a side that was known to be blocked, with no event in between: polling, which must not happen.
    pub(crate) polled_while_blocked: usize,
    /// The kernel tells what the peer has not acknowledged.
    pub(crate) tells: bool,
    /// It would, but there is no descriptor to ask with.
    pub(crate) is_short: bool,
}

impl Link {
    pub(crate) fn new(manners: Manners, rng: Rng) -> Self {
        Self {
            manners,
            rng,
            coming: Vec::new(),
            arrived: 0,
            received: 0,
            receives: 0,
            peer_fin: false,
            end_arrived: false,
            peer_reset: false,
            reset_arrived: false,
            reset_reported: false,
            going: Vec::new(),
            peer_read: 0,
            shut: false,
            reset_on_close: false,
            closed: None,
            read_blocked: true,
            write_blocked: false,
            pending: Readiness::default(),
            polled_while_blocked: 0,
            tells: false,
            is_short: false,
        }
    }

    /// Bytes that moved through calls of our code.
    pub(crate) fn moved(&self) -> usize {
        self.received + self.going.len()
    }

    /// The state of a socket that was just registered: the first event tells that there is room.
    pub(crate) fn register_writable(&mut self) {
        self.pending.writable = true;
    }

    fn room(&self) -> usize {
        self.manners.window.saturating_sub(self.going.len() - self.peer_read)
    }

    /// Something of what the peer sent arrives; false if there is nothing.
    pub(crate) fn arrive(&mut self) -> bool {
        if self.reset_arrived {
            return false;
        }
        if self.peer_reset {
            // A reset overtakes what is still on its way.
            self.coming.truncate(self.arrived);
            self.reset_arrived = true;
            self.pending = Readiness { readable: true, writable: true, broken: true, ..Readiness::default() };
            return true;
        }
        if self.arrived < self.coming.len() {
            let count = self.rng.up_to(self.manners.arrive_max).min(self.coming.len() - self.arrived);
            self.arrived += count;
            if self.closed == Some(Closed::InOrder) {
                // Nobody will ever read this: the kernel answers with a reset.
                self.closed = Some(Closed::Reset);
            }
        } else if self.peer_fin && !self.end_arrived {
            self.end_arrived = true;
        } else {
            return false;
        }
        self.pending.readable |= self.read_blocked;
        self.pending.read_closed |= self.pending.readable && self.end_arrived;
        true
    }

    /// The peer reads up to `max` bytes.
    pub(crate) fn peer_takes(&mut self, max: usize) -> Vec<u8> {
        let count = max.min(self.going.len() - self.peer_read);
        let taken = self.going[self.peer_read..self.peer_read + count].to_vec();
        self.peer_read += count;
        if self.write_blocked && self.room() >= self.manners.low_water.min(self.manners.window) {
            self.pending.writable = true;
        }
        taken
    }

    /// Our end sends no more: the peer reads an end behind the last byte.
    pub(crate) fn has_ended(&self) -> bool {
        self.shut || self.closed == Some(Closed::InOrder)
    }

    pub(crate) fn has_event(&self) -> bool {
        self.closed.is_none() && self.pending != Readiness::default()
    }

    /// The event that is due, if any.
    pub(crate) fn take_event(&mut self) -> Option<Readiness> {
        if !self.has_event() {
            return None;
        }
        let event = std::mem::take(&mut self.pending);
        self.read_blocked &= !event.readable;
        self.write_blocked &= !event.writable;
        Some(event)
    }

    fn room_to_receive(&mut self, wanted: usize) -> Result<usize, Recv> {
        self.polled_while_blocked += usize::from(self.read_blocked && !self.pending.readable);
        let available = self.arrived - self.received;
        if available > 0 {
            if self.rng.percent(self.manners.block_chance) {
                self.read_blocked = true;
                self.pending.readable = true;
                return Err(Recv::Blocked);
            }
            return Ok(self.rng.up_to(self.manners.recv_max).min(available).min(wanted));
        }
        if self.end_arrived {
            return Err(Recv::End);
        }
        if self.reset_arrived {
            let reported = std::mem::replace(&mut self.reset_reported, true);
            return Err(if reported { Recv::End } else { Recv::Failed });
        }
        self.read_blocked = true;
        Err(Recv::Blocked)
    }

    fn room_to_send(&mut self, wanted: usize) -> Result<usize, Sent> {
        self.polled_while_blocked += usize::from(self.write_blocked && !self.pending.writable);
        if self.shut {
            return Err(Sent::Refused);
        }
        if self.reset_arrived {
            let reported = std::mem::replace(&mut self.reset_reported, true);
            return Err(if reported || self.end_arrived { Sent::Refused } else { Sent::Failed });
        }
        let room = self.room();
        let late = room > 0 && self.rng.percent(self.manners.block_chance);
        if room == 0 || late {
            self.write_blocked = true;
            self.pending.writable |= late;
            return Err(Sent::Blocked);
        }
        Ok(self.rng.up_to(self.manners.send_max).min(room).min(wanted))
    }

    fn close(&mut self) {
        let reset = self.reset_on_close || self.arrived > self.received || self.reset_arrived;
        self.closed = Some(if reset { Closed::Reset } else { Closed::InOrder });
    }
}

/// Our end of a connection.
pub(crate) struct SimSocket(pub(crate) Rc<RefCell<Link>>);

impl Socket for SimSocket {
    fn recv(&mut self, into: &mut [u8]) -> Recv {
        assert!(!into.is_empty(), "received into nothing");
        let mut link = self.0.borrow_mut();
        match link.room_to_receive(into.len()) {
            Ok(count) => {
                into[..count].copy_from_slice(&link.coming[link.received..link.received + count]);
                link.received += count;
                link.receives += 1;
                Recv::Bytes(count)
            }
            Err(outcome) => outcome,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        assert!(!bytes.is_empty(), "sent nothing");
        let mut link = self.0.borrow_mut();
        match link.room_to_send(bytes.len()) {
            Ok(count) => {
                link.going.extend_from_slice(&bytes[..count]);
                Sent::Bytes(count)
            }
            Err(outcome) => outcome,
        }
    }

    fn recv_pipe(&mut self, pipe: &mut KernelPipe, bytes_max: usize) -> Option<Recv> {
        let mut link = self.0.borrow_mut();
        if link.manners.block_chance > 0 && link.rng.percent(1) {
            // Urgent data, or a kernel that does not want to.
            return None;
        }
        match link.room_to_receive(bytes_max) {
            Ok(count) => {
                let outcome = pipe.fill_with(&link.coming[link.received..link.received + count]);
                if let Some(Recv::Bytes(count)) = outcome {
                    link.received += count;
                    link.receives += 1;
                }
                outcome
            }
            Err(outcome) => Some(outcome),
        }
    }

    fn send_pipe(&mut self, pipe: &mut KernelPipe) -> Sent {
        let mut link = self.0.borrow_mut();
        match link.room_to_send(pipe.held_bytes()) {
            Ok(count) => {
                let mut bytes = vec![0; count];
                let outcome = pipe.drain_into(&mut bytes);
                if let Sent::Bytes(count) = outcome {
                    link.going.extend_from_slice(&bytes[..count]);
                }
                outcome
            }
            Err(outcome) => outcome,
        }
    }

    fn unacknowledged_bytes(&self) -> io::Result<Option<u32>> {
        let link = self.0.borrow();
        if link.is_short {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(link.tells.then(|| (link.going.len() - link.peer_read) as u32))
    }

    fn shutdown_write(&mut self) {
        self.0.borrow_mut().shut = true;
    }

    fn reset_on_close(&mut self) {
        self.0.borrow_mut().reset_on_close = true;
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().close();
    }
}
