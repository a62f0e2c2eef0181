//! The PROXY protocol header (PROXY-1): whoever passes a connection on tells in it who the client really is.
//!
//! The header is the first thing on a connection and is not repeated. Version 1 is one line of text:
//!
//! | form | meaning |
//! |---|---|
//! | `PROXY TCP4 source destination source-port destination-port\r\n` | an IPv4 connection |
//! | `PROXY TCP6 ...` | likewise IPv6 |
//! | `PROXY UNKNOWN ...\r\n` | nothing is known; what follows the word does not count |
//!
//! Version 2 is binary, and all numbers are big-endian:
//!
//! | offset | size | meaning | accepted |
//! |---|---|---|---|
//! | 0 | 12 | signature | `0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a` |
//! | 12 | 1 | version and command | `20` LOCAL (the sender's own connection), `21` PROXY |
//! | 13 | 1 | family and transport | `11` IPv4 stream, `21` IPv6 stream; others carry no address that counts |
//! | 14 | 2 | length of the rest | up to [`REST_BYTES_MAX`] |
//! | 16 | 12 or 36 | source and destination address, source and destination port | |
//! | | | type-length-value fields, which are skipped | |
//!
//! Read from "The PROXY protocol, versions 1 and 2" (HAProxy, doc/proxy-protocol.txt).
//!
//! Nothing here knows from whom such a header may be believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use super::cursor::Reader;

/// Longest header of version 1, its line break included.
pub const LINE_BYTES_MAX: usize = 107;

/// Longest rest of a version 2 header that is accepted: the addresses and 2 KiB of further fields. The format allows
/// 65,535, but senders use a few hundred at the most.
pub const REST_BYTES_MAX: usize = 36 + 2048;

const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const COMMAND_LOCAL: u8 = 0x20;
const COMMAND_PROXY: u8 = 0x21;
const FAMILY_IPV4: u8 = 0x11;
const FAMILY_IPV6: u8 = 0x21;

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// The two ends of a passed-on connection, as its first proxy saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// `None`: it names no addresses, so that those of the socket hold.
    pub ends: Option<Ends>,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// They begin with neither of the two signatures.
    NoHeader,
    /// The line of version 1 is longer than it may be or is not formed as it must be.
    BadLine,
    /// Version or command of version 2 does not exist.
    BadCommand(u8),
    /// The rest of version 2 is shorter than its addresses, or longer than [`REST_BYTES_MAX`].
    BadLength(u16),
}

/// Reads a header off the front of `bytes`: what it says and its length. `None` means that more bytes are needed.
///
/// # Errors
/// The sender is to blame. Nothing that follows can repair it.
pub fn decode(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    if starts_like(bytes, &SIGNATURE) {
        decode_binary(bytes)
    } else if starts_like(bytes, LINE_START) {
        decode_line(bytes)
    } else {
        Err(ProxyHeaderError::NoHeader)
    }
}

/// Appends a header to `out`. Without `ends`, or where they are of two families, it says that nothing is known.
pub fn encode(version: Version, ends: Option<Ends>, out: &mut Vec<u8>) {
    let ends = ends.map(canonical).filter(|ends| ends.source.is_ipv4() == ends.destination.is_ipv4());
    match version {
        Version::One => out.extend_from_slice(line(ends).as_bytes()),
        Version::Two => encode_binary(ends, out),
    }
}

/// `bytes` are a beginning of `expected`, or begin with it.
fn starts_like(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

fn decode_line(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let head = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if head.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProxyHeaderError::BadLine) };
    };
    let line = head.get(LINE_START.len()..end).and_then(|line| str::from_utf8(line).ok());
    let header = line.and_then(parse_line).ok_or(ProxyHeaderError::BadLine)?;
    Ok(Some((header, end + 2)))
}

/// Reads what follows `PROXY `, without the line break. `None` where it is not well formed.
fn parse_line(line: &str) -> Option<ProxyHeader> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(ProxyHeader { ends: None });
    }
    let [source, destination, source_port, destination_port] =
        [words.next()?, words.next()?, words.next()?, words.next()?];
    if words.next().is_some() {
        return None;
    }
    let ip = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let source = SocketAddr::new(ip(source)?, port(source_port)?);
    let destination = SocketAddr::new(ip(destination)?, port(destination_port)?);
    Some(ProxyHeader { ends: Some(Ends { source, destination }) })
}

