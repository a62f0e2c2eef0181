//! The downlink: content from the target in, pieces for the client's wire out (VISION-1, VISION-2, VISION-4).
//!
//! [`Pad`] chooses block lengths, padding lengths, commands and the switch point. It knows nothing of outer TLS records
//! but that its caller writes each [`Block`] as exactly one. At most one block with END or DIRECT ever comes out, and
//! it is the last.

use super::boundary::DATA_MARKER;
use super::{Boundary, Command, Phase, Sniff, Verdict};

/// Longest block. The response header may stand in front of the first one in the same TLS record.
pub const BLOCK_BYTES_MAX: usize = 8192;

/// The reference's padding parameters.
pub const SEED_DEFAULT: Seed = [900, 500, 900, 256];

const USER_BYTES: usize = 16;
const FIELDS_BYTES: usize = 5;
const CONTENT_BYTES_MAX: usize = BLOCK_BYTES_MAX - USER_BYTES - FIELDS_BYTES;
const CUT_BYTES: usize = 4096;
const CUT_BYTES_MIN: usize = USER_BYTES + FIELDS_BYTES;
const BATCHES_MISSED_MAX: u8 = 8;

/// Turns one direction's content into blocks until padding ends.
#[derive(Clone, Debug)]
pub struct Pad {
    state: State,
}

/// The parameters a, b, c, d of the padding length (VISION-1). Any values are safe.
pub type Seed = [u32; 4];

/// What one batch becomes, as pieces in wire order. Drop it only after [`Plan::next_piece`] gave `None`.
#[must_use = "the pieces are the content of the batch"]
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Content still to be cut into blocks, the last of them with `last`.
    padded: &'a [u8],
    last: Command,
    /// Content behind the last block, or all of it once padding is over.
    unpadded: Unpadded<'a>,
    user: Option<[u8; USER_BYTES]>,
    seed: Seed,
    length: Length,
}

/// A part of a batch, and where it must go.
#[derive(Clone, Debug)]
pub enum Piece<'a> {
    /// One outer TLS record of its own.
    Block(Block<'a>),
    /// Through the outer TLS, in records of any size. Never empty.
    Tls(&'a [u8]),
    /// To the socket as it is, behind everything the outer TLS has queued. Never empty.
    Raw(&'a [u8]),
}

/// One padded block, at most [`BLOCK_BYTES_MAX`] bytes: [`Self::header`], [`Self::content`], then
/// [`Self::padding_len`] zeros.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    /// The user id, which only a first block has, and the five bytes of every block.
    header: [u8; USER_BYTES + FIELDS_BYTES],
    is_first: bool,
    content: &'a [u8],
    padding_len: u16,
    command: Command,
}

/// Upper limit of the number of blocks that a batch of this many bytes becomes, for reserving room.
///
/// Any two neighbouring blocks but the last carry at least 21 + 4096 bytes together: a cut at a marker takes the last
/// marker of its window, so the following cut is far away.
pub const fn blocks_max(batch_bytes: usize) -> usize {
    2 * (batch_bytes / (CUT_BYTES_MIN + CUT_BYTES)) + 2
}

#[derive(Clone, Debug)]
enum State {
    Padded(Padded),
    Tls,
    Raw,
}

#[derive(Clone, Debug)]
struct Padded {
    /// Until the first block took it.
    user: Option<[u8; USER_BYTES]>,
    seed: Seed,
    records: Boundary,
    /// Batches in a row that were left padded although their content may go direct (B2), saturating.
    batches_missed: u8,
}

impl Pad {
    /// At the first byte from the target. `user` are the 16 bytes that the client sent, not the configured ones:
    /// clients compare them.
    pub const fn new(user: [u8; USER_BYTES], seed: Seed) -> Self {
        let padded = Padded { user: Some(user), seed, records: Boundary::new(), batches_missed: 0 };
        Self { state: State::Padded(padded) }
    }

    /// The phase behind the last piece of the last [`Plan`].
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Padded(_) => Phase::Padded,
            State::Tls => Phase::Tls,
            State::Raw => Phase::Raw,
        }
    }

    /// Decides about one batch: the bytes of one read from the target, any number of them.
    ///
    /// It shows the batch to `sniff`, so nobody else should. An empty batch gives no piece and changes nothing.
    pub fn plan<'a>(&mut self, batch: &'a [u8], sniff: &mut Sniff) -> Plan<'a> {
        let padded = match &mut self.state {
            State::Tls => return Plan::unpadded(Unpadded::Tls(batch)),
            State::Raw => return Plan::unpadded(Unpadded::Raw(batch)),
            State::Padded(_) if batch.is_empty() => return Plan::unpadded(Unpadded::Nothing),
            State::Padded(padded) => padded,
        };
        sniff.downlink(batch);
        let length = if sniff.is_tls() { Length::Long } else { Length::Short };
        let (user, seed) = (padded.user.take(), padded.seed);
        let (content, last, unpadded) = match padded.choose(batch, sniff) {
            Switch::Stay => (batch, Command::Continue, Unpadded::Nothing),
            Switch::End => {
                // One block is enough to say END, the rest of the batch is spared padding and framing.
                let (first, rest) = batch.split_at(cut(batch));
                self.state = State::Tls;
                (first, Command::End, Unpadded::Tls(rest))
            }
            Switch::Direct { at } => {
                let (whole_records, tail) = batch.split_at(at);
                self.state = State::Raw;
                (whole_records, Command::Direct, Unpadded::Raw(tail))
            }
        };
        Plan { padded: content, last, unpadded, user, seed, length }
    }
}

