//! What clients of the control plane send, and the file that it keeps.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use mio::net::UnixStream;
use serde_json::json;
use vless_rust::control::feed::{self, Gone, Reader};
use vless_rust::control::http::connection::{Connection, Progress};
use vless_rust::control::http::head::{self, BODY_BYTES_MAX, HEAD_BYTES_MAX, Parsed};
use vless_rust::control::http::response::Reply;
use vless_rust::control::http::stream::{Peer, Stream};
use vless_rust::control::state::file;

use crate::input::{hex, shape};

/// A head is judged by its own bytes only, never early, and within its limits.
pub(super) fn http_head(data: &[u8]) -> u64 {
    let outcome = head::parse(data);
    match &outcome {
        Parsed::Complete(head, length) => {
            assert!((16..=data.len().min(HEAD_BYTES_MAX)).contains(length));
            assert!(head.content_length <= BODY_BYTES_MAX);
            // Two dots are a name like any other: files are found by name among those that were built in.
            let is_text = |segment: &String| !segment.contains(char::is_control);
            assert!(head.segments.iter().all(is_text), "{:?}", head.segments);
            assert_eq!(head::parse(&data[..*length]), outcome, "what follows matters");
            for cut in 0..*length {
                assert_eq!(head::parse(&data[..cut]), Parsed::Partial, "cut at {cut}");
            }
        }
        Parsed::Partial => assert!(data.len() < HEAD_BYTES_MAX),
        Parsed::Refused(refusal) => assert!((400..600).contains(&refusal.status())),
    }
    shape(match outcome {
        Parsed::Complete(head, _) => format!("{:?} {} {:?}", head.method, head.segments.len(), head.upgrade),
        Parsed::Partial => format!("more {}", data.len() / 16),
        Parsed::Refused(refusal) => format!("{refusal:?}"),
    })
}

/// Whole connections on a real socket: requests are the same however they are cut. The first byte says how.
pub(super) fn http_connection(data: &[u8]) -> u64 {
    let Some((&length, data)) = data.split_first() else { return 0 };
    let (whole, answers) = converse(&[data]);
    let pieces: Vec<_> = data.chunks(usize::from(length) + 1).collect();
    assert_eq!(converse(&pieces).0, whole, "the requests depend on the cuts");
    // Every answer is HTTP, and after a request that is refused there is no other.
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answers));
    shape((whole, answers.get(9..12).map(<[u8]>::to_vec)))
}

/// The requests that `pieces` are, as text, and all that was answered.
fn converse(pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let (ours, mut far) = UnixStream::pair().unwrap();
    let now = Instant::now();
    let mut connection = Connection::new(Stream::Unix(ours), Peer::Unix, now);
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for piece in pieces {
        // What is left unread when the connection is over does not matter.
        let _ = far.write_all(piece);
        let mut progress = connection.on_ready(true, now);
        while let Progress::Request(request) = progress {
            requests.push(format!("{:?} {:?} {}", request.head.method, request.head.segments, hex(&request.body)));
            progress = connection.answer(Reply::empty(204), Duration::ZERO, now);
            hear(&mut far, &mut answers);
        }
        hear(&mut far, &mut answers);
        if matches!(progress, Progress::Close) {
            break;
        }
    }
    (requests, answers)
}

fn hear(far: &mut UnixStream, heard: &mut Vec<u8>) {
    match far.read_to_end(heard) {
        Ok(_) => {}
        Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset), "{error}"),
    }
}

/// What a reader of the live feed sends. The first byte says how much came along with the handshake.
pub(super) fn web_socket(data: &[u8]) -> u64 {
    let Some((&early, data)) = data.split_first() else { return 0 };
    let (early, later) = data.split_at(usize::from(early).min(data.len()));
    let (ours, mut far) = UnixStream::pair().unwrap();
    let now = Instant::now();
    let mut reader = Reader::new(Stream::Unix(ours), b"HTTP/1.1 101 .".to_vec(), early.to_vec(), now);
    assert!(reader.offer(&feed::encode(|text| text.extend(b"{}")), now));
    let mut outcome = reader.on_ready(true, now);
    if outcome.is_ok() {
        let _ = far.write_all(later);
        outcome = reader.on_ready(true, now);
    }
    let mut heard = Vec::new();
    hear(&mut far, &mut heard);
    assert!(heard.starts_with(b"HTTP/1.1 101 ."), "the handshake goes first");
    // Little is said unasked, whatever comes.
    assert!(heard.len() < 200 + data.len() * 8, "{} bytes", heard.len());
    assert!(outcome != Err(Gone::Silent), "nobody was given time to be silent");
    shape((outcome, heard.len() / 8))
}

/// A state is read as it was written, and nothing else is taken for one. The first byte says whether `data` is a whole
/// file or the content of an undamaged one.
pub(super) fn state_file(data: &[u8]) -> u64 {
    let Some((&mode, data)) = data.split_first() else { return 0 };
    let bytes = if mode & 1 == 0 {
        data.to_vec()
    } else {
        let sum = hex(digest(&SHA256, data).as_ref());
        let header = json!({ "format": "vless-rust state", "version": 1, "bytes": data.len(), "sha256": sum });
        [header.to_string().as_bytes(), b"\n", data].concat()
    };
    let outcome = file::decode(&bytes);
    if let Ok(saved) = &outcome {
        let again = file::decode(&file::encode(saved).unwrap()).unwrap();
        assert_eq!(file::encode(&again).unwrap(), file::encode(saved).unwrap());
    }
    shape(outcome.map(|saved| (saved.users.len(), saved.events.len())).map_err(|error| error.to_string()))
}
