//! The two ends of a session that are not ours: a client or a target that follows a script.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::rng::Rng;
use super::socket::{Closed, Link};
use super::tls::TlsPeer;
use super::vision::{CONTINUE, Phase, VisionPeer};

/// Unread bytes at which a peer stops sending.
const UNREAD_MAX: usize = 256 << 10;

/// One thing a peer does. Reading goes on beside the script unless it was stopped.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Sends bytes that are not payload: the request header.
    Header(Vec<u8>),
    /// Sends payload. Where Vision pads, in a block.
    Say(Vec<u8>),
    /// Sends a request header and in the same record payload in Vision's first block.
    Open(Vec<u8>, Vec<u8>),
    /// Sends payload in a Vision block with this command, if padding has not ended yet.
    Block(u8, Vec<u8>),
    /// Sends a Vision block that lacks its end.
    TornBlock(Vec<u8>),
    /// Sends the beginning of a Vision block with a command that there is not.
    BadBlock,
    /// Sends bytes as they are, beside TLS.
    Raw(Vec<u8>),
    /// Sends payload of which the last record lacks its end.
    Torn(Vec<u8>),
    /// Sends payload whose last byte on the wire was changed on the way.
    Spoilt(Vec<u8>),
    /// Waits until TLS is open.
    WaitOpen,
    /// Waits until so many payload bytes were heard, the response header among them.
    WaitHeard(usize),
    /// Waits for the end of what is heard: close_notify, FIN or reset.
    WaitEnd,
    /// Waits until this instant.
    WaitUntil(Instant),
    KeyUpdate,
    CloseNotify,
    /// Ends its direction in order; within TLS not before TLS is open.
    Fin,
    /// Ends its direction, whatever the state of TLS.
    HangUp,
    Reset,
    StopReading,
    StartReading,
}

/// What a peer saw at the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeenEnd {
    Fin,
    Reset,
}

pub(crate) struct Peer {
    pub(crate) link: Rc<RefCell<Link>>,
    pub(crate) tls: Option<Box<TlsPeer>>,
    pub(crate) vision: Option<VisionPeer>,
    pub(crate) script: VecDeque<Op>,
    rng: Rng,
    /// Bytes it reads at once, at most.
    pub(crate) read_max: usize,
    pub(crate) reading: bool,
    pub(crate) heard: Vec<u8>,
    /// Payload of the first record heard, or bytes of the first read without TLS.
    pub(crate) first_heard: usize,
    /// All payload that a script operation has sent.
    pub(crate) said: Vec<u8>,
    /// It said that nothing follows.
    pub(crate) said_end: bool,
    pub(crate) seen_end: Option<SeenEnd>,
    pub(crate) seen_close_notify: bool,
}

impl Peer {
    pub(crate) fn new(link: Rc<RefCell<Link>>, tls: Option<TlsPeer>, script: Vec<Op>, rng: Rng) -> Self {
        Self {
            link,
            tls: tls.map(Box::new),
            vision: None,
            script: script.into(),
            rng,
            read_max: 1 << 30,
            reading: true,
            heard: Vec::new(),
            first_heard: 0,
            said: Vec::new(),
            said_end: false,
            seen_end: None,
            seen_close_notify: false,
        }
    }

    /// Does the next thing of its script; false if that has to wait.
    pub(crate) fn act(&mut self, now: Instant) -> bool {
        if self.seen_end == Some(SeenEnd::Reset) || self.link.borrow().peer_reset {
            return false;
        }
        let sent = self.link.borrow().coming.len();
        if !self.may_act(now) {
            // TLS may have said hello while its opening is waited for.
            return self.link.borrow().coming.len() > sent;
        }
        let Some(op) = self.script.pop_front() else { return false };
        let wire = self.perform(op);
        self.put(&wire);
        true
    }

