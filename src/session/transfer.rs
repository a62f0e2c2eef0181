//! One direction of a session: receive, convert, send. Uplink and downlink are two of these.
//!
//! A transfer knows no TLS and no VLESS: a [`Transform`] turns received bytes into bytes to send. It keeps bytes only
//! when it must, what a conversion left over and what a socket did not take, and it never receives while something
//! waits to be sent: that is the whole of back-pressure.

use std::time::Instant;

use super::allowance::TURN_BYTES_MAX;
use crate::inbound::{Converted, HEADROOM_BYTES, InboundError};
use crate::io::buf::Buf;
use crate::io::buffer_pool::{BUFFER_BYTES_MAX, BufferPool, Loan, PooledBuf};
use crate::io::random::Random;
use crate::io::socket::{Endpoint, Recv, Send, Socket};
use crate::io::splice::{KernelPipe, PipePool};
use crate::io::tally::Tally;

/// Where splicing is possible, reads are this long, and a read that comes out full starts splicing. Copying up to 4 KiB
/// costs less than a pipe, from 8 KiB on it costs more (measured).
const PROBE_BYTES: usize = 16 << 10;

/// A burst through the pipe that moves less than this ends splicing.
const BURST_BYTES_MIN: usize = 8 << 10;

/// A worker's memory for bytes on their way through.
pub struct Scratch {
    input: Buf,
    output: Buf,
    /// One datagram; there is none before the first is received.
    datagram: Box<[u8]>,
}

impl Scratch {
    #[expect(clippy::new_without_default, reason = "made once per worker, never by default")]
    pub fn new() -> Self {
        Self {
            input: Buf::new(HEADROOM_BYTES + BUFFER_BYTES_MAX),
            output: Buf::new(BUFFER_BYTES_MAX),
            datagram: Box::default(),
        }
    }
}

/// What turns received bytes into bytes to send.
pub trait Transform {
    /// Bytes pass as they are from here on, for good.
    fn is_transparent(&self) -> bool;
    /// Converts from the front of `input`. `output` is empty; `input` has headroom in front.
    fn convert(
        &mut self,
        input: &mut Buf,
        output: &mut Buf,
        tally: &mut Tally,
        random: &mut Random,
    ) -> Result<Converted, InboundError>;
    /// The stream said that nothing follows, though its socket may still be open.
    fn is_ended(&self) -> bool;
    /// There is something to send that does not come from received bytes: call with empty input.
    fn has_unasked(&self) -> bool;
    /// The most to receive for one call of [`Transform::convert`].
    fn input_bytes_max(&self) -> usize;
    /// The most to receive where nothing new may begin: what completes `kept`, or the next part of it.
    fn missing_bytes(&self, kept: &[u8]) -> usize;
    /// The stream is over, `rest` is what could not be converted: appends what is still due.
    fn finish(&mut self, rest: &[u8], output: &mut Buf, tally: &mut Tally) -> Result<(), InboundError>;
}

/// How a direction ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Every byte up to the source's end of stream was taken by the sink, and the sink was told the end.
    Finished,
    /// The source's connection broke; what had arrived was sent on.
    SourceFailed,
    /// The sink's connection broke or it reads no more.
    SinkFailed,
    /// The client broke its protocol; what had been decoded was sent on.
    Broken(InboundError),
}

/// What a direction waits for after [`Transfer::pump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// For an event on one of its sockets, or it has ended.
    Wait,
    /// For its next turn: it could go on at once.
    Again,
    /// For buffer memory, and for nothing else that would wake it.
    Starved,
}

/// One direction.
pub struct Transfer {
    /// Received, and not or not completely converted.
    input: Option<PooledBuf>,
    /// `input` was not looked at since it was put there: convert before receiving.
    input_waits: bool,
    /// Converted, and not yet taken by the sink.
    output: Option<PooledBuf>,
    tally: Tally,
    /// Received by splicing, and not yet taken by the sink. Never together with `output`.
    pipe: Option<KernelPipe>,
    /// The source delivers so much at a time that splicing pays.
    is_bulk: bool,
    state: State,
    /// The client is no user yet.
    is_opening: bool,
    moved: Moved,
    /// When the last payload byte was taken.
    moved_at: Instant,
    /// While output waits: when the sink last took a byte or began to refuse.
    stalled_since: Option<Instant>,
}

