//! The sending half of a direction: what its sink has not taken yet, what it took, and how the direction ended.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::inbound::InboundError;
use crate::io::buf::Buf;
use crate::io::buffer_pool::{BufferPool, Held, Loan};
use crate::io::endpoint::Endpoint;
use crate::io::moment::Moment;
use crate::io::outcome::Sent;
use crate::io::socket::Socket;
use crate::io::splice::KernelPipe;
use crate::io::taker::{Probation, Taker};
use crate::io::tally::Tally;

/// One direction's bytes on their way to its sink.
pub(super) struct Delivery {
    owed: Owed,
    tally: Tally,
    /// How the direction ends, once everything that is owed was taken. `None`: more may follow.
    end: Option<End>,
    /// It has ended so.
    has_ended: bool,
    moved: Moved,
    /// When the last payload byte was taken.
    moved_at: Moment,
    /// While something is owed: when the sink last took a byte or began to refuse.
    stalled_since: Option<Moment>,
    /// What the peer had not acknowledged at the last look, if the sink has taken nothing since.
    unacknowledged: Option<NonZeroU32>,
    /// Nobody could say that at a look since the sink last took something. The time was given once more then.
    was_unanswered: bool,
    probation: Probation,
}

/// What the sink has not taken yet.
enum Owed {
    Nothing,
    /// Converted bytes.
    Bytes(Held),
    /// Bytes that were received by splicing.
    Pipe(KernelPipe),
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

/// How a direction ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Every byte up to the source's end of stream was taken by the sink, and the sink was told the end.
    Finished,
    /// The source's connection broke. What had arrived was sent on.
    SourceFailed,
    /// The sink's connection broke or it reads no more.
    SinkFailed,
    /// The client broke its protocol. What had been decoded was sent on.
    Broken(InboundError),
}

