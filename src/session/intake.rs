//! The receiving half of a direction: what came from its source and was not passed on yet.
//!
//! Bytes are kept only when they must be: the beginning of something that cannot be converted before its rest has come
//! (a TLS record), or that was converted and cannot be used before its rest has come (a request header, a packet, a
//! frame). Receiving asks for buffer memory first, because anything received may have to be kept.

use crate::io::buf::Buf;
use crate::io::buffer_pool::{BufferPool, Loan, PooledBuf};
use crate::io::socket::{Endpoint, Recv, Socket};

use super::pause::Pause;

/// What was received from a source and waits here.
pub(super) struct Intake {
    /// Received, and not or not completely converted.
    kept: Option<PooledBuf>,
    /// Nobody has looked at `kept` since it was put there: it is converted before anything is received.
    kept_waits: bool,
    /// Converted, and of no use before more has come.
    undigested: Option<PooledBuf>,
    /// Nobody has looked at `undigested` to its end: it is digested before anything is received.
    undigested_waits: bool,
    /// The client is no user yet: what is kept counts against the share of those.
    is_opening: bool,
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
        Self { kept: None, kept_waits: false, undigested: None, undigested_waits: false, is_opening: true }
    }

    /// Puts what there is to convert into `input`, which must be empty: what was kept, and at most `bytes_max` new bytes.
    /// While memory is short only somebody who holds the beginning of something receives, namely the `missing_bytes` that
    /// complete it, or somebody whose source sends nothing more. Otherwise tells what to wait for.
    pub(super) fn receive<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        bytes_max: usize,
        missing_bytes: impl FnOnce(&[u8]) -> usize,
        input: &mut Buf,
        pool: &BufferPool,
    ) -> Result<Received, Pause> {
        if !self.kept_waits && !source.readable {
            return Err(Pause::Wait);
        }
        let is_short = !self.is_opening && !pool.may_begin();
        let holds_beginning = self.kept.is_some() || self.undigested.is_some();
        if is_short && !holds_beginning && !source.is_over() {
            return Err(Pause::Starved);
        }
        let bytes_max = match &self.kept {
            Some(kept) if is_short => bytes_max.min(missing_bytes(kept.bytes())),
            _ => bytes_max.min(pool.read_bytes_max()),
        };
        put_back(self.kept.as_deref(), input);
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
        self.kept = self.borrow(input, pool);
        self.kept_waits = waits && self.kept.is_some();
    }

    /// Moves what was kept behind what is in `input`.
    pub(super) fn put_back_kept(&mut self, input: &mut Buf) {
        put_back(self.kept.take().as_deref(), input);
        self.kept_waits = false;
    }

    /// What was kept may be convertible as it is.
    pub(super) fn kept_waits(&self) -> bool {
        self.kept_waits
    }

    /// What was received and could not be converted yet.
    pub(super) fn kept(&self) -> &[u8] {
        self.kept.as_ref().map_or(&[], |kept| kept.bytes())
    }

    /// Starts with `payload` to be digested.
    pub(super) fn begin_with(&mut self, payload: PooledBuf) {
        self.undigested_waits = !payload.is_empty();
        self.undigested = (!payload.is_empty()).then_some(payload);
    }

    /// Keeps the rest of `payload`. `waits` says that it may be digestible as it is.
    pub(super) fn keep_undigested(&mut self, payload: &Buf, waits: bool, pool: &BufferPool) {
        debug_assert!(self.undigested.is_none());
        self.undigested = self.borrow(payload, pool);
        self.undigested_waits = waits && self.undigested.is_some();
    }

    /// Moves what was not digested into `payload`, which must be empty.
    pub(super) fn put_back_undigested(&mut self, payload: &mut Buf) {
        put_back(self.undigested.take().as_deref(), payload);
        self.undigested_waits = false;
    }

    /// What was not digested may be digestible as it is.
    pub(super) fn undigested_waits(&self) -> bool {
        self.undigested_waits
    }

    pub(super) fn has_undigested(&self) -> bool {
        self.undigested.is_some()
    }

    /// Something is kept here.
    pub(super) fn holds_bytes(&self) -> bool {
        self.kept.is_some() || self.undigested.is_some()
    }

    /// The client is admitted: from here on what is kept counts as a relay's.
    pub(super) fn admit(&mut self) {
        self.is_opening = false;
        for kept in [&mut self.kept, &mut self.undigested].into_iter().flatten() {
            kept.lend_as(Loan::Waiting);
        }
    }

    /// Forgets what is kept.
    pub(super) fn discard(&mut self) {
        *self = Self { is_opening: self.is_opening, ..Self::new() };
    }

    fn borrow(&self, rest: &Buf, pool: &BufferPool) -> Option<PooledBuf> {
        let loan = if self.is_opening { Loan::Opening } else { Loan::Beginning };
        (!rest.is_empty()).then(|| pool.take_with(rest.bytes(), loan))
    }
}

/// Appends what was kept to scratch memory, which has room for every buffer there is.
fn put_back(kept: Option<&Buf>, scratch: &mut Buf) {
    let fits = kept.is_none_or(|kept| scratch.append(kept.bytes()));
    debug_assert!(fits, "a kept buffer is larger than the scratch memory");
}
