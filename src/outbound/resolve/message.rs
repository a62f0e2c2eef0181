//! DNS messages as far as a stub resolver needs them (RFC 1035 section 4). It writes one kind of query, and reads the
//! addresses out of one kind of answer.
//!
//! Answers come from strangers, so this is written by hand instead of with a general parser. Nothing here allocates
//! more than [`ADDRESSES_MAX`] addresses. Work is bounded by the message length times [`CNAME_HOPS_MAX`]. A record of a
//! type that was not asked for is stepped over whatever is in it, so it cannot spoil the answer.
//!
//! It has no sockets, no clock and no state.

use std::net::IpAddr;

use super::wire::{Capitals, NAME_BYTES_MAX, Reader, Record, WireName};
use super::{Family, Question};

/// The length of the longest query: header, a name of 255 bytes, type and class, what EDNS adds.
pub const QUERY_BYTES_MAX: usize = HEADER_BYTES + NAME_BYTES_MAX + 4 + EDNS.len();
/// Addresses kept of one answer. A dial tries fewer.
pub const ADDRESSES_MAX: usize = 16;
/// Aliases followed inside one answer.
pub const CNAME_HOPS_MAX: usize = 12;

const HEADER_BYTES: usize = 12;

const FLAG_RESPONSE: u16 = 1 << 15;
const FLAG_AUTHORITATIVE: u16 = 1 << 10;
const FLAG_TRUNCATED: u16 = 1 << 9;
const FLAG_RECURSION_DESIRED: u16 = 1 << 8;
const FLAG_RECURSION_AVAILABLE: u16 = 1 << 7;
const OPCODE_MASK: u16 = 0xf << 11;
const RCODE_MASK: u16 = 0xf;
const RCODE_NO_ERROR: u16 = 0;
const RCODE_FORMAT_ERROR: u16 = 1;
const RCODE_NO_SUCH_NAME: u16 = 3;
const RCODE_NOT_IMPLEMENTED: u16 = 4;

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// The record that says EDNS (RFC 6891 section 6.1.2): the root's name, type 41, room for datagrams of 1,232 bytes,
/// which pass every path without fragments, version 0, no flags, no options.
const EDNS: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// How a query is put: its id, the spelling that the answer must repeat, and whether it says EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub id: u16,
    pub capitals: Capitals,
    pub edns: bool,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub content: Content,
    /// The server had more to say than fits a datagram, or the datagram was cut on its way. `content` is what was
    /// there.
    pub is_truncated: bool,
    /// It ends before what its header promises.
    pub is_cut: bool,
    /// The server did not understand how the query was put.
    pub refuses_form: bool,
}

/// The content of a [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// At least one address, and the smallest time to live on the way to them, in seconds.
    Addresses { addresses: Vec<IpAddr>, ttl_s: u32 },
    /// The name exists but has no address of this family. The zone's time for negative answers, if given.
    NoAddress { ttl_s: Option<u32> },
    /// The name does not exist. The zone's time for negative answers, if given.
    NoSuchName { ttl_s: Option<u32> },
    /// Another server should be asked: this one could not or would not answer, does not know and does not ask others,
    /// or its answer makes no sense.
    ServerFailure,
}

/// Why a message is not taken for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is no answer to our query: another id, another question, or no answer at all.
    NotOurs,
    /// It repeats the question in another spelling: a server that does not keep it, or somebody who guesses.
    OtherSpelling,
}

