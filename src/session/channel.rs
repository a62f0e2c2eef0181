//! The client's side of a session whose payload is packets or frames: bytes in, bytes out, nothing about what they mean.
//!
//! Uplink: [`Channel::pull`] leaves decoded payload in the scratch output, the caller takes whole packets off its front
//! and gives the rest back with [`Channel::keep`]. Downlink: the caller fills the scratch input with as many packets as
//! it has and [`Channel::push`] makes records and one send of them; [`Channel::settle`] says when more may be filled.
//! As long as something waits to be sent nothing is filled, and so no target's socket is read: that is back-pressure.

use super::CloseReason;
use super::transfer::{Means, Moved, Received, Transfer};
use super::transforms::Encode;
use crate::inbound::{Converted, Inbound, InboundError, Step};
use crate::io::socket::{Endpoint, Socket};

/// Received at a time. What it decodes to fits the scratch memory together with the longest incomplete frame.
const READ_BYTES: usize = 32 << 10;

/// The most payload of one batch towards the client, unless one packet alone is longer.
const BATCH_BYTES: usize = 40 << 10;

/// A session's client-facing parts, borrowed for a turn.
pub(super) struct Channel<'a, S> {
    pub(super) client: &'a mut Endpoint<S>,
    pub(super) inbound: &'a mut Inbound,
    pub(super) uplink: &'a mut Transfer,
    pub(super) downlink: &'a mut Transfer,
}

/// What [`Channel::pull`] found.
pub(super) enum Pulled {
    /// The scratch output holds payload, maybe none; so many bytes were received for it.
    Payload(usize),
    Blocked,
    /// There is no buffer memory for what might be left over.
    Starved,
    /// The client's stream ended in order.
    End,
    Failed,
    Broken(InboundError),
}

/// What a turn ended with.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    Wait,
    Again,
    /// For buffer memory.
    Starved,
    /// To be closed in order.
    Close(CloseReason),
    /// To be reset.
    Abort(CloseReason),
    /// The client broke a protocol below VLESS.
    Broken(InboundError),
}

/// What a relay of packets has moved so far; bytes are those of datagrams and streams, without framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) uplink: Moved,
    pub(super) downlink: Moved,
    pub(super) uplink_packets: u64,
    pub(super) downlink_packets: u64,
}

impl Traffic {
    /// A datagram was taken by the socket towards its target.
    pub(super) fn sent_packet(&mut self, bytes: usize) {
        self.uplink_packets += 1;
        self.uplink.payload_bytes += bytes as u64;
    }
}

/// What was filled into the downlink and does not count before the client's socket has taken all of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Bytes filled so far, framing included.
    filled_bytes: u64,
    owed_bytes: u64,
    owed_packets: u64,
}

impl Ledger {
    /// So many bytes were filled; of them `payload_bytes` count, in `packets` datagrams.
    pub(super) fn fill(&mut self, bytes: usize, payload_bytes: usize, packets: u64) {
        self.filled_bytes += bytes as u64;
        self.owed_bytes += payload_bytes as u64;
        self.owed_packets += packets;
    }

    /// Counts what is owed once the downlink has delivered everything.
    pub(super) fn collect(&mut self, downlink: &Transfer, traffic: &mut Traffic) {
        if downlink.moved().payload_bytes >= self.filled_bytes {
            traffic.downlink.payload_bytes += std::mem::take(&mut self.owed_bytes);
            traffic.downlink_packets += std::mem::take(&mut self.owed_packets);
        }
    }
}

impl<S: Socket> Channel<'_, S> {
    /// Receives and decodes behind what was kept. With `payload_waits` what was kept has not been looked at to its end:
    /// it comes back without anything being received.
    pub(super) fn pull(&mut self, payload_waits: &mut bool, means: &mut Means<'_>) -> Pulled {
        if std::mem::take(payload_waits) {
            self.uplink.load_output(means);
            return Pulled::Payload(0);
        }
        if self.inbound.is_uplink_closed() {
            return Pulled::End;
        }
        let missing_bytes = |kept: &[u8]| self.inbound.missing_bytes(kept);
        match self.uplink.receive(self.client, READ_BYTES, missing_bytes, means) {
            Received::Bytes => {}
            Received::Blocked => return Pulled::Blocked,
            Received::Starved => return Pulled::Starved,
            Received::End if self.inbound.may_uplink_end(self.uplink.kept_input()) => return Pulled::End,
            Received::End => return Pulled::Broken(InboundError::Truncated),
            Received::Failed => return Pulled::Failed,
        }
        self.uplink.load_output(means);
        let (input, output) = means.scratch.parts();
        let received = input.len();
        match self.inbound.decode(input, output, Step::Everything) {
            Ok(Converted::Unchanged) => {
                if !output.append(input.bytes()) {
                    return Pulled::Broken(InboundError::NoRoom);
                }
            }
            Ok(Converted::Moved { again }) => self.uplink.keep_input(again, means),
            Err(error) => return Pulled::Broken(error),
        }
        Pulled::Payload(received)
    }

    /// Keeps what is left in the scratch output for the next [`Channel::pull`].
    pub(super) fn keep(&mut self, means: &Means<'_>) {
        self.uplink.keep_output(means);
    }

    /// Sends what waits; true when all of it was sent and more may be filled.
    pub(super) fn settle(&mut self, means: &mut Means<'_>) -> bool {
        let mut encode = Encode { inbound: self.inbound, read_bytes_max: BATCH_BYTES };
        self.downlink.settle(self.client, &mut encode, means)
    }

    /// The most payload to fill in one batch.
    pub(super) fn batch_bytes_max(&self) -> usize {
        self.inbound.encode_bytes_max(BATCH_BYTES)
    }

    /// Encodes and sends what was filled into the scratch input.
    pub(super) fn push(&mut self, means: &mut Means<'_>) {
        let mut encode = Encode { inbound: self.inbound, read_bytes_max: BATCH_BYTES };
        self.downlink.convert_and_send(self.client, &mut encode, means);
    }
}