/// A port as the format wants it: digits only, none in front that says nothing.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

fn decode_binary(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let mut reader = Reader::new(bytes);
    let Some(_) = reader.take(SIGNATURE.len()) else { return Ok(None) };
    let (Some(command), Some(family)) = (reader.u8(), reader.u8()) else { return Ok(None) };
    if command != COMMAND_LOCAL && command != COMMAND_PROXY {
        return Err(ProxyHeaderError::BadCommand(command));
    }
    let Some(length) = reader.u16() else { return Ok(None) };
    if usize::from(length) > REST_BYTES_MAX {
        return Err(ProxyHeaderError::BadLength(length));
    }
    let Some(rest) = reader.take(length.into()) else { return Ok(None) };
    let mut rest = Reader::new(rest);
    let ends = match (command, family) {
        (COMMAND_PROXY, FAMILY_IPV4) => read_ends::<4, Ipv4Addr>(&mut rest),
        (COMMAND_PROXY, FAMILY_IPV6) => read_ends::<16, Ipv6Addr>(&mut rest),
        _ => return Ok(Some((ProxyHeader { ends: None }, reader.position()))),
    };
    match ends {
        Some(_) => Ok(Some((ProxyHeader { ends }, reader.position()))),
        None => Err(ProxyHeaderError::BadLength(length)),
    }
}

fn read_ends<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(reader: &mut Reader<'_>) -> Option<Ends> {
    let source: A = reader.array::<N>()?.into();
    let destination: A = reader.array::<N>()?.into();
    let (source_port, destination_port) = (reader.u16()?, reader.u16()?);
    Some(Ends {
        source: SocketAddr::new(source.into(), source_port),
        destination: SocketAddr::new(destination.into(), destination_port),
    })
}

