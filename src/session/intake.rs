//! The receiving half of a direction: what came from its source and was not passed on yet.
//!
//! Bytes are kept only when they must be: the beginning of something that cannot be converted before its rest has come
//! (a TLS record), or that was converted and cannot be used before its rest has come (a request header, a packet).
//! Receiving asks for buffer memory first, because anything received may have to be kept. Who holds nothing waits while
//! memory is short. Who holds a beginning receives what completes it.

use super::pause::Pause;
use crate::io::buf::Buf;
use crate::io::buffer_memory::RECORD_HOLD_BYTES;
use crate::io::buffer_pool::{BufferPool, Held, Loan};
use crate::io::endpoint::Endpoint;
use crate::io::socket::{Recv, Socket};
use crate::io::taker::Taker;

/// The longest beginning of a header that costs no buffer: it is a part of what a session is.
const STUB_BYTES_MAX: usize = 520;

/// Bytes that somebody may receive without ever holding nothing in between, while others wait for memory: one packet of
/// the largest size, and as much again.
const BETWEEN_EMPTY_BYTES_MAX: u32 = 128 << 10;

/// What was received from a source and waits here.
pub(super) struct Intake {
    /// Received, and not or not completely converted.
    kept: Option<Held>,
    /// Converted, and of no use before more has come, or not looked at to its end.
    /// Boxed, because most sessions never have any.
    undigested: Option<Box<Undigested>>,
    /// Bytes received since nothing was held.
    held_through_bytes: u32,
    /// Nobody has looked at `kept` since it was put there. It is converted before anything is received.
    kept_waits: bool,
    /// The client is not admitted, and never is if it is passed on to a fallback. What is kept counts against the share
    /// of strangers.
    is_opening: bool,
    /// What comes is wrapped in records, so that the beginning of one may have to be kept beside that of a packet.
    is_wrapped: bool,
    /// The source delivers enough at a time for splicing to pay.
    pub(super) is_bulk: bool,
}

/// What was converted and not, or not completely, used.
enum Undigested {
    /// The beginning of a header, too short to take a buffer for.
    Stub(Box<[u8]>),
    /// The beginning of a request or of a packet.
    Part(Held),
    /// Not looked at to its end: it is digested before anything is received.
    Waits(Held),
}

/// What is left of converted bytes that were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Whole packets, for another turn.
    Waits,
    /// The beginning of a header, or nothing.
    Header,
    /// The beginning of a packet that is so long as a whole.
    Part(usize),
}

/// The most that [`Intake::receive`] receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadMax {
    /// In any case, not 0.
    pub(super) bytes: usize,
    /// While memory is short this depends on who takes it.
    pub(super) taker: Taker,
}

