//! DNS messages as far as a stub resolver needs them (RFC 1035 section 4): it writes one kind of query and reads the
//! addresses out of one kind of answer.
//!
//! Written by hand instead of with a general parser because answers come from strangers: nothing here allocates more
//! than [`ADDRESSES_MAX`] addresses, work is bounded by the message length times [`CNAME_HOPS_MAX`], and a record of a
//! type we did not ask for is stepped over whatever is in it, so it cannot spoil the answer.
//!
//! No sockets, no clock, no state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Family, Question};

/// Longest query: header, a name of 255 bytes, type and class.
pub const QUERY_BYTES_MAX: usize = HEADER_BYTES + NAME_BYTES_MAX + 4;
/// Addresses kept of one answer; a dial tries fewer.
pub const ADDRESSES_MAX: usize = 16;
/// Aliases followed inside one answer.
pub const CNAME_HOPS_MAX: usize = 12;

const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
/// Compression pointers followed in one name; each must point backwards, so this only bounds work.
const POINTERS_MAX: usize = 32;

const FLAG_RESPONSE: u16 = 1 << 15;
const FLAG_TRUNCATED: u16 = 1 << 9;
const FLAG_RECURSION_DESIRED: u16 = 1 << 8;
const OPCODE_MASK: u16 = 0xf << 11;
const RCODE_MASK: u16 = 0xf;
const RCODE_NO_ERROR: u16 = 0;
const RCODE_NO_SUCH_NAME: u16 = 3;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub content: Content,
    /// The server had more to say than fits a datagram; `content` is what was there.
    pub is_truncated: bool,
}

/// The content of a [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// At least one address; the smallest time to live on the way to them, in seconds.
    Addresses { addresses: Vec<IpAddr>, ttl_s: u32 },
    /// The name exists but has no address of this family. The zone's time for negative answers, if given.
    NoAddress { ttl_s: Option<u32> },
    /// The name does not exist. The zone's time for negative answers, if given.
    NoSuchName { ttl_s: Option<u32> },
    /// The server could not or would not answer, or its answer makes no sense: another one should be asked.
    ServerFailure,
}

/// The datagram is no answer to our query: another id, another question, or no answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

/// The query for `question`, with recursion desired and without EDNS: an address list that does not fit 512 bytes
/// comes over TCP, and no server is confused.
///
/// `None` if the name cannot be asked for: an empty label, a label beyond 63 bytes, a name beyond 255.
pub fn encode_query(id: u16, question: &Question) -> Option<Vec<u8>> {
    let name = WireName::from_text(&question.name)?;
    let mut query = Vec::with_capacity(QUERY_BYTES_MAX);
    for field in [id, FLAG_RECURSION_DESIRED, 1, 0, 0, 0] {
        query.extend_from_slice(&field.to_be_bytes());
    }
    query.extend_from_slice(name.as_bytes());
    query.extend_from_slice(&record_type(question.family).to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    Some(query)
}

/// Whether [`encode_query`] can ask for this name.
pub fn is_askable(name: &str) -> bool {
    WireName::from_text(name).is_some()
}

/// Reads the answer to the query that was sent with `id` for `question`.
///
/// # Errors
///
/// [`NotOurs`] if it does not belong to that query; the real answer may still come.
pub fn decode_reply(message: &[u8], id: u16, question: &Question) -> Result<Reply, NotOurs> {
    let mut reader = Reader { message, at: 0 };
    let header = Header::decode(&mut reader).ok_or(NotOurs)?;
    if header.id != id || header.flags & FLAG_RESPONSE == 0 || header.flags & OPCODE_MASK != 0 {
        return Err(NotOurs);
    }
    let rcode = header.flags & RCODE_MASK;
    let is_truncated = header.flags & FLAG_TRUNCATED != 0;
    if header.questions == 0 && rcode != RCODE_NO_ERROR && rcode != RCODE_NO_SUCH_NAME {
        // A server that could not read the question cannot repeat it.
        return Ok(Reply { content: Content::ServerFailure, is_truncated: false });
    }
    let asked = WireName::from_text(&question.name).ok_or(NotOurs)?;
    if header.questions != 1 || !repeats_question(&mut reader, &asked, question.family) {
        return Err(NotOurs);
    }
    let content = match rcode {
        RCODE_NO_ERROR | RCODE_NO_SUCH_NAME => {
            let records = Records { reader, answers: header.answers, authorities: header.authorities, is_truncated };
            records.content(asked, question.family, rcode).unwrap_or(Content::ServerFailure)
        }
        _ => Content::ServerFailure,
    };
    Ok(Reply { content, is_truncated })
}

fn repeats_question(reader: &mut Reader<'_>, asked: &WireName, family: Family) -> bool {
    reader.name().is_some_and(|name| name == *asked)
        && reader.u16() == Some(record_type(family))
        && reader.u16() == Some(CLASS_IN)
}

fn record_type(family: Family) -> u16 {
    match family {
        Family::V4 => TYPE_A,
        Family::V6 => TYPE_AAAA,
    }
}

struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
    authorities: u16,
}