/// What a direction's sink took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub payload_bytes: u64,
    /// Of these, the ones that were passed on as they came.
    pub unchanged_bytes: u64,
    /// Of those, the ones that came through a kernel pipe.
    pub spliced_bytes: u64,
}

enum State {
    Open,
    /// Nothing more is received; ends this way once the output is sent.
    Draining(End),
    Ended(End),
}

/// What [`Transfer::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The scratch input holds bytes to convert: kept ones, and new ones if there were any.
    Bytes,
    Blocked,
    /// There is no memory for what might be left over; the source was not touched.
    Starved,
    End,
    Failed,
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
    pub fn new(now: Instant) -> Self {
        Self {
            input: None,
            input_waits: false,
            output: None,
            tally: Tally::default(),
            pipe: None,
            is_bulk: false,
            state: State::Open,
            is_opening: true,
            moved: Moved::default(),
            moved_at: now,
            stalled_since: None,
        }
    }

    /// Moves what can be moved from `source` to `sink` within one turn's budget.
    pub fn pump<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        means: &mut Means<'_>,
    ) -> Pumped {
        let mut budget = TURN_BYTES_MAX;
        loop {
            if matches!(self.state, State::Ended(_)) || !self.flush(sink, means) || !self.flush_pipe(sink, means.now) {
                return Pumped::Wait;
            }
            if let State::Draining(end) = &self.state {
                if *end == End::Finished {
                    sink.socket.shutdown_write();
                }
                let end = end.clone();
                self.end_with(end, means.now);
                return Pumped::Wait;
            }
            if budget == 0 {
                return Pumped::Again;
            }
            let may_splice = transform.is_transparent() && source.splices() && !self.input_waits;
            let splice = means.pipes.filter(|_| may_splice);
            // A pipe needs no memory of ours, so it is also the way on when that runs out.
            let prefers_pipe = self.is_bulk || means.pool.read_bytes_max() < PROBE_BYTES;
            if let Some(pipe) = splice.filter(|_| prefers_pipe && source.readable).and_then(PipePool::take)
                && let Some(outcome) = self.receive_pipe(source, pipe)
            {
                match outcome {
                    Recv::Bytes(count) => budget = budget.saturating_sub(count),
                    Recv::Blocked => return Pumped::Wait,
                    Recv::End => self.finish(transform, means),
                    Recv::Failed => self.state = State::Draining(End::SourceFailed),
                }
                continue;
            }
            // Bulk for which there is no pipe is read at length.
            let read_max = if splice.is_some() && !self.is_bulk { PROBE_BYTES } else { usize::MAX };
            let read_max = transform.input_bytes_max().min(read_max);
            match self.receive(source, read_max, |kept| transform.missing_bytes(kept), means) {
                Received::Bytes => {
                    self.is_bulk = means.scratch.input.len() >= PROBE_BYTES;
                    budget = budget.saturating_sub(means.scratch.input.len());
                }
                Received::Blocked if transform.has_unasked() => means.scratch.input.reset(HEADROOM_BYTES),
                Received::Blocked => return Pumped::Wait,
                Received::Starved => return Pumped::Starved,
                Received::End => {
                    self.finish(transform, means);
                    continue;
                }
                Received::Failed => {
                    self.state = State::Draining(End::SourceFailed);
                    continue;
                }
            }
            self.convert_and_send(sink, transform, means);
        }
    }

    /// Puts what there is to convert into the scratch input, at most `bytes_max` new bytes. While memory is short only a
    /// direction that holds the beginning of something receives, namely the `missing_bytes` that complete it, or one whose
    /// source sends nothing more.
    pub fn receive<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        bytes_max: usize,
        missing_bytes: impl FnOnce(&[u8]) -> usize,
        means: &mut Means<'_>,
    ) -> Received {
        if !self.input_waits && !source.readable {
            return Received::Blocked;
        }
        let is_short = !self.is_opening && !means.pool.may_begin();
        let holds_beginning = self.input.is_some() || self.output.is_some();
        if is_short && !holds_beginning && !source.is_over() {
            return Received::Starved;
        }
        let bytes_max = match &self.input {
            Some(kept) if is_short => bytes_max.min(missing_bytes(kept.bytes())),
            _ => bytes_max.min(means.pool.read_bytes_max()),
        };
        let input = &mut means.scratch.input;
        input.reset(HEADROOM_BYTES);
        put_back(self.input.as_deref(), input);
        if self.input_waits {
            self.input_waits = false;
            self.input = None;
            return Received::Bytes;
        }
        let room = input.spare().min(bytes_max);
        if room == 0 {
            debug_assert!(false, "more was kept than a record is long");
            return Received::Failed;
        }
        let outcome = source.recv(&mut input.spare_mut()[..room]);
        match outcome {
            Recv::Bytes(count) => {
                input.fill(count);
                self.input = None;
                Received::Bytes
            }
            Recv::Blocked => Received::Blocked,
            Recv::End => Received::End,
            Recv::Failed => Received::Failed,
        }
    }

    /// Takes what the source has into `pipe`, and keeps the pipe if it then holds anything. `None`: it does not splice.
    fn receive_pipe<S: Socket>(&mut self, source: &mut Endpoint<S>, mut pipe: KernelPipe) -> Option<Recv> {
        let outcome = source.recv_pipe(&mut pipe)?;
        if let Recv::Bytes(count) = outcome {
            self.is_bulk = count >= BURST_BYTES_MIN;
            self.pipe = Some(pipe);
        }
        Some(outcome)
    }

    /// Sends what is in the pipe; true when nothing is left to wait for. The pipe goes back as soon as it is empty.
    fn flush_pipe<S: Socket>(&mut self, sink: &mut Endpoint<S>, now: Instant) -> bool {
        let Some(mut pipe) = self.pipe.take() else { return true };
        while pipe.held_bytes() > 0 && sink.writable {
            match sink.send_pipe(&mut pipe) {
                Send::Bytes(count) => {
                    self.count(count, now);
                    self.moved.spliced_bytes += count as u64;
                    self.stalled_since = None;
                }
                Send::Blocked => {}
                Send::Failed | Send::Refused => {
                    self.end_with(End::SinkFailed, now);
                    return false;
                }
            }
        }
        if pipe.held_bytes() == 0 {
            self.stalled_since = None;
            return true;
        }
        self.stalled_since.get_or_insert(now);
        self.pipe = Some(pipe);
        false
    }

    /// Sends and converts what was kept until nothing is left; false while the sink takes no more, or has ended.
    pub fn settle<S: Socket>(
        &mut self,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        means: &mut Means<'_>,
    ) -> bool {
        loop {
            if matches!(self.state, State::Ended(_)) || !self.flush(sink, means) {
                return false;
            }
            if let State::Draining(end) = &self.state {
                let end = end.clone();
                self.end_with(end, means.now);
                return false;
            }
            if self.input_waits {
                let input = &mut means.scratch.input;
                input.reset(HEADROOM_BYTES);
                put_back(self.input.take().as_deref(), input);
                self.input_waits = false;
            } else if transform.has_unasked() {
                means.scratch.input.reset(HEADROOM_BYTES);
            } else {
                return true;
            }
            self.convert_and_send(sink, transform, means);
        }
    }

    /// Converts what is in the scratch input and sends as much as the sink takes; nothing may be waiting.
    pub(super) fn convert_and_send<S: Socket>(
        &mut self,
        sink: &mut Endpoint<S>,
        transform: &mut impl Transform,
        means: &mut Means<'_>,
    ) {
        let Scratch { input, output, .. } = &mut *means.scratch;
        output.reset(0);
        match transform.convert(input, output, &mut self.tally, means.random) {
            Ok(Converted::Unchanged) => {
                self.send(sink, input, means.now);
                self.tally.shrink();
                self.output = self.keep(input, Loan::Waiting, means.pool);
            }
            Ok(Converted::Moved { again }) => {
                self.send(sink, output, means.now);
                if matches!(self.state, State::Ended(_)) {
                    return;
                }
                self.output = self.keep(output, Loan::Waiting, means.pool);
                self.input = self.keep(input, Loan::Beginning, means.pool);
                self.input_waits = again && self.input.is_some();
                if transform.is_ended() && !self.input_waits {
                    self.input = None;
                    self.finish(transform, means);
                }
            }
            Err(error) => {
                self.send(sink, output, means.now);
                self.output = self.keep(output, Loan::Waiting, means.pool);
                if !matches!(self.state, State::Ended(_)) {
                    self.state = State::Draining(End::Broken(error));
                }
            }
        }
    }

    /// The source is over: appends what the transform still has to say, behind what waits already.
    fn finish(&mut self, transform: &mut impl Transform, means: &mut Means<'_>) {
        let output = &mut means.scratch.output;
        output.reset(0);
        put_back(self.output.take().as_deref(), output);
        let rest = self.input.take();
        let rest = rest.as_ref().map_or(&[][..], |kept| kept.bytes());
        let end = match transform.finish(rest, output, &mut self.tally) {
            Ok(()) => End::Finished,
            Err(error) => End::Broken(error),
        };
        self.output = self.keep(output, Loan::Waiting, means.pool);
        self.state = State::Draining(end);
    }

    /// Sends what waits; true when nothing is left to wait for.
    pub fn flush<S: Socket>(&mut self, sink: &mut Endpoint<S>, means: &mut Means<'_>) -> bool {
        let Some(mut output) = self.output.take() else { return true };
        self.send(sink, &mut output, means.now);
        if output.is_empty() {
            return !matches!(self.state, State::Ended(_));
        }
        self.output = Some(output);
        false
    }

    /// Sends from the front of `bytes` until the sink takes no more. A sink that fails ends the direction.
    fn send<S: Socket>(&mut self, sink: &mut Endpoint<S>, bytes: &mut Buf, now: Instant) {
        while !bytes.is_empty() && sink.writable {
            match sink.send(bytes.bytes()) {
                Send::Bytes(count) => {
                    bytes.consume(count);
                    self.count(count, now);
                    self.stalled_since = None;
                }
                Send::Blocked => {}
                Send::Failed | Send::Refused => {
                    bytes.reset(0);
                    self.input = None;
                    self.input_waits = false;
                    self.end_with(End::SinkFailed, now);
                }
            }
        }
        if bytes.is_empty() {
            self.stalled_since = None;
        } else {
            self.stalled_since.get_or_insert(now);
        }
    }

    /// Ending is progress too: the time allowed to the other direction counts from here.
    fn end_with(&mut self, end: End, now: Instant) {
        self.state = State::Ended(end);
        self.moved_at = now;
    }

    fn count(&mut self, taken: usize, now: Instant) {
        let taken = self.tally.taken(taken);
        if taken.payload_bytes > 0 {
            self.moved.payload_bytes += taken.payload_bytes as u64;
            self.moved.unchanged_bytes += taken.unchanged_bytes as u64;
            self.moved_at = now;
        }
    }

    /// Puts what was kept back into the scratch memory, input and output.
    pub fn load(&mut self, means: &mut Means<'_>) {
        let (input, _) = means.scratch.parts();
        input.reset(HEADROOM_BYTES);
        put_back(self.input.take().as_deref(), input);
        self.input_waits = false;
        self.load_output(means);
    }

    /// Puts what was kept of the output back into the scratch output, and nothing else is there.
    pub fn load_output(&mut self, means: &mut Means<'_>) {
        let (_, output) = means.scratch.parts();
        output.reset(0);
        put_back(self.output.take().as_deref(), output);
    }

    /// Keeps the rest of the scratch input for later. `waits` says that it may be convertible as it is.
    pub fn keep_input(&mut self, waits: bool, means: &Means<'_>) {
        self.input = self.keep(&means.scratch.input, Loan::Beginning, means.pool);
        self.input_waits = waits && self.input.is_some();
    }

    /// Starts with `output` to be sent and, behind it, the scratch input to be converted. Of `output`, the first
    /// `unwrapped_bytes` did not come as they stand there.
    pub fn begin_with(&mut self, output: PooledBuf, unwrapped_bytes: usize, means: &Means<'_>) {
        self.tally.unwrapped(unwrapped_bytes);
        self.output = if output.is_empty() { None } else { Some(output) };
        self.keep_input(true, means);
    }

    /// Keeps the scratch output, which is not complete yet; no output may be waiting.
    pub fn keep_output(&mut self, means: &Means<'_>) {
        debug_assert!(self.output.is_none());
        self.output = self.keep(&means.scratch.output, Loan::Beginning, means.pool);
    }

    /// Appends to the waiting output what `write` puts into the scratch output.
    pub fn queue(&mut self, means: &mut Means<'_>, write: impl FnOnce(&mut Buf, &mut Tally)) {
        let output = &mut means.scratch.output;
        output.reset(0);
        put_back(self.output.take().as_deref(), output);
        write(output, &mut self.tally);
        self.output = self.keep(output, Loan::Waiting, means.pool);
    }

    fn keep(&self, rest: &Buf, loan: Loan, pool: &BufferPool) -> Option<PooledBuf> {
        if rest.is_empty() { None } else { Some(pool.take_with(rest.bytes(), self.loan(loan))) }
    }

    fn loan(&self, loan: Loan) -> Loan {
        if self.is_opening { Loan::Opening } else { loan }
    }

    /// The client is admitted: from here on what is kept counts as a relay's.
    pub fn admit(&mut self) {
        self.is_opening = false;
        for kept in [&mut self.input, &mut self.output].into_iter().flatten() {
            kept.lend_as(Loan::Waiting);
        }
    }

    /// Memory is kept for a client that is not admitted.
    pub fn holds_opening(&self) -> bool {
        self.is_opening && self.owes_bytes()
    }

    /// What was received and could not be converted yet.
    pub fn kept_input(&self) -> &[u8] {
        self.input.as_ref().map_or(&[], |kept| kept.bytes())
    }

    /// Takes the waiting output away.
    pub fn take_output(&mut self) -> Option<PooledBuf> {
        self.output.take()
    }

    pub fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Bytes were received that the sink has not taken yet.
    pub fn owes_bytes(&self) -> bool {
        self.input.is_some() || self.output.is_some() || self.pipe.is_some()
    }

    /// Forgets what waits and holds no buffer any more.
    pub fn discard(&mut self) {
        self.input = None;
        self.input_waits = false;
        self.output = None;
        self.pipe = None;
    }

    /// How the direction ended, if it has.
    pub fn end(&self) -> Option<&End> {
        match &self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// What the sink took so far.
    pub fn moved(&self) -> Moved {
        self.moved
    }

    /// When the sink last took a payload byte, or the direction ended; the start of the relay before that.
    pub fn moved_at(&self) -> Instant {
        self.moved_at
    }

    /// The relay begins: idle time counts from here.
    pub fn start(&mut self, now: Instant) {
        self.moved_at = now;
        if self.stalled_since.is_some() {
            self.stalled_since = Some(now);
        }
    }

    /// While bytes wait: since when the sink has taken none of them.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }
}

/// Appends what was kept to scratch memory, which has room for every buffer there is.
fn put_back(kept: Option<&Buf>, scratch: &mut Buf) {
    let fits = kept.is_none_or(|kept| scratch.append(kept.bytes()));
    debug_assert!(fits, "a kept buffer is larger than the scratch memory");
}

impl Scratch {
    /// The two halves, for a caller that converts by itself.
    pub fn parts(&mut self) -> (&mut Buf, &mut Buf) {
        (&mut self.input, &mut self.output)
    }

    /// The input to fill, and room for a datagram of up to `bytes`.
    pub fn datagram_parts(&mut self, bytes: usize) -> (&mut Buf, &mut [u8]) {
        if self.datagram.len() < bytes {
            self.datagram = vec![0; bytes].into_boxed_slice();
        }
        (&mut self.input, &mut self.datagram)
    }
}
