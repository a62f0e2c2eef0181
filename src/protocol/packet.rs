//! Datagrams inside the body of a UDP request (command 2), in both directions.
//!
//! # VLESS-3: packet
//!
//! | offset | size | meaning | accepted |
//! |---|---|---|---|
//! | 0 | 2 | L, length of the payload | 0 to 65535 |
//! | 2 | L | payload: one datagram | any; L = 0 is an empty datagram |
//!
//! A packet carries no address: every packet of the uplink goes to the target of the request header. The records that
//! carry packets may cut and merge them anywhere.
//!
//! Read from Xray-core proxy/vless/encoding/addons.go, revision 2323273e. Xray's client sends at most 8192 bytes in a
//! packet. Others use the full range.

/// In front of every payload.
pub const HEADER_BYTES: usize = 2;

/// The longest packet, header included.
pub const PACKET_BYTES_MAX: usize = HEADER_BYTES + u16::MAX as usize;

/// The payload of the packet at the front of `bytes`, and the packet's whole length. `None` while it is not complete.
pub fn decode(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let payload = rest.get(..usize::from(u16::from_be_bytes(*header)))?;
    Some((payload, HEADER_BYTES + payload.len()))
}

/// The whole length of the packet at the front of `bytes`. `None` while its header is not complete.
pub fn whole_bytes(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes(*header)))
}

/// How many complete packets at the front of `bytes`, up to `max`, are as long as the first one.
pub fn equal_packets(bytes: &[u8], max: usize) -> usize {
    let (Some(header), Some((_, length))) = (bytes.first_chunk::<HEADER_BYTES>(), decode(bytes)) else { return 0 };
    bytes.chunks_exact(length).take(max).take_while(|packet| packet.starts_with(header)).count()
}

/// The header of a payload of `len` bytes. `None` for one that no packet can carry.
pub fn header(len: usize) -> Option<[u8; HEADER_BYTES]> {
    u16::try_from(len).ok().map(u16::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, hex};
    use super::*;

    #[test]
    fn the_example_is_decoded() {
        let bytes = hex("00 05 68 65 6c 6c 6f");
        assert_eq!(decode(&bytes), Some((&b"hello"[..], 7)));
        assert_eq!(header(5), Some([0, 5]));
    }

    #[test]
    fn packets_of_one_length_are_counted_until_another_or_a_part_of_one() {
        let bytes = hex("00 02 aa bb 00 02 cc dd 00 02 00 02 00 01 ee 00 02");
        let counts = [0, 1, 3, 4, 7, 8, 12, 15, 17].map(|end| equal_packets(&bytes[..end], 9));
        assert_eq!(counts, [0, 0, 0, 1, 1, 2, 3, 3, 3]);
        assert_eq!((equal_packets(&bytes[12..], 9), equal_packets(&bytes, 2)), (1, 2));
    }

    #[test]
    fn every_prefix_is_incomplete_and_what_follows_is_left_alone() {
        let whole = hex("00 05 68 65 6c 6c 6f");
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode(&[&whole[..], b"more"].concat()), Some((&b"hello"[..], 7)));
    }

    #[test]
    fn an_empty_packet_is_a_packet() {
        assert_eq!(decode(&[0, 0, 9]), Some((&[][..], 2)));
    }

    #[test]
    fn the_longest_packet_is_decoded_and_a_longer_one_has_no_header() {
        let payload = vec![7; 65535];
        let whole = [&[0xff, 0xff], &payload[..]].concat();
        assert_eq!(whole.len(), PACKET_BYTES_MAX);
        assert_eq!(decode(&whole), Some((&payload[..], 65537)));
        assert_eq!(header(65535), Some([0xff, 0xff]));
        assert_eq!(header(65536), None);
    }

    #[test]
    fn random_streams_come_out_as_they_were_cut_in() {
        let mut random = Random::new(0x7061_636b);
        for _ in 0..200 {
            let packets: Vec<_> = (0..20).map(|_| random.bytes(2000)).collect();
            let mut stream = Vec::new();
            for packet in &packets {
                stream.extend((packet.len() as u16).to_be_bytes());
                stream.extend(packet);
            }
            let (mut kept, mut found) = (Vec::new(), Vec::new());
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((1 + random.below(3000)).min(rest.len()));
                rest = later;
                kept.extend_from_slice(piece);
                while let Some((payload, len)) = decode(&kept) {
                    found.push(payload.to_vec());
                    kept.drain(..len);
                }
            }
            assert_eq!(found, packets);
            assert!(kept.is_empty());
        }
    }
}
