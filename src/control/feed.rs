//! The live feed: one reader of it, and how messages become bytes.
//!
//! A message is encoded once for all readers who get the same, and they share its bytes: a reader who takes none costs a
//! socket and a few pointers. A reader whose last snapshot has not left gets none this time; one who takes nothing for
//! [`STALL_TIMEOUT`], or says nothing for the heartbeat time, is dropped. `tungstenite` reads what clients send and makes control frames.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use tungstenite::error::{CapacityError, Error as WsError};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader, Utf8Bytes};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Message};

use super::http::stream::Stream;
use super::http::waiting::Waiting;

/// A reader who takes no byte for so long although some wait is dropped.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After a close frame of ours, for the reader to answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages that may wait for one reader, beside a snapshot; further events are lost to this reader.
const WAITING_MAX: usize = 32;
/// What clients may send: they have nothing to say but control frames.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Control frames of ours that may wait for one reader, in bytes.
const CONTROL_BYTES_MAX: usize = 4 << 10;

/// Frames read in one turn.
const READS_MAX: usize = 32;

/// The head of a frame has so many bytes at the most, as a server does not mask.
const FRAME_HEAD_BYTES_MAX: usize = 10;

/// A text message as the bytes of its frame: `write` appends the text. The bytes are shared by all readers.
pub fn encode(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    // The head comes before the text, and its length depends on the text's.
    let mut bytes = vec![0; FRAME_HEAD_BYTES_MAX];
    write(&mut bytes);
    bytes.shrink_to_fit();
    let mut head = Vec::with_capacity(FRAME_HEAD_BYTES_MAX);
    let text_bytes = (bytes.len() - FRAME_HEAD_BYTES_MAX) as u64;
    // Writing into memory does not fail.
    let _ = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() }.format(text_bytes, &mut head);
    let start = FRAME_HEAD_BYTES_MAX - head.len();
    bytes[start..FRAME_HEAD_BYTES_MAX].copy_from_slice(&head);
    Bytes::from(bytes).slice(start..)
}

/// Why a reader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Closed in order or left; nothing to complain about.
    Left,
    /// Broke the protocol, or sent more than is taken.
    Refused,
    /// Did not read, or did not answer.
    Silent,
}

/// One reader.
pub struct Reader {
    stream: Stream,
    socket: WebSocketContext,
    /// What the socket's context has written; it must not get between the bytes of a message.
    control: Vec<u8>,
    messages: VecDeque<Bytes>,
    /// Bytes of the first message that have left.
    sent: usize,
    /// A snapshot is, or was, among the messages that wait.
    snapshot_waits: bool,
    /// Since when a message has been waiting, if one does.
    waiting_since: Instant,
    /// The version of the accounts that the reader has seen when it has taken all of its messages; 0: nothing yet.
    /// `None`: it wants none.
    seen: Option<u64>,
    /// Bytes read along with the request.
    early: Vec<u8>,
    readable: bool,
    heard_at: Instant,
    /// Since when bytes wait and none was taken.
    stalled_since: Option<Instant>,
    closing_since: Option<Instant>,
}

impl Reader {
    /// A reader whose handshake `response` is the first thing to send; `early` came along with the request.
    pub fn new(stream: Stream, response: Vec<u8>, early: Vec<u8>, now: Instant) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(MESSAGE_BYTES_MAX)
            .write_buffer_size(0)
            .max_write_buffer_size(CONTROL_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Self {
            stream,
            socket: WebSocketContext::new(Role::Server, Some(config)),
            control: Vec::new(),
            messages: VecDeque::from([Bytes::from(response)]),
            sent: 0,
            snapshot_waits: false,
            waiting_since: now,
            seen: Some(0),
            early,
            readable: true,
            heard_at: now,
            stalled_since: None,
            closing_since: None,
        }
    }

    /// The version of the accounts that the reader has seen, or has coming; `None`: it wants to know of none.
    pub fn seen(&self) -> Option<u64> {
        self.seen
    }

    /// The reader gets figures of the server alone.
    pub fn leave_accounts_out(&mut self) {
        self.seen = None;
    }

    /// Whether the reader gets the next snapshot: one at a time may wait.
    pub fn takes_snapshot(&self) -> bool {
        !self.snapshot_waits && self.closing_since.is_none()
    }

    /// A new snapshot for a reader who takes one; with it the reader has seen that version of the accounts.
    pub fn offer_snapshot(&mut self, snapshot: &Bytes, version: Option<u64>, now: Instant) {
        self.push(snapshot, now);
        self.snapshot_waits = true;
        self.seen = self.seen.map(|seen| version.unwrap_or(seen));
    }

    /// A message of its own; false when too many wait.
    pub fn offer(&mut self, message: &Bytes, now: Instant) -> bool {
        let has_room = self.messages.len() < WAITING_MAX && self.closing_since.is_none();
        if has_room {
            self.push(message, now);
        }
        has_room
    }

    fn push(&mut self, message: &Bytes, now: Instant) {
        if self.messages.is_empty() {
            self.waiting_since = now;
        }
        self.messages.push_back(message.clone());
    }

