//! VLESS request and response headers. This page is their specification: no RFC exists.
//!
//! # VLESS-1: request, client to server
//!
//! | offset | size | meaning | accepted |
//! |---|---|---|---|
//! | 0 | 1 | version | 0 |
//! | 1 | 16 | user id, in the order of its text | a known user; bytes 6 and 7 of the id may be anything |
//! | 17 | 1 | M, length of the addons | 0 to 255 |
//! | 18 | M | addons, see [`addons`] | empty, or a message whose flow is empty or `xtls-rprx-vision` |
//! | 18 + M | 1 | command | 1 TCP, 2 UDP, 3 Mux |
//! | 19 + M | 3 + n | commands 1 and 2 only: destination, see [`address`](super::address) | port, type, address |
//! | then | | body: the first payload, often in the same TLS record | not touched here |
//!
//! - The longest header is 18 + 255 + 1 + 2 + 1 + 1 + 255 = 533 bytes.
//! - Command 3 has no destination: the body follows the command byte.
//! - Command 4 is Xray's reverse proxy. This server has none, and it is refused like any unknown command.
//! - The header may arrive one byte at a time, or together with payload, cut anywhere. The verdict comes as soon as the
//!   bytes allow it: on a wrong version after one byte, on an unknown user after 17.
//! - There is no status code. The server answers a refused request by closing the connection, without a single byte.
//! - An error before the user was recognised may lead to a fallback. A later one closes ([`DecodeError::is_stranger`]).
//!
//! Vectors: `request_*.hex` in `tests/vectors`, taken from an Xray-core 26.10.10 client, except `request_longest.hex`,
//! which no client sends.
//!
//! # VLESS-2: response, server to client
//!
//! | offset | size | meaning | sent |
//! |---|---|---|---|
//! | 0 | 1 | version, echo of the request's | 0 |
//! | 1 | 1 | N, length of the addons | 0 |
//! | 2 | | body | |
//!
//! Sent once, in front of the first payload byte and in the same TLS record with it. See [`RESPONSE`].
//!
//! Read from Xray-core proxy/vless/encoding/encoding.go and proxy/vless/inbound/inbound.go, revision 2323273e.

use std::hint::black_box;

use super::addons::{self, AddonsError, Flow};
use super::address::{AddressError, Target};
use super::cursor::Reader;
use super::user_id::UserId;

/// The response header of every accepted request.
///
/// Version 0 echoes the request's, the only version there is. The addons are empty: there is nothing to say in them,
/// and Xray clients give up on addons that they cannot read as protobuf.
///
/// The header waits for the first payload and shares its TLS record. Clients read it lazily, so they miss nothing. A
/// record is saved, and nothing shows that the request was accepted before the target answers.
pub const RESPONSE: [u8; 2] = [VERSION, 0];

/// The longest valid header: full addons and a domain name of 255 bytes.
pub const HEADER_BYTES_MAX: usize = 18 + 255 + 1 + 2 + 1 + 1 + 255;

const VERSION: u8 = 0;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As received, route bytes and all: Vision must echo these bytes, not the configured ones.
    pub user_id: UserId,
    /// What the client wants. Whether the user may have it is not judged here.
    pub flow: Flow,
    pub command: Command,
    /// `None` for [`Command::Mux`] and only for it.
    pub target: Option<Target>,
}

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// One byte stream to one target.
    Tcp,
    /// Length-prefixed datagrams to one target.
    Udp,
    /// Mux.cool frames, each with a target of its own.
    Mux,
}

/// The outcome of looking at the first bytes of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// So far the bytes are the start of a valid header. Never the answer to [`HEADER_BYTES_MAX`] bytes or more.
    NeedMore,
    /// `len` is the length of the header, `19..=HEADER_BYTES_MAX`: `bytes[len..]` is the start of the body.
    Request { request: Request, len: usize },
}

