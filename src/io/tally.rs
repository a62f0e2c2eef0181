//! Which bytes of an outgoing queue are payload, and when they count.
//!
//! A byte counts when the socket takes it. Payload inside a wrapping (a TLS record) counts when the socket has taken
//! the last byte of the wrapping. Bytes that no span covers are payload that was passed on as it came.

use std::collections::VecDeque;
use std::num::NonZeroU32;

/// The payload of a span that wraps nothing. No wrapping is so large.
const EACH: u32 = u32::MAX;

/// Spans at the front of a byte queue. Everything behind them was passed on unchanged.
///
/// Sessions hold two of these. Most turns seal or open one record, and a span of it takes no memory elsewhere.
#[derive(Debug, Default)]
pub struct Tally {
    first: Option<Span>,
    /// Those behind the first.
    #[expect(
        clippy::box_collection,
        reason = "hardly any tally has more than one span, and sessions hold two of them"
    )]
    more: Option<Box<VecDeque<Span>>>,
}

/// What was counted because the socket took bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Payload bytes.
    pub payload_bytes: usize,
    /// Of these, the ones that were passed on as they came.
    pub unchanged_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    /// Bytes that the socket has not taken yet.
    left: NonZeroU32,
    /// So many payload bytes count once the last byte of the span has been taken. [`EACH`]: every byte for itself.
    payload_bytes: u32,
}

impl Tally {
    /// The next `length` bytes queued wrap `payload_bytes`. Both are less than 4 GiB, as every buffer is.
    pub fn wrap(&mut self, length: usize, payload_bytes: usize) {
        self.push(length, payload_bytes as u32);
    }

    /// The next `length` bytes queued, less than 4 GiB, are payload that was unwrapped.
    pub fn unwrapped(&mut self, length: usize) {
        self.push(length, EACH);
    }

    fn push(&mut self, length: usize, payload_bytes: u32) {
        debug_assert!(u32::try_from(length).is_ok());
        let Some(left) = NonZeroU32::new(length as u32) else { return };
        let span = Span { left, payload_bytes };
        if self.first.is_none() {
            self.first = Some(span);
        } else {
            self.more.get_or_insert_default().push_back(span);
        }
    }

    /// Gives the memory of spans back if none waits. It is for queues that will hardly need spans again. Others keep
    /// the memory, so that counting allocates nothing in the long run.
    pub fn shrink(&mut self) {
        if self.first.is_none() {
            self.more = None;
        }
    }

    /// The socket took `count` bytes off the front. Returns what counts now.
    pub fn taken(&mut self, mut count: usize) -> Taken {
        let mut taken = Taken::default();
        while count > 0 {
            let Some(span) = &mut self.first else {
                taken.payload_bytes += count;
                taken.unchanged_bytes += count;
                return taken;
            };
            let left = span.left.get() as usize;
            let step = left.min(count);
            count -= step;
            if span.payload_bytes == EACH {
                taken.payload_bytes += step;
            }
            if let Some(left) = NonZeroU32::new((left - step) as u32) {
                span.left = left;
                continue;
            }
            if span.payload_bytes != EACH {
                taken.payload_bytes += span.payload_bytes as usize;
            }
            self.first = self.more.as_mut().and_then(|more| more.pop_front());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(payload_bytes: usize, unchanged_bytes: usize) -> Taken {
        Taken { payload_bytes, unchanged_bytes }
    }

    #[test]
    fn wrapped_payload_counts_with_its_last_byte() {
        let mut tally = Tally::default();
        tally.wrap(22, 0);
        tally.wrap(122, 100);
        assert_eq!(tally.taken(22 + 121), taken(0, 0));
        assert_eq!(tally.taken(1), taken(100, 0));
    }

    #[test]
    fn unwrapped_payload_counts_byte_by_byte() {
        let mut tally = Tally::default();
        tally.unwrapped(10);
        assert_eq!(tally.taken(4), taken(4, 0));
        assert_eq!(tally.taken(8), taken(8, 2));
    }

    #[test]
    fn bytes_behind_the_spans_were_passed_on_unchanged() {
        let mut tally = Tally::default();
        tally.wrap(2, 0);
        assert_eq!(tally.taken(10), taken(8, 8));
        assert_eq!(tally.taken(5), taken(5, 5));
    }

    #[test]
    fn many_spans_wait_in_their_order_and_the_first_takes_no_memory_elsewhere() {
        let mut tally = Tally::default();
        tally.wrap(122, 100);
        assert!(tally.more.is_none());
        tally.unwrapped(7);
        tally.wrap(22, 0);
        tally.wrap(222, 200);
        assert_eq!(tally.taken(123), taken(101, 0));
        assert_eq!(tally.taken(6 + 22 + 222 + 1), taken(207, 1));
        tally.shrink();
        assert!(tally.more.is_none());
    }

    #[test]
    fn it_stays_small() {
        assert_eq!(size_of::<Tally>(), 16);
    }
}
