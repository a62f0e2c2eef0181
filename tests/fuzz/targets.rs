//! What is fuzzed: everything that reads bytes of strangers, of name servers, or texts of operators.
//!
//! Each function takes any bytes and panics if an invariant is broken.

use std::path::Path;
use std::sync::Arc;

use vless_rust::app::config::Config;
use vless_rust::inbound::{Converted, HEADROOM_BYTES, Inbound, Step};
use vless_rust::io::buf::Buf;
use vless_rust::io::buffer_pool::BUFFER_BYTES_MAX;
use vless_rust::io::random::Random;
use vless_rust::io::tally::Tally;
use vless_rust::outbound::resolve::message::{Content, decode_reply, encode_query, is_askable};
use vless_rust::outbound::resolve::{Family, Question};
use vless_rust::protocol::record::{RECORD_WIRE_BYTES_MAX, Record, record_len};
use vless_rust::protocol::request::{Decoded, HEADER_BYTES_MAX};
use vless_rust::protocol::share_link::{Security, ShareLink};
use vless_rust::protocol::vision::{Boundary, SEED_DEFAULT, fuzz};
use vless_rust::protocol::{addons, mux, packet, request, user_id};

use crate::driver::{Target, hex, shape};
use crate::tls;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "request", run: request_header, words: &[FLOW, b"\x02\x0bexample.com", b"\x03", &[0xff; 16]] },
    Target { name: "addons", run: request_addons, words: &[FLOW, b"\x12\x01\x00", b"\x18\x05", &[0xff; 10]] },
    Target { name: "user_id", run: user_id_text, words: &[b"-", b"00000000", "我".as_bytes()] },
    Target { name: "record", run: tls_record, words: &[b"\x17\x03\x03\x00\x05", b"\x16\x03\x01", b"\x40\x00"] },
    Target { name: "boundary", run: inner_records, words: &[b"\x17\x03\x03\x00\x05", b"\x16\x03\x03\x00\x01"] },
    Target {
        name: "tls_opening",
        run: tls_opening,
        words: &[b"\x16\x03\x01\x00\x05", b"\x15\x03\x03\x00\x02\x01\x00"],
    },
    Target { name: "tls_relay", run: tls_relay, words: &[b"\x17\x03\x03\x00\x20", b"\x02\x00\x00\x00\x00"] },
    Target {
        name: "unpad",
        run: unpad,
        words: &[b"\x00\x00\x04\x00\x02", b"\x01\x00\x00\x00\x00", b"\x02\x00\x01\x00\x00"],
    },
    Target { name: "pad", run: pad, words: &[b"\x16\x03\x01\x02\x00\x01", b"\x17\x03\x03\x00\x05", TLS13] },
    Target {
        name: "dns",
        run: dns_reply,
        words: &[b"\xc0\x0c", b"\x00\x01\x00\x01", b"\x00\x05\x00\x01", b"\x07example\x03com\x00"],
    },
    Target {
        name: "frames",
        run: mux_frames,
        words: &[
            b"\x00\x04\x00\x01\x03\x00",
            b"\x00\x04\x00\x00\x02\x01\x00\x01",
            b"\x00\x0c\x00\x00\x01\x01\x02\x00\x35\x01",
            b"\x02\x00",
        ],
    },
    Target { name: "packets", run: packets, words: &[b"\x00\x00", b"\x00\x05", b"\xff\xff"] },
    Target { name: "config", run: config_text, words: CONFIG_WORDS },
    Target { name: "share_link", run: share_link, words: &[b"\xff", b"%41", b"[::1]", b"&", b"#", "ü".as_bytes()] },
];

