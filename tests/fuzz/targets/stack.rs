//! The client's protocol stack on the real TLS engine.

use std::sync::{Arc, OnceLock};

use vless_rust::inbound::{Converted, HEADROOM_BYTES, Inbound, InboundError, Step};
use vless_rust::io::buf::Buf;
use vless_rust::io::buffer_pool::BUFFER_BYTES_MAX;
use vless_rust::io::random::Random;
use vless_rust::io::tally::Tally;
use vless_rust::protocol::vision::SEED_DEFAULT;

use crate::input::shape;
use crate::tls;

const USER: [u8; 16] = *b"0123456789abcdef";

/// What strangers may send: TLS that is none, and everything in front of a request.
pub(super) fn tls_opening(data: &[u8]) -> u64 {
    let mut inbound = Inbound::tls(tls::acceptor());
    let (payload, error) = decode_all(&mut inbound, data, Step::OneRecord);
    assert!(payload.is_empty(), "payload without a handshake");
    shape((error.map(|error| error.to_string()), inbound.has_outgoing()))
}

/// What clients may send behind the handshake. The first byte says whether with Vision, the rest is a list of parts: a
/// kind, a length, and so many bytes.
pub(super) fn tls_relay(data: &[u8]) -> u64 {
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
fn decode_all(inbound: &mut Inbound, wire: &[u8], step: Step) -> (Vec<u8>, Option<InboundError>) {
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
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| tls::ClientTls::NEW.config()))
}
