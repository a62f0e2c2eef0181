//! What travels inside the proxied connection: the bytes that load and origin agree on.
//!
//! Everything is shaped like TLS records, so that one origin serves every scenario. A connection opens either with a
//! fake inner TLS 1.3 handshake (first byte 0x16) or directly with a request record (first byte 0x17):
//!
//! ```text
//! client                                            origin
//! ClientHello record, 517 bytes                ->
//!                                              <-   ServerHello 127 bytes, ChangeCipherSpec, certificate flight
//! ChangeCipherSpec, Finished                   ->
//!                                              <-   session ticket
//! request record: 17 03 03 00 40, mode, count  ->
//! ```
//!
//! Nothing is encrypted: a server in the middle cannot tell, and neither end should spend time on it. The handshake is
//! what Vision's filter looks for (ClientHello, then a ServerHello that selects TLS 1.3 and AES-128-GCM), and the
//! ticket is a whole application-data record by itself, as real TLS servers send it; without one Xray's server may
//! never find a moment to go direct.

use std::io;

use crate::leg::{Leg, recv_exact};

/// The sink's answer when count and samples were right.
pub(crate) const ACK_GOOD: [u8; 6] = [0x17, 3, 3, 0, 1, b'K'];
/// The sink's answer when a sample differed.
pub(crate) const ACK_BAD: [u8; 6] = [0x17, 3, 3, 0, 1, b'E'];

pub(crate) const REQUEST_BYTES: usize = 69;
pub(crate) const CLIENT_HELLO_BYTES: usize = 517;
/// One record of the pattern, header included.
pub(crate) const RECORD_BYTES: usize = 5 + RECORD_BODY_BYTES;
const RECORD_BODY_BYTES: usize = 16384;
const PATTERN_RECORDS: usize = 16;
const CHANGE_CIPHER_SPEC: [u8; 6] = [0x14, 3, 3, 0, 1, 1];

/// What the client asks of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Send the request record and everything after it back.
    Echo,
    /// Send this many bytes of the [`Pattern`].
    Source(u64),
    /// Take this many bytes of the [`Pattern`], then answer with [`ACK_GOOD`] or [`ACK_BAD`].
    Sink(u64),
    /// Send pieces of so many bytes of the [`Pattern`], with a pause of so many microseconds behind each.
    Trickle { piece_bytes: u32, pause_us: u32 },
}

/// The request record: 5 bytes of record header, one of mode, eight of count, zeros.
pub(crate) fn request(mode: Mode) -> [u8; REQUEST_BYTES] {
    let (code, count) = match mode {
        Mode::Echo => (0, 0),
        Mode::Source(count) => (1, count),
        Mode::Sink(count) => (2, count),
        Mode::Trickle { piece_bytes, pause_us } => (3, u64::from(piece_bytes) << 32 | u64::from(pause_us)),
    };
    let mut record = [0; REQUEST_BYTES];
    record[..5].copy_from_slice(&[0x17, 3, 3, 0, 64]);
    record[5] = code;
    record[6..14].copy_from_slice(&count.to_be_bytes());
    record
}

/// The mode in a request record.
pub(crate) fn parse_request(record: &[u8; REQUEST_BYTES]) -> io::Result<Mode> {
    let mut count = [0; 8];
    count.copy_from_slice(&record[6..14]);
    let count = u64::from_be_bytes(count);
    match (&record[..5], record[5]) {
        ([0x17, 3, 3, 0, 64], 0) => Ok(Mode::Echo),
        ([0x17, 3, 3, 0, 64], 1) => Ok(Mode::Source(count)),
        ([0x17, 3, 3, 0, 64], 2) => Ok(Mode::Sink(count)),
        ([0x17, 3, 3, 0, 64], 3) => Ok(Mode::Trickle { piece_bytes: (count >> 32) as u32, pause_us: count as u32 }),
        _ => Err(io::Error::other("the origin received a damaged request record")),
    }
}

/// The client's half of the fake handshake; checks every byte of the origin's half.
pub(crate) fn client_handshake(leg: &mut dyn Leg) -> io::Result<()> {
    leg.send(&client_hello())?;
    expect(leg, &server_flight())?;
    leg.send(&client_finish())?;
    expect(leg, &ticket())
}

fn expect(leg: &mut dyn Leg, wanted: &[u8]) -> io::Result<()> {
    let mut got = vec![0; wanted.len()];
    recv_exact(leg, &mut got)?;
    if got == wanted { Ok(()) } else { Err(io::Error::other("the inner handshake arrived damaged")) }
}

/// A record of type 22 with a ClientHello of the usual 512 bytes.
pub(crate) fn client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(CLIENT_HELLO_BYTES, 0x5a);
    hello
}

/// ServerHello, ChangeCipherSpec and an opaque record of the size of a small certificate chain.
pub(crate) fn server_flight() -> Vec<u8> {
    let mut flight = server_hello();
    flight.extend_from_slice(&CHANGE_CIPHER_SPEC);
    flight.extend(record(1500, 0xce));
    flight
}

/// ChangeCipherSpec and Finished.
pub(crate) fn client_finish() -> Vec<u8> {
    let mut finish = CHANGE_CIPHER_SPEC.to_vec();
    finish.extend(record(53, 0xf1));
    finish
}

/// What a TLS server sends after the client's Finished.
pub(crate) fn ticket() -> Vec<u8> {
    record(250, 0x71)
}

/// 127 bytes: a session id of 32 bytes, cipher suite 0x1301, the supported_versions extension with TLS 1.3, a key
/// share.
fn server_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 3, 0, 0x7a, 2, 0, 0, 0x76, 3, 3];
    hello.extend(0..32_u8);
    hello.push(32);
    hello.extend([0xee; 32]);
    hello.extend([0x13, 1, 0, 0, 0x2e, 0, 0x2b, 0, 2, 3, 4, 0, 0x33, 0, 0x24, 0, 0x1d, 0, 0x20]);
    hello.extend([0x99; 32]);
    hello
}

fn record(body_bytes: u16, fill: u8) -> Vec<u8> {
    let mut record = vec![0x17, 3, 3];
    record.extend(body_bytes.to_be_bytes());
    record.resize(5 + usize::from(body_bytes), fill);
    record
}

/// The bulk data of both directions: application-data records of 16 KiB with pseudo-random bodies, over and over.
///
/// A byte's value depends on its offset, so that lost, doubled and swapped pieces show when a sample is compared.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(PATTERN_RECORDS * RECORD_BYTES);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..PATTERN_RECORDS {
            bytes.extend([0x17, 3, 3, 0x40, 0]);
            for _ in 0..RECORD_BODY_BYTES / 8 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                bytes.extend(random.to_le_bytes());
            }
        }
        Self(bytes)
    }

    /// The bytes from this offset of the stream to the end of the period: never empty, at most 256 KiB and a bit.
    pub(crate) fn at(&self, offset: u64) -> &[u8] {
        &self.0[(offset % self.0.len() as u64) as usize..]
    }

    /// Whether these are the stream's bytes at this offset.
    pub(crate) fn matches(&self, mut offset: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let wanted = self.at(offset);
            let part = wanted.len().min(bytes.len());
            if wanted[..part] != bytes[..part] {
                return false;
            }
            offset += part as u64;
            bytes = &bytes[part..];
        }
        true
    }
}
