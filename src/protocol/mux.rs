//! Frames of Mux.cool and XUDP: the body of a request with command 3, in both directions.
//!
//! # VLESS-4: frame
//!
//! | size | meaning | accepted |
//! |---|---|---|
//! | 2 | N, length of the metadata behind this field | 4 to 512 |
//! | 2 | session id | any |
//! | 1 | status: 1 New, 2 Keep, 3 End, 4 `KeepAlive` | 1 to 4 |
//! | 1 | option: bit 0 a payload follows, bit 1 error (with End) | other bits ignored |
//! | 1 | network: 1 TCP, 2 UDP | New: always. Keep: there if and only if N > 4 and this byte is 2 |
//! | 3 + n | destination, see [`address`](super::address) | with network; also port 0, which nobody can be reached at |
//! | 8 | Global ID | New, UDP, with payload, if at least 8 bytes of metadata are left; zeros mean none |
//! | rest of N | | skipped |
//! | 2 | L, length of the payload | only with option bit 0 |
//! | L | payload | only with option bit 0 |
//!
//! - Mux.cool numbers its sessions from 1. XUDP has one session, number 0, which is one UDP socket. A destination
//!   stands in front of every datagram there.
//! - In a TCP session the payload is a chunk of the stream. In a UDP session it is exactly one datagram.
//! - The server never sends New. XUDP clients accept from it Keep with N = 4 or with nothing but network and address
//!   behind, option exactly 1, at most 8192 bytes of payload, and one End: [`keep_header`] and [`end`] write no more.
//! - The records that carry a frame may cut it anywhere.
//!
//! Vectors: `request_mux.hex` and `request_mux_vision.hex` in `tests/vectors`, taken from an Xray-core 26.10.10 client,
//! and the frames in the tests below.
//!
//! Read from Xray-core common/mux/frame.go, common/mux/server.go and common/xudp/xudp.go, revision 2323273e, and
//! sing-vmess xudp.go.

pub mod fuzz;

use super::address::{AddressError, Target};
use super::cursor::Reader;

/// The longest frame that is accepted.
pub const FRAME_BYTES_MAX: usize = 2 + METADATA_BYTES_MAX + 2 + u16::MAX as usize;

/// The most payload to send in one frame: Xray's reader gives up beyond.
pub const SEND_PAYLOAD_BYTES_MAX: usize = 8192;

/// The most that [`keep_header`] writes: lengths, id, status, option, network, port, a name of 255 bytes.
pub const KEEP_HEADER_BYTES_MAX: usize = 2 + 4 + 1 + 2 + 2 + 255 + 2;

/// Bytes of a body that [`is_xudp`] must see.
pub const XUDP_PREFIX_BYTES: usize = 7;

const METADATA_BYTES_MIN: usize = 4;
const METADATA_BYTES_MAX: usize = 512;
const STATUS_NEW: u8 = 1;
const STATUS_KEEP: u8 = 2;
const STATUS_END: u8 = 3;
const STATUS_KEEP_ALIVE: u8 = 4;
const OPTION_DATA: u8 = 1;
const OPTION_ERROR: u8 = 2;
const NETWORK_TCP: u8 = 1;
const NETWORK_UDP: u8 = 2;

/// What stands in front of a chunk of a TCP session.
pub const CHUNK_HEADER_BYTES: usize = 8;

/// The length of the frame that ends a session.
pub const END_BYTES: usize = 6;

/// Identifies a client's UDP socket over several connections. Its bytes mean nothing here.
pub type GlobalId = [u8; 8];

/// What a session of a Mux connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Tcp,
    Udp,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The client's number for the session.
    pub id: u16,
    pub status: Status,
    /// `None` is no payload, which is not an empty one.
    pub payload: Option<&'a [u8]>,
}

/// What a frame says about its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    New {
        network: Network,
        target: Target,
        global_id: Option<GlobalId>,
    },
    /// `target`: where this datagram goes, in UDP sessions.
    Keep {
        target: Option<Target>,
    },
    End {
        is_error: bool,
    },
    KeepAlive,
    /// A New frame that asks for nothing that can be had. It concerns its session only: where the next frame begins is
    /// known.
    BadNew {
        error: MetadataError,
    },
    /// A datagram for nowhere, likewise.
    BadKeep {
        error: MetadataError,
    },
}

/// Everything of a frame but its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client's number for the session.
    pub id: u16,
    pub status: Status,
    /// `None` is no payload, which is not an empty one.
    pub payload_len: Option<u16>,
}

/// Why a connection cannot go on. The client is to blame for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// N is below 4 or above 512.
    BadMetadataLength(u16),
    /// A status other than 1 to 4.
    BadStatus(u8),
    /// The metadata ends inside id, status or option.
    TruncatedMetadata,
}

/// What is wrong with one frame, whose length is known all the same. The client is to blame for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataError {
    /// A New frame for a network other than 1 and 2.
    BadNetwork(u8),
    /// The metadata ends inside the network or the address.
    Truncated,
    /// The address is not one.
    BadAddress(AddressError),
}

