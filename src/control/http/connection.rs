//! One HTTP client: reads a request, waits for its answer, writes it, and again.
//!
//! The next request is not read before the answer to the last one has left, so a client never has more of our memory
//! than one request and one answer. Every phase has an absolute deadline. Time comes as an argument.

use std::io::{self, Read, Write};
use std::mem;
use std::time::{Duration, Instant};

use tungstenite::Bytes;

use super::head::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Head, Method, Parsed, Refusal, parse};
use super::response::{CONTINUE, Framing, Reply, body, head};
use super::stream::{Peer, Stream};
use super::waiting::Waiting;

/// From accept, or from the first byte of a later request, to the complete head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the head to the complete body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// For work that the answer needs. The work has shorter limits of its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// From the first to the last byte of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After the last answer, for the client to read it and leave.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// What is thrown away meanwhile, in bytes.
const LINGER_BYTES_MAX: usize = 256 << 10;
/// Shorter bodies leave together with their head; longer ones are not copied.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// Read at a time.
const CHUNK_BYTES: usize = 8 << 10;
/// Kept between two requests; more is given back.
const KEPT_BYTES: usize = 4 << 10;

/// A complete request.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
    pub peer: Peer,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Progress {
    Wait,
    /// Answer this, by [`Connection::answer`].
    Request(Box<Request>),
    Close,
}

#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: Peer,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that the socket has taken.
    sent: usize,
    /// What comes after `output`: the rest of a long body.
    body: Bytes,
    /// How long that body was.
    body_bytes: usize,
    phase: Phase,
    deadline: Instant,
    /// Whether the socket may have bytes, or its end.
    readable: bool,
}

#[derive(Debug)]
enum Phase {
    Head,
    Body(Box<Head>),
    /// The caller has the request.
    Answering(Framing),
    /// The answer is ready and held back until then.
    Delayed(Instant, Framing),
    Writing(Framing),
    /// Nothing more will be sent; so many bytes were thrown away.
    Lingering(usize),
}

