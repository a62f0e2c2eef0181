//! One client of the crowd: a socket, TLS or not, and what it says.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection};

use crate::talk::Talk;

/// Bytes read at one go, so that others have their turn.
const READ_BYTES_MAX: usize = 256 << 10;

pub(crate) struct Member {
    pub(crate) socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    pub(crate) talk: Talk,
    /// What the socket has not taken yet.
    owed: Vec<u8>,
    /// Bytes of the response header still to come.
    response_bytes: usize,
    /// How long it takes nothing after the first answer, and until when that is.
    pause: Duration,
    reads_from: Option<Instant>,
    pub(crate) is_done: bool,
}

/// How far a client has come.
pub(crate) enum Step {
    /// It waits for its socket, or for its time.
    Waits,
    /// It wants to go on.
    Again,
    Done,
}

impl Member {
    pub(crate) fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>, talk: Talk, pause: Duration) -> Self {
        let tls = tls.map(|config| {
            Box::new(ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap())
        });
        Self { socket, tls, talk, owed: Vec::new(), response_bytes: 2, pause, reads_from: None, is_done: false }
    }

    fn is_opening(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// It has heard nothing of its target yet: it may not even be admitted.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.response_bytes > 0
    }

    /// Its pause has been over for less than `time`.
    pub(crate) fn has_paused(&self, now: Instant, time: Duration) -> bool {
        self.reads_from.is_some_and(|at| now > at && now < at + time)
    }

    /// Sends and receives what it can.
    pub(crate) fn go_on(&mut self, now: Instant, chunk: &mut [u8]) -> Result<Step, String> {
        let mut read_bytes = 0;
        loop {
            let is_blocked = !self.send_all(now)?;
            if self.talk.is_done() {
                self.is_done = true;
                return Ok(Step::Done);
            }
            if self.reads_from.is_some_and(|at| now < at) {
                return Ok(Step::Waits);
            }
            match self.socket.read(chunk) {
                Ok(0) => return Err(format!("ended behind {} bytes", self.talk.heard_bytes())),
                Ok(count) => {
                    self.hear(&chunk[..count])?;
                    if self.reads_from.is_none() && self.talk.heard_bytes() > 0 {
                        self.reads_from = Some(now + self.pause);
                    }
                    read_bytes += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && (is_blocked || !self.has_more(now)) => {
                    return Ok(Step::Waits);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(format!("{error} behind {} bytes", self.talk.heard_bytes())),
            }
            if read_bytes > READ_BYTES_MAX {
                return Ok(Step::Again);
            }
        }
    }

    fn has_more(&mut self, now: Instant) -> bool {
        if self.owed.is_empty() && !self.is_opening() {
            let said = self.talk.say(now);
            self.put(&said);
        }
        self.collect_tls();
        !self.owed.is_empty()
    }

    /// False: the socket takes no more for now.
    fn send_all(&mut self, now: Instant) -> Result<bool, String> {
        while self.has_more(now) {
            match self.socket.write(&self.owed) {
                Ok(count) => drop(self.owed.drain(..count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) => return Err(format!("{error} behind {} bytes", self.talk.heard_bytes())),
            }
        }
        Ok(true)
    }

    fn put(&mut self, payload: &[u8]) {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(payload).unwrap(),
            None => self.owed.extend_from_slice(payload),
        }
    }

    fn collect_tls(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        while tls.wants_write() {
            tls.write_tls(&mut self.owed).unwrap();
        }
    }

    fn hear(&mut self, mut wire: &[u8]) -> Result<(), String> {
        let Some(tls) = &mut self.tls else { return self.hear_payload(wire.to_vec()) };
        let mut payload = Vec::new();
        while !wire.is_empty() {
            tls.read_tls(&mut wire).map_err(|error| error.to_string())?;
            tls.process_new_packets().map_err(|error| error.to_string())?;
            // It says "would block" when it has no more.
            let _ = tls.reader().read_to_end(&mut payload);
        }
        self.hear_payload(payload)
    }

    fn hear_payload(&mut self, mut payload: Vec<u8>) -> Result<(), String> {
        let response = payload.len().min(self.response_bytes);
        if payload.drain(..response).any(|byte| byte != 0) {
            return Err("another response than two zeros".to_owned());
        }
        self.response_bytes -= response;
        self.talk.hear(&payload)
    }
}
