//! Payload and what TLS says unasked, sealed into the wire buffer and counted.

use std::mem;

use super::tls::{RECORD_OVERHEAD_BYTES, RECORD_PAYLOAD_BYTES, TlsEngine};
use super::{Converted, InboundError};
use crate::io::buf::Buf;
use crate::io::tally::Tally;

/// Where the downlink's TLS records go.
pub(super) struct Records<'a> {
    pub(super) engine: &'a mut TlsEngine,
    pub(super) wire: &'a mut Buf,
    /// Learns which bytes of `wire` carry payload.
    pub(super) tally: &'a mut Tally,
}

impl Records<'_> {
    /// Appends `plaintext`, of which `payload_bytes` are payload, as one record.
    pub(super) fn seal(&mut self, plaintext: &[u8], payload_bytes: usize) -> Result<(), InboundError> {
        let sealed = self.engine.seal(plaintext, self.wire)?;
        self.tally.wrap(sealed, payload_bytes);
        Ok(())
    }
}

/// Seals `payload` in full records. Its first `headers` bytes are no payload.
pub(super) fn seal_all(
    engine: &mut TlsEngine,
    mut headers: usize,
    payload: &mut Buf,
    wire: &mut Buf,
    tally: &mut Tally,
) -> Result<Converted, InboundError> {
    while !payload.is_empty() {
        let length = payload.len().min(RECORD_PAYLOAD_BYTES);
        if wire.spare() < length + RECORD_OVERHEAD_BYTES || engine.has_outgoing() {
            return Ok(Converted::Moved { again: true });
        }
        let sealed = engine.seal(payload.front(length), wire)?;
        payload.consume(length);
        tally.wrap(sealed, length - mem::take(&mut headers));
    }
    Ok(Converted::Moved { again: false })
}

/// Moves what TLS says unasked to `wire`, as much as there is room for.
pub(super) fn take_outgoing(engine: &mut TlsEngine, wire: &mut Buf, tally: &mut Tally) {
    let outgoing = engine.outgoing();
    let taken = outgoing.get(..wire.spare()).unwrap_or(outgoing);
    let length = taken.len();
    if length == 0 || !wire.append(taken) {
        return;
    }
    tally.wrap(length, 0);
    outgoing.drain(..length);
    if outgoing.is_empty() {
        *outgoing = Vec::new();
    }
}
