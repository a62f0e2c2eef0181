//! One direction of a session: receive, convert, send. Uplink and downlink are two of these.
//!
//! A transfer knows no TLS and no VLESS: a `Transform` turns received bytes into bytes to send. Its `Intake` keeps what
//! a conversion left over. Its `Delivery` keeps what a socket did not take. A transfer never receives while something
//! waits to be sent: that is the whole of back-pressure.

use std::time::Instant;

use super::allowance::Share;
use super::delivery::Delivery;
pub use super::delivery::{End, Moved};
use super::intake::{Intake, ReadMax, Received};
use super::pause::Pause;
pub use super::scratch::Scratch;
use crate::inbound::{Converted, HEADROOM_BYTES, InboundError};
use crate::io::buf::Buf;
use crate::io::buffer_pool::BufferPool;
use crate::io::endpoint::Endpoint;
use crate::io::random::Random;
use crate::io::socket::{Recv, Socket};
use crate::io::splice::PipePool;
use crate::io::tally::Tally;

/// The length of reads, in bytes, where splicing is possible. A read that comes out full starts splicing. Copying costs
/// less than a pipe up to 4 KiB, and more from 8 KiB on (measured).
const PROBE_BYTES: usize = 16 << 10;

/// A burst through the pipe that moves fewer bytes ends splicing.
const BURST_BYTES_MIN: usize = 8 << 10;

/// What turns received bytes into bytes to send.
pub(super) trait Transform {
    /// Whether bytes pass as they are from here on, for good.
    fn is_transparent(&self) -> bool;
    /// Converts from the front of `input`, which has headroom in front. `output` is empty.
    fn convert(
        &mut self,
        input: &mut Buf,
        output: &mut Buf,
        tally: &mut Tally,
        random: &mut Random,
    ) -> Result<Converted, InboundError>;
    /// Whether the stream said that nothing follows. Its socket may still be open.
    fn is_ended(&self) -> bool;
    /// Whether there is something to send that does not come from received bytes. The caller then converts an empty
    /// input.
    fn has_unasked(&self) -> bool;
    /// The most to receive for one call of [`Transform::convert`].
    fn input_bytes_max(&self) -> usize;
    /// The most to receive while nothing new may begin: what completes `kept`, or the next part of it.
    fn missing_bytes(&self, kept: &[u8]) -> usize;
    /// Appends what is still due when the stream is over. `rest` could not be converted.
    fn finish(&mut self, rest: &[u8], output: &mut Buf, tally: &mut Tally) -> Result<(), InboundError>;
}

/// One direction.
pub(super) struct Transfer {
    pub(super) intake: Intake,
    pub(super) delivery: Delivery,
}

/// What a transfer borrows from its worker for a turn.
pub struct Means<'a> {
    pub now: Instant,
    pub scratch: &'a mut Scratch,
    pub pool: &'a BufferPool,
    /// `None`: never splice.
    pub pipes: Option<&'a PipePool>,
    pub random: &'a mut Random,
}

impl Transfer {
    pub(super) fn new(now: Instant) -> Self {
        Self { intake: Intake::new(), delivery: Delivery::new(now) }
    }

