//! What a relay of packets has moved: counted packet by packet, exactly at every end.
//!
//! Packets of the uplink count when their target's socket takes them. Those of the downlink are filled into the
//! client's stream together with framing, and each counts when the client's socket has taken its last byte: until then
//! it is owed.

use std::collections::VecDeque;

use super::transfer::Moved;

/// Room for so many lengths is kept when nothing is owed.
const OWED_KEPT_MAX: usize = 64;

/// Runs of equally long frames that are owed before no more are filled. With End frames in front and behind they take
/// 4 KiB at the most, which do not count against the limit on buffer memory.
const OWED_RUNS_MAX: usize = 250;

/// What a relay of packets has moved so far. Bytes are those of datagrams and streams, without framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) uplink: Moved,
    pub(super) downlink: Moved,
    pub(super) uplink_packets: u64,
    pub(super) downlink_packets: u64,
    /// Of the payload, that of datagrams.
    pub(super) uplink_packet_bytes: u64,
    pub(super) downlink_packet_bytes: u64,
}

/// The account of one relay of packets.
#[derive(Debug, Default)]
pub(super) struct Books {
    traffic: Traffic,
    /// What of it the counters know.
    counted: Traffic,
    /// Filled into the downlink and not known to be taken, the first in front.
    owed: VecDeque<Owed>,
    /// Bytes of the downlink's stream, framing included, that belong to what counts already.
    settled_bytes: u64,
}

/// Frames of one length, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owed {
    frame_bytes: u32,
    payload_bytes: u32,
    /// They are datagrams.
    is_packet: bool,
    count: u32,
}

impl Books {
    /// A datagram was taken by the socket towards its target.
    pub(super) fn sent_packet(&mut self, bytes: usize) {
        self.traffic.uplink_packets += 1;
        self.traffic.uplink_packet_bytes += bytes as u64;
        self.traffic.uplink.payload_bytes += bytes as u64;
    }

    /// Bytes of a stream were taken by the socket towards their target.
    pub(super) fn sent_bytes(&mut self, bytes: u64) {
        self.traffic.uplink.payload_bytes += bytes;
    }

    /// A frame was filled into the downlink: of its bytes, `payload_bytes` count, as a datagram or a part of a stream.
    pub(super) fn fill(&mut self, frame_bytes: usize, payload_bytes: usize, is_packet: bool) {
        let owed = Owed { frame_bytes: frame_bytes as u32, payload_bytes: payload_bytes as u32, is_packet, count: 1 };
        match self.owed.back_mut() {
            Some(last) if Owed { count: 1, ..*last } == owed => last.count += 1,
            _ => self.owed.push_back(owed),
        }
    }

    /// So many lengths are owed that no more frames should be filled before some are settled.
    pub(super) fn is_full(&self) -> bool {
        self.owed.len() >= OWED_RUNS_MAX
    }

    /// The client's socket has taken so many bytes of the downlink's stream in all: counts the frames that end there.
    pub(super) fn settle(&mut self, taken_bytes: u64) {
        while let Some(first) = self.owed.front_mut() {
            let taken = taken_bytes.saturating_sub(self.settled_bytes) / u64::from(first.frame_bytes.max(1));
            let taken = taken.min(first.count.into());
            self.settled_bytes += taken * u64::from(first.frame_bytes);
            let payload_bytes = taken * u64::from(first.payload_bytes);
            self.traffic.downlink.payload_bytes += payload_bytes;
            if first.is_packet {
                self.traffic.downlink_packets += taken;
                self.traffic.downlink_packet_bytes += payload_bytes;
            }
            first.count -= taken as u32;
            if first.count > 0 {
                return;
            }
            self.owed.pop_front();
        }
        // Nobody waits with memory for what he does not have.
        if self.owed.capacity() > OWED_KEPT_MAX {
            self.owed = VecDeque::new();
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What had been counted until now, when the rest is.
    pub(super) fn take_counted(&mut self) -> Traffic {
        std::mem::replace(&mut self.counted, self.traffic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_counts_with_its_last_byte() {
        let mut books = Books::default();
        for _ in 0..3 {
            books.fill(102, 100, true);
        }
        books.fill(6, 0, false);
        books.fill(58, 50, false);
        let counted = |books: &Books| (books.traffic().downlink.payload_bytes, books.traffic().downlink_packets);
        for (taken, bytes, packets) in
            [(0, 0, 0), (101, 0, 0), (102, 100, 1), (305, 200, 2), (312, 300, 3), (369, 300, 3), (370, 350, 3)]
        {
            books.settle(taken);
            assert_eq!(counted(&books), (bytes, packets), "{taken} bytes taken");
        }
        assert!(books.owed.is_empty());
        assert_eq!(books.traffic().downlink_packet_bytes, 300, "the rest was no datagram");
    }

    #[test]
    fn equally_long_packets_need_no_memory_of_their_own() {
        let mut books = Books::default();
        for _ in 0..1000 {
            books.fill(1402, 1400, true);
        }
        assert_eq!(books.owed.len(), 1);
    }

    #[test]
    fn what_is_owed_takes_little_memory() {
        let mut books = Books::default();
        books.fill(6, 0, false);
        for number in 0..1000 {
            if !books.is_full() {
                books.fill(100 + number % 2, 92, true);
            }
        }
        books.fill(6, 0, false);
        assert!(books.owed.capacity() * size_of::<Owed>() <= 4 << 10);
        books.settle(u64::MAX);
        assert!(!books.is_full());
    }

    #[test]
    fn what_was_counted_is_not_counted_again() {
        let mut books = Books::default();
        books.sent_packet(10);
        assert_eq!(books.take_counted(), Traffic::default());
        books.sent_bytes(5);
        let before = books.take_counted();
        assert_eq!((before.uplink.payload_bytes, before.uplink_packets), (10, 1));
        assert_eq!(books.traffic().uplink.payload_bytes, 15);
    }
}