const FLOW: &[u8] = b"\x0a\x10xtls-rprx-vision";
const TLS13: &[u8] = b"\x00\x2b\x00\x02\x03\x04";
const CONFIG_WORDS: &[&[u8]] = &[
    b"{}",
    b"[]",
    b"null",
    b"-1",
    b"1e9",
    b"\"\"",
    b"/*",
    b"*/",
    b"//",
    b",",
    b"\\u0000",
    b"\"users\":",
    b"\"tls\":",
    b"\"timeouts\":",
    b"true",
    b"\xef\xbb\xbf",
    b"18446744073709551616",
];

const USER: [u8; 16] = *b"0123456789abcdef";

/// A header is judged by its own bytes only, never consumed early, and an error is final.
fn request_header(data: &[u8]) -> u64 {
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
fn request_addons(data: &[u8]) -> u64 {
    let outcome = addons::decode(data);
    if let Ok(flow) = outcome {
        assert_eq!(addons::decode(&[data, b"\x18\x05"].concat()), Ok(flow));
        assert_eq!(addons::decode(&[data, FLOW].concat()), Ok(addons::Flow::Vision));
    }
    shape((outcome, data.len() / 16))
}

fn user_id_text(data: &[u8]) -> u64 {
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

fn tls_record(data: &[u8]) -> u64 {
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

/// Cuts do not matter: `data` in one piece leads where pieces lead whose length the first byte gives.
fn inner_records(data: &[u8]) -> u64 {
    let Some((&length, data)) = data.split_first() else { return 0 };
    let (mut whole, mut pieces) = (Boundary::new(), Boundary::new());
    let scan = whole.scan(data);
    let mut data_end = 0;
    for (number, piece) in data.chunks(usize::from(length) + 1).enumerate() {
        let Some(scan) = pieces.scan(piece) else { break };
        if scan.data_end > 0 {
            data_end = number * (usize::from(length) + 1) + scan.data_end;
        }
    }
    if let Some(scan) = scan {
        assert_eq!(scan.data_end, data_end);
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    } else {
        assert_eq!(pieces.scan(b""), None, "lost for good");
    }
    shape(scan.map(|scan| (scan.aligned, scan.begins_with_data, scan.data_opened, scan.data_end.min(40))))
}

fn unpad(data: &[u8]) -> u64 {
    fuzz::fuzz_unpad(data);
    // The prefix that is right and the first command.
    shape((data.first().map(|mode| mode & 0x1f), data.get(1..2), data.len() / 64))
}

fn pad(data: &[u8]) -> u64 {
    fuzz::fuzz_pad(data);
    shape((data.first(), data.len() / 64))
}

/// What strangers may send: TLS that is none, and everything in front of a request.
fn tls_opening(data: &[u8]) -> u64 {
    let mut inbound = Inbound::tls(tls::acceptor());
    let (payload, error) = decode_all(&mut inbound, data, Step::OneRecord);
    assert!(payload.is_empty(), "payload without a handshake");
    shape((error.map(|error| error.to_string()), inbound.has_outgoing()))
}

/// What clients may send behind the handshake. The first byte says whether with Vision, the rest is a list of parts: a
/// kind, a length, and so many bytes.
fn tls_relay(data: &[u8]) -> u64 {
    let Some((&mode, mut data)) = data.split_first() else { return 0 };
    let (mut inbound, mut client) = handshake();
    let is_vision = mode & 1 == 1;
    if is_vision {
        inbound.accept_vision(USER, SEED_DEFAULT);
    } else {
        inbound.accept_request();
    }
    let mut wire = if mode & 2 == 0 { client.say(&USER) } else { Vec::new() };
    while let [kind, length, rest @ ..] = data {
        let (part, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        match kind % 8 {
            0..=3 => wire.extend(client.say(part)),
            4 => wire.extend(client.key_update()),
            5 => {
                let mut record = client.say(part);
                if let Some(byte) = record.last_mut() {
                    *byte ^= 1;
                }
                wire.extend(record);
            }
            6 => wire.extend(client.close_notify()),
            _ => wire.extend(part),
        }
    }
    let step = if mode & 4 == 0 { Step::Everything } else { Step::OneRecord };
    let (payload, error) = decode_all(&mut inbound, &wire, step);
    assert!(payload.len() <= wire.len(), "payload out of nothing");
    let padding = inbound.padding().uplink_bytes;
    assert!(is_vision || padding == 0);
    assert!(padding <= wire.len() as u64);
    // Answers must still be possible, or fail as values.
    let mut answer = Buf::new(HEADROOM_BYTES + 64);
    answer.reset(HEADROOM_BYTES);
    assert!(answer.append(b"answer"));
    let mut out = Buf::new(BUFFER_BYTES_MAX);
    let encoded = inbound.encode(&mut answer, &mut out, &mut Tally::default(), &mut Random::seeded(1));
    let phase = (inbound.is_uplink_direct(), inbound.is_uplink_closed());
    shape((error.map(|error| error.to_string()), phase, encoded.is_ok(), payload.len().min(20), padding.min(40)))
}

/// Decodes `wire` as a session does that is given all of it at once.
fn decode_all(inbound: &mut Inbound, wire: &[u8], step: Step) -> (Vec<u8>, Option<vless_rust::inbound::InboundError>) {
    let mut decoded = Vec::new();
    let mut input = Buf::new(BUFFER_BYTES_MAX);
    let mut payload = Buf::new(BUFFER_BYTES_MAX);
    assert!(input.append(&wire[..wire.len().min(BUFFER_BYTES_MAX)]));
    loop {
        payload.reset(0);
        let before = input.len();
        match inbound.decode(&mut input, &mut payload, step) {
            Err(error) => return (decoded, Some(error)),
            Ok(Converted::Unchanged) => {
                decoded.extend_from_slice(input.bytes());
                return (decoded, None);
            }
            Ok(Converted::Moved { again }) => {
                decoded.extend_from_slice(payload.bytes());
                if !again {
                    return (decoded, None);
                }
                assert!(input.len() < before || inbound.is_uplink_transparent(), "no progress");
            }
        }
    }
}

/// A connection whose TLS 1.3 handshake is done.
fn handshake() -> (Inbound, tls::TlsPeer) {
    let mut inbound = Inbound::tls(tls::acceptor());
    let mut client = tls::TlsPeer::new(&config());
    let mut out = Buf::new(BUFFER_BYTES_MAX);
    while !(inbound.is_open() && client.is_open()) {
        let (payload, error) = decode_all(&mut inbound, &client.say(b""), Step::OneRecord);
        assert!(payload.is_empty() && error.is_none(), "{error:?}");
        out.reset(0);
        inbound.take_outgoing(&mut out, &mut Tally::default());
        client.feed(out.bytes());
        assert_eq!(client.next_payload(), None);
    }
    (inbound, client)
}

fn config() -> Arc<rustls::ClientConfig> {
    use std::sync::OnceLock;

    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| tls::ClientTls::NEW.config()))
}

/// The first byte chooses the family, the rest is the datagram.
fn dns_reply(data: &[u8]) -> u64 {
    let Some((&mode, data)) = data.split_first() else { return 0 };
    let family = if mode & 1 == 0 { Family::V4 } else { Family::V6 };
    let question = Question { name: "example.com".into(), family };
    let id = 0x1234;
    let outcome = decode_reply(data, id, &question);
    if let Ok(reply) = &outcome {
        assert_eq!(data[..2], id.to_be_bytes(), "not our id");
        if let Content::Addresses { addresses, .. } = &reply.content {
            assert!(!addresses.is_empty() && addresses.len() <= data.len() / 4);
            assert!(addresses.iter().all(|address| address.is_ipv4() == (family == Family::V4)));
        }
    }
    // Whatever may be asked for can be asked for.
    let name = String::from_utf8_lossy(data);
    let question = Question { name: name.as_ref().into(), family };
    assert_eq!(is_askable(&name), encode_query(id, &question).is_some_and(|query| query.len() <= 512));
    shape(outcome.map(|reply| (std::mem::discriminant(&reply.content), reply.is_truncated)))
}

/// Frames are the same wherever they are cut, and what was written for one is read as that.
fn mux_frames(data: &[u8]) -> u64 {
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
fn packets(data: &[u8]) -> u64 {
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

/// A text is either refused with places in it, or the settings it stands for can be shown.
fn config_text(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    match Config::parse(&text, Path::new("config.json")) {
        Ok(config) => {
            let shown = config.effective_json();
            serde_json::from_str::<serde_json::Value>(&shown).expect("settings are shown as JSON");
            shape(config.warnings().len())
        }
        Err(errors) => {
            let lines = text.split('\n').count();
            assert!((1..=50).contains(&errors.0.len()), "{} errors", errors.0.len());
            for error in &errors.0 {
                assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
                assert!(error.column >= 1 && !error.message.is_empty());
                let line = text.split('\n').nth(error.line - 1).unwrap();
                assert!(error.column <= line.chars().count() + 1, "column {} of {line:?}", error.column);
            }
            let first = &errors.0[0];
            shape((errors.0.len(), &first.path, first.message.split(' ').take(2).collect::<Vec<_>>()))
        }
    }
}

/// Whatever stands in a link, an importer gets back what was put in: fields are cut out of `data` at 0xff bytes.
fn share_link(data: &[u8]) -> u64 {
    let mut fields = data.split(|&byte| byte == 0xff).map(|field| String::from_utf8_lossy(field).into_owned());
    let mut field = || fields.next().unwrap_or_default();
    let (id, host, name) = (field(), field(), field());
    let port = data.len() as u16 | 1;
    let flow = Some(field()).filter(|flow| !flow.is_empty());
    let (server_name, alpn) = (field(), field());
    let security = if data.first().is_some_and(|byte| byte & 1 == 1) {
        Security::None
    } else {
        let alpn = if alpn.is_empty() { Vec::new() } else { vec![alpn.clone()] };
        Security::Tls { flow: flow.clone(), server_name: server_name.clone(), alpn, pinned_certificate: Some([7; 32]) }
    };
    let is_tls = security != Security::None;
    let link = ShareLink { id: id.clone(), host: host.clone(), port, security, name: name.clone() }.to_string();

    assert!(link.bytes().all(|byte| byte.is_ascii_graphic()), "{link}");
    let rest = link.strip_prefix("vless://").unwrap();
    let (rest, read_name) = rest.split_once('#').unwrap_or((rest, ""));
    let (authority, query) = rest.split_once('?').unwrap();
    let (read_id, address) = authority.split_once('@').unwrap();
    let (read_host, read_port) = address.rsplit_once(':').unwrap();
    assert_eq!((unescape(read_id), unescape(read_name), read_port.parse()), (id, name, Ok(port)));
    if let Some(ip) = read_host.strip_prefix('[') {
        let ip: std::net::Ipv6Addr = ip.strip_suffix(']').unwrap().parse().unwrap();
        assert_eq!(host.trim_start_matches('[').trim_end_matches(']').parse(), Ok(ip));
    } else {
        assert_eq!(unescape(read_host), host);
    }
    let parameter = |key: &str| {
        let mut found = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == key);
        let value = found.next().map(|(_, value)| unescape(value));
        assert!(found.next().is_none(), "{key} twice in {link}");
        value
    };
    assert_eq!(parameter("security").unwrap(), if is_tls { "tls" } else { "none" });
    assert_eq!(parameter("flow"), flow.filter(|_| is_tls));
    assert_eq!(parameter("sni"), is_tls.then_some(server_name));
    assert_eq!(parameter("alpn"), Some(alpn).filter(|alpn| is_tls && !alpn.is_empty()));
    shape((is_tls, link.matches('%').count(), read_host.starts_with('['), link.len() / 16))
}

/// Undoes percent-encoding as importers do.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}
