//! Vision as the simulated clients speak it: blocks out, blocks in, and strict about what comes in.

use super::rng::Rng;

pub(crate) const CONTINUE: u8 = 0;
pub(crate) const END: u8 = 1;
pub(crate) const DIRECT: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Padded,
    Tls,
    Raw,
}

impl Phase {
    fn behind(command: u8) -> Self {
        [Self::Padded, Self::Tls, Self::Raw][usize::from(command)]
    }
}

/// A client's Vision, inside its TLS.
pub(crate) struct VisionPeer {
    user: [u8; 16],
    rng: Rng,
    is_user_sent: bool,
    is_user_heard: bool,
    pub(crate) up: Phase,
    pub(crate) down: Phase,
    last_padding: usize,
    /// Bytes around content, sent and heard.
    pub(crate) up_padding: u64,
    pub(crate) down_padding: u64,
}

impl VisionPeer {
    pub(crate) fn new(user: [u8; 16], rng: Rng) -> Self {
        Self {
            user,
            rng,
            is_user_sent: false,
            is_user_heard: false,
            up: Phase::Padded,
            down: Phase::Padded,
            last_padding: 0,
            up_padding: 0,
            down_padding: 0,
        }
    }

    /// Plaintext of the next block.
    pub(crate) fn block(&mut self, command: u8, content: &[u8]) -> Vec<u8> {
        let longest = self.rng.pick(&[1, 40, 300, 1400]);
        self.last_padding = self.rng.below(longest);
        let mut block = if std::mem::replace(&mut self.is_user_sent, true) { Vec::new() } else { self.user.to_vec() };
        block.push(command);
        block.extend((content.len() as u16).to_be_bytes());
        block.extend((self.last_padding as u16).to_be_bytes());
        block.extend(content);
        block.extend(self.rng.bytes(self.last_padding));
        self.up_padding += (block.len() - content.len()) as u64;
        self.up = Phase::behind(command);
        block
    }

    /// Padding of the last block.
    pub(crate) fn last_padding(&self) -> usize {
        self.last_padding
    }

    /// Takes the payload of a record. The response header counts as heard, as it does without Vision.
    ///
    /// # Panics
    /// If a record is not exactly one block while padding.
    pub(crate) fn hear(&mut self, mut payload: &[u8], heard: &mut Vec<u8>) {
        if self.down == Phase::Tls {
            return heard.extend_from_slice(payload);
        }
        assert!(payload.len() <= 8194, "a block of {} bytes", payload.len());
        let first = !std::mem::replace(&mut self.is_user_heard, true);
        if first {
            payload = payload.strip_prefix(&[0, 0]).expect("the response header");
            heard.extend([0, 0]);
            payload = payload.strip_prefix(&self.user[..]).expect("the user id");
        }
        let &[command @ CONTINUE..=DIRECT, c1, c0, p1, p0, ref rest @ ..] = payload else { panic!("no block") };
        let (content, padding) = (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([p1, p0]));
        assert_eq!(rest.len(), usize::from(content) + usize::from(padding), "a record is one block");
        heard.extend_from_slice(&rest[..content.into()]);
        self.down_padding += u64::from(padding) + if first { 21 } else { 5 };
        self.down = Phase::behind(command);
    }
}