/// The query for `question`, with recursion desired.
///
/// `None` if the name cannot be asked for: an empty label, a label beyond 63 bytes, a name beyond 255.
pub fn encode_query(form: Form, question: &Question) -> Option<Vec<u8>> {
    let name = WireName::from_text(&question.name)?.spelled(form.capitals);
    let mut query = Vec::with_capacity(QUERY_BYTES_MAX);
    for field in [form.id, FLAG_RECURSION_DESIRED, 1, 0, 0, u16::from(form.edns)] {
        query.extend_from_slice(&field.to_be_bytes());
    }
    query.extend_from_slice(name.as_bytes());
    query.extend_from_slice(&record_type(question.family).to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    if form.edns {
        query.extend_from_slice(&EDNS);
    }
    Some(query)
}

/// Whether [`encode_query`] can ask for this name.
pub fn is_askable(name: &str) -> bool {
    WireName::from_text(name).is_some()
}

/// Reads the answer to the query for `question` that was put in this `form`.
///
/// # Errors
///
/// [`Rejected`] if it is not taken for the answer. The real one may still come.
pub fn decode_reply(message: &[u8], form: Form, question: &Question) -> Result<Reply, Rejected> {
    let mut reader = Reader::new(message);
    let header = Header::decode(&mut reader).ok_or(Rejected::NotOurs)?;
    if header.id != form.id || header.flags & FLAG_RESPONSE == 0 || header.flags & OPCODE_MASK != 0 {
        return Err(Rejected::NotOurs);
    }
    let rcode = header.flags & RCODE_MASK;
    let refuses_form = matches!(rcode, RCODE_FORMAT_ERROR | RCODE_NOT_IMPLEMENTED);
    let failure = Reply { content: Content::ServerFailure, is_truncated: false, is_cut: false, refuses_form };
    let says_something = matches!(rcode, RCODE_NO_ERROR | RCODE_NO_SUCH_NAME);
    if header.questions == 0 && !says_something {
        // A server that could not read the question cannot repeat it.
        return Ok(failure);
    }
    let asked = WireName::from_text(&question.name).ok_or(Rejected::NotOurs)?.spelled(form.capitals);
    if header.questions != 1 {
        return Err(Rejected::NotOurs);
    }
    let is_as_asked = check_question(&mut reader, &asked, question.family)?;
    // Small letters were chosen for a server that spells names as it likes.
    if !is_as_asked && form.capitals != Capitals::default() {
        return Err(Rejected::OtherSpelling);
    }
    if !says_something {
        return Ok(failure);
    }
    let is_truncated = header.flags & FLAG_TRUNCATED != 0;
    let mut records = Records { reader, header, is_cut: false };
    let content = records.content(asked, question.family).unwrap_or(Content::ServerFailure);
    let is_cut = records.is_cut;
    Ok(Reply { content, is_truncated: is_truncated || is_cut, is_cut, refuses_form })
}

/// Whether the question that is repeated is spelled as it was asked.
fn check_question(reader: &mut Reader<'_>, asked: &WireName, family: Family) -> Result<bool, Rejected> {
    let name = reader.name().filter(|name| name == asked).ok_or(Rejected::NotOurs)?;
    if reader.u16() != Some(record_type(family)) || reader.u16() != Some(CLASS_IN) {
        return Err(Rejected::NotOurs);
    }
    Ok(name.is_spelled_like(asked))
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
    header: Header,
    /// A record could not be read to its end.
    is_cut: bool,
}

/// What the authority section says of a negative answer.
#[derive(Default)]
struct Authority {
    /// The zone's time for negative answers: the smaller of the SOA record's own and its minimum field (RFC 2308 5).
    ttl_s: Option<u32>,
    names_servers: bool,
}

impl Records<'_> {
    /// `None` if a record makes no sense.
    fn content(&mut self, asked: WireName, family: Family) -> Option<Content> {
        let mut owner = asked;
        let mut ttl_s = u32::MAX;
        for hop in 0..=CNAME_HOPS_MAX {
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
                return Some(self.negative(hop > 0));
            };
            owner = target;
        }
        // A chain this long is a loop or a mistake.
        None
    }

    /// What an answer without an address means. With an SOA record it is the zone's word. Without one it counts if the
    /// server asks others or owns the name. Any other server knows nothing. One that names servers sends us on (RFC
    /// 2308 section 2.2).
    fn negative(&mut self, is_aliased: bool) -> Content {
        let Authority { ttl_s, names_servers } = self.authority().unwrap_or_default();
        let has_flag = |flag| self.header.flags & flag != 0;
        let knows = has_flag(FLAG_RECURSION_AVAILABLE) || (has_flag(FLAG_AUTHORITATIVE) && !is_aliased);
        if ttl_s.is_none() && (names_servers || !knows) {
            Content::ServerFailure
        } else if self.header.flags & RCODE_MASK == RCODE_NO_SUCH_NAME {
            Content::NoSuchName { ttl_s }
        } else {
            Content::NoAddress { ttl_s }
        }
    }

    /// `None` if it cannot be read.
    fn authority(&self) -> Option<Authority> {
        let mut reader = self.reader.clone();
        for _ in 0..self.header.answers {
            reader.record()?;
        }
        let mut authority = Authority::default();
        for _ in 0..self.header.authorities {
            let record = reader.record()?;
            if record.class == CLASS_IN && record.kind == TYPE_SOA {
                let mut data = record.data;
                data.name()?;
                data.name()?;
                data.take(16)?;
                authority.ttl_s = Some(record.ttl_s.min(data.u32()?));
            }
            authority.names_servers |= record.class == CLASS_IN && record.kind == TYPE_NS;
        }
        Some(authority)
    }

    /// Calls `visit` for each answer that is there. `None` as soon as it returns that.
    fn each_answer(&mut self, mut visit: impl FnMut(Record<'_>) -> Option<()>) -> Option<()> {
        let mut reader = self.reader.clone();
        for _ in 0..self.header.answers {
            let Some(record) = reader.record() else {
                self.is_cut = true;
                break;
            };
            visit(record)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