impl Header {
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let header = Self {
            id: reader.u16()?,
            flags: reader.u16()?,
            questions: reader.u16()?,
            answers: reader.u16()?,
            authorities: reader.u16()?,
        };
        reader.u16()?;
        Some(header)
    }
}

/// The answer and authority sections.
struct Records<'a> {
    reader: Reader<'a>,
    answers: u16,
    authorities: u16,
    is_truncated: bool,
}

impl Records<'_> {
    /// `None` if the sections cannot be read.
    fn content(&self, asked: WireName, family: Family, rcode: u16) -> Option<Content> {
        let mut owner = asked;
        let mut ttl_s = u32::MAX;
        for _ in 0..=CNAME_HOPS_MAX {
            let mut addresses = Vec::new();
            let mut alias = None;
            self.each_answer(|record| {
                if record.class != CLASS_IN || record.owner != owner {
                    return Some(());
                }
                if record.kind == record_type(family) {
                    let address = record.address(family)?;
                    ttl_s = ttl_s.min(record.ttl_s);
                    if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                        addresses.push(address);
                    }
                } else if record.kind == TYPE_CNAME && alias.is_none() {
                    ttl_s = ttl_s.min(record.ttl_s);
                    alias = Some(record.data.clone().name()?);
                }
                Some(())
            })?;
            if !addresses.is_empty() {
                return Some(Content::Addresses { addresses, ttl_s });
            }
            let Some(target) = alias else {
                return Some(self.negative(rcode));
            };
            owner = target;
        }
        // A chain this long is a loop or a mistake.
        None
    }

    fn negative(&self, rcode: u16) -> Content {
        let ttl_s = self.negative_ttl();
        if rcode == RCODE_NO_SUCH_NAME { Content::NoSuchName { ttl_s } } else { Content::NoAddress { ttl_s } }
    }

    /// The time to live of a negative answer: the smaller of the SOA record's own and its minimum field (RFC 2308 5).
    fn negative_ttl(&self) -> Option<u32> {
        let mut reader = self.reader.clone();
        for _ in 0..self.answers {
            reader.record()?;
        }
        for _ in 0..self.authorities {
            let record = reader.record()?;
            if record.kind == TYPE_SOA && record.class == CLASS_IN {
                let mut data = record.data;
                data.name()?;
                data.name()?;
                data.take(16)?;
                return Some(record.ttl_s.min(data.u32()?));
            }
        }
        None
    }

    /// Calls `visit` for each answer; `None` as soon as one cannot be read, unless the message was cut there anyway.
    fn each_answer(&self, mut visit: impl FnMut(Record<'_>) -> Option<()>) -> Option<()> {
        let mut reader = self.reader.clone();
        for _ in 0..self.answers {
            match reader.record() {
                Some(record) => visit(record)?,
                None if self.is_truncated => break,
                None => return None,
            }
        }
        Some(())
    }
}

struct Record<'a> {
    owner: WireName,
    kind: u16,
    class: u16,
    ttl_s: u32,
    /// Positioned at the record's data and ending with it; names in it may still point back into the message.
    data: Reader<'a>,
}

impl Record<'_> {
    /// The record's address; `None` if the data is not as long as one.
    fn address(&self, family: Family) -> Option<IpAddr> {
        let data = self.data.rest();
        match family {
            Family::V4 => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).into()),
            Family::V6 => <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        }
    }
}

/// Reads forward through a message; every read checks its bounds.
#[derive(Clone)]
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.message.get(self.at..).unwrap_or(&[])
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.rest().get(..length)?;
        self.at += length;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A name, in lower case and without compression.
    fn name(&mut self) -> Option<WireName> {
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

    fn record(&mut self) -> Option<Record<'a>> {
        let owner = self.name()?;
        let (kind, class, ttl_s) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let start = self.at;
        self.take(length)?;
        let data = Reader { message: self.message.get(..start + length)?, at: start };
        // The top bit must be zero; a value with it set counts as zero (RFC 2181 section 8).
        let ttl_s = if ttl_s > i32::MAX as u32 { 0 } else { ttl_s };
        Some(Record { owner, kind, class, ttl_s, data })
    }
}

/// A name as on the wire, uncompressed, in lower case, with the root label at its end.
#[derive(Clone)]
struct WireName {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl WireName {
    fn empty() -> Self {
        Self { bytes: [0; NAME_BYTES_MAX], length: 0 }
    }

    /// The wire form of a dotted name without a dot at its end.
    fn from_text(text: &str) -> Option<Self> {
        let mut name = Self::empty();
        for label in text.split('.') {
            name.push_label(label.as_bytes())?;
        }
        name.finish()
    }

    fn push_label(&mut self, label: &[u8]) -> Option<()> {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        let (length, rest) = self.bytes.get_mut(self.length..)?.split_first_mut()?;
        let target = rest.get_mut(..label.len())?;
        *length = label.len() as u8;
        target.copy_from_slice(label);
        target.make_ascii_lowercase();
        self.length += 1 + label.len();
        Some(())
    }

    fn finish(mut self) -> Option<Self> {
        *self.bytes.get_mut(self.length)? = 0;
        self.length += 1;
        Some(self)
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

impl PartialEq for WireName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
