//! What a session of the crowd says and has to hear: a stream, datagrams, or streams inside Mux.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::pattern::byte;

/// No two sessions near each other have the same bytes.
const TABLE_BYTES: usize = 65_521;
const STEP_BYTES: usize = 16 << 10;
const FRAME_BYTES: usize = 8 << 10;
/// With the request, as the first flight of an inner handshake; then the target has its word.
const FIRST_BYTES: usize = 600;
/// Nobody promises that a datagram arrives: what stays without an answer is said again.
const REPEAT_AFTER: Duration = Duration::from_secs(10);

/// One session of the crowd.
pub(crate) enum Talk {
    Stream(Saying),
    Datagrams(Datagrams),
    Mux(Mux),
}

/// A stream that is to come back as it was sent.
pub(crate) struct Saying {
    opening: Vec<u8>,
    seed: usize,
    total: usize,
    said: usize,
    heard: usize,
}

/// Datagrams of which one is under way at a time.
pub(crate) struct Datagrams {
    opening: Vec<u8>,
    seed: usize,
    total: usize,
    bytes: usize,
    answered: usize,
    said_at: Option<Instant>,
    pub(crate) repeated: usize,
    unread: Vec<u8>,
}

/// Streams inside one connection.
pub(crate) struct Mux {
    opening: Vec<u8>,
    target: SocketAddr,
    streams: Vec<Saying>,
    turn: usize,
    unread: Vec<u8>,
}

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| (0..(TABLE_BYTES + STEP_BYTES * 8) as u64).map(|at| byte(at % TABLE_BYTES as u64)).collect())
}

/// At most [`STEP_BYTES`] times eight.
fn bytes_of(seed: usize, offset: usize, count: usize) -> &'static [u8] {
    let start = (seed * 7919 + offset) % TABLE_BYTES;
    &table()[start..start + count]
}

impl Saying {
    fn new(opening: Vec<u8>, seed: usize, total: usize) -> Self {
        Self { opening, seed, total, said: 0, heard: 0 }
    }

    fn next(&mut self, bytes_max: usize) -> &'static [u8] {
        let may_say = match (self.said, self.heard) {
            (0, _) => FIRST_BYTES,
            (_, 0) => 0,
            _ => bytes_max,
        };
        let count = may_say.min(self.total - self.said);
        let bytes = bytes_of(self.seed, self.said, count);
        self.said += count;
        bytes
    }

    fn hear(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(STEP_BYTES));
            if self.heard + part.len() > self.said || part != bytes_of(self.seed, self.heard, part.len()) {
                return Err(format!("other bytes than were sent, behind {} of {}", self.heard, self.total));
            }
            self.heard += part.len();
            bytes = rest;
        }
        Ok(())
    }
}

impl Talk {
    pub(crate) fn stream(id: &[u8; 16], target: SocketAddr, seed: usize, total: usize) -> Self {
        Self::Stream(Saying::new(request(id, target), seed, total))
    }

    pub(crate) fn datagrams(id: &[u8; 16], target: SocketAddr, seed: usize, total: usize) -> Self {
        let mut opening = request(id, target);
        // The command is UDP.
        opening[18] = 2;
        let (bytes, unread) = (1 + seed * 37 % 1400, Vec::new());
        let (answered, repeated) = (0, 0);
        Self::Datagrams(Datagrams { opening, seed, total, bytes, answered, said_at: None, repeated, unread })
    }

    pub(crate) fn mux(id: &[u8; 16], target: SocketAddr, seed: usize, streams: usize, total: usize) -> Self {
        let mut opening = request(id, target);
        // The command is Mux, which has no target.
        opening.truncate(18);
        opening.push(3);
        let streams = (0..streams).map(|number| Saying::new(Vec::new(), seed + number, total)).collect();
        Self::Mux(Mux { opening, target, streams, turn: 0, unread: Vec::new() })
    }

    /// What it says next; nothing if it has to hear something first.
    pub(crate) fn say(&mut self, now: Instant) -> Vec<u8> {
        match self {
            Self::Stream(saying) => {
                let mut said = std::mem::take(&mut saying.opening);
                said.extend_from_slice(saying.next(STEP_BYTES));
                said
            }
            Self::Datagrams(datagrams) => datagrams.say(now),
            Self::Mux(mux) => mux.say(),
        }
    }

