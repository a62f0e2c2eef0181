//! Follows the records of an inner TLS stream by their 5-byte headers, through any fragmentation.
//!
//! A [`Boundary`] is one direction's position inside its current record. It must see every byte of that direction, from
//! the first one, and keeps no content. Once a header is impossible, the stream is not TLS for good. Cost: one step per
//! record, not per byte.

use super::take;

/// Marker of an encrypted record: application data, protocol version field 3.3. Cutting content in front of one keeps
/// blocks and inner records together (VISION-1).
pub(super) const DATA_MARKER: [u8; 3] = [APPLICATION_DATA, 3, 3];

const HEADER_BYTES: usize = 5;
const CHANGE_CIPHER_SPEC: u8 = 0x14;
const APPLICATION_DATA: u8 = 0x17;
/// The larger limit of TLS 1.2 (RFC 5246 6.2.3). TLS 1.3 allows 2^14 + 256.
const BODY_BYTES_MAX: u16 = (1 << 14) + 2048;

/// Position of a byte stream relative to TLS records (RFC 8446 5.1).
#[derive(Clone, Debug)]
pub struct Boundary {
    state: State,
}

/// What [`Boundary::scan`] saw in one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The slice began exactly at the first byte of a record.
    pub aligned: bool,
    /// The first byte of the slice belongs to an application-data record.
    pub begins_with_data: bool,
    /// The header of an application-data record was completed by this slice.
    pub data_opened: bool,
    /// Offset just behind the last application-data record that ended in this slice. 0 if none did.
    pub data_end: usize,
}

#[derive(Clone, Debug)]
enum State {
    /// `have` < 5 bytes of a record header. 0 is the boundary itself.
    Header { bytes: [u8; HEADER_BYTES], have: u8 },
    /// Inside a record, `left` > 0.
    Body { kind: u8, left: u16 },
    /// An impossible header was met.
    Lost,
}

impl Boundary {
    /// At the first byte of a stream, where a record must start.
    pub const fn new() -> Self {
        Self { state: State::AT_RECORD }
    }

    /// Walks over the next bytes of the stream.
    ///
    /// `None`: these are not TLS records, now and for every later call. An empty slice gives a [`Scan`] without any
    /// data.
    pub fn scan(&mut self, bytes: &[u8]) -> Option<Scan> {
        let mut scan = self.before(bytes)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.state {
                State::Header { bytes: header, have } => {
                    let filled = usize::from(*have);
                    let taken = take(&mut rest, HEADER_BYTES - filled);
                    header.iter_mut().skip(filled).zip(taken).for_each(|(place, &byte)| *place = byte);
                    *have += taken.len() as u8;
                    if usize::from(*have) == HEADER_BYTES {
                        self.state = State::from_header(*header);
                        scan.data_opened |= matches!(self.state, State::Body { kind: APPLICATION_DATA, .. });
                    }
                }
                State::Body { kind, left } => {
                    *left -= take(&mut rest, usize::from(*left)).len() as u16;
                    if *left == 0 {
                        if *kind == APPLICATION_DATA {
                            scan.data_end = bytes.len() - rest.len();
                        }
                        self.state = State::AT_RECORD;
                    }
                }
                State::Lost => return None,
            }
        }
        (!matches!(self.state, State::Lost)).then_some(scan)
    }

    fn before(&self, bytes: &[u8]) -> Option<Scan> {
        let (aligned, kind) = match self.state {
            State::Header { have: 0, .. } => (true, bytes.first().copied()),
            State::Header { bytes: header, .. } => (false, Some(header[0])),
            State::Body { kind, .. } => (false, Some(kind)),
            State::Lost => return None,
        };
        let begins_with_data = kind == Some(APPLICATION_DATA) && !bytes.is_empty();
        Some(Scan { aligned, begins_with_data, data_opened: false, data_end: 0 })
    }
}

impl Default for Boundary {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    const AT_RECORD: Self = Self::Header { bytes: [0; HEADER_BYTES], have: 0 };

    fn from_header(header: [u8; HEADER_BYTES]) -> Self {
        let [kind, major, minor, high, low] = header;
        let left = u16::from_be_bytes([high, low]);
        // A record without a body is forbidden for all types but application data, and there it does not exist either:
        // once encrypted it holds at least a MAC.
        let possible = matches!(kind, CHANGE_CIPHER_SPEC..=APPLICATION_DATA)
            && major == 3
            && matches!(minor, 1..=3)
            && matches!(left, 1..=BODY_BYTES_MAX);
        if possible { Self::Body { kind, left } } else { Self::Lost }
    }
}

#[cfg(test)]
mod tests;