    /// The long messages that wait for the reader to take them, and since when.
    pub fn waiting(&self) -> impl Iterator<Item = (Waiting, Instant)> {
        let waiting = self.messages.iter().filter_map(|message| Waiting::of(message, message.len()));
        waiting.map(|waiting| (waiting, self.waiting_since))
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self) {
        self.with_context(|context, side| context.write(side, Message::Ping(Bytes::new())));
    }

    /// Says goodbye. Messages that wait go out before.
    pub fn close(&mut self, code: CloseCode, reason: &'static str, now: Instant) {
        if self.closing_since.replace(now).is_none() {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            self.with_context(|context, side| context.close(side, Some(frame)));
        }
    }

    /// Says goodbye to one who may not look any more: of what waits, only the message under way goes out.
    pub fn turn_out(&mut self, code: CloseCode, reason: &'static str, now: Instant) {
        let is_under_way = self.sent > 0 || !self.handshake_is_out();
        self.messages.truncate(usize::from(is_under_way));
        self.close(code, reason, now);
    }

    /// Reads and writes what can be.
    ///
    /// # Errors
    /// When the reader is gone or has to go.
    pub fn on_ready(&mut self, readable: bool, now: Instant) -> Result<(), Gone> {
        self.readable |= readable;
        let read = self.read(now);
        let written = self.write(now);
        match (read, written) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(gone), _) | (Ok(()), Err(gone)) => Err(gone),
        }
    }

    /// Whether the reader has been silent for too long.
    ///
    /// # Errors
    /// When it has.
    pub fn check(&self, heartbeat: Duration, now: Instant) -> Result<(), Gone> {
        let is_over =
            |since: Option<Instant>, limit| since.is_some_and(|since| now.saturating_duration_since(since) >= limit);
        let is_silent = is_over(Some(self.heard_at), heartbeat) || is_over(self.stalled_since, STALL_TIMEOUT);
        if is_over(self.closing_since, CLOSE_TIMEOUT) {
            return Err(Gone::Left);
        }
        if is_silent { Err(Gone::Silent) } else { Ok(()) }
    }

    fn read(&mut self, now: Instant) -> Result<(), Gone> {
        // A client that sends without end gets a turn's worth; the rest waits for the next.
        for _ in 0..READS_MAX {
            let mut result = Ok(Message::Ping(Bytes::new()));
            self.with_context(|context, side| {
                result = context.read(side);
                Ok(())
            });
            match result {
                // Nothing that a reader says means anything, except that somebody is there.
                Ok(Message::Close(_)) => {
                    self.closing_since.get_or_insert(now);
                }
                Ok(_) => self.heard_at = now,
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => {
                    let _ = self.write(now);
                    return Err(Gone::Left);
                }
                Err(WsError::Io(_)) => return Err(Gone::Left),
                Err(error) => {
                    let is_end = matches!(
                        error,
                        WsError::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
                    );
                    self.close(code_of(&error), "", now);
                    let _ = self.write(now);
                    self.stream.finish();
                    return Err(if is_end { Gone::Left } else { Gone::Refused });
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, now: Instant) -> Result<(), Gone> {
        loop {
            // Control frames go between two messages.
            if self.sent == 0 && !self.control.is_empty() && self.handshake_is_out() {
                self.messages.push_front(Bytes::from(std::mem::take(&mut self.control)));
            }
            let Some(first) = self.messages.front() else { break };
            match self.stream.write(&first[self.sent..]) {
                Ok(0) => return Err(Gone::Left),
                Ok(count) => {
                    self.stalled_since = None;
                    self.sent += count;
                    if self.sent == first.len() {
                        self.messages.pop_front();
                        self.sent = 0;
                        self.snapshot_waits &= !self.messages.is_empty();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone::Left),
            }
        }
        self.stalled_since = None;
        Ok(())
    }

    /// Nothing may come before the answer to the request, which is the first message.
    fn handshake_is_out(&self) -> bool {
        self.messages.front().is_none_or(|first| !first.starts_with(b"HTTP/1.1 "))
    }

    fn with_context(&mut self, call: impl FnOnce(&mut WebSocketContext, &mut Side<'_>) -> tungstenite::Result<()>) {
        let mut side = Side {
            stream: &mut self.stream,
            early: &mut self.early,
            control: &mut self.control,
            readable: &mut self.readable,
        };
        // A control frame that finds no room is lost with the reader, who has not read for long.
        let _ = call(&mut self.socket, &mut side);
    }
}

fn code_of(error: &WsError) -> CloseCode {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::Size,
        WsError::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    }
}

/// What the context takes for its stream: reads come from the socket, writes go into memory.
struct Side<'a> {
    stream: &'a mut Stream,
    early: &'a mut Vec<u8>,
    control: &'a mut Vec<u8>,
    readable: &'a mut bool,
}

impl Read for Side<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.early[..count]);
            self.early.drain(..count);
            return Ok(count);
        }
        if !*self.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = self.stream.read(buffer);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            *self.readable = false;
        }
        result
    }
}

impl Write for Side<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.control.len() + bytes.len() > CONTROL_BYTES_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.control.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
