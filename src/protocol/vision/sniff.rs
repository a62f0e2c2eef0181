//! What the content is: not TLS, TLS that must stay inside the outer TLS, or TLS 1.3 that may go direct (VISION-3).
//!
//! A [`Sniff`] is what was learnt from both directions of one session: a ClientHello travels up and its ServerHello
//! down. It does not know how content is framed or sent. It looks at the first few chunks and keeps six bytes of each
//! hello. A hello is followed through any fragmentation.

use super::Boundary;

const CHUNKS_MAX: u8 = 8;
const CHUNK_BYTES: usize = 8192;
const HEAD_BYTES: usize = 6;
const RECORD_HEADER_BYTES: u32 = 5;
/// Longest record in clear (RFC 8446 5.1).
const HELLO_BYTES_MAX: u16 = 1 << 14;
/// Record header 5, handshake header 4, legacy version 2, random 32 (RFC 8446 4.1.3).
const SESSION_ID_LEN_OFFSET: u32 = 43;
/// Extension supported_versions (43) of length 2 with the one value TLS 1.3.
const TLS13_MARKER: [u8; 6] = [0x00, 0x2b, 0x00, 0x02, 0x03, 0x04];

const CLIENT_HELLO: Pattern = [Some(0x16), Some(3), None, None, None, Some(1)];
const SERVER_HELLO: Pattern = [Some(0x16), Some(3), Some(3), None, None, Some(2)];

/// Watches the first content of one session, both directions.
#[derive(Clone, Debug)]
pub struct Sniff {
    /// Chunks still to be looked at, both directions together.
    chunks_left: u8,
    client_hello: Hello,
    server_hello: Hello,
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
    /// An encrypted record followed the ServerHello. Without early data that is the client's Finished.
    Finished,
    /// Its stream is no sequence of TLS records (a PROXY header before the hello), so nobody can say when it is
    /// finished.
    Unreadable,
}

impl Sniff {
    pub const fn new() -> Self {
        Self {
            chunks_left: CHUNKS_MAX,
            client_hello: Hello::new(),
            server_hello: Hello::new(),
            inner: Inner::Unknown,
            client: Client::Handshaking(Boundary::new()),
        }
    }

