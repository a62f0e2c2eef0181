//! The client's side of a session: its socket, the stack behind it and both directions, borrowed for a turn.
//!
//! It serves relays whose payload is packets or frames. It knows nothing about what they mean.
//!
//! - Uplink: [`Channel::pull`] gives decoded payload. The caller takes whole packets off its front and gives the rest
//!   back with [`Channel::keep`].
//! - Downlink: the caller fills a batch with as many packets as it has. [`Channel::push`] makes records and one send of
//!   them. [`Channel::settle`] says when more may be filled.
//!
//! Nothing is filled while something waits to be sent, and so no target's socket is read: that is back-pressure.

use super::allowance::Share;
use super::close::CloseReason;
use super::intake::{ReadMax, Received, Rest};
use super::pause::{Ending, Pause};
use super::transfer::{Means, Transfer};
use super::transforms::Encode;
use crate::inbound::{Converted, Inbound, InboundError, Step};
use crate::io::buf::Buf;
use crate::io::endpoint::Endpoint;
use crate::io::socket::Socket;
use crate::io::taker::Taker;

/// Received at a time. What it decodes to fits the scratch memory together with the longest incomplete frame.
const READ_BYTES: usize = 32 << 10;

/// The most payload of one batch towards the client, unless one packet alone is longer.
const BATCH_BYTES: usize = 40 << 10;

/// A session's client-facing parts.
pub(super) struct Channel<'a, S> {
    pub(super) client: &'a mut Endpoint<S>,
    pub(super) inbound: &'a mut Inbound,
    pub(super) uplink: &'a mut Transfer,
    pub(super) downlink: &'a mut Transfer,
}

/// What [`Channel::pull`] found.
pub(super) enum Pulled {
    /// Payload, maybe none. The scratch memory it is in goes back with [`Channel::keep`].
    Payload(Buf),
    Pause(Pause),
    /// The client's stream ended in order.
    End,
}

impl<S: Socket> Channel<'_, S> {
    /// Receives and decodes behind what was not digested. Where that was not looked at to its end, it comes back
    /// without anything being received.
    pub(super) fn pull(&mut self, share: &mut Share, means: &mut Means<'_>) -> Result<Pulled, Ending> {
        let intake = &mut self.uplink.intake;
        if intake.undigested_waits() {
            let mut payload = means.scratch.take_output();
            intake.put_back_undigested(&mut payload);
            return Ok(Pulled::Payload(payload));
        }
        if self.inbound.is_uplink_closed() {
            return Ok(Pulled::End);
        }
        let mut input = means.scratch.take_input();
        let missing_bytes = |kept: &[u8]| self.inbound.missing_bytes(kept);
        // Many targets may take it.
        let most = ReadMax { bytes: READ_BYTES.min(share.bytes()), taker: Taker::Unknown };
        let received = intake.receive(self.client, most, missing_bytes, &mut input, means.pool);
        let pulled = match received {
            Ok(Received::Bytes(count)) => {
                share.receive(count);
                self.decode(&mut input, means).map(Pulled::Payload)
            }
            Ok(Received::End) if self.inbound.may_uplink_end(intake.is_all_converted()) => Ok(Pulled::End),
            Ok(Received::End) => Err(Ending::Broken(InboundError::Truncated)),
            Ok(Received::Failed) => Err(Ending::Abrupt(CloseReason::ClientReset)),
            Err(pause) => Ok(Pulled::Pause(pause)),
        };
        means.scratch.give_input(input);
        pulled
    }

    fn decode(&mut self, input: &mut Buf, means: &mut Means<'_>) -> Result<Buf, Ending> {
        let intake = &mut self.uplink.intake;
        let mut payload = means.scratch.take_output();
        intake.put_back_undigested(&mut payload);
        let decoded =
            self.inbound.decode(input, &mut payload, Step::Everything).and_then(|converted| match converted {
                Converted::Unchanged if payload.append(input.bytes()) => Ok(()),
                Converted::Unchanged => Err(InboundError::NoRoom),
                Converted::Moved { again } => {
                    intake.keep(input, again, means.pool);
                    Ok(())
                }
            });
        match decoded {
            Ok(()) => Ok(payload),
            Err(error) => {
                means.scratch.give_output(payload);
                Err(Ending::Broken(error))
            }
        }
    }

    /// Keeps what is left in `payload` for the next [`Channel::pull`].
    pub(super) fn keep(&mut self, payload: Buf, rest: Rest, means: &mut Means<'_>) {
        self.uplink.intake.keep_undigested(&payload, rest, means.pool);
        means.scratch.give_output(payload);
    }

    /// Sends what waits. True when all of it was sent and more may be filled.
    pub(super) fn settle(&mut self, means: &mut Means<'_>) -> bool {
        let mut encode = Encode { inbound: self.inbound, read_bytes_max: BATCH_BYTES };
        self.downlink.settle(self.client, &mut encode, means)
    }

    /// The most payload to fill in one batch.
    pub(super) fn batch_bytes_max(&self) -> usize {
        self.inbound.encode_bytes_max(BATCH_BYTES)
    }

    /// Encodes and sends a batch.
    pub(super) fn push(&mut self, batch: Buf, means: &mut Means<'_>) {
        let mut encode = Encode { inbound: self.inbound, read_bytes_max: BATCH_BYTES };
        self.downlink.convert_and_send(self.client, &mut encode, batch, means);
    }

    /// What the downlink waits for while it cannot settle: nothing, unless the client is gone.
    pub(super) fn unsettled(&self) -> Result<Pause, Ending> {
        if self.downlink.delivery.end().is_some() {
            return Err(Ending::Abrupt(CloseReason::ClientReset));
        }
        Ok(Pause::Wait)
    }
}