    /// Moves what can be moved from `source` to `sink` within its share of this call.
    pub(super) fn pump<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        share: &mut Share,
        means: &mut Means<'_>,
    ) -> Pause {
        loop {
            if !self.delivery.settle(sink, means.now) {
                return Pause::Wait;
            }
            if let Some(pause) = share.pause(self.intake.kept_waits()) {
                return pause;
            }
            let pumped = match self.pump_pipe(source, sink, transform, share, means) {
                Some(pumped) => pumped,
                None => self.pump_buffer(source, sink, transform, share, means),
            };
            if let Err(pause) = pumped {
                return pause;
            }
        }
    }

    /// One step through a kernel pipe. `None` where that is not possible, or not worth it.
    fn pump_pipe<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        share: &mut Share,
        means: &mut Means<'_>,
    ) -> Option<Result<(), Pause>> {
        let pipes = means.pipes.filter(|_| self.may_splice(source, transform))?;
        // A pipe needs no memory of ours, so it is also the way on when that runs out.
        let taker = self.delivery.taker();
        if !(self.intake.is_bulk || means.pool.read_bytes_max(taker) < PROBE_BYTES) || !source.is_readable() {
            return None;
        }
        let mut pipe = pipes.take(taker)?;
        let bytes_max = share.spliced_bytes();
        match source.recv_pipe(&mut pipe, bytes_max)? {
            Recv::Bytes(count) => {
                share.receive_spliced(count);
                // A burst that was cut short says nothing.
                self.intake.is_bulk = count >= BURST_BYTES_MIN || bytes_max < BURST_BYTES_MIN;
                self.delivery.send_pipe(sink, pipe, means.now);
            }
            Recv::Blocked => return Some(Err(Pause::Wait)),
            Recv::End => self.finish(transform, means),
            Recv::Failed => self.delivery.drain(End::SourceFailed),
        }
        Some(Ok(()))
    }

    fn may_splice<S: Socket>(&self, source: &Endpoint<S>, transform: &impl Transform) -> bool {
        transform.is_transparent() && source.splices() && !self.intake.kept_waits()
    }

    /// One step through a buffer of ours.
    fn pump_buffer<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        share: &mut Share,
        means: &mut Means<'_>,
    ) -> Result<(), Pause> {
        // Bulk for which there is no pipe is read at length.
        let is_probe = means.pipes.is_some() && !self.intake.is_bulk && self.may_splice(source, transform);
        let read_max = if is_probe { PROBE_BYTES } else { usize::MAX };
        let bytes = transform.input_bytes_max().min(read_max).min(share.bytes());
        let most = ReadMax { bytes, taker: self.delivery.taker() };
        let mut input = means.scratch.take_input();
        let missing_bytes = |kept: &[u8]| transform.missing_bytes(kept);
        match self.intake.receive(source, most, missing_bytes, &mut input, means.pool) {
            Ok(Received::Bytes(count)) => {
                // A read that was cut short says nothing.
                self.intake.is_bulk =
                    input.len() >= PROBE_BYTES || (self.intake.is_bulk && share.bytes() < PROBE_BYTES);
                share.receive(count);
                self.convert_and_send(sink, transform, input, means);
            }
            Ok(Received::End) => {
                means.scratch.give_input(input);
                self.finish(transform, means);
            }
            Ok(Received::Failed) => {
                means.scratch.give_input(input);
                self.delivery.drain(End::SourceFailed);
            }
            Err(Pause::Wait) if transform.has_unasked() => {
                input.reset(HEADROOM_BYTES);
                self.convert_and_send(sink, transform, input, means);
            }
            Err(pause) => {
                means.scratch.give_input(input);
                return Err(pause);
            }
        }
        Ok(())
    }

    /// Sends and converts what was kept until nothing is left. False: the sink takes no more, or the direction has
    /// ended.
    pub(super) fn settle<S: Socket>(
        &mut self,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        means: &mut Means<'_>,
    ) -> bool {
        while self.delivery.settle(sink, means.now) {
            let mut input = means.scratch.take_input();
            if self.intake.kept_waits() {
                self.intake.put_back_kept(&mut input);
            } else if !transform.has_unasked() {
                means.scratch.give_input(input);
                return true;
            }
            self.convert_and_send(sink, transform, input, means);
        }
        false
    }

    /// Converts `input` and sends as much as the sink takes. Nothing may be owed.
    pub(super) fn convert_and_send<S: Socket>(
        &mut self,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        mut input: Buf,
        means: &mut Means<'_>,
    ) {
        let mut output = means.scratch.take_output();
        match transform.convert(&mut input, &mut output, self.delivery.tally(), means.random) {
            Ok(Converted::Unchanged) => {
                self.deliver(sink, &mut input, means);
                self.delivery.tally().shrink();
            }
            Ok(Converted::Moved { again }) => {
                self.deliver(sink, &mut output, means);
                if self.delivery.end().is_none() {
                    self.intake.keep(&input, again, means.pool);
                    if transform.is_ended() && !self.intake.kept_waits() {
                        self.finish_with(transform, &[], means.pool, &mut output);
                        self.intake.discard();
                    }
                }
            }
            Err(error) => {
                self.deliver(sink, &mut output, means);
                self.delivery.drain(End::Broken(error));
            }
        }
        means.scratch.give_input(input);
        means.scratch.give_output(output);
        if self.delivery.end().is_some() {
            self.intake.discard();
        }
    }

    /// Sends `bytes`, and owes what is not taken. What a stranger does not take counts against the share of strangers.
    fn deliver<S: Socket>(&mut self, sink: &mut Endpoint<S>, bytes: &mut Buf, means: &Means<'_>) {
        self.delivery.send(sink, bytes, means.now);
        self.delivery.owe(bytes, self.intake.loan(), means.pool);
    }

    /// The source is over: appends what the transform still has to say, behind what waits already.
    fn finish(&mut self, transform: &mut impl Transform, means: &mut Means<'_>) {
        let mut output = means.scratch.take_output();
        let mut rest = means.scratch.take_input();
        self.intake.put_back_kept(&mut rest);
        self.finish_with(transform, rest.bytes(), means.pool, &mut output);
        means.scratch.give_input(rest);
        means.scratch.give_output(output);
    }

    fn finish_with(&mut self, transform: &mut impl Transform, rest: &[u8], pool: &BufferPool, output: &mut Buf) {
        output.reset(0);
        let write = |output: &mut Buf, tally: &mut Tally| transform.finish(rest, output, tally);
        let end = match self.delivery.owe_more(output, self.intake.loan(), pool, write) {
            Ok(()) => End::Finished,
            Err(error) => End::Broken(error),
        };
        self.delivery.drain(end);
    }

    /// The client is admitted: from here on what is kept counts as a relay's. `is_wrapped`: what is received comes in
    /// records.
    pub(super) fn admit(&mut self, is_wrapped: bool) {
        self.intake.admit(is_wrapped);
        self.delivery.admit();
    }

    /// Bytes were received that the sink has not taken yet.
    pub(super) fn owes_bytes(&self) -> bool {
        self.intake.holds_bytes() || self.delivery.owes_bytes()
    }

    /// Buffers are held, for what was received or for what the sink has not taken.
    pub(super) fn holds_buffers(&self) -> bool {
        self.intake.holds_buffers() || self.delivery.held_bytes() > 0
    }

    /// How many bytes were received and not delivered.
    pub(super) fn undelivered_bytes(&self) -> usize {
        self.intake.undelivered_bytes() + self.delivery.undelivered_bytes()
    }

    /// Forgets what waits and holds no buffer any more.
    pub(super) fn discard(&mut self) {
        self.intake.discard();
        self.delivery.discard();
    }
}

#[cfg(test)]
mod tests;