impl Connection {
    pub fn new(stream: Stream, peer: Peer, now: Instant) -> Self {
        Self {
            stream,
            peer,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            body: Bytes::new(),
            body_bytes: 0,
            phase: Phase::Head,
            deadline: now + HEAD_TIMEOUT,
            readable: true,
        }
    }

    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// When [`Connection::on_deadline`] is due.
    pub fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Delayed(until, _) => until,
            _ => self.deadline,
        }
    }

    /// Whether the client owes us a request: such a connection may be closed to make room for another.
    pub fn owes_request(&self) -> bool {
        matches!(self.phase, Phase::Head | Phase::Body(_) | Phase::Lingering(_))
    }

    /// Whether the client waits for an answer that was put off, or takes its answer in its own time. Such a connection may
    /// be closed where all places are taken by its like.
    pub fn holds_its_place(&self) -> bool {
        matches!(self.phase, Phase::Delayed(..) | Phase::Writing(_))
    }

    pub fn on_ready(&mut self, readable: bool, now: Instant) -> Progress {
        self.readable |= readable;
        self.advance(now)
    }

    pub fn on_deadline(&mut self, now: Instant) -> Progress {
        match self.phase {
            Phase::Head if self.input.is_empty() => Progress::Close,
            Phase::Head | Phase::Body(_) => {
                self.refuse(Refusal::TooSlow, now);
                self.advance(now)
            }
            Phase::Delayed(_, framing) => {
                self.phase = Phase::Writing(framing);
                self.advance(now)
            }
            Phase::Answering(_) | Phase::Writing(_) | Phase::Lingering(_) => Progress::Close,
        }
    }

    /// The answer to the request last returned, sent after `delay`.
    pub fn answer(&mut self, reply: Reply, delay: Duration, now: Instant) -> Progress {
        let Phase::Answering(framing) = self.phase else { return Progress::Close };
        self.write(reply, framing, now);
        if !delay.is_zero() {
            self.phase = Phase::Delayed(now + delay, framing);
            self.deadline = now + delay + WRITE_TIMEOUT;
            return Progress::Wait;
        }
        self.advance(now)
    }

    /// Leaves HTTP: the socket, and what was read beyond the request.
    pub fn into_upgraded(self) -> (Stream, Vec<u8>) {
        (self.stream, self.input)
    }

    fn advance(&mut self, now: Instant) -> Progress {
        loop {
            match &mut self.phase {
                Phase::Answering(_) | Phase::Delayed(..) => return Progress::Wait,
                Phase::Lingering(_) => return self.linger(),
                Phase::Writing(framing) => {
                    let framing = *framing;
                    match self.flush() {
                        Ok(true) => self.after_answer(framing, now),
                        Ok(false) => return Progress::Wait,
                        Err(_) => return Progress::Close,
                    }
                }
                Phase::Head | Phase::Body(_) => {
                    if let Some(request) = self.take_request(now) {
                        return Progress::Request(Box::new(request));
                    }
                    // The interim answer leaves before anybody waits for the body: its client waits for it, too.
                    if self.flush().is_err() {
                        return Progress::Close;
                    }
                    if matches!(self.phase, Phase::Head | Phase::Body(_)) && !self.fill(now) {
                        return if self.readable { Progress::Close } else { Progress::Wait };
                    }
                }
            }
        }
    }

    /// Reads some bytes; false if there are none now (then `readable` is false) or will be none any more.
    fn fill(&mut self, now: Instant) -> bool {
        if !self.readable {
            return false;
        }
        let mut chunk = [0; CHUNK_BYTES];
        let room = (HEAD_BYTES_MAX + BODY_BYTES_MAX).saturating_sub(self.input.len()).min(CHUNK_BYTES);
        match self.stream.read(&mut chunk[..room]) {
            Ok(0) => false,
            Ok(count) => {
                let is_start = self.input.is_empty() && matches!(self.phase, Phase::Head);
                if is_start {
                    self.deadline = self.deadline.min(now + HEAD_TIMEOUT);
                }
                self.input.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                false
            }
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }

    /// The request, if it is complete. One that is refused puts the connection into writing.
    fn take_request(&mut self, now: Instant) -> Option<Request> {
        if matches!(self.phase, Phase::Head) && self.may_hold_a_head() {
            match parse(&self.input) {
                Parsed::Partial => return None,
                Parsed::Refused(refusal) => {
                    self.refuse(refusal, now);
                    return None;
                }
                Parsed::Complete(head, length) => {
                    self.input.drain(..length);
                    self.deadline = now + BODY_TIMEOUT;
                    if head.expects_continue && self.input.len() < head.content_length {
                        self.output.extend_from_slice(CONTINUE);
                    }
                    self.phase = Phase::Body(head);
                }
            }
        }
        let Phase::Body(head) = &mut self.phase else { return None };
        if self.input.len() < head.content_length {
            return None;
        }
        let rest = self.input.split_off(head.content_length);
        let body = mem::replace(&mut self.input, rest);
        let head = mem::take(&mut **head);
        let framing = Framing {
            minor_version: head.minor_version,
            keep_alive: head.keep_alive,
            is_head: head.method == Method::Head,
            takes_gzip: head.accepts_gzip,
        };
        self.phase = Phase::Answering(framing);
        self.deadline = now + ANSWER_TIMEOUT;
        Some(Request { head, body, peer: self.peer })
    }

    /// Parsing anew for every byte of a slow client would cost: it is worth it at the end of a line, at the limit, and
    /// at once for what cannot be HTTP.
    fn may_hold_a_head(&self) -> bool {
        let Some(first) = self.input.first() else { return false };
        let ends_a_line = self.input[self.input.len().saturating_sub(CHUNK_BYTES)..].contains(&b'\n');
        ends_a_line || self.input.len() >= HEAD_BYTES_MAX || !(first.is_ascii_alphabetic() || *first == b'\r')
    }

    fn refuse(&mut self, refusal: Refusal, now: Instant) {
        let is_head = match &self.phase {
            Phase::Body(head) => head.method == Method::Head,
            _ => self.input.starts_with(b"HEAD "),
        };
        let framing = Framing { minor_version: 1, keep_alive: false, is_head, takes_gzip: false };
        self.write(Reply::error(refusal.status(), refusal.code(), refusal.message()), framing, now);
    }

    fn write(&mut self, reply: Reply, framing: Framing, now: Instant) {
        let reply = reply.packed(framing.takes_gzip);
        self.output.drain(..self.sent);
        self.sent = 0;
        self.output.extend(head(&reply, framing));
        let body = body(&reply, framing);
        if body.len() > COPIED_BYTES_MAX {
            self.body_bytes = body.len();
            self.body = body;
        } else {
            self.output.extend_from_slice(&body);
        }
        self.phase = Phase::Writing(framing);
        self.deadline = now + WRITE_TIMEOUT;
    }

    /// Whether everything has left.
    fn flush(&mut self) -> io::Result<bool> {
        loop {
            let rest = if self.sent < self.output.len() { &self.output[self.sent..] } else { &self.body[..] };
            if rest.is_empty() {
                break;
            }
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) if self.sent < self.output.len() => self.sent += count,
                Ok(count) => self.body = self.body.split_off(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
        self.sent = 0;
        self.body = Bytes::new();
        Ok(true)
    }

    /// The long body that waits for the client to take it, and since when.
    pub fn waiting(&self) -> Option<(Waiting, Instant)> {
        let waiting = Waiting::of(&self.body, self.body_bytes)?;
        Some((waiting, self.deadline.checked_sub(WRITE_TIMEOUT)?))
    }

    fn after_answer(&mut self, framing: Framing, now: Instant) {
        if framing.keep_alive {
            self.input.shrink_to(KEPT_BYTES);
            self.phase = Phase::Head;
            self.deadline = now + if self.input.is_empty() { IDLE_TIMEOUT } else { HEAD_TIMEOUT };
        } else {
            // Closing with unread bytes would reset the connection, and the answer might be lost with it.
            self.stream.finish();
            self.input = Vec::new();
            self.phase = Phase::Lingering(0);
            self.deadline = now + LINGER_TIMEOUT;
        }
    }

    fn linger(&mut self) -> Progress {
        let Phase::Lingering(thrown_away) = &mut self.phase else { return Progress::Wait };
        let mut chunk = [0; CHUNK_BYTES];
        while self.readable {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Progress::Close,
                Ok(count) => *thrown_away += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(_) => return Progress::Close,
            }
            if *thrown_away > LINGER_BYTES_MAX {
                return Progress::Close;
            }
        }
        Progress::Wait
    }
}
