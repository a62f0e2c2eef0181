//! XTLS Vision (`xtls-rprx-vision`): padded blocks, recognition of inner TLS, the switch to raw bytes.
//!
//! This module owns the bytes *inside* the outer TLS connection after the VLESS headers, in both directions, and
//! decides when a direction leaves that TLS connection. It knows no socket, no TLS engine and no clock. Random draws
//! are an argument. Nothing here allocates or copies content.
//!
//! | type | does | one per |
//! |---|---|---|
//! | [`Unpad`] | uplink: TLS plaintext to content | session |
//! | [`Pad`] | downlink: content to blocks, then TLS bytes, then raw bytes | session |
//! | [`Sniff`] | watches content of both directions, says what it is | session |
//! | [`Boundary`] | follows inner TLS records through any fragmentation | direction |
//!
//! The two directions switch independently. Each goes through [`Phase`] once and never back.
//!
//! ```
//! use vless_rust::protocol::vision::{Pad, Piece, SEED_DEFAULT, Sniff, Unpad};
//!
//! let user = [7; 16];
//! let (mut unpad, mut pad, mut sniff) = (Unpad::new(user), Pad::new(user, SEED_DEFAULT), Sniff::new());
//!
//! // Uplink: the plaintext of one outer TLS record (END, C = 4, P = 1), then a look at `unpad.phase()`.
//! let plaintext = [&user[..], &[1, 0, 4, 0, 1], b"ping", &[0]].concat();
//! let mut rest = &plaintext[..];
//! while let Some(content) = unpad.next_content(&mut rest).expect("known command") {
//!     sniff.uplink(content);
//!     assert_eq!(content, b"ping");
//! }
//!
//! // Downlink: everything one read of the target gave.
//! let mut plan = pad.plan(b"pong", &mut sniff);
//! while let Some(piece) = plan.next_piece(&mut |bound| bound / 2) {
//!     match piece {
//!         Piece::Block(block) => assert_eq!(block.content(), b"pong"), // exactly one TLS record
//!         Piece::Tls(_bytes) => unreachable!(),                        // any number of TLS records
//!         Piece::Raw(_bytes) => unreachable!(),                        // the socket, behind all TLS output
//!     }
//! }
//! ```
//!
//! # VISION-1: block
//!
//! A direction starts as blocks. No gap, alignment or terminator is between them. Integers are big-endian.
//!
//! | offset | size | meaning | accepted |
//! |---|---|---|---|
//! | 0 | 16 | user id, **only in a direction's first block** | in both directions the 16 bytes the client sent |
//! | 0 or 16 | 1 | command, VISION-2 | 0, 1, 2 |
//! | +1 | 2 | content length C | 0..=65535 |
//! | +3 | 2 | padding length P | 0..=65535 |
//! | +5 | C | content | anything |
//! | +5+C | P | padding, ignored; we send zeros | anything |
//!
//! *Receiving*: blocks and TLS records are unrelated. Content is handed over before its padding has arrived, because a
//! peer may wait for an answer to it. A stream that does not start with the user id is not padded at all.
//!
//! *Sending*: a block is one TLS record and has at most 8192 bytes (8194 with the response header in front of the
//! first). The reason: receivers read at most 8192 bytes at a time, and misread a block header that two reads cut. The
//! padding length comes from `seed = [a, b, c, d]`, by default 900, 500, 900, 256. `draw(n)` is uniform in 0 to n - 1:
//!
//! ```text
//! long and C < a:  P = draw(b) + c - C        long: inner TLS was recognised
//! otherwise:       P = draw(d)
//! then:            P clamped to 0..=8171 - C  8171 = 8192 - 16 - 5
//! ```
//!
//! Content of 8171 bytes or more is cut at the last `17 03 03` that stands at index 21..=8171, else at 4096. The rest
//! is treated the same way.
//!
//! Proof: `tests/vectors/vision_uplink.hex`, `vision_downlink.hex`, `vision_xudp.hex`.
//!
//! # VISION-2: commands
//!
//! | value | name | after the block's **last padding byte** |
//! |---|---|---|
//! | 0 | CONTINUE | another block |
//! | 1 | END | all further bytes of the outer TLS stream are content, from the same record on |
//! | 2 | DIRECT | the rest of this TLS record is content; behind this record come raw bytes without outer TLS |
//! | other | | error, the session is closed |
//!
//! C and P may both be 0 with any command. This server puts nothing behind DIRECT into TLS.
//!
//! Proof: `tests/vectors/vision_downlink.hex`.
//!
//! # VISION-3: inner TLS recognition
//!
//! [`Sniff`] looks at a budget of 8 chunks, both directions together. A chunk is one piece of content. It counts once
//! per started 8192 bytes. The pieces of one hello count like one piece. A receiver never checks why a sender ended its
//! padding, so these rules are this server's own choice.
//!
//! | what | where | bytes |
//! |---|---|---|
//! | ClientHello | uplink record that a chunk begins with | `16 03 xx`, length 1 to 16384, offset 5: `01` |
//! | ServerHello, also HelloRetryRequest | downlink record likewise | `16 03 03`, length 1 to 16384, offset 5: `02` |
//! | cipher suite | offset 44 + s of that record, s = byte at 43 | `13 01` to `13 04` may go direct |
//! | TLS 1.3 (RFC 8446 4.2.1) | in that record, behind the suite | `00 2b 00 02 03 04` |
//!
//! - A hello may come in any pieces, also byte by byte. The reference and sing-box judge each buffer by itself: there a
//!   hello whose first six bytes, whose suite or whose last row is cut never goes direct.
//! - A record without the last row is TLS 1.2.
//! - Suite `13 05` (AES_128_CCM_8) or an unknown one is treated as TLS 1.2.
//! - Without a ServerHello when at most one chunk is left, the content is not TLS.
//! - The reference looks for either hello in both directions. Here a target that is itself the inner TLS client never
//!   goes direct.
//!
//! Proof: `tests/vectors/vision_server_hello.hex`.
//!
//! # VISION-4: direct
//!
//! When a downlink batch (everything from one read of the target) ends the padded phase:
//!
//! | content is | ends with | when |
//! |---|---|---|
//! | not TLS | END, on the batch's first block | the chunk budget is used up |
//! | TLS 1.2 or an unsuitable suite | END, on the batch's first block | a batch begins with application data |
//! | TLS 1.3, suitable suite | DIRECT, behind the batch's last whole application-data record | B1 or B3 |
//! | TLS by its ServerHello, but not a sequence of TLS records | END, on the batch's first block | at once |
//!
//! * B1: the batch begins exactly at a record, that record is application data and complete, and the inner client has
//!   sent an encrypted record of its own after the ServerHello (so the certificate flight stays padded).
//! * B2: any other batch is sent padded with CONTINUE.
//! * B3: after 8 batches of B2 a batch need not begin at a record any more: the end of any application-data record in
//!   it will do. So a download whose reads never coincide with records goes direct, too.
//!
//! An incomplete record behind the switch point is sent raw. After DIRECT nothing goes through the outer TLS: no alert,
//! no ticket, no key update.
//!
//! Proof: `tests/vectors/vision_downlink.hex` for the bytes, the seeded streams in this module's tests for the choice.
//!
//! Read from Xray-core `proxy/proxy.go` at `2323273e`. B1 to B3 are our own.

mod boundary;
#[doc(hidden)]
pub mod fuzz;
mod pad;
mod sniff;
#[cfg(test)]
mod testing;
mod unpad;

pub use boundary::{Boundary, Scan};
pub use pad::{BLOCK_BYTES_MAX, Block, Pad, Piece, Plan, SEED_DEFAULT, Seed, blocks_max};
pub use sniff::{Sniff, Verdict};
pub use unpad::{Unpad, UnpadError};

/// How far a direction has come. It moves once, from [`Phase::Padded`] to one of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Blocks inside the outer TLS connection. An end of stream in this phase is abnormal.
    Padded,
    /// Content without framing inside the outer TLS connection, until it ends.
    Tls,
    /// Content without framing on the bare socket. The outer TLS connection is over for this direction.
    Raw,
}

/// Splits at most `count` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
    *input = rest;
    taken
}

/// What follows a block (VISION-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Continue = 0,
    End = 1,
    Direct = 2,
}

impl Command {
    /// The phase of a direction once a block with this command is over.
    pub const fn next_phase(self) -> Phase {
        match self {
            Self::Continue => Phase::Padded,
            Self::End => Phase::Tls,
            Self::Direct => Phase::Raw,
        }
    }
}

#[cfg(test)]
mod tests;