    /// What goes onto the wire for it.
    fn perform(&mut self, op: Op) -> Vec<u8> {
        match (op, &mut self.tls) {
            (Op::Header(bytes), Some(tls)) => tls.say(&bytes),
            (Op::Header(bytes), None) | (Op::Raw(bytes), _) => bytes,
            (Op::Say(bytes), Some(tls)) => {
                self.said.extend_from_slice(&bytes);
                wrap(tls, &mut self.vision, CONTINUE, bytes)
            }
            (Op::Say(bytes), None) => {
                self.said.extend_from_slice(&bytes);
                bytes
            }
            (Op::Open(header, bytes), Some(tls)) => {
                self.said.extend_from_slice(&bytes);
                let block = self.vision.as_mut().map_or(bytes.clone(), |vision| vision.block(CONTINUE, &bytes));
                tls.say(&[header, block].concat())
            }
            (Op::Block(command, bytes), Some(tls)) => {
                self.said.extend_from_slice(&bytes);
                wrap(tls, &mut self.vision, command, bytes)
            }
            (Op::KeyUpdate, Some(tls)) => match &self.vision {
                Some(vision) if vision.up == Phase::Raw => Vec::new(),
                _ => tls.key_update(),
            },
            (Op::CloseNotify, Some(tls)) => {
                let goodbye = tls.close_notify();
                // Go clients say it below TLS, too, where it is a part of the inner stream.
                match &self.vision {
                    Some(vision) if vision.up == Phase::Raw => self.said.extend_from_slice(&goodbye),
                    _ => self.said_end = true,
                }
                goodbye
            }
            (op @ (Op::TornBlock(_) | Op::Torn(_) | Op::Spoilt(_) | Op::BadBlock), Some(_)) => self.spoil(op),
            (op, _) => {
                self.behave(&op);
                Vec::new()
            }
        }
    }