    /// Shows one piece of uplink content, after unpadding. Call it for all uplink content that passes through memory.
    /// It costs next to nothing once nothing is left to learn.
    pub fn uplink(&mut self, content: &[u8]) {
        if self.chunks_left > 0 && !content.is_empty() {
            let before = self.client_hello.follow(content, &CLIENT_HELLO);
            self.spend_chunks(before, content.len());
            if matches!(self.inner, Inner::Unknown) && self.client_hello.is_recognised() {
                self.inner = Inner::ClientHello;
            }
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
        if self.chunks_left == 0 || content.is_empty() {
            return;
        }
        let before = self.server_hello.follow(content, &SERVER_HELLO);
        self.spend_chunks(before, content.len());
        if self.server_hello.is_recognised() && !matches!(self.inner, Inner::ServerHello(_)) {
            self.inner = Inner::ServerHello(ServerHello::new());
        }
        if let Inner::ServerHello(hello) = &mut self.inner {
            match hello.read(content, before, self.server_hello.record_bytes()) {
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

    /// Whether a ClientHello or ServerHello was seen. Padding is long then (VISION-1).
    pub const fn is_tls(&self) -> bool {
        !matches!(self.inner, Inner::Unknown)
    }

    /// Whether the inner client has sent an encrypted record after the ServerHello. Its Finished comes after the whole
    /// certificate flight, so that flight is over then.
    pub const fn client_finished(&self) -> bool {
        matches!(self.client, Client::Finished)
    }

    /// Takes a piece off the budget. `before` bytes of the hello that it continues came in earlier pieces.
    ///
    /// The reference counts buffers of up to 8192 bytes. Our pieces may be longer, so they count once per started 8192
    /// bytes. The padded phase of content that is not TLS is then never longer than the reference's. The pieces of one
    /// hello count like one piece: a target that writes header and body of a record apart, or byte by byte, does not
    /// use the budget up.
    fn spend_chunks(&mut self, before: u32, piece_bytes: usize) {
        let chunks = |bytes: usize| bytes.div_ceil(CHUNK_BYTES).min(CHUNKS_MAX.into()) as u8;
        let before = before as usize;
        self.chunks_left = self.chunks_left.saturating_sub(chunks(before + piece_bytes) - chunks(before));
    }
}

impl Default for Sniff {
    fn default() -> Self {
        Self::new()
    }
}

/// A record of one direction that is a hello, or may become one, followed from its first byte.
///
/// It begins with a piece. Bytes in front of it in the same piece hide it, as they do for the reference.
#[derive(Clone, Debug)]
struct Hello {
    head: [u8; HEAD_BYTES],
    /// Bytes of the record in all pieces so far. 0: no piece has begun one.
    seen: u32,
}

impl Hello {
    const fn new() -> Self {
        Self { head: [0; HEAD_BYTES], seen: 0 }
    }

    /// Takes the next piece of the direction. Returns how many bytes of the record that it continues came before it.
    fn follow(&mut self, piece: &[u8], pattern: &Pattern) -> u32 {
        let is_over = self.is_recognised() && self.seen >= self.record_bytes();
        if is_over || !self.takes(piece, pattern) {
            self.seen = 0;
        }
        let before = self.seen;
        if self.takes(piece, pattern) {
            let places = self.head.iter_mut().skip(before as usize);
            places.zip(piece).for_each(|(place, &byte)| *place = byte);
            self.seen = before.saturating_add(piece.len() as u32);
        }
        before
    }

    /// All bytes that tell a hello from other records are there.
    fn is_recognised(&self) -> bool {
        self.seen as usize >= HEAD_BYTES
    }

    /// Length of the record with its header, once it is recognised.
    fn record_bytes(&self) -> u32 {
        let [_, _, _, high, low, _] = self.head;
        RECORD_HEADER_BYTES + u32::from(u16::from_be_bytes([high, low]))
    }

    /// The record may still be a hello with `piece` behind what was seen.
    fn takes(&self, piece: &[u8], pattern: &Pattern) -> bool {
        let known = self.head.iter().take(self.seen as usize);
        let head: [Option<u8>; HEAD_BYTES] = {
            let mut bytes = known.chain(piece).copied();
            std::array::from_fn(|_| bytes.next())
        };
        let matches = head.iter().zip(pattern).all(|(byte, wanted)| match (byte, wanted) {
            (Some(byte), Some(wanted)) => byte == wanted,
            _ => true,
        });
        let [_, _, _, high, low, _] = head;
        let body_bytes = high.zip(low).map(|(high, low)| u16::from_be_bytes([high, low]));
        matches && body_bytes.is_none_or(|bytes| (1..=HELLO_BYTES_MAX).contains(&bytes))
    }
}

/// The first bytes of a hello: record header and type of the message. `None`: any byte.
type Pattern = [Option<u8>; HEAD_BYTES];

/// What was read of a ServerHello.
#[derive(Clone, Debug)]
struct ServerHello {
    session_id_len: u8,
    suite: [u8; 2],
    /// The last bytes read.
    window: [u8; TLS13_MARKER.len()],
}

impl ServerHello {
    const fn new() -> Self {
        Self { session_id_len: 0, suite: [0; 2], window: [0; TLS13_MARKER.len()] }
    }

    /// Reads the next piece of the record, which begins at offset `from` of the record's `end` bytes. `None` while
    /// neither the marker nor the end of the record was met.
    fn read(&mut self, piece: &[u8], from: u32, end: u32) -> Option<Inner> {
        for (offset, &byte) in (from..end).zip(piece) {
            let suite_at = SESSION_ID_LEN_OFFSET + 1 + u32::from(self.session_id_len);
            match offset {
                SESSION_ID_LEN_OFFSET => self.session_id_len = byte,
                _ if offset == suite_at => self.suite[0] = byte,
                _ if offset == suite_at + 1 => self.suite[1] = byte,
                _ => {}
            }
            let [_, b1, b2, b3, b4, b5] = self.window;
            self.window = [b1, b2, b3, b4, b5, byte];
            // Chance may put the marker's bytes into the random or the session id, where they mean nothing.
            if self.window == TLS13_MARKER && offset > suite_at + 1 {
                let may_go_direct = matches!(self.suite, [0x13, 0x01..=0x04]);
                return Some(if may_go_direct { Inner::Direct } else { Inner::TlsOnly });
            }
            if offset + 1 == end {
                return Some(Inner::TlsOnly);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
