//! Vision inside TLS: padding off the uplink, padding onto the downlink, and when each leaves TLS (VISION-1 to 4).
//!
//! [`Vision`] joins the pure machines of [`crate::protocol::vision`] to the TLS engine. It knows whether a direction
//! still uses TLS; [`super::Inbound`] acts upon that.

use super::InboundError;
use super::sealing::Records;
use super::tls::{RECORD_OVERHEAD_BYTES, RECORD_PAYLOAD_BYTES};
use crate::io::buf::Buf;
use crate::io::buffer_pool::BUFFER_BYTES_MAX;
use crate::io::random::Random;
use crate::protocol::request::RESPONSE;
use crate::protocol::vision::{BLOCK_BYTES_MAX, Pad, Phase, Piece, Seed, Sniff, Unpad, blocks_max};

/// The most payload for one call of `Vision::encode` while padding, in bytes. At the very worst, with an unusual
/// seed, what becomes of it still fits the largest buffer, together with what TLS says unasked.
pub const PADDED_BYTES_MAX: usize = 24 << 10;

const _: () = assert!(
    blocks_max(PADDED_BYTES_MAX) * (RESPONSE.len() + BLOCK_BYTES_MAX + RECORD_OVERHEAD_BYTES) + PADDED_BYTES_MAX + 4096
        <= BUFFER_BYTES_MAX
);

/// One session's Vision.
pub struct Vision {
    unpad: Unpad,
    pad: Pad,
    sniff: Sniff,
    /// Bytes that were sent or received around content: block headers and padding.
    padding: Padding,
}

/// Bytes around content, per direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    pub uplink_bytes: u64,
    pub downlink_bytes: u64,
}

impl Vision {
    /// At the first byte behind the request header. `user_id` is the id as the client sent it, which its reader expects
    /// back.
    pub fn new(user_id: [u8; 16], seed: Seed) -> Self {
        Self {
            unpad: Unpad::new(user_id),
            pad: Pad::new(user_id, seed),
            sniff: Sniff::new(),
            padding: Padding::default(),
        }
    }

    pub fn uplink_phase(&self) -> Phase {
        self.unpad.phase()
    }

    pub fn downlink_phase(&self) -> Phase {
        self.pad.phase()
    }

    /// The uplink ends here in the middle of a block.
    pub fn is_uplink_cut(&self) -> bool {
        self.unpad.is_inside_block()
    }

    /// Bytes around content so far.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// Appends to `payload` the content of `plaintext`, which is (the rest of) one record.
    pub fn decode(&mut self, mut plaintext: &[u8], payload: &mut Buf) -> Result<(), InboundError> {
        let (received, before) = (plaintext.len(), payload.len());
        while let Some(content) = self.unpad.next_content(&mut plaintext).map_err(|_| InboundError::BadPadding)? {
            // Also behind END: a client that sent early data ends its padding before the handshake is over, and the
            // downlink waits for the end of that.
            self.sniff.uplink(content);
            if !payload.append(content) {
                return Err(InboundError::NoRoom);
            }
        }
        if self.unpad.phase() == Phase::Raw {
            self.sniff.uplink_is_raw();
        }
        // A first record that turns out not to be padded gives back what earlier ones held.
        self.padding.uplink_bytes += received.saturating_sub(payload.len() - before) as u64;
        Ok(())
    }

    /// Seals what one read of the target gave, and takes all of `payload`: each block as a record of its own, with the
    /// response header in front of the first, then what follows in TLS, then what follows raw.
    pub(super) fn encode(
        &mut self,
        response_due: bool,
        payload: &mut Buf,
        mut records: Records<'_>,
        random: &mut Random,
    ) -> Result<(), InboundError> {
        let mut header: &[u8] = if response_due { &RESPONSE } else { &[] };
        let mut plan = self.pad.plan(payload.bytes(), &mut self.sniff);
        while let Some(piece) = plan.next_piece(&mut |bound| random.below(bound)) {
            match piece {
                Piece::Block(block) => {
                    let mut plaintext = [0; RESPONSE.len() + BLOCK_BYTES_MAX];
                    let mut length = 0;
                    for part in [header, block.header(), block.content()] {
                        let Some(room) = plaintext.get_mut(length..length + part.len()) else {
                            return Err(InboundError::NoRoom);
                        };
                        room.copy_from_slice(part);
                        length += part.len();
                    }
                    // The padding: zeros, as the array has them.
                    length += usize::from(block.padding_len());
                    header = &[];
                    let plaintext = plaintext.get(..length).ok_or(InboundError::NoRoom)?;
                    records.seal(plaintext, block.content().len())?;
                    self.padding.downlink_bytes += (block.wire_len() - block.content().len()) as u64;
                }
                Piece::Tls(rest) => {
                    for part in rest.chunks(RECORD_PAYLOAD_BYTES) {
                        records.seal(part, part.len())?;
                    }
                }
                Piece::Raw(rest) => {
                    if !records.wire.append(rest) {
                        return Err(InboundError::NoRoom);
                    }
                }
            }
        }
        payload.reset(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::vision::SEED_DEFAULT;

    #[test]
    fn behind_end_the_uplink_still_tells_when_the_client_has_finished() {
        let user = [7; 16];
        let (mut vision, mut payload) = (Vision::new(user, SEED_DEFAULT), Buf::new(4096));
        let hello = [0x16, 3, 1, 0, 2, 1, 0];
        vision.decode(&[&user[..], &[1, 0, 7, 0, 0], &hello].concat(), &mut payload).unwrap();
        assert_eq!(vision.uplink_phase(), Phase::Tls);
        vision.sniff.downlink(&[0x16, 3, 3, 0, 2, 2, 0]);
        vision.decode(&[0x17, 3, 3, 0, 1, 0xaa], &mut payload).unwrap();
        assert!(vision.sniff.client_finished());
        assert_eq!(payload.len(), 7 + 6);
    }
}