fn line(ends: Option<Ends>) -> String {
    let Some(Ends { source, destination }) = ends else { return "PROXY UNKNOWN\r\n".to_owned() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
}

fn encode_binary(ends: Option<Ends>, out: &mut Vec<u8>) {
    out.extend_from_slice(&SIGNATURE);
    let Some(Ends { source, destination }) = ends else {
        out.extend_from_slice(&[COMMAND_LOCAL, 0, 0, 0]);
        return;
    };
    let (family, address_bytes) = if source.is_ipv4() { (FAMILY_IPV4, 4_u16) } else { (FAMILY_IPV6, 16) };
    out.extend_from_slice(&[COMMAND_PROXY, family]);
    out.extend_from_slice(&(2 * address_bytes + 4).to_be_bytes());
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// An IPv4 client of a dual-stack listener is an IPv4 client.
fn canonical(ends: Ends) -> Ends {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Ends { source: canonical(ends.source), destination: canonical(ends.destination) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, hex};
    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn encoded(version: Version, ends: Option<Ends>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(version, ends, &mut out);
        out
    }

    #[test]
    fn the_published_example_of_version_two() {
        let bytes = hex("0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a 21 11 00 0c cb 00 71 07 c0 00 02 01 ca 6c 01 bb");
        let ends = ends("203.0.113.7:51820", "192.0.2.1:443");
        assert_eq!(encoded(Version::Two, Some(ends)), bytes);
        assert_eq!(decode(&bytes), Ok(Some((ProxyHeader { ends: Some(ends) }, bytes.len()))));
    }

    #[test]
    fn lines_are_written_to_the_letter() {
        let v4 = ends("203.0.113.7:51820", "192.0.2.1:443");
        let v6 = ends("[2001:db8::7]:1", "[2001:db8::1]:65535");
        let mapped = ends("[::ffff:203.0.113.7]:51820", "[::ffff:192.0.2.1]:443");
        assert_eq!(encoded(Version::One, Some(v4)), b"PROXY TCP4 203.0.113.7 192.0.2.1 51820 443\r\n");
        assert_eq!(encoded(Version::One, Some(mapped)), b"PROXY TCP4 203.0.113.7 192.0.2.1 51820 443\r\n");
        assert_eq!(encoded(Version::One, Some(v6)), b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n");
        assert_eq!(encoded(Version::One, None), b"PROXY UNKNOWN\r\n");
        let mixed = ends("203.0.113.7:1", "[2001:db8::1]:2");
        assert_eq!(encoded(Version::One, Some(mixed)), b"PROXY UNKNOWN\r\n");
        assert_eq!(encoded(Version::Two, None), [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat());
    }

    #[test]
    fn what_is_written_is_read_and_every_prefix_of_it_asks_for_more() {
        let v6 = ends("[2001:db8:1:2:3:4:5:6]:51820", "[2001:db8::1]:443");
        let v4 = ends("203.0.113.7:51820", "192.0.2.1:443");
        for version in [Version::One, Version::Two] {
            for ends in [Some(v4), Some(v6), None] {
                let mut bytes = encoded(version, ends);
                let length = bytes.len();
                bytes.extend_from_slice(b"rest");
                assert_eq!(decode(&bytes), Ok(Some((ProxyHeader { ends }, length))));
                for cut in 0..length {
                    assert_eq!(decode(&bytes[..cut]), Ok(None), "{version:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn further_fields_are_skipped_and_other_families_name_nobody() {
        let mut bytes = encoded(Version::Two, Some(ends("203.0.113.7:51820", "192.0.2.1:443")));
        bytes[15] += 3;
        bytes.extend_from_slice(&[4, 0, 0]);
        assert_eq!(decode(&bytes).unwrap().unwrap().1, 31);
        // A datagram's header, and one of a Unix socket.
        for family in [0x12, 0x31, 0x00] {
            bytes[13] = family;
            assert_eq!(decode(&bytes), Ok(Some((ProxyHeader { ends: None }, 31))));
        }
    }

    #[test]
    fn what_is_no_header_is_told_at_its_first_wrong_byte() {
        assert_eq!(decode(b"GET / HTTP/1.1"), Err(ProxyHeaderError::NoHeader));
        assert_eq!(decode(b"PRI"), Err(ProxyHeaderError::NoHeader));
        assert_eq!(decode(&[0x16]), Err(ProxyHeaderError::NoHeader));
        assert_eq!(decode(&[&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat()), Err(ProxyHeaderError::BadCommand(0x11)));
        assert_eq!(
            decode(&[&SIGNATURE[..], &[0x21, 0x11, 0, 4, 0, 0, 0, 0]].concat()),
            Err(ProxyHeaderError::BadLength(4))
        );
        let long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        assert_eq!(decode(&long), Err(ProxyHeaderError::BadLength(0xffff)));
        for line in [
            "PROXY TCP4 203.0.113.7 192.0.2.1 51820\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 51820 443 \r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 051820 443\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 +1 443\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
            "PROXY TCP4 2001:db8::1 192.0.2.1 1 443\r\n",
            "PROXY TCP6 203.0.113.7 192.0.2.1 1 443\r\n",
            "PROXY UDP4 203.0.113.7 192.0.2.1 1 443\r\n",
            "PROXY  203.0.113.7 192.0.2.1 1 443\r\n",
        ] {
            assert_eq!(decode(line.as_bytes()), Err(ProxyHeaderError::BadLine), "{line}");
        }
        assert_eq!(decode(&[b"PROXY UNKNOWN".as_slice(), &[b'x'; 200]].concat()), Err(ProxyHeaderError::BadLine));
    }

    #[test]
    fn nothing_received_panics_or_is_longer_than_what_was_received() {
        let mut random = Random::new(7);
        for _ in 0..20_000 {
            let mut bytes = [&SIGNATURE[..], &[0x21, 0x11]].concat();
            if random.below(2) == 0 {
                bytes = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec();
            }
            for _ in 0..random.below(4) {
                let place = random.below(bytes.len());
                bytes[place] = random.next() as u8;
            }
            bytes.extend(random.bytes(80));
            if let Ok(Some((_, length))) = decode(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }
}
