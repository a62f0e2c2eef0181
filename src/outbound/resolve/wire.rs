//! Names and records as they stand in a DNS message. Every read checks its bounds.
//!
//! It has no sockets and no clock, and does not know what records mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;

/// Longest name on the wire.
pub(super) const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
/// Compression pointers followed in one name. Each must point backwards, so this bounds only work.
const POINTERS_MAX: usize = 32;

/// One record of a message.
pub(super) struct Record<'a> {
    pub owner: WireName,
    pub kind: u16,
    pub class: u16,
    pub ttl_s: u32,
    /// It begins at the record's data and ends with it. Names in it may still point back into the message.
    pub data: Reader<'a>,
}

impl Record<'_> {
    /// The record's address. `None` if the data is not as long as one.
    pub(super) fn address(&self, family: Family) -> Option<IpAddr> {
        let data = self.data.rest();
        match family {
            Family::V4 => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).into()),
            Family::V6 => <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        }
    }
}

/// Reads forward through a message. Every read checks its bounds.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.message.get(self.at..).unwrap_or(&[])
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.rest().get(..length)?;
        self.at += length;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A name without compression, in the case that it was written in.
    pub(super) fn name(&mut self) -> Option<WireName> {
        let mut name = WireName::empty();
        let mut cursor = self.clone();
        let mut pointers = 0;
        loop {
            let start = cursor.at;
            let length = cursor.u8()?;
            match length >> 6 {
                0 if length == 0 => break,
                0 => name.push_label(cursor.take(usize::from(length))?)?,
                3 => {
                    let offset = usize::from(length & 0x3f) << 8 | usize::from(cursor.u8()?);
                    if pointers == 0 {
                        self.at = cursor.at;
                    }
                    pointers += 1;
                    if offset >= start || pointers > POINTERS_MAX {
                        return None;
                    }
                    cursor.at = offset;
                }
                _ => return None,
            }
        }
        if pointers == 0 {
            self.at = cursor.at;
        }
        name.finish()
    }

    pub(super) fn record(&mut self) -> Option<Record<'a>> {
        let owner = self.name()?;
        let (kind, class, ttl_s) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let start = self.at;
        self.take(length)?;
        let data = Reader { message: self.message.get(..start + length)?, at: start };
        // The top bit must be zero. A value that has it set counts as zero (RFC 2181 section 8).
        let ttl_s = if ttl_s > i32::MAX as u32 { 0 } else { ttl_s };
        Some(Record { owner, kind, class, ttl_s, data })
    }
}

/// A name as on the wire, uncompressed, with the root label at its end. Names are equal whatever their case.
#[derive(Clone, Debug)]
pub(super) struct WireName {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl WireName {
    fn empty() -> Self {
        Self { bytes: [0; NAME_BYTES_MAX], length: 0 }
    }

    /// The wire form of a dotted name without a dot at its end.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut name = Self::empty();
        for label in text.split('.') {
            name.push_label(label.as_bytes())?;
        }
        name.finish()
    }

    /// The same name in another spelling. A letter is a capital if the bit at its place is set, and small otherwise.
    pub(super) fn spelled(mut self, capitals: Capitals) -> Self {
        for (at, byte) in self.bytes.iter_mut().enumerate() {
            let bits = capitals.0.get(at / 64).copied().unwrap_or(0);
            // Lengths of labels are below the letters.
            if bits >> (at % 64) & 1 == 1 { byte.make_ascii_uppercase() } else { byte.make_ascii_lowercase() }
        }
        self
    }

    /// Letter for letter.
    pub(super) fn is_spelled_like(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }

    fn push_label(&mut self, label: &[u8]) -> Option<()> {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        let (length, rest) = self.bytes.get_mut(self.length..)?.split_first_mut()?;
        let target = rest.get_mut(..label.len())?;
        *length = label.len() as u8;
        target.copy_from_slice(label);
        self.length += 1 + label.len();
        Some(())
    }

    fn finish(mut self) -> Option<Self> {
        *self.bytes.get_mut(self.length)? = 0;
        self.length += 1;
        Some(self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

impl PartialEq for WireName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().eq_ignore_ascii_case(other.as_bytes())
    }
}

/// Which letters of a name are capitals, by their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capitals(pub [u64; 4]);
