//! One TCP session inside a Mux connection: its socket, and the bytes that wait for it.
//!
//! Bytes of the client go to the socket at once. What the socket does not take waits here, at most one largest chunk.
//! While something waits, the client's whole connection is not read. The other way nothing is kept: a chunk is received
//! only when it can be passed on.

use std::time::{Duration, Instant};

use super::Timeouts;
use super::books::Books;
use super::delivery::Delivery;
use super::ending::LINGER;
use super::permits::MuxPermit;
use super::transfer::Means;
use crate::io::buffer_pool::Loan;
use crate::io::endpoint::{Endpoint, Readiness};
use crate::io::socket::{Recv, Socket};

/// Bytes that may wait for one target.
const PENDING_BYTES_MAX: usize = 64 << 10;

/// The most time for the bytes that the client sent before it ended the session to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are read of a target whose session the client has ended: as many as of a client that lingers.
const DRAINED_BYTES_MAX: u32 = 1 << 20;
/// Reads that one visit to a session without client costs at the most.
const READS_PER_DRAIN: usize = 4;

/// A TCP target of a Mux connection.
pub(super) struct TcpLeg<S> {
    socket: Option<Endpoint<S>>,
    delivery: Delivery,
    state: State,
    /// When the target last said something.
    heard_at: Instant,
    /// Read and forgotten since the client has ended the session.
    drained_bytes: u32,
    _permit: Option<MuxPermit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Both directions run, or will once the target is connected.
    Open,
    /// The target takes nothing any more. What it has said is still read.
    Broken,
    /// The client ended the session. What waits is still sent.
    Flushing,
    /// Everything was sent. The leg listens until the target closes too: closing with bytes unread would reset the
    /// connection (Linux) and destroy what is on its way.
    Lingering(Instant),
    Over,
}

/// What a target had to say.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Bytes(usize),
    Nothing,
    End,
    Failed,
}

impl<S: Socket> TcpLeg<S> {
    pub(super) fn new(permit: Option<MuxPermit>, now: Instant) -> Self {
        Self {
            socket: None,
            delivery: Delivery::new(now),
            state: State::Open,
            heard_at: now,
            drained_bytes: 0,
            _permit: permit,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Nothing is left to do for it.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The client has ended it, and everything that the client sent has left.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Lingering(_) | State::Over)
    }

    pub(super) fn is_readable(&self) -> bool {
        self.socket.as_ref().is_some_and(Endpoint::is_readable)
    }

    pub(super) fn has_pending(&self) -> bool {
        self.delivery.owes_bytes()
    }

    /// The memory that holds what waits for the socket.
    pub(super) fn held_bytes(&self) -> usize {
        self.delivery.held_bytes()
    }

    pub(super) fn note(&mut self, readiness: Readiness) {
        if let Some(socket) = &mut self.socket {
            socket.note(readiness);
        }
    }