/// Where padding ends (VISION-4).
enum Switch {
    Stay,
    End,
    /// Behind this many bytes of the batch, > 0.
    Direct {
        at: usize,
    },
}

impl Padded {
    fn choose(&mut self, batch: &[u8], sniff: &Sniff) -> Switch {
        // Before anything else: the records must be followed through every byte.
        let scan = self.records.scan(batch);
        match (sniff.verdict(), scan) {
            (Verdict::NotTls, _) | (Verdict::TlsOnly | Verdict::Direct, None) => Switch::End,
            (Verdict::TlsOnly, Some(scan)) if scan.begins_with_data => Switch::End,
            (Verdict::Open, _) | (Verdict::TlsOnly, Some(_)) => Switch::Stay,
            (Verdict::Direct, Some(scan)) => {
                let in_place = scan.aligned && scan.begins_with_data || self.batches_missed >= BATCHES_MISSED_MAX;
                if in_place && scan.data_end > 0 && sniff.client_finished() {
                    return Switch::Direct { at: scan.data_end };
                }
                self.batches_missed = self.batches_missed.saturating_add(1);
                Switch::Stay
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Unpadded<'a> {
    Nothing,
    Tls(&'a [u8]),
    Raw(&'a [u8]),
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Short,
    Long,
}

impl<'a> Plan<'a> {
    /// The next piece in wire order. `draw(bound)` gives a uniform number in `0..bound` (`bound` > 0). A larger one
    /// counts as `bound - 1`.
    pub fn next_piece(&mut self, draw: &mut impl FnMut(u32) -> u32) -> Option<Piece<'a>> {
        if !self.padded.is_empty() {
            let (content, rest) = self.padded.split_at(cut(self.padded));
            self.padded = rest;
            let command = if rest.is_empty() { self.last } else { Command::Continue };
            let padding_len = padding_len(self.seed, content.len(), self.length, draw);
            return Some(Piece::Block(Block::new(self.user.take(), command, content, padding_len)));
        }
        match std::mem::replace(&mut self.unpadded, Unpadded::Nothing) {
            Unpadded::Tls(bytes) if !bytes.is_empty() => Some(Piece::Tls(bytes)),
            Unpadded::Raw(bytes) if !bytes.is_empty() => Some(Piece::Raw(bytes)),
            _ => None,
        }
    }

    const fn unpadded(unpadded: Unpadded<'a>) -> Self {
        Self { padded: &[], last: Command::Continue, unpadded, user: None, seed: SEED_DEFAULT, length: Length::Short }
    }
}

impl<'a> Block<'a> {
    /// `content` <= 65535 bytes. [`cut`] gives at most 8171.
    fn new(user: Option<[u8; USER_BYTES]>, command: Command, content: &'a [u8], padding_len: u16) -> Self {
        let [c1, c0] = (content.len() as u16).to_be_bytes();
        let [p1, p0] = padding_len.to_be_bytes();
        let mut header = [0; USER_BYTES + FIELDS_BYTES];
        let bytes = user.unwrap_or_default().into_iter().chain([command as u8, c1, c0, p1, p0]);
        header.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        Self { header, is_first: user.is_some(), content, padding_len, command }
    }

    /// 21 bytes for a direction's first block, 5 for the others.
    pub fn header(&self) -> &[u8] {
        let start = if self.is_first { 0 } else { USER_BYTES };
        self.header.get(start..).unwrap_or_default()
    }

    /// 1 to 8171 bytes of the batch.
    pub const fn content(&self) -> &'a [u8] {
        self.content
    }

    /// How many zeros follow the content.
    pub const fn padding_len(&self) -> u16 {
        self.padding_len
    }

    pub const fn command(&self) -> Command {
        self.command
    }

    /// Bytes of the whole block, at most [`BLOCK_BYTES_MAX`].
    pub const fn wire_len(&self) -> usize {
        let header_len = if self.is_first { USER_BYTES + FIELDS_BYTES } else { FIELDS_BYTES };
        header_len + self.content.len() + self.padding_len as usize
    }
}

/// Length of the first block's content out of `content`, so that any block fits [`BLOCK_BYTES_MAX`] (VISION-1).
fn cut(content: &[u8]) -> usize {
    if content.len() < CONTENT_BYTES_MAX {
        return content.len();
    }
    let window = content.get(..CONTENT_BYTES_MAX + DATA_MARKER.len()).unwrap_or(content);
    let marker = window.windows(DATA_MARKER.len()).rposition(|bytes| bytes == DATA_MARKER);
    marker.filter(|&index| index >= CUT_BYTES_MIN).unwrap_or(CUT_BYTES)
}

/// P of VISION-1 for a block with `content_len` bytes.
fn padding_len([a, b, c, d]: Seed, content_len: usize, length: Length, draw: &mut impl FnMut(u32) -> u32) -> u16 {
    let mut uniform = |bound: u32| match bound {
        0 => 0,
        bound => u64::from(draw(bound).min(bound - 1)),
    };
    // Clamped at both ends: other seeds than the default can ask for less than nothing, or for more than a block holds.
    let wanted = match length {
        Length::Long if (content_len as u64) < u64::from(a) => {
            (uniform(b) + u64::from(c)).saturating_sub(content_len as u64)
        }
        _ => uniform(d),
    };
    wanted.min(CONTENT_BYTES_MAX.saturating_sub(content_len) as u64) as u16
}

#[cfg(test)]
mod tests;