    /// Behind the response header.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Stream(saying) => saying.hear(bytes),
            Self::Datagrams(datagrams) => datagrams.hear(bytes),
            Self::Mux(mux) => mux.hear(bytes),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Stream(saying) => saying.heard == saying.total,
            Self::Datagrams(datagrams) => datagrams.answered == datagrams.total,
            Self::Mux(mux) => mux.streams.iter().all(|saying| saying.heard == saying.total),
        }
    }

    /// Payload that it has heard.
    pub(crate) fn heard_bytes(&self) -> usize {
        match self {
            Self::Stream(saying) => saying.heard,
            Self::Datagrams(datagrams) => datagrams.answered * datagrams.bytes,
            Self::Mux(mux) => mux.streams.iter().map(|saying| saying.heard).sum(),
        }
    }

    /// Something may be said although nothing was heard.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        matches!(self, Self::Datagrams(datagrams) if datagrams.said_at.is_some_and(|at| now - at > REPEAT_AFTER))
    }
}

impl Datagrams {
    fn say(&mut self, now: Instant) -> Vec<u8> {
        let is_late = self.said_at.is_some_and(|at| now - at > REPEAT_AFTER);
        if self.answered == self.total || self.said_at.is_some() && !is_late {
            return Vec::new();
        }
        self.repeated += usize::from(is_late);
        self.said_at = Some(now);
        let mut said = std::mem::take(&mut self.opening);
        said.extend((self.bytes as u16).to_be_bytes());
        said.extend_from_slice(bytes_of(self.seed, self.answered * self.bytes, self.bytes));
        said
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.unread.extend_from_slice(bytes);
        while let Some((length, rest)) = self.unread.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(datagram) = rest.get(..length) else { return Ok(()) };
            let expected = |number: usize| bytes_of(self.seed, number * self.bytes, self.bytes);
            if datagram == expected(self.answered) {
                self.answered += 1;
                self.said_at = None;
            } else if (0..self.answered).all(|number| datagram != expected(number)) {
                // An earlier one may come twice if it was said twice.
                return Err(format!("a datagram that nobody sent, behind {}", self.answered));
            }
            self.unread.drain(..2 + length);
        }
        Ok(())
    }
}

impl Mux {
    fn say(&mut self) -> Vec<u8> {
        let mut said = std::mem::take(&mut self.opening);
        let count = self.streams.len();
        for _ in 0..count {
            let number = self.turn % count;
            self.turn += 1;
            let saying = &mut self.streams[number];
            let is_new = saying.said == 0;
            let bytes = saying.next(FRAME_BYTES);
            if bytes.is_empty() {
                continue;
            }
            let id = (number as u16 + 1).to_be_bytes();
            if is_new {
                said.extend([0, 12, id[0], id[1], 1, 1, 1]);
                said.extend(self.target.port().to_be_bytes());
                said.extend([1, 127, 0, 0, 1]);
            } else {
                said.extend([0, 4, id[0], id[1], 2, 1]);
            }
            said.extend((bytes.len() as u16).to_be_bytes());
            said.extend_from_slice(bytes);
            return said;
        }
        said
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.unread.extend_from_slice(bytes);
        loop {
            let [0, 4, high, low, status, option, rest @ ..] = &self.unread[..] else {
                let is_whole = self.unread.len() >= 6;
                return if is_whole { Err(format!("a frame {:?}", &self.unread[..6])) } else { Ok(()) };
            };
            let number = usize::from(u16::from_be_bytes([*high, *low]));
            if (*status, *option) != (2, 1) {
                return Err(format!("a frame of status {status} and option {option} for {number}"));
            }
            let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(()) };
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(data) = rest.get(..length) else { return Ok(()) };
            let Some(saying) = self.streams.get_mut(number - 1) else { return Err(format!("session {number}")) };
            saying.hear(data)?;
            self.unread.drain(..8 + length);
        }
    }
}