    /// Bytes inside TLS that are cut short or wrong.
    fn spoil(&mut self, op: Op) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return Vec::new() };
        match op {
            Op::TornBlock(bytes) => {
                let block = self.vision.as_mut().map_or(Vec::new(), |vision| vision.block(CONTINUE, &bytes));
                let length = self.rng.up_to(block.len() - 1);
                let around = block.len() - bytes.len() - self.vision.as_ref().map_or(0, VisionPeer::last_padding);
                self.said.extend_from_slice(&bytes[..length.saturating_sub(around).min(bytes.len())]);
                tls.say(&block[..length])
            }
            Op::Torn(bytes) => {
                self.said.extend_from_slice(&bytes);
                let mut wire = tls.say(&bytes);
                wire.truncate(wire.len() - self.rng.up_to(wire.len() - 1));
                if ends_between_records(&wire) {
                    // Nothing would be torn.
                    wire.pop();
                }
                wire
            }
            Op::Spoilt(bytes) => {
                self.said.extend_from_slice(&bytes);
                let mut wire = wrap(tls, &mut self.vision, CONTINUE, bytes);
                let last = wire.len() - 1;
                wire[last] ^= 1;
                wire
            }
            Op::BadBlock => {
                let mut block = self.vision.as_mut().map_or(Vec::new(), |vision| vision.block(CONTINUE, &[]));
                let command = block.len() - self.vision.as_ref().map_or(0, VisionPeer::last_padding) - 5;
                block[command] = 3;
                tls.say(&block)
            }
            _ => Vec::new(),
        }
    }

    /// What is no bytes.
    fn behave(&mut self, op: &Op) {
        match op {
            Op::Fin | Op::HangUp => {
                self.said_end = true;
                self.link.borrow_mut().peer_fin = true;
            }
            Op::Reset => {
                self.link.borrow_mut().peer_reset = true;
            }
            Op::StopReading => {
                self.reading = false;
            }
            Op::StartReading => {
                self.reading = true;
            }
            // Waiting is over, or it is a thing of TLS and there is none.
            _ => {}
        }
    }

    fn may_act(&mut self, now: Instant) -> bool {
        match self.script.front() {
            None => false,
            Some(Op::WaitOpen | Op::Fin | Op::CloseNotify | Op::KeyUpdate) => match &mut self.tls {
                None => true,
                Some(tls) => {
                    let hello = tls.say(&[]);
                    let open = tls.is_open() || tls.error.is_some();
                    self.put(&hello);
                    open
                }
            },
            Some(Op::WaitHeard(count)) => self.heard.len() >= *count || self.seen_end.is_some(),
            Some(Op::WaitEnd) => self.seen_end.is_some() || self.seen_close_notify,
            Some(Op::WaitUntil(at)) => *at <= now,
            Some(Op::Say(_) | Op::Block(..)) => {
                let link = self.link.borrow();
                link.coming.len() - link.received < UNREAD_MAX
            }
            Some(_) => true,
        }
    }

    /// When its script goes on by itself.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        match self.script.front() {
            Some(Op::WaitUntil(at)) => Some(*at),
            _ => None,
        }
    }

    fn put(&mut self, wire: &[u8]) {
        let mut link = self.link.borrow_mut();
        if !link.peer_fin {
            link.coming.extend_from_slice(wire);
        }
    }

    /// Reads something; false if there is nothing or it does not read.
    pub(crate) fn read(&mut self) -> bool {
        if !self.reading || self.seen_end.is_some() || self.link.borrow().peer_reset {
            return false;
        }
        let mut link = self.link.borrow_mut();
        if link.closed == Some(Closed::Reset) {
            self.seen_end = Some(SeenEnd::Reset);
            return true;
        }
        let max = self.rng.up_to(self.read_max);
        let wire = link.peer_takes(max);
        let ended = wire.is_empty() && link.has_ended();
        drop(link);
        if !wire.is_empty() {
            self.hear(&wire);
        }
        if ended {
            self.seen_end = Some(SeenEnd::Fin);
        }
        ended || !wire.is_empty()
    }

    /// Looks at wire bytes from our side.
    pub(crate) fn hear(&mut self, wire: &[u8]) {
        let Some(tls) = &mut self.tls else {
            if self.heard.is_empty() {
                self.first_heard = wire.len();
            }
            return self.heard.extend_from_slice(wire);
        };
        tls.feed(wire);
        loop {
            if self.vision.as_ref().is_some_and(|vision| vision.down == Phase::Raw) {
                self.heard.extend(tls.take_rest());
                return;
            }
            let Some(payload) = tls.next_payload() else { break };
            if self.heard.is_empty() {
                self.first_heard = payload.len();
            }
            match &mut self.vision {
                Some(vision) => vision.hear(&payload, &mut self.heard),
                None => self.heard.extend_from_slice(&payload),
            }
        }
        self.seen_close_notify |= tls.error.is_none() && tls.is_closed();
        let answer = tls.say(&[]);
        if !self.is_raw() {
            self.put(&answer);
        }
    }

    fn is_raw(&self) -> bool {
        self.vision.as_ref().is_some_and(|vision| vision.up == Phase::Raw)
    }

    /// Looks at everything that our side's socket took, whether it was read or not.
    pub(crate) fn hear_rest(&mut self) {
        let rest = self.link.borrow_mut().peer_takes(usize::MAX);
        self.hear(&rest);
    }
}

/// Wire bytes for payload, in whichever way it is sent now.
fn wrap(tls: &mut TlsPeer, vision: &mut Option<VisionPeer>, command: u8, bytes: Vec<u8>) -> Vec<u8> {
    match vision {
        Some(vision) if vision.up == Phase::Padded => tls.say(&vision.block(command, &bytes)),
        Some(vision) if vision.up == Phase::Raw => bytes,
        _ => tls.say(&bytes),
    }
}

/// Whole TLS records and nothing behind them.
fn ends_between_records(mut wire: &[u8]) -> bool {
    while let [_, _, _, high, low, rest @ ..] = wire {
        let Some(behind) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        wire = behind;
    }
    wire.is_empty()
}
