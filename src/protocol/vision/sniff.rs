//! What the content is: not TLS, TLS that must stay inside the outer TLS, or TLS 1.3 that may go direct (VISION-3).
//!
//! A [`Sniff`] is what was learnt from both directions of one session: a ClientHello travels up and its ServerHello
//! down. It does not know how content is framed or sent. It looks at the first few chunks and keeps none of them.

use super::Boundary;

const CHUNKS_MAX: u8 = 8;
const CHUNK_BYTES: usize = 8192;
/// Record header 5, handshake header 4, legacy version 2, random 32 (RFC 8446 4.1.3).
const SESSION_ID_LEN_OFFSET: u32 = 43;
/// Extension supported_versions (43) of length 2 with the one value TLS 1.3.
const TLS13_MARKER: [u8; 6] = [0x00, 0x2b, 0x00, 0x02, 0x03, 0x04];

/// Watches the first content of one session, both directions.
#[derive(Clone, Debug)]
pub struct Sniff {
    /// Chunks still to be looked at, both directions together.
    chunks_left: u8,
    inner: Inner,
    client: Client,
}

/// What the sender of a direction should do about padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too early to say. Keep padding.
    Open,
    /// No ServerHello within the chunk budget. Stop padding now.
    NotTls,
    /// TLS 1.2, or TLS 1.3 with a suite or an uplink that must not go direct. Stop padding at application data.
    TlsOnly,
    /// TLS 1.3 with a suitable suite. Go direct at application data.
    Direct,
}

#[derive(Clone, Debug)]
enum Inner {
    Unknown,
    ClientHello,
    ServerHello(ServerHello),
    TlsOnly,
    Direct,
}

/// The inner client's side of the handshake.
#[derive(Clone, Debug)]
enum Client {
    /// No encrypted record since the ServerHello yet.
    Handshaking(Boundary),
    /// An encrypted record followed the ServerHello; without early data that is the client's Finished.
    Finished,
    /// Its stream is no sequence of TLS records (a PROXY header before the hello), so nobody can say when it is
    /// finished.
    Unreadable,
}

impl Sniff {
    pub const fn new() -> Self {
        Self { chunks_left: CHUNKS_MAX, inner: Inner::Unknown, client: Client::Handshaking(Boundary::new()) }
    }

    /// Shows one piece of uplink content, after unpadding. Call it for all uplink content that passes through memory.
    /// It costs next to nothing once nothing is left to learn.
    pub fn uplink(&mut self, content: &[u8]) {
        if self.spend_chunks(content) && matches!(self.inner, Inner::Unknown) && is_client_hello(content) {
            self.inner = Inner::ClientHello;
        }
        if let Client::Handshaking(records) = &mut self.client {
            let hello_seen = matches!(self.inner, Inner::ServerHello(_) | Inner::TlsOnly | Inner::Direct);
            match records.scan(content) {
                Some(scan) if scan.data_opened && hello_seen => self.client = Client::Finished,
                Some(_) => {}
                None => self.client = Client::Unreadable,
            }
        }
    }

    /// Says that the uplink goes on raw and is not shown any more. A client does that behind its handshake only, so its
    /// handshake counts as finished.
    pub fn uplink_is_raw(&mut self) {
        if matches!(self.client, Client::Handshaking(_)) {
            self.client = Client::Finished;
        }
    }

    /// Shows one piece of downlink content, before padding. [`Pad::plan`](super::Pad::plan) does that itself.
    pub fn downlink(&mut self, content: &[u8]) {
        if !self.spend_chunks(content) {
            return;
        }
        if let Some(hello) = ServerHello::at(content) {
            self.inner = Inner::ServerHello(hello);
        }
        if let Inner::ServerHello(hello) = &mut self.inner {
            match hello.read(content) {
                Some(inner) => (self.inner, self.chunks_left) = (inner, 0),
                // The budget ran out within the ServerHello: TLS of unknown version.
                None if self.chunks_left == 0 => self.inner = Inner::TlsOnly,
                None => {}
            }
        }
    }

