//! Formats that clients write, one decoder each.

use vless_rust::protocol::proxy_header::{self, Version};
use vless_rust::protocol::record::{RECORD_WIRE_BYTES_MAX, Record, record_len};
use vless_rust::protocol::request::{Decoded, HEADER_BYTES_MAX};
use vless_rust::protocol::{addons, mux, packet, request, user_id};

use super::FLOW;
use crate::input::{hex, shape};

/// A header is judged by its own bytes only, never consumed early, and an error is final.
pub(super) fn request_header(data: &[u8]) -> u64 {
    let is_known = |id: &[u8; 16]| id[0] & 1 == 0;
    let outcome = request::decode(data, is_known);
    let longer = [data, &[0xff]].concat();
    match &outcome {
        Ok(Decoded::NeedMore) => assert!(data.len() < HEADER_BYTES_MAX, "more than the longest header"),
        Ok(Decoded::Request { len, request }) => {
            assert!((19..=data.len().min(HEADER_BYTES_MAX)).contains(len));
            assert_eq!(request.user_id, data[1..17]);
            assert_eq!(request::decode(&data[..*len], is_known), outcome, "the body matters");
            assert_eq!(request::decode(&longer, is_known), outcome);
            for cut in 0..*len {
                assert_eq!(request::decode(&data[..cut], is_known), Ok(Decoded::NeedMore), "cut at {cut}");
            }
        }
        Err(_) => assert_eq!(request::decode(&longer, is_known), outcome, "an error is final"),
    }
    let kind = match outcome {
        Ok(Decoded::NeedMore) => format!("more {}", data.len() / 16),
        Ok(Decoded::Request { request, .. }) => format!("{:?} {:?}", request.command, request.flow),
        Err(error) => format!("{error:?}"),
    };
    shape(kind)
}

/// A known field that comes last wins, an unknown one changes nothing.
pub(super) fn request_addons(data: &[u8]) -> u64 {
    let outcome = addons::decode(data);
    if let Ok(flow) = outcome {
        assert_eq!(addons::decode(&[data, b"\x18\x05"].concat()), Ok(flow));
        assert_eq!(addons::decode(&[data, FLOW].concat()), Ok(addons::Flow::Vision));
    }
    shape((outcome, data.len() / 16))
}

pub(super) fn user_id_text(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    let outcome = user_id::parse(&text);
    if let Ok(id) = outcome {
        assert_eq!(user_id::mask(id)[6..8], [0, 0]);
        if text.len() >= 32 {
            assert_eq!(user_id::parse(&hex(&id)), Ok(id));
            assert_eq!(user_id::parse(&text.to_ascii_uppercase()), Ok(id));
        }
    }
    shape((outcome.is_ok(), text.len()))
}

pub(super) fn tls_record(data: &[u8]) -> u64 {
    let outcome = record_len(data);
    let longer = record_len(&[data, &[0]].concat());
    match outcome {
        Record::NeedMore => assert!(data.len() < RECORD_WIRE_BYTES_MAX),
        Record::Whole(length) => {
            assert!((5..=data.len()).contains(&length) && longer == outcome);
            assert_eq!(record_len(&data[..length]), outcome);
            assert_eq!(record_len(&data[..length - 1]), Record::NeedMore);
        }
        Record::Impossible => assert_eq!(longer, outcome),
    }
    shape((std::mem::discriminant(&outcome), data.first()))
}

/// Frames are the same wherever they are cut, and what was written for one is read as that.
pub(super) fn mux_frames(data: &[u8]) -> u64 {
    mux::fuzz::fuzz_frames(data);
    let Some((_, data)) = data.split_first() else { return 0 };
    let outcome = mux::decode(data);
    if let Ok(Some((frame, length))) = &outcome {
        assert_eq!(mux::decode(&data[..*length]), outcome, "what follows matters");
        let mut written = Vec::new();
        let source = if let mux::Status::Keep { target } = &frame.status { target.as_ref() } else { None };
        let payload = &frame.payload.unwrap_or_default()[..frame.payload.map_or(0, |payload| payload.len().min(8192))];
        if mux::keep_header(frame.id, source, payload.len(), &mut written).is_some() {
            written.extend_from_slice(payload);
            let (again, length) = mux::decode(&written).unwrap().unwrap();
            assert_eq!((again.id, again.payload, length), (frame.id, Some(payload), written.len()));
            assert!(matches!(&again.status, mux::Status::Keep { target } if target.as_ref() == source));
        }
    }
    shape(outcome.map(|found| {
        found.map(|(frame, length)| (std::mem::discriminant(&frame.status), frame.payload.is_some(), length.min(80)))
    }))
}

/// Packets are the same wherever they are cut; the first byte says how.
pub(super) fn packets(data: &[u8]) -> u64 {
    let Some((&length, stream)) = data.split_first() else { return 0 };
    let whole = split_packets([stream]);
    let pieces = split_packets(stream.chunks(usize::from(length) + 1));
    assert_eq!(whole, pieces, "the result depends on the cuts");
    let mut again = Vec::new();
    for packet in &whole.0 {
        again.extend(packet::header(packet.len()).unwrap());
        again.extend(packet);
    }
    again.extend(&whole.1);
    assert_eq!(again, stream);
    shape((whole.0.iter().map(|packet| packet.len().min(20)).collect::<Vec<_>>(), whole.1.len().min(20)))
}

/// The packets, and what is left.
fn split_packets<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut kept, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        while let Some((payload, length)) = packet::decode(&kept) {
            assert!(length <= packet::PACKET_BYTES_MAX && length <= kept.len());
            found.push(payload.to_vec());
            kept.drain(..length);
        }
    }
    (found, kept)
}

/// A header is judged by its own bytes only, and what it says is written and read again as the same.
pub(super) fn proxy_header(data: &[u8]) -> u64 {
    let outcome = proxy_header::decode(data);
    if let Ok(Some((header, length))) = outcome {
        assert!(length <= data.len());
        assert_eq!(proxy_header::decode(&data[..length]), outcome, "what follows matters");
        for cut in 0..length {
            assert_eq!(proxy_header::decode(&data[..cut]), Ok(None), "cut at {cut}");
        }
        for version in [Version::One, Version::Two] {
            let mut written = Vec::new();
            proxy_header::encode(version, header.ends, &mut written);
            let (again, length) = proxy_header::decode(&written).unwrap().unwrap();
            assert_eq!(length, written.len());
            // Mapped IPv4 addresses come out as IPv4, and two families together as nothing.
            assert!(
                again.ends.is_none()
                    || again.ends.map(|ends| ends.source.port()) == header.ends.map(|ends| ends.source.port())
            );
        }
    } else if outcome.is_err() {
        assert_eq!(proxy_header::decode(&[data, &[0]].concat()), outcome, "an error is final");
    }
    shape(
        outcome.map(|found| found.map(|(header, length)| (header.ends.map(|ends| ends.source.is_ipv4()), length / 8))),
    )
}
