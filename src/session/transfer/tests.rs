use super::*;

use std::time::Duration;

use crate::io::endpoint::Readiness;
use crate::io::socket::Sent;
use crate::io::splice::KernelPipe;
use crate::session::allowance::Limit;

/// A peer that has `to_say` bytes ready, and takes whatever it is sent.
#[derive(Default)]
struct Peer {
    to_say: usize,
    heard: usize,
}

impl Socket for Peer {
    fn recv(&mut self, into: &mut [u8]) -> Recv {
        let count = self.to_say.min(into.len());
        self.to_say -= count;
        if count == 0 { Recv::Blocked } else { Recv::Bytes(count) }
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.heard += bytes.len();
        Sent::Bytes(bytes.len())
    }

    fn recv_pipe(&mut self, _: &mut KernelPipe, _: usize) -> Option<Recv> {
        None
    }

    fn send_pipe(&mut self, _: &mut KernelPipe) -> Sent {
        Sent::Failed
    }

    fn shutdown_write(&mut self) {}

    fn reset_on_close(&mut self) {}
}

/// Converts at most so many bytes at a time, as if more did not fit its output.
struct Narrow(usize);

impl Transform for Narrow {
    fn is_transparent(&self) -> bool {
        false
    }

    fn convert(
        &mut self,
        input: &mut Buf,
        output: &mut Buf,
        _: &mut Tally,
        _: &mut Random,
    ) -> Result<Converted, InboundError> {
        let count = input.len().min(self.0);
        assert!(output.append(&input.bytes()[..count]));
        input.consume(count);
        Ok(Converted::Moved { again: !input.is_empty() })
    }

    fn is_ended(&self) -> bool {
        false
    }

    fn has_unasked(&self) -> bool {
        false
    }

    fn input_bytes_max(&self) -> usize {
        64 << 10
    }

    fn missing_bytes(&self, _: &[u8]) -> usize {
        1
    }

    fn finish(&mut self, _: &[u8], _: &mut Buf, _: &mut Tally) -> Result<(), InboundError> {
        Ok(())
    }
}

/// One call of a direction from `source` to `sink` with this share.
fn pump(transfer: &mut Transfer, source: &mut Endpoint<Peer>, sink: &mut Endpoint<Peer>, share: &mut Share) -> Pause {
    let (mut scratch, pool, mut random) = (Scratch::new(), BufferPool::new(), Random::seeded(1));
    let mut means = Means { now: Instant::now(), scratch: &mut scratch, pool: &pool, pipes: None, random: &mut random };
    transfer.pump(source, sink, &mut Narrow(1000), share, &mut means)
}

#[test]
fn a_limit_that_is_used_up_keeps_nothing_back_that_was_received() {
    let readiness = Readiness { readable: true, writable: true, ..Readiness::default() };
    let [mut source, mut sink] = [Peer { to_say: 10_000, heard: 0 }, Peer::default()].map(|peer| {
        let mut end = Endpoint::new(peer);
        end.note(readiness);
        end
    });
    let now = Instant::now();
    let mut transfer = Transfer::new(now);
    transfer.admit(false);
    let limit = |bytes| Some(Limit { bytes, more_at: now + Duration::from_secs(1) });
    // The turn is over with a part of what was received converted.
    let mut share = Share { work_bytes: 4500, limit: limit(6000) };
    assert_eq!(pump(&mut transfer, &mut source, &mut sink, &mut share), Pause::Again);
    let undelivered = transfer.undelivered_bytes();
    assert!(undelivered > 0, "or this test says nothing");
    // Then the limit lets nothing more through, perhaps because what is held here is the last of it.
    let mut share = Share { work_bytes: 1 << 20, limit: limit(0) };
    assert_eq!(pump(&mut transfer, &mut source, &mut sink, &mut share), Pause::Later);
    assert_eq!(transfer.undelivered_bytes(), 0);
    let mut share = Share { work_bytes: 1 << 20, limit: limit(500) };
    pump(&mut transfer, &mut source, &mut sink, &mut share);
    assert_eq!(transfer.delivery.moved().payload_bytes, 5000, "what the limits have let through");
}
