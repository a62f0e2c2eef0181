//! Identities: which of a worker's sockets an event or a deadline belongs to.
//!
//! A token is `kind | generation | index | leg`, packed into the 64 bits that epoll and mio carry. An index alone is
//! not an identity, because a slot freed in one batch of events may be taken again in the same batch. So the owner of
//! the slots compares the token's generation with the slot's ([`Roster`](super::roster::Roster)).

use std::fmt;

const LEG_BITS: u32 = 12;
const INDEX_BITS: u32 = 28;
const GENERATION_BITS: u32 = 22;
const KIND_BITS: u32 = 2;

const _: () = assert!(LEG_BITS + INDEX_BITS + GENERATION_BITS + KIND_BITS == u64::BITS);
// mio carries a token as a usize.
const _: () = assert!(usize::BITS == u64::BITS);

/// Slots are numbered below this.
pub const INDEX_LIMIT: usize = 1 << INDEX_BITS;
/// Legs are numbered below this.
pub const LEG_LIMIT: usize = 1 << LEG_BITS;

/// What kind of thing a [`Token`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The worker's own sources: waker, listeners.
    Worker,
    /// A session. Leg 0 is the client, legs from 1 on are targets.
    Session,
    /// A dial or a spare connection. The leg of a dial is the number of the connection attempt.
    Dial,
    /// A name look-up. The leg tells its sockets apart.
    Resolve,
}

/// A kind, a generation, an index and a leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// Packs the parts. `index` must be below [`INDEX_LIMIT`] and `leg` below [`LEG_LIMIT`]. Of the generation the
    /// lower 22 bits count.
    pub fn new(kind: Kind, generation: u32, index: usize, leg: usize) -> Self {
        debug_assert!(index < INDEX_LIMIT && leg < LEG_LIMIT);
        let kind = match kind {
            Kind::Worker => 0,
            Kind::Session => 1,
            Kind::Dial => 2,
            Kind::Resolve => 3,
        };
        Self(
            kind << (64 - KIND_BITS)
                | u64::from(generation & mask(GENERATION_BITS) as u32) << (INDEX_BITS + LEG_BITS)
                | (index as u64 & mask(INDEX_BITS)) << LEG_BITS
                | (leg as u64 & mask(LEG_BITS)),
        )
    }

    pub fn kind(self) -> Kind {
        match self.0 >> (64 - KIND_BITS) {
            0 => Kind::Worker,
            1 => Kind::Session,
            2 => Kind::Dial,
            _ => Kind::Resolve,
        }
    }

    /// The 22 bits of generation that [`Token::new`] kept.
    pub fn generation(self) -> u32 {
        (self.0 >> (INDEX_BITS + LEG_BITS) & mask(GENERATION_BITS)) as u32
    }

    pub fn index(self) -> usize {
        (self.0 >> LEG_BITS & mask(INDEX_BITS)) as usize
    }

    pub fn leg(self) -> usize {
        (self.0 & mask(LEG_BITS)) as usize
    }

    /// The same thing's other leg.
    pub fn with_leg(self, leg: usize) -> Self {
        debug_assert!(leg < LEG_LIMIT);
        Self(self.0 & !mask(LEG_BITS) | (leg as u64 & mask(LEG_BITS)))
    }
}

/// A generation that fits a token, following `generation`.
pub fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1) & mask(GENERATION_BITS) as u32
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl From<mio::Token> for Token {
    fn from(token: mio::Token) -> Self {
        Self(token.0 as u64)
    }
}

impl From<Token> for mio::Token {
    fn from(token: Token) -> Self {
        Self(token.0 as usize)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}.{} leg {}", self.kind(), self.index(), self.generation(), self.leg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_went_in() {
        for kind in [Kind::Worker, Kind::Session, Kind::Dial, Kind::Resolve] {
            let token = Token::new(kind, 0x3a_bcde, INDEX_LIMIT - 1, LEG_LIMIT - 1);
            assert_eq!(token.kind(), kind);
            assert_eq!((token.generation(), token.index(), token.leg()), (0x3a_bcde, INDEX_LIMIT - 1, LEG_LIMIT - 1));
            assert_eq!(Token::from(mio::Token::from(token)), token);
            assert_eq!(token.with_leg(1), Token::new(kind, 0x3a_bcde, INDEX_LIMIT - 1, 1));
        }
    }

    #[test]
    fn generations_wrap_within_the_token() {
        let last = (1 << GENERATION_BITS) - 1;
        assert_eq!(next_generation(last), 0);
        assert_eq!(Token::new(Kind::Session, last, 0, 0).generation(), last);
    }
}