/// What [`Intake::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// There is something to convert: what was kept and, behind it, so many new bytes.
    Bytes(usize),
    End,
    Failed,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            kept: None,
            undigested: None,
            held_through_bytes: 0,
            kept_waits: false,
            is_opening: true,
            is_wrapped: true,
            is_bulk: false,
        }
    }

    /// Puts what there is to convert into `input`, which must be empty: what was kept, and at most so many new bytes.
    ///
    /// While memory is short, a direction receives only if it holds the beginning of something, and then as many bytes
    /// as complete it (`missing_bytes`), or if its source sends nothing more.
    ///
    /// # Errors
    /// What the direction has to wait for.
    pub(super) fn receive<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        most: ReadMax,
        missing_bytes: impl FnOnce(&[u8]) -> usize,
        input: &mut Buf,
        pool: &BufferPool,
    ) -> Result<Received, Pause> {
        if !self.kept_waits && !source.is_readable() {
            return Err(Pause::Wait);
        }
        let is_short = !self.is_opening && !pool.may_begin();
        if is_short && !self.holds_buffers() && !(source.is_over() && pool.may_hear_farewell()) {
            return if source.is_broken() { Ok(Received::Failed) } else { Err(Pause::Starved) };
        }
        let bytes_max = match &self.kept {
            Some(kept) if is_short => most.bytes.min(missing_bytes(kept.front())),
            _ => most.bytes.min(pool.read_bytes_max(most.taker)),
        };
        put_back(self.kept.as_ref(), input);
        if std::mem::take(&mut self.kept_waits) {
            self.kept = None;
            return Ok(Received::Bytes(0));
        }
        let room = input.spare().min(bytes_max);
        if room == 0 {
            debug_assert!(false, "more was kept than a record is long");
            return Ok(Received::Failed);
        }
        match source.recv(input.spare_mut().get_mut(..room).unwrap_or_default()) {
            Recv::Bytes(count) => {
                let held_through = if self.holds_buffers() { self.held_through_bytes } else { 0 };
                self.held_through_bytes = held_through.saturating_add(count as u32);
                input.fill(count);
                self.kept = None;
                Ok(Received::Bytes(count))
            }
            Recv::Blocked => Err(Pause::Wait),
            Recv::End => Ok(Received::End),
            Recv::Failed => Ok(Received::Failed),
        }
    }

    /// Keeps the rest of `input` for the next time. `waits` says that it may be convertible as it is.
    pub(super) fn keep(&mut self, input: &Buf, waits: bool, pool: &BufferPool) {
        self.kept = (!input.is_empty()).then(|| pool.hold(input.bytes(), RECORD_HOLD_BYTES, self.loan()));
        self.kept_waits = waits && self.kept.is_some();
    }

    /// Moves what was kept behind what is in `input`.
    pub(super) fn put_back_kept(&mut self, input: &mut Buf) {
        put_back(self.kept.take().as_ref(), input);
        self.kept_waits = false;
    }

    /// What was kept may be convertible as it is.
    pub(super) fn kept_waits(&self) -> bool {
        self.kept_waits
    }

    /// There is something that can go on as it is, converted or not, without anything being received.
    pub(super) fn waits(&self) -> bool {
        self.kept_waits || self.undigested_waits()
    }

    /// Nothing was received that could not be converted yet.
    pub(super) fn is_all_converted(&self) -> bool {
        self.kept.is_none()
    }

    /// Starts with `payload` to be digested.
    pub(super) fn begin_with(&mut self, payload: Held) {
        self.undigested = Some(Box::new(Undigested::Waits(payload)));
    }

    /// Keeps what is left in `payload` of the request of a client that is not admitted.
    pub(super) fn keep_request(&mut self, payload: &Buf, pool: &BufferPool) {
        self.undigested = None;
        if !payload.is_empty() {
            let part = pool.hold(payload.bytes(), 0, self.loan());
            self.undigested = Some(Box::new(Undigested::Part(part)));
        }
    }

    /// Whether the beginning of a packet, so long as a whole, may be kept. If not, the packet is to be dropped: its
    /// rest would have to wait for memory that others hold, or its holder has kept others waiting for long enough.
    pub(super) fn may_keep_part(&self, packet_bytes: usize, pool: &BufferPool) -> bool {
        let is_over_due = pool.others_wait() && self.held_through_bytes > BETWEEN_EMPTY_BYTES_MAX;
        !is_over_due && pool.has_room(pool.hold_bytes(packet_bytes) + self.record_bytes())
    }

    /// Keeps what is left in `payload`.
    pub(super) fn keep_undigested(&mut self, payload: &Buf, rest: Rest, pool: &BufferPool) {
        debug_assert!(!self.has_undigested());
        if payload.is_empty() {
            return;
        }
        let hold = |announced_bytes| pool.hold(payload.bytes(), announced_bytes, self.loan());
        self.undigested = Some(Box::new(match rest {
            Rest::Header if payload.len() <= STUB_BYTES_MAX => Undigested::Stub(payload.bytes().into()),
            // The record that brings more of it counts, too.
            Rest::Header => Undigested::Part(hold(self.record_bytes())),
            Rest::Part(whole_bytes) => Undigested::Part(hold(whole_bytes + self.record_bytes())),
            Rest::Waits => Undigested::Waits(hold(0)),
        }));
    }

    /// Moves what was not digested into `payload`, which must be empty.
    pub(super) fn put_back_undigested(&mut self, payload: &mut Buf) {
        match self.undigested.take().as_deref() {
            None => {}
            Some(Undigested::Stub(stub)) => {
                let fits = payload.append(stub);
                debug_assert!(fits, "a stub is larger than the scratch memory");
            }
            Some(Undigested::Part(held) | Undigested::Waits(held)) => put_back(Some(held), payload),
        }
    }

    /// What was not digested may be digestible as it is.
    pub(super) fn undigested_waits(&self) -> bool {
        matches!(self.undigested.as_deref(), Some(Undigested::Waits(_)))
    }

    pub(super) fn has_undigested(&self) -> bool {
        self.undigested.is_some()
    }

    /// Something is kept here.
    pub(super) fn holds_bytes(&self) -> bool {
        self.kept.is_some() || self.has_undigested()
    }

    pub(super) fn holds_buffers(&self) -> bool {
        self.kept.is_some() || matches!(self.undigested.as_deref(), Some(Undigested::Part(_) | Undigested::Waits(_)))
    }

    /// How many bytes are kept here.
    pub(super) fn undelivered_bytes(&self) -> usize {
        let undigested = match self.undigested.as_deref() {
            None => 0,
            Some(Undigested::Stub(stub)) => stub.len(),
            Some(Undigested::Part(held) | Undigested::Waits(held)) => held.len(),
        };
        self.kept.as_ref().map_or(0, Held::len) + undigested
    }

    /// Of these, the beginnings of what cannot be used before more has come.
    pub(super) fn beginning_bytes(&self) -> usize {
        let undigested = match self.undigested.as_deref() {
            None | Some(Undigested::Waits(_)) => 0,
            Some(Undigested::Stub(stub)) => stub.len(),
            Some(Undigested::Part(held)) => held.len(),
        };
        let kept = self.kept.as_ref().filter(|_| !self.kept_waits);
        kept.map_or(0, Held::len) + undigested
    }

    /// The client is admitted: from here on what is kept counts as a relay's.
    pub(super) fn admit(&mut self, is_wrapped: bool) {
        self.is_opening = false;
        self.is_wrapped = is_wrapped;
        if let Some(kept) = &mut self.kept {
            kept.lend_as(Loan::Waiting);
        }
        if let Some(Undigested::Part(held) | Undigested::Waits(held)) = self.undigested.as_deref_mut() {
            held.lend_as(Loan::Waiting);
        }
    }

    /// Forgets what is kept.
    pub(super) fn discard(&mut self) {
        *self = Self { is_opening: self.is_opening, is_wrapped: self.is_wrapped, ..Self::new() };
    }

    /// What the record that brings more of a packet may take.
    fn record_bytes(&self) -> usize {
        if self.is_wrapped { RECORD_HOLD_BYTES } else { 0 }
    }

    /// What is kept and owed in this direction is borrowed for: a stranger's share, or a relay's memory.
    pub(super) fn loan(&self) -> Loan {
        if self.is_opening { Loan::Opening } else { Loan::Waiting }
    }
}

/// Appends what was kept to scratch memory, which has room for every buffer there is.
fn put_back(kept: Option<&Held>, scratch: &mut Buf) {
    let fits = kept.is_none_or(|kept| kept.copy_to(scratch));
    debug_assert!(fits, "what is kept is larger than the scratch memory");
}