/// Reads everything of a frame that stands in front of its payload from the front of `bytes`, and how long that is.
/// `None`: it is not complete yet.
///
/// # Errors
/// The client is to blame, and nobody can say where the next frame begins or what this one means for the others.
pub fn decode_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, FrameError> {
    let mut reader = Reader::new(bytes);
    let Some(metadata_len) = reader.u16() else { return Ok(None) };
    if !(METADATA_BYTES_MIN..=METADATA_BYTES_MAX).contains(&usize::from(metadata_len)) {
        return Err(FrameError::BadMetadataLength(metadata_len));
    }
    let Some(metadata) = reader.take(metadata_len.into()) else { return Ok(None) };
    let (id, status, has_payload) = read_metadata(metadata)?;
    let mut payload_len = None;
    if has_payload {
        let Some(len) = reader.u16() else { return Ok(None) };
        payload_len = Some(len);
    }
    Ok(Some((Header { id, status, payload_len }, reader.position())))
}

/// Reads the frame at the front of `bytes`, and its length in bytes. `None`: it is not complete yet.
///
/// # Errors
/// As of [`decode_header`]. A fault of the metadata is told before the payload has arrived.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((Header { id, status, payload_len }, header_len)) = decode_header(bytes)? else { return Ok(None) };
    let length = header_len + usize::from(payload_len.unwrap_or(0));
    let Some(payload) = bytes.get(header_len..length) else { return Ok(None) };
    Ok(Some((Frame { id, status, payload: payload_len.map(|_| payload) }, length)))
}

fn read_metadata(metadata: &[u8]) -> Result<(u16, Status, bool), FrameError> {
    let mut reader = Reader::new(metadata);
    let (Some(id), Some(status), Some(option)) = (reader.u16(), reader.u8(), reader.u8()) else {
        return Err(FrameError::TruncatedMetadata);
    };
    let has_payload = option & OPTION_DATA != 0;
    let status = match status {
        STATUS_NEW => read_new(&mut reader, has_payload).unwrap_or_else(|error| Status::BadNew { error }),
        STATUS_KEEP if reader.rest().first() == Some(&NETWORK_UDP) => {
            reader.u8();
            read_target(&mut reader)
                .map_or_else(|error| Status::BadKeep { error }, |target| Status::Keep { target: Some(target) })
        }
        STATUS_KEEP => Status::Keep { target: None },
        STATUS_END => Status::End { is_error: option & OPTION_ERROR != 0 },
        STATUS_KEEP_ALIVE => Status::KeepAlive,
        other => return Err(FrameError::BadStatus(other)),
    };
    Ok((id, status, has_payload))
}

fn read_new(reader: &mut Reader<'_>, has_payload: bool) -> Result<Status, MetadataError> {
    let network = match reader.u8().ok_or(MetadataError::Truncated)? {
        NETWORK_TCP => Network::Tcp,
        NETWORK_UDP => Network::Udp,
        other => return Err(MetadataError::BadNetwork(other)),
    };
    let target = read_target(reader)?;
    let may_have_id = network == Network::Udp && has_payload;
    let global_id = reader.array().filter(|id: &GlobalId| may_have_id && *id != [0; 8]);
    Ok(Status::New { network, target, global_id })
}

fn read_target(reader: &mut Reader<'_>) -> Result<Target, MetadataError> {
    Target::decode_any_port(reader).map_err(MetadataError::BadAddress)?.ok_or(MetadataError::Truncated)
}

/// Whether a body is XUDP, from its first bytes: a frame of session 0 for UDP. `None` while there are fewer than
/// [`XUDP_PREFIX_BYTES`].
pub fn is_xudp(bytes: &[u8]) -> Option<bool> {
    let prefix = bytes.first_chunk::<XUDP_PREFIX_BYTES>()?;
    Some(prefix[2..4] == [0, 0] && prefix[6] == NETWORK_UDP)
}

/// Appends everything of a Keep frame that stands in front of its payload of `payload_len` bytes. `source` is where a
/// datagram came from.
///
/// Returns `None` and appends nothing for more than [`SEND_PAYLOAD_BYTES_MAX`], or a source that cannot be encoded.
#[must_use]
pub fn keep_header(id: u16, source: Option<&Target>, payload_len: usize, out: &mut Vec<u8>) -> Option<()> {
    let payload_len = u16::try_from(payload_len).ok().filter(|&len| usize::from(len) <= SEND_PAYLOAD_BYTES_MAX)?;
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[STATUS_KEEP, OPTION_DATA]);
    if let Some(source) = source {
        out.push(NETWORK_UDP);
        if source.encode(out).is_none() {
            out.truncate(start);
            return None;
        }
    }
    let metadata_len = (out.len() - start - 2) as u16;
    if let Some(field) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *field = metadata_len.to_be_bytes();
    }
    out.extend_from_slice(&payload_len.to_be_bytes());
    Some(())
}

/// The same for a chunk of a TCP session, which has no source.
pub fn chunk_header(id: u16, payload_len: u16) -> [u8; CHUNK_HEADER_BYTES] {
    let ([id0, id1], [len0, len1]) = (id.to_be_bytes(), payload_len.to_be_bytes());
    [0, 4, id0, id1, STATUS_KEEP, OPTION_DATA, len0, len1]
}

/// The session that a frame made by [`end`] is about.
pub fn ended_id(end: &[u8; END_BYTES]) -> u16 {
    u16::from_be_bytes([end[2], end[3]])
}

/// The frame that ends a session.
pub fn end(id: u16, is_error: bool) -> [u8; END_BYTES] {
    let [id0, id1] = id.to_be_bytes();
    [0, 4, id0, id1, STATUS_END, if is_error { OPTION_ERROR } else { 0 }]
}

#[cfg(test)]
mod tests;