    /// What is known now. [`Verdict::TlsOnly`] is final, and so is [`Verdict::Direct`] while the uplink is TLS records.
    pub const fn verdict(&self) -> Verdict {
        match self.inner {
            // One chunk early, as the reference does for the sake of its older receivers.
            Inner::Unknown | Inner::ClientHello if self.chunks_left <= 1 => Verdict::NotTls,
            Inner::Unknown | Inner::ClientHello | Inner::ServerHello(_) => Verdict::Open,
            Inner::TlsOnly => Verdict::TlsOnly,
            // Padding would never end.
            Inner::Direct if matches!(self.client, Client::Unreadable) => Verdict::TlsOnly,
            Inner::Direct => Verdict::Direct,
        }
    }

    /// Whether a ClientHello or ServerHello was seen; padding is long then (VISION-1).
    pub const fn is_tls(&self) -> bool {
        !matches!(self.inner, Inner::Unknown)
    }

    /// Whether the inner client has sent an encrypted record after the ServerHello. Its Finished comes after the whole
    /// certificate flight, so that flight is over then.
    pub const fn client_finished(&self) -> bool {
        matches!(self.client, Client::Finished)
    }

    /// Takes this content off the budget. False: it is not to be looked at.
    ///
    /// The reference counts buffers of up to 8192 bytes. Our pieces may be longer, so they count once per started 8192
    /// bytes. The padded phase of content that is not TLS is then never longer than the reference's. A piece is looked
    /// at as a whole, so that the TLS 1.3 marker is not cut more often than it must be.
    fn spend_chunks(&mut self, content: &[u8]) -> bool {
        if content.is_empty() || self.chunks_left == 0 {
            return false;
        }
        let chunks = content.len().div_ceil(CHUNK_BYTES).min(CHUNKS_MAX.into());
        self.chunks_left = self.chunks_left.saturating_sub(chunks as u8);
        true
    }
}

impl Default for Sniff {
    fn default() -> Self {
        Self::new()
    }
}

/// Progress through a ServerHello record, which may come in several pieces.
#[derive(Clone, Debug)]
struct ServerHello {
    /// Length of the record with its header.
    len: u32,
    /// Bytes of it read so far, < `len` between calls.
    seen: u32,
    session_id_len: u8,
    suite: [u8; 2],
}

impl ServerHello {
    /// The one that `chunk` begins with; nothing of it is read yet.
    fn at(chunk: &[u8]) -> Option<Self> {
        let &[0x16, 3, 3, high, low, 2, ..] = chunk else { return None };
        Some(Self { len: u32::from(u16::from_be_bytes([high, low])) + 5, seen: 0, session_id_len: 0, suite: [0; 2] })
    }

    /// Reads the next piece; `None` while neither the marker nor the end of the record was met.
    fn read(&mut self, piece: &[u8]) -> Option<Inner> {
        let piece = piece.get(..(self.len - self.seen) as usize).unwrap_or(piece);
        let at = |offset: u32| offset.checked_sub(self.seen).and_then(|index| piece.get(index as usize)).copied();

        self.session_id_len = at(SESSION_ID_LEN_OFFSET).unwrap_or(self.session_id_len);
        let suite_offset = SESSION_ID_LEN_OFFSET + 1 + u32::from(self.session_id_len);
        let suite = [at(suite_offset).unwrap_or(self.suite[0]), at(suite_offset + 1).unwrap_or(self.suite[1])];

        self.suite = suite;
        self.seen += piece.len() as u32;
        if piece.windows(TLS13_MARKER.len()).any(|window| window == TLS13_MARKER) {
            Some(if matches!(suite, [0x13, 0x01..=0x04]) { Inner::Direct } else { Inner::TlsOnly })
        } else {
            (self.seen == self.len).then_some(Inner::TlsOnly)
        }
    }
}

fn is_client_hello(chunk: &[u8]) -> bool {
    matches!(chunk, [0x16, 3, _, _, _, 1, ..])
}

#[cfg(test)]
mod tests;
