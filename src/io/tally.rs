//! Which bytes of an outgoing queue are payload, and when they count.
//!
//! A byte counts when the socket takes it. Payload inside a wrapping (a TLS record) counts when the socket has taken
//! the last byte of the wrapping. Bytes that no span covers are payload that was passed on as it came.

use std::collections::VecDeque;

/// Spans at the front of a byte queue; everything behind them was passed on unchanged.
#[derive(Debug, Default)]
pub struct Tally {
    spans: VecDeque<Span>,
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
    left: usize,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
enum Counts {
    /// So many payload bytes, once the last byte of the span has been taken.
    AtEnd(usize),
    /// Every byte for itself.
    Each,
}

impl Tally {
    /// The next `length` bytes queued wrap `payload_bytes`.
    pub fn wrap(&mut self, length: usize, payload_bytes: usize) {
        self.push(length, Counts::AtEnd(payload_bytes));
    }

    /// The next `length` bytes queued are payload that was unwrapped.
    pub fn unwrapped(&mut self, length: usize) {
        self.push(length, Counts::Each);
    }

    fn push(&mut self, length: usize, counts: Counts) {
        if length > 0 {
            self.spans.push_back(Span { left: length, counts });
        }
    }

    /// Gives the memory of spans back if none waits. For queues that will hardly need spans again: others keep the
    /// memory, so that counting allocates nothing in the long run.
    pub fn shrink(&mut self) {
        if self.spans.is_empty() && self.spans.capacity() > 0 {
            self.spans = VecDeque::new();
        }
    }

    /// The socket took `count` bytes off the front. Returns what counts now.
    pub fn taken(&mut self, mut count: usize) -> Taken {
        let mut taken = Taken::default();
        while count > 0 {
            let Some(span) = self.spans.front_mut() else {
                taken.payload_bytes += count;
                taken.unchanged_bytes += count;
                return taken;
            };
            let step = span.left.min(count);
            span.left -= step;
            count -= step;
            taken.payload_bytes += match span.counts {
                Counts::Each => step,
                Counts::AtEnd(payload_bytes) if span.left == 0 => payload_bytes,
                Counts::AtEnd(_) => 0,
            };
            if span.left == 0 {
                self.spans.pop_front();
            }
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
}
