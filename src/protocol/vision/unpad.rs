//! The uplink: plaintext of the outer TLS stream in, content out (VISION-1, VISION-2).
//!
//! An [`Unpad`] is the position inside the current block, with up to 5 bytes of its header. Content slices point into
//! the input. Nothing else is stored. It knows nothing of TLS records, but its caller must: after [`Phase::Raw`] what
//! is left of the *current* record is still content, and the bytes behind that record are raw.

use super::{Command, Phase, take};

const USER_BYTES: usize = 16;
const HEADER_BYTES: usize = 5;

/// Takes the padding off one direction, byte-exact under any fragmentation.
#[derive(Clone, Debug)]
pub struct Unpad {
    state: State,
}

/// The client broke the block format. The session must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpadError {
    /// The command of a block is none of 0, 1, 2.
    BadCommand(u8),
}

#[derive(Clone, Debug)]
enum State {
    /// The first `matched` < 16 bytes were those of the user id. They need not be stored: the id holds the same bytes.
    Start {
        user: [u8; USER_BYTES],
        matched: u8,
    },
    /// Not a padded stream. The first `matched` bytes of the id were just handed over as content.
    Replayed {
        user: [u8; USER_BYTES],
        matched: u8,
    },
    /// `have` < 5 bytes of a block header.
    Header {
        bytes: [u8; HEADER_BYTES],
        have: u8,
    },
    /// `left` > 0 bytes of content to come, then `padding`.
    Content {
        command: Command,
        left: u16,
        padding: u16,
    },
    /// `left` > 0 bytes to drop before `command` applies.
    Padding {
        command: Command,
        left: u16,
    },
    Tls,
    Raw,
    Failed(UnpadError),
}

impl Unpad {
    /// At the first byte behind the request header. `user` is the user id as the client sent it.
    pub const fn new(user: [u8; USER_BYTES]) -> Self {
        Self { state: State::Start { user, matched: 0 } }
    }

    /// The phase after everything consumed so far.
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Tls | State::Replayed { .. } => Phase::Tls,
            State::Raw => Phase::Raw,
            _ => Phase::Padded,
        }
    }

    /// Whether a stream that ends here is cut: the block under way, or the user id in front of the first one, is not
    /// complete.
    pub const fn is_inside_block(&self) -> bool {
        match self.state {
            State::Start { matched, .. } => matched > 0,
            State::Header { have, .. } => have > 0,
            State::Content { .. } | State::Padding { .. } => true,
            State::Replayed { .. } | State::Tls | State::Raw | State::Failed(_) => false,
        }
    }

    /// Takes the next run of content from the front of `input`. `None` once `input` is used up.
    ///
    /// Call it until `None` for the plaintext of one outer TLS record, then look at [`Self::phase`]. Slices are never
    /// empty and belong to the target in the order given. Cost: a few steps per block and input, whatever their size.
    ///
    /// A stream that does not start with the user id is content from its first byte on, as in the reference. Bytes that
    /// did match the id and came with an earlier input are then given back first.
    ///
    /// # Errors
    ///
    /// [`UnpadError::BadCommand`], by the client's fault, on this and every later call.
    pub fn next_content<'s, 'a: 's>(&'s mut self, input: &mut &'a [u8]) -> Result<Option<&'s [u8]>, UnpadError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Start { user, matched } => {
                    let (user, known) = (*user, usize::from(*matched));
                    let equal = user.iter().skip(known).zip(*input).take_while(|(a, b)| a == b).count();
                    if known + equal == USER_BYTES {
                        take(input, equal);
                        self.state = State::HEADER;
                    } else if equal == input.len() {
                        *input = &[];
                        *matched += equal as u8;
                    } else if known == 0 {
                        self.state = State::Tls;
                    } else {
                        self.state = State::Replayed { user, matched: *matched };
                        return Ok(Some(self.replayed()));
                    }
                }
                State::Replayed { .. } => self.state = State::Tls,
                State::Header { bytes, have } => {
                    let filled = usize::from(*have);
                    let header = take(input, HEADER_BYTES - filled);
                    bytes.iter_mut().skip(filled).zip(header).for_each(|(place, &byte)| *place = byte);
                    *have += header.len() as u8;
                    if usize::from(*have) == HEADER_BYTES {
                        self.state = State::from_header(*bytes);
                    }
                }
                State::Content { command, left, padding } => {
                    let content = take(input, usize::from(*left));
                    self.state = State::in_block(*command, *left - content.len() as u16, *padding);
                    return Ok(Some(content));
                }
                State::Padding { command, left } => {
                    let dropped = take(input, usize::from(*left)).len() as u16;
                    self.state = State::in_block(*command, 0, *left - dropped);
                }
                State::Tls | State::Raw => return Ok(Some(take(input, usize::MAX))),
                State::Failed(error) => return Err(*error),
            }
        }
        match self.state {
            State::Failed(error) => Err(error),
            _ => Ok(None),
        }
    }

    fn replayed(&self) -> &[u8] {
        match &self.state {
            State::Replayed { user, matched } => user.get(..usize::from(*matched)).unwrap_or_default(),
            _ => &[],
        }
    }
}

impl State {
    const HEADER: Self = Self::Header { bytes: [0; HEADER_BYTES], have: 0 };

    fn from_header([command, c1, c0, p1, p0]: [u8; HEADER_BYTES]) -> Self {
        let command = match command {
            0 => Command::Continue,
            1 => Command::End,
            2 => Command::Direct,
            other => return Self::Failed(UnpadError::BadCommand(other)),
        };
        Self::in_block(command, u16::from_be_bytes([c1, c0]), u16::from_be_bytes([p1, p0]))
    }

    /// The state with this much of a block to come. A command applies as soon as nothing of its block is left, even if
    /// no further byte ever arrives.
    fn in_block(command: Command, content: u16, padding: u16) -> Self {
        match (content, padding, command) {
            (0, 0, Command::Continue) => Self::HEADER,
            (0, 0, Command::End) => Self::Tls,
            (0, 0, Command::Direct) => Self::Raw,
            (0, left, _) => Self::Padding { command, left },
            (left, padding, _) => Self::Content { command, left, padding },
        }
    }
}

#[cfg(test)]
mod tests;