    /// When it must end unless something moves before. `None` while the dialler keeps the time.
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        if let State::Lingering(since) = self.state {
            return Some(since + LINGER);
        }
        self.socket.as_ref()?;
        let moved_at = self.heard_at.max(self.delivery.moved_at());
        let stalled = self.delivery.stalled_since().map(|since| since + timeouts.write_stall);
        let idle = moved_at + if self.state == State::Open { timeouts.idle } else { FLUSH_TIMEOUT };
        Some(stalled.map_or(idle, |stalled| stalled.min(idle)))
    }

    /// Its deadline has come: asks how the target gets on with what the kernel still holds.
    pub(super) fn look(&mut self, now: Instant) {
        if let Some(socket) = &self.socket
            && !self.is_ended()
        {
            self.delivery.look(socket, now);
        }
    }

    /// The target is connected.
    pub(super) fn on_connected(&mut self, socket: S, books: &mut Books, now: Instant) {
        self.socket = Some(Endpoint::connected(socket));
        self.heard_at = now;
        self.delivery.start(now);
        self.flush(books, now);
    }

    /// Sends bytes of the client, and keeps what the target does not take where it may be kept and there is memory for
    /// it. Returns how many were sent or kept. A target that is broken takes everything.
    pub(super) fn take(&mut self, bytes: &[u8], may_keep: bool, books: &mut Books, means: &Means<'_>) -> usize {
        let mut sent = 0;
        if let Some(socket) = &mut self.socket
            && !self.delivery.owes_bytes()
            && self.state == State::Open
        {
            let before = self.delivery.moved().payload_bytes;
            sent = self.delivery.send_slice(socket, bytes, means.now);
            books.sent_bytes(self.delivery.moved().payload_bytes - before);
            self.note_break();
        }
        if self.state != State::Open {
            return bytes.len();
        }
        let rest = bytes.get(sent..).unwrap_or_default();
        let is_kept = may_keep
            && self.delivery.owed_bytes() + rest.len() <= PENDING_BYTES_MAX
            && self.delivery.owe_slice(rest, Loan::Waiting, means.pool);
        if is_kept { bytes.len() } else { sent }
    }

    /// Sends what waits, and closes when that was all there is.
    pub(super) fn flush(&mut self, books: &mut Books, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        let before = self.delivery.moved().payload_bytes;
        self.delivery.flush(socket, now);
        books.sent_bytes(self.delivery.moved().payload_bytes - before);
        self.note_break();
        if self.state == State::Flushing
            && !self.delivery.owes_bytes()
            && let Some(socket) = &mut self.socket
        {
            socket.shutdown_write();
            self.state = State::Lingering(now);
        }
    }

    /// A target that takes no more is read to its end, which tells how it broke after what had arrived before.
    fn note_break(&mut self) {
        if self.delivery.end().is_none() {
            return;
        }
        let Some(socket) = &mut self.socket else { return };
        match self.state {
            State::Open => self.state = State::Broken,
            State::Flushing => self.state = State::Over,
            State::Broken | State::Lingering(_) | State::Over => return,
        }
        socket.listen_on();
    }

    /// The client ended the session. Nothing more is passed on to it. What it sent before still goes out.
    pub(super) fn end_uplink(&mut self, books: &mut Books, now: Instant) {
        if self.state == State::Open {
            self.state = State::Flushing;
            self.heard_at = now;
            self.flush(books, now);
        }
    }

    /// Receives a chunk for the client.
    pub(super) fn recv(&mut self, into: &mut [u8], now: Instant) -> Heard {
        let Some(socket) = self.socket.as_mut().filter(|socket| socket.is_readable()) else { return Heard::Nothing };
        match socket.recv(into) {
            Recv::Bytes(count) => {
                self.heard_at = now;
                Heard::Bytes(count)
            }
            Recv::Blocked => Heard::Nothing,
            Recv::End => Heard::End,
            Recv::Failed => Heard::Failed,
        }
    }

    /// Reads and forgets, after the client has ended the session, up to a bound. Returns how many bytes.
    pub(super) fn drain(&mut self, into: &mut [u8], now: Instant) -> usize {
        let mut read_bytes = 0;
        for _ in 0..READS_PER_DRAIN {
            if self.drained_bytes >= DRAINED_BYTES_MAX {
                self.stop_listening();
                break;
            }
            match self.recv(into, now) {
                Heard::Bytes(count) => {
                    read_bytes += count;
                    self.drained_bytes = self.drained_bytes.saturating_add(count as u32);
                }
                Heard::Nothing => break,
                Heard::End if matches!(self.state, State::Flushing) => {
                    // It may still read what waits.
                    self.stop_listening();
                    break;
                }
                Heard::End | Heard::Failed => {
                    self.state = State::Over;
                    break;
                }
            }
        }
        read_bytes
    }

    /// Whatever the target still says, nobody hears it. What waits for it still goes out. If nothing does, this is its
    /// end.
    fn stop_listening(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.stop_listening();
        }
        if matches!(self.state, State::Lingering(_)) {
            self.state = State::Over;
        }
    }

    /// Makes its end abrupt, as the target's connection was.
    pub(super) fn reset(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.reset_on_close();
        }
    }
}
