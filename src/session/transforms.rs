//! The two directions' transforms: what joins a [`super::transfer::Transfer`] to the client's protocol stack.

use super::transfer::Transform;
use crate::inbound::{Converted, Inbound, InboundError, Step};
use crate::io::buf::Buf;
use crate::io::random::Random;
use crate::io::tally::Tally;

/// The uplink's transform: wire bytes of the client to payload.
pub(super) struct Decode<'a> {
    pub(super) inbound: &'a mut Inbound,
    pub(super) read_bytes_max: usize,
}

impl Transform for Decode<'_> {
    fn is_transparent(&self) -> bool {
        self.inbound.is_uplink_transparent()
    }

    fn convert(
        &mut self,
        input: &mut Buf,
        output: &mut Buf,
        tally: &mut Tally,
        _: &mut Random,
    ) -> Result<Converted, InboundError> {
        let converted = self.inbound.decode(input, output, Step::Everything);
        tally.unwrapped(output.len());
        converted
    }

    fn is_ended(&self) -> bool {
        self.inbound.is_uplink_closed()
    }

    fn has_unasked(&self) -> bool {
        false
    }

    fn input_bytes_max(&self) -> usize {
        self.read_bytes_max
    }

    fn missing_bytes(&self, kept: &[u8]) -> usize {
        self.inbound.missing_bytes(kept)
    }

    fn finish(&mut self, rest: &[u8], _: &mut Buf, _: &mut Tally) -> Result<(), InboundError> {
        // A TCP end without close_notify is an end all the same, unless it cuts something (Go clients do this).
        if self.inbound.may_uplink_end(rest.is_empty()) { Ok(()) } else { Err(InboundError::Truncated) }
    }
}

/// The downlink's transform: payload of the target to wire bytes.
pub(super) struct Encode<'a> {
    pub(super) inbound: &'a mut Inbound,
    pub(super) read_bytes_max: usize,
}

impl Transform for Encode<'_> {
    fn is_transparent(&self) -> bool {
        self.inbound.is_downlink_transparent()
    }

    fn convert(
        &mut self,
        input: &mut Buf,
        output: &mut Buf,
        tally: &mut Tally,
        random: &mut Random,
    ) -> Result<Converted, InboundError> {
        self.inbound.encode(input, output, tally, random)
    }

    fn is_ended(&self) -> bool {
        false
    }

    fn has_unasked(&self) -> bool {
        self.inbound.has_outgoing()
    }

    fn input_bytes_max(&self) -> usize {
        self.inbound.encode_bytes_max(self.read_bytes_max)
    }

    fn missing_bytes(&self, _: &[u8]) -> usize {
        // The downlink keeps no beginnings.
        self.input_bytes_max()
    }

    fn finish(&mut self, _: &[u8], output: &mut Buf, tally: &mut Tally) -> Result<(), InboundError> {
        self.inbound.finish(output, tally)
    }
}