impl Delivery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            owed: Owed::Nothing,
            tally: Tally::default(),
            end: None,
            has_ended: false,
            moved: Moved::default(),
            moved_at: now.into(),
            stalled_since: None,
            unacknowledged: None,
            was_unanswered: false,
            probation: Probation::new(),
        }
    }

    /// Starts with `payload` owed, of which the first `unwrapped_bytes` did not come as they stand there.
    pub(super) fn begin_with(&mut self, payload: Held, unwrapped_bytes: usize) {
        self.tally.unwrapped(unwrapped_bytes);
        self.owed = Owed::Bytes(payload);
    }

    /// Which of the bytes given to [`Delivery::send`] next count, and as what.
    pub(super) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Sends what is owed, and ends where that was all. True when nothing is owed and more may be given.
    pub(super) fn settle<S: Socket>(&mut self, sink: &mut Endpoint<S>, now: Instant) -> bool {
        if self.end().is_some() || !self.flush(sink, now) {
            return false;
        }
        let Some(end) = &self.end else { return true };
        if *end == End::Finished {
            sink.shutdown_write();
        }
        self.end_with(end.clone(), now);
        false
    }

    /// Sends what is owed. True when nothing is and the sink takes more.
    pub(super) fn flush<S: Socket>(&mut self, sink: &mut Endpoint<S>, now: Instant) -> bool {
        match std::mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::Nothing => return true,
            Owed::Bytes(mut bytes) => {
                while !bytes.is_empty() && self.end().is_none() {
                    let taken = self.send_slice(sink, bytes.front(), now);
                    bytes.consume(taken);
                    if !sink.is_writable() {
                        break;
                    }
                }
                if !bytes.is_empty() && self.end().is_none() {
                    self.note_stall(true, now);
                    self.owed = Owed::Bytes(bytes);
                }
            }
            Owed::Pipe(pipe) => self.send_pipe(sink, pipe, now),
        }
        matches!(self.owed, Owed::Nothing) && self.end().is_none()
    }

    /// Sends from the front of `bytes` until the sink takes no more, and takes them off. A sink that fails ends the
    /// direction, and takes everything.
    pub(super) fn send<S: Socket>(&mut self, sink: &mut Endpoint<S>, bytes: &mut Buf, now: Instant) {
        let taken = self.send_slice(sink, bytes.bytes(), now);
        bytes.consume(taken);
    }

    /// The same with bytes that stay where they are. Returns how many were taken.
    pub(super) fn send_slice<S: Socket>(&mut self, sink: &mut Endpoint<S>, bytes: &[u8], now: Instant) -> usize {
        let mut sent = 0;
        while sink.is_writable()
            && let Some(rest @ [_, ..]) = bytes.get(sent..)
        {
            match sink.send(rest) {
                Sent::Bytes(count) => {
                    sent += count;
                    self.count(count, now);
                }
                Sent::Blocked => {}
                Sent::Failed | Sent::Refused => {
                    self.end_with(End::SinkFailed, now);
                    self.stalled_since = None;
                    return bytes.len();
                }
            }
        }
        self.note_stall(sent < bytes.len(), now);
        sent
    }

    /// Sends what is in `pipe`, and owes the rest. The pipe goes back as soon as it is empty.
    pub(super) fn send_pipe<S: Socket>(&mut self, sink: &mut Endpoint<S>, mut pipe: KernelPipe, now: Instant) {
        while pipe.held_bytes() > 0 && sink.is_writable() {
            match sink.send_pipe(&mut pipe) {
                Sent::Bytes(count) => {
                    self.count(count, now);
                    self.moved.spliced_bytes += count as u64;
                }
                Sent::Blocked => {}
                Sent::Failed | Sent::Refused => return self.end_with(End::SinkFailed, now),
            }
        }
        self.note_stall(pipe.held_bytes() > 0, now);
        if pipe.held_bytes() > 0 {
            self.owed = Owed::Pipe(pipe);
        }
    }

    /// Owes what is left in `rest`. Nothing may be owed already.
    pub(super) fn owe(&mut self, rest: &Buf, loan: Loan, pool: &BufferPool) {
        debug_assert!(!self.owes_bytes());
        if !rest.is_empty() && self.end().is_none() {
            self.owed = Owed::Bytes(pool.hold(rest.bytes(), 0, loan));
        }
    }

    /// Owes `bytes` behind what is owed already. False, and nothing done, where there is no memory for that.
    #[must_use]
    pub(super) fn owe_slice(&mut self, bytes: &[u8], loan: Loan, pool: &BufferPool) -> bool {
        let mut all = None;
        match &mut self.owed {
            _ if bytes.is_empty() => return true,
            Owed::Nothing => {}
            Owed::Pipe(_) => return false,
            Owed::Bytes(owed) => {
                if owed.append(bytes) {
                    return true;
                }
                let all = all.insert(Buf::new(owed.len() + bytes.len()));
                if !owed.copy_to(all) || !all.append(bytes) {
                    return false;
                }
            }
        }
        let all = all.as_ref().map_or(bytes, |all| all.bytes());
        let has_room = pool.has_room(pool.hold_bytes(all.len()));
        if has_room {
            self.owed = Owed::Bytes(pool.hold(all, 0, loan));
        }
        has_room
    }

    /// Appends to what is owed what `write` adds to `output`, which must be empty.
    pub(super) fn owe_more<T>(
        &mut self,
        output: &mut Buf,
        loan: Loan,
        pool: &BufferPool,
        write: impl FnOnce(&mut Buf, &mut Tally) -> T,
    ) -> T {
        match std::mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::Nothing => {}
            Owed::Bytes(owed) => {
                let fits = owed.copy_to(output);
                debug_assert!(fits, "a kept buffer is larger than the scratch memory");
            }
            // What passes unchanged is never followed by words of the stack.
            Owed::Pipe(pipe) => self.owed = Owed::Pipe(pipe),
        }
        let outcome = write(output, &mut self.tally);
        if matches!(self.owed, Owed::Nothing) && !output.is_empty() {
            self.owed = Owed::Bytes(pool.hold(output.bytes(), 0, loan));
        }
        outcome
    }

    /// Nothing follows what is owed: ends like this when that was taken.
    pub(super) fn drain(&mut self, end: End) {
        if self.end().is_none() {
            self.end = Some(end);
        }
    }

    /// Ending is progress too: the time allowed to the other direction counts from here.
    fn end_with(&mut self, end: End, now: Instant) {
        self.end = Some(end);
        self.has_ended = true;
        self.moved_at = now.into();
    }

    fn count(&mut self, taken: usize, now: Instant) {
        let stalled_since = self.stalled_since.take().map(Instant::from);
        self.probation.took(taken, stalled_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)));
        self.unacknowledged = None;
        self.was_unanswered = false;
        let taken = self.tally.taken(taken);
        if taken.payload_bytes > 0 {
            self.moved.payload_bytes += taken.payload_bytes as u64;
            self.moved.unchanged_bytes += taken.unchanged_bytes as u64;
            self.moved_at = now.into();
        }
    }

    fn note_stall(&mut self, is_stalled: bool, now: Instant) {
        if is_stalled {
            self.stalled_since.get_or_insert(now.into());
            self.probation.refused();
        } else {
            self.stalled_since = None;
        }
    }

    /// The client is admitted: from here on what is owed counts as a relay's.
    pub(super) fn admit(&mut self) {
        if let Owed::Bytes(owed) = &mut self.owed {
            owed.lend_as(Loan::Waiting);
        }
    }

    /// Bytes owed, those in a pipe left out.
    pub(super) fn owed_bytes(&self) -> usize {
        if let Owed::Bytes(owed) = &self.owed { owed.len() } else { 0 }
    }

    /// The memory that what is owed takes.
    pub(super) fn held_bytes(&self) -> usize {
        if let Owed::Bytes(owed) = &self.owed { owed.capacity() } else { 0 }
    }

    pub(super) fn owes_bytes(&self) -> bool {
        !matches!(self.owed, Owed::Nothing)
    }

    /// Bytes that the sink has not taken yet, those in a pipe included.
    pub(super) fn undelivered_bytes(&self) -> usize {
        match &self.owed {
            Owed::Nothing => 0,
            Owed::Bytes(bytes) => bytes.len(),
            Owed::Pipe(pipe) => pipe.held_bytes(),
        }
    }

    /// Forgets what is owed.
    pub(super) fn discard(&mut self) {
        self.owed = Owed::Nothing;
    }

    /// What is known of the sink.
    pub(super) fn taker(&self) -> Taker {
        self.probation.taker()
    }

    /// How the direction ended, if it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref().filter(|_| self.has_ended)
    }

    /// What the sink took so far.
    pub(super) fn moved(&self) -> Moved {
        self.moved
    }

    /// When the sink last took a payload byte, or the direction ended. Before that, the start of the relay.
    pub(super) fn moved_at(&self) -> Instant {
        self.moved_at.into()
    }

    /// A deadline that counts from the last progress has come. Asks how the peer gets on with what the kernel still
    /// holds. Fewer unacknowledged bytes than at the last look are progress. Of the time before the first look nobody
    /// knows, so the peer has the time once more. It has it once more, too, where nobody can say: a shortage of ours
    /// tells nothing of the peer. The next such look gives nothing, so the wait has an end.
    pub(super) fn look<S: Socket>(&mut self, sink: &Endpoint<S>, now: Instant) {
        let has_more_time = match sink.unacknowledged_bytes().map(|bytes| bytes.and_then(NonZeroU32::new)) {
            Ok(None) => false,
            Ok(Some(bytes)) => match self.unacknowledged.replace(bytes) {
                None => true,
                Some(before) => {
                    let is_progress = bytes < before;
                    self.was_unanswered &= !is_progress;
                    is_progress
                }
            },
            Err(_) => !std::mem::replace(&mut self.was_unanswered, true),
        };
        if has_more_time {
            self.moved_at = now.into();
            self.stalled_since = self.stalled_since.map(|_| now.into());
        }
    }

    /// The relay begins: idle time counts from here.
    pub(super) fn start(&mut self, now: Instant) {
        self.moved_at = now.into();
        if self.stalled_since.is_some() {
            self.stalled_since = Some(now.into());
        }
    }

    /// While something is owed: since when the sink has taken none of it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since.map(Instant::from)
    }
}