/// Why a request was refused. The client is to blame for each, and no further byte can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The first byte, which is not 0.
    BadVersion(u8),
    /// No user has this id.
    UnknownUser,
    /// The addons are not the protobuf message they should be.
    BadAddons,
    /// The addons name a flow that this server does not know.
    UnknownFlow,
    /// A command other than 1, 2 and 3.
    BadCommand(u8),
    /// Port 0.
    BadPort,
    /// An address type other than 1, 2 and 3.
    BadAddressType(u8),
    /// A domain name of length 0.
    EmptyName,
    /// A domain name with a byte that no name may have.
    BadNameCharacter,
}

impl DecodeError {
    /// Whether the client showed no sign of being one of ours, and may be handed to a fallback. Behind a known user id
    /// an error closes: no web server behind a fallback is shown the id of a user.
    pub fn is_stranger(self) -> bool {
        matches!(self, Self::BadVersion(_) | Self::UnknownUser)
    }
}

/// Reads a request header from the front of `bytes`, which are all bytes that the client sent so far.
///
/// `is_known` is asked about the id as received, once its last byte is there. It compares ids as
/// [`mask`](super::user_id::mask) leaves them. Nothing is consumed: the caller drops the `len` bytes of a request.
///
/// Cost: one look at each byte and one question per call. A client that sends its header byte by byte costs at most
/// [`HEADER_BYTES_MAX`] calls.
pub fn decode(bytes: &[u8], is_known: impl FnOnce(&UserId) -> bool) -> Result<Decoded, DecodeError> {
    let mut reader = Reader::new(bytes);
    let decoded = match read_request(&mut reader, is_known)? {
        Some(request) => Decoded::Request { request, len: reader.position() },
        None => Decoded::NeedMore,
    };
    Ok(decoded)
}

/// `None` if the header is not complete yet.
fn read_request(
    reader: &mut Reader<'_>,
    is_known: impl FnOnce(&UserId) -> bool,
) -> Result<Option<Request>, DecodeError> {
    let Some(version) = reader.u8() else { return Ok(None) };
    if version != VERSION {
        return Err(DecodeError::BadVersion(version));
    }

    let Some(user_id) = reader.array() else { return Ok(None) };
    let is_user = is_known(&user_id);
    // A stranger's rest is read as a user's is: how long a refusal takes does not tell whether the id is known.
    let request = black_box(read_rest(reader, user_id));
    if is_user { request } else { Err(DecodeError::UnknownUser) }
}

/// Reads what follows the id.
fn read_rest(reader: &mut Reader<'_>, user_id: UserId) -> Result<Option<Request>, DecodeError> {
    let Some(addons_len) = reader.u8() else { return Ok(None) };
    let Some(addons) = reader.take(addons_len.into()) else { return Ok(None) };
    let flow = addons::decode(addons)?;

    let Some(command) = reader.u8() else { return Ok(None) };
    let command = Command::from_wire(command)?;
    let target = match command {
        Command::Mux => None,
        Command::Tcp | Command::Udp => match Target::decode(reader)? {
            Some(target) => Some(target),
            None => return Ok(None),
        },
    };
    Ok(Some(Request { user_id, flow, command, target }))
}

impl Command {
    fn from_wire(command: u8) -> Result<Self, DecodeError> {
        match command {
            1 => Ok(Self::Tcp),
            2 => Ok(Self::Udp),
            3 => Ok(Self::Mux),
            other => Err(DecodeError::BadCommand(other)),
        }
    }
}

impl From<AddonsError> for DecodeError {
    fn from(error: AddonsError) -> Self {
        match error {
            AddonsError::Malformed => Self::BadAddons,
            AddonsError::UnknownFlow => Self::UnknownFlow,
        }
    }
}

impl From<AddressError> for DecodeError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::BadPort => Self::BadPort,
            AddressError::BadType(address_type) => Self::BadAddressType(address_type),
            AddressError::EmptyName => Self::EmptyName,
            AddressError::BadNameCharacter => Self::BadNameCharacter,
        }
    }
}

#[cfg(test)]
mod tests;
