//! The engine against rustls's own client, in memory: what clients do, what strangers do, and where TLS must stop.

mod memory;
mod names;

use std::io::Write;

use rustls::version::{TLS12, TLS13};
use rustls::{ContentType, HandshakeKind, NamedGroup, SupportedProtocolVersion};

use self::memory::{Hand, KEY_UPDATE_REQUEST, Pair, Random};
use self::memory::{acceptor, client_config, client_reads, plain_record, records, settings};
use super::*;
use crate::inbound::{Converted, Inbound, InboundError, Step};
use crate::io::tally::Tally;
use crate::protocol::record::{Record, record_len};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

const MARKER: &[u8] = b"marker: raw bytes follow";

#[test]
fn both_versions_carry_payload_both_ways() {
    for (versions, is_tls13) in [(ONLY_12, false), (ONLY_13, true), (BOTH, true)] {
        let mut pair = Pair::new(&acceptor(&["a.test"], &[]), versions, |_| ());
        pair.handshake();
        assert_eq!(pair.engine.is_tls13(), is_tls13);
        assert_eq!(pair.up(b"request"), b"request");
        assert_eq!(pair.down(b"response"), b"response");
    }
}

#[test]
fn a_tls12_client_is_refused_with_an_alert_where_only_tls13_is_wanted() {
    let mut settings = settings(&["a.test"], &[]);
    settings.tls13_only = true;
    let mut pair = Pair::new(&TlsAcceptor::new(settings).unwrap(), ONLY_12, |_| ());
    assert!(pair.try_handshake().is_err());
    assert_eq!(pair.alert_seen(), "ProtocolVersion");
}

#[test]
fn a_client_hello_split_over_records_is_understood() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), BOTH, |config| config.max_fragment_size = Some(200));
    let hello = pair.client_bytes();
    assert!(records(&hello).len() > 1, "the hello did not need several records");
    pair.feed_all(&hello).unwrap();
    pair.handshake();
    assert_eq!(pair.up(&[7; 1000]), vec![7; 1000]);
}

#[test]
fn a_client_hello_split_into_single_bytes_of_handshake_is_understood() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), BOTH, |_| ());
    let hello = pair.client_bytes();
    for &byte in &hello[5..] {
        pair.engine.feed(&mut [22, 3, 1, 0, 1, byte], |_| panic!("payload in a hello")).unwrap();
    }
    pair.handshake();
    assert_eq!(pair.up(b"x"), b"x");
}

#[test]
fn the_hybrid_key_exchange_is_negotiated() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), BOTH, |_| ());
    pair.handshake();
    let group = pair.client.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name);
    assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
}

#[test]
fn a_client_comes_back_with_a_ticket_in_both_versions() {
    for versions in [ONLY_12, ONLY_13] {
        let acceptor = acceptor(&["a.test"], &[]);
        let config = client_config(versions, |_| ());
        let mut first = Pair::with_config(&acceptor, &config, "a.test");
        first.handshake();
        first.down(b"the ticket comes first");
        assert_eq!(first.client.handshake_kind(), Some(HandshakeKind::Full));
        let mut second = Pair::with_config(&acceptor, &config, "a.test");
        second.handshake();
        assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed), "{versions:?}");
        assert_eq!(second.up(b"again"), b"again");
    }
}

#[test]
fn one_ticket_is_sent_and_it_precedes_the_payload() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), ONLY_13, |_| ());
    pair.client_to_engine().unwrap();
    pair.engine_to_client();
    pair.client_to_engine().unwrap();
    assert_eq!(records(pair.engine.outgoing()).len(), 1);
    pair.engine_to_client();
    assert_eq!(pair.client.tls13_tickets_received(), 1);
}

#[test]
fn the_servers_preference_chooses_among_the_offered_protocols() {
    let both: &[&str] = &["h2", "http/1.1"];
    let cases: [(&[&str], &[&str], Option<&str>); 5] = [
        (both, &[], None),
        (both, &["h2"], Some("h2")),
        (both, &["http/1.1"], Some("http/1.1")),
        (both, &["http/1.1", "h2"], Some("h2")),
        (&[], &["h2"], None),
    ];
    for (ours, theirs, chosen) in cases {
        let mut pair = Pair::new(&acceptor(&["a.test"], ours), BOTH, |config| {
            config.alpn_protocols = theirs.iter().map(|name| name.as_bytes().to_vec()).collect();
        });
        pair.handshake();
        assert_eq!(pair.client.alpn_protocol(), chosen.map(str::as_bytes), "{ours:?} and {theirs:?}");
    }
}

#[test]
fn protocols_without_overlap_end_in_an_alert() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &["h2"]), BOTH, |config| {
        config.alpn_protocols = vec![b"gopher".to_vec()];
    });
    assert!(pair.try_handshake().is_err());
    assert_eq!(pair.alert_seen(), "NoApplicationProtocol");
}

#[test]
fn close_notify_of_the_client_is_seen_and_what_follows_is_ignored() {
    for versions in [ONLY_12, ONLY_13] {
        let mut pair = Pair::new(&acceptor(&["a.test"], &[]), versions, |_| ());
        pair.handshake();
        assert_eq!(pair.up(b"last words"), b"last words");
        pair.client.send_close_notify();
        pair.client_to_engine().unwrap();
        assert!(pair.engine.is_peer_closed());
        pair.engine.feed(&mut [23, 3, 3, 0, 1, 0], |_| panic!("payload after the end")).unwrap();
        assert_eq!(pair.down(b"the answer still goes out"), b"the answer still goes out");
    }
}

#[test]
fn our_close_notify_is_sent_once_and_ends_the_clients_stream() {
    for versions in [ONLY_12, ONLY_13] {
        let mut pair = Pair::new(&acceptor(&["a.test"], &[]), versions, |_| ());
        pair.handshake();
        pair.engine.close();
        assert_eq!(records(pair.engine.outgoing()).len(), 1);
        pair.engine.close();
        assert_eq!(records(pair.engine.outgoing()).len(), 1);
        let state = pair.engine_to_client();
        assert!(state.peer_has_closed());
        assert_eq!(pair.up(b"still talking"), b"still talking");
    }
}

#[test]
fn nothing_is_said_at_closing_before_the_handshake_is_done() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), BOTH, |_| ());
    pair.engine.close();
    assert!(!pair.engine.has_outgoing());
    pair.client_to_engine().unwrap();
    pair.engine.outgoing().clear();
    let mut wire = Buf::new(1000);
    assert!(pair.engine.seal(b"too early", &mut wire).is_err());
    assert!(wire.is_empty());
}

#[test]
fn a_key_update_is_answered_in_front_of_the_next_payload() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), ONLY_13, |_| ());
    pair.handshake();
    for round in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
        assert_eq!(pair.up(b"under new keys"), b"under new keys", "round {round}");
        assert_eq!(pair.down(b"answered"), b"answered", "round {round}");
    }
}

#[test]
fn a_key_that_is_used_up_is_replaced_and_the_client_follows() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), ONLY_13, |_| ());
    pair.handshake();
    let mut updates = 0;
    for _ in 0..1000 {
        let mut wire = Buf::new(1000);
        pair.engine.seal(b"payload", &mut wire).unwrap();
        updates += records(wire.bytes()).len() - 1;
        assert_eq!(client_reads(&mut pair.client, wire.bytes()), b"payload");
    }
    // Unit tests replace it after 256 records.
    assert_eq!(updates, 3);
    assert_eq!(pair.up(b"the other direction keeps its key"), b"the other direction keeps its key");
}

/// rustls keeps offsets into the first record of a split message: without that record in front of whatever it is given
/// next, it panics, also when it is only asked to write.
#[test]
fn sealing_between_the_halves_of_a_split_key_update_works() {
    let mut hand = Hand::new();
    let [first, second] = [&KEY_UPDATE_REQUEST[..2], &KEY_UPDATE_REQUEST[2..]].map(|half| hand.handshake_record(half));
    hand.feed(&first).unwrap();
    assert_eq!(hand.open_downlink(b"between"), [(ContentType::ApplicationData, b"between".to_vec())]);
    hand.feed(&second).unwrap();
    let kinds: Vec<_> = records(&hand.seal(b"after")).iter().map(|one| one[0]).collect();
    assert_eq!(kinds, [23, 23], "the answer to the update and the payload, a record each");
}

#[test]
fn records_without_payload_are_counted_and_payload_forgives_them() {
    let mut hand = Hand::new();
    let mut feed = |content: &[u8]| {
        let record = hand.record(ContentType::ApplicationData, content);
        hand.feed(&record).is_ok()
    };
    for _ in 0..2 {
        assert!((0..32).all(|_| feed(b"")));
        assert!(feed(b"payload"));
    }
    assert_eq!((0..100).take_while(|_| feed(b"")).count(), 32);
    // A warning that says nothing counts, too.
    let mut hand = Hand::new();
    let mut warn = || {
        let record = hand.record(ContentType::Alert, &[1, 90]);
        hand.feed(&record).is_ok()
    };
    assert_eq!((0..100).take_while(|_| warn()).count(), 32);
}

#[test]
fn closing_between_the_halves_of_a_split_message_works() {
    let mut hand = Hand::new();
    let first = hand.handshake_record(&KEY_UPDATE_REQUEST[..2]);
    hand.feed(&first).unwrap();
    hand.engine.close();
    assert!(hand.engine.has_outgoing());
}

#[test]
fn garbage_between_the_halves_of_a_split_message_is_an_error_with_an_alert() {
    let mut hand = Hand::new();
    let first = hand.handshake_record(&KEY_UPDATE_REQUEST[..2]);
    hand.feed(&first).unwrap();
    let payload = hand.record(ContentType::ApplicationData, b"must not be in between");
    assert!(hand.feed(&payload).is_err());
    hand.engine.close();
    assert!(hand.engine.seal(b"x", &mut Buf::new(1000)).is_err());
}

#[test]
fn two_post_handshake_messages_in_one_record_are_an_error_and_no_panic() {
    let mut hand = Hand::new();
    let twice = hand.handshake_record(&[KEY_UPDATE_REQUEST, KEY_UPDATE_REQUEST].concat());
    assert!(hand.feed(&twice).is_err());
    hand.engine.close();
}

#[test]
fn a_client_that_never_finishes_a_message_is_cut_off() {
    let mut hand = Hand::new();
    let mut message = vec![24, 0, 0xff, 0xff];
    message.resize(16_000, 0);
    for _ in 0..20 {
        let record = hand.handshake_record(&message);
        if hand.feed(&record).is_err() {
            return;
        }
        message = vec![0; 1];
    }
    let tiny = (0..200_000).try_for_each(|_| {
        let record = hand.handshake_record(&[0]);
        hand.feed(&record)
    });
    assert!(tiny.is_err(), "the pending message grows without bound");
}

#[test]
fn a_hello_in_pieces_may_hold_32_kib_and_no_more() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), BOTH, |_| ());
    // As long as rustls would take it.
    let mut piece = [&[1, 0, 0xff, 0], &[3; 1020][..]].concat();
    let taken = (0..64).take_while(|_| {
        let taken = pair.engine.feed(&mut plain_record(22, &piece), |_| panic!("payload in a hello")).is_ok();
        piece.fill(3);
        taken
    });
    assert_eq!(taken.count(), 31);
}

#[test]
fn a_broken_hello_ends_in_an_alert_whatever_surrounds_it() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), BOTH, |_| ());
    let hello = pair.client_bytes()[5..].to_vec();
    let mut broken = hello.clone();
    broken[4] = 9;
    let finished = [20, 0, 0, 4, 1, 2, 3, 4];
    let unfinished = [20, 0, 1, 0, 1, 2, 3];
    let streams: [Vec<Vec<u8>>; 9] = [
        vec![broken[..50].to_vec()],
        vec![vec![1, 0, 0, 0]],
        vec![finished.to_vec()],
        vec![[&[1, 0, 0, 0], &finished[..]].concat()],
        vec![[&[1, 0, 0, 0], &unfinished[..]].concat()],
        vec![[&hello[..], &finished[..]].concat()],
        vec![[&hello[..], &unfinished[..]].concat()],
        vec![hello[..100].to_vec(), [&hello[100..], &unfinished[..]].concat()],
        vec![vec![1, 0, 0], [&[0], &unfinished[..]].concat()],
    ];
    for (number, fragments) in streams.into_iter().enumerate() {
        let mut engine = acceptor(&["a.test"], &[]).engine().unwrap();
        let mut outcome = Ok(());
        for fragment in fragments {
            outcome = outcome.and_then(|()| engine.feed(&mut plain_record(22, &fragment), |_| ()));
        }
        // A hello of which only a part has come is no error yet, but a record of another kind behind it is.
        let outcome = outcome.and_then(|()| engine.feed(&mut plain_record(23, b"payload in clear"), |_| ()));
        assert!(outcome.is_err(), "stream {number}");
        engine.close();
        assert!(engine.seal(b"x", &mut Buf::new(1000)).is_err());
        let outgoing = engine.outgoing().clone();
        for record in records(&outgoing) {
            assert!((20..=23).contains(&record[0]), "stream {number}");
        }
    }
}

#[test]
fn random_records_never_panic() {
    let acceptor = acceptor(&["a.test"], &[]);
    let mut pair = Pair::new(&acceptor, BOTH, |_| ());
    let hello = pair.client_bytes();
    let mut random = Random(0x5eed);
    for _ in 0..2000 {
        let mut engine = acceptor.engine().unwrap();
        let mut rest = &hello[5..];
        for _ in 0..random.below(8) {
            let mut bytes = if random.below(3) == 0 {
                plain_record([20, 21, 22, 23][random.below(4)], &random.bytes(60))
            } else {
                let (now, later) = rest.split_at(random.below(rest.len() + 1));
                rest = later;
                plain_record(22, now)
            };
            if random.below(4) == 0 {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            if engine.feed(&mut bytes, |_| ()).is_err() {
                break;
            }
        }
        engine.close();
        let _ = engine.seal(b"x", &mut Buf::new(1000));
    }
}

#[test]
fn garbage_after_the_handshake_is_an_error_with_an_alert() {
    for versions in [ONLY_12, ONLY_13] {
        let mut pair = Pair::new(&acceptor(&["a.test"], &[]), versions, |_| ());
        pair.handshake();
        let mut garbage = plain_record(23, &[0x55; 64]);
        assert!(pair.engine.feed(&mut garbage, |_| panic!("payload in garbage")).is_err());
        assert!(pair.engine.has_outgoing());
        assert_eq!(pair.alert_seen(), "BadRecordMac");
        pair.engine.close();
        assert!(!pair.engine.has_outgoing(), "close_notify after a fatal alert");
    }
}

#[test]
fn a_record_that_is_too_long_is_an_overflow_whatever_it_is_long_of() {
    // More than any record may hold, or one of TLS 1.3, or that beside its tag.
    for fragment in [(1 << 14) + 2049, (1 << 14) + 257] {
        let mut hand = Hand::new();
        let [high, low] = u16::to_be_bytes(fragment as u16);
        let mut beginning = vec![23, 3, 3, high, low];
        beginning.resize(100, 0);
        assert!(hand.feed(&beginning).is_err());
        assert_eq!(hand.alert_seen(), [2, 22], "{fragment}");
    }
    for (inner_bytes, is_refused) in [((1 << 14) + 1, false), ((1 << 14) + 2, true)] {
        let mut hand = Hand::new();
        // Empty payload with padding, of which the last byte is sealed as the type.
        let mut inner = vec![0; inner_bytes - 1];
        inner[0] = 23;
        let record = hand.record(ContentType::Unknown(0), &inner);
        assert_eq!(hand.feed(&record).is_err(), is_refused, "{inner_bytes}");
        assert!(!is_refused || hand.alert_seen() == [2, 22]);
    }
}

#[test]
fn an_alert_without_content_is_an_unexpected_message() {
    let mut hand = Hand::new();
    let record = hand.record(ContentType::Alert, &[]);
    assert!(hand.feed(&record).is_err());
    assert_eq!(hand.alert_seen(), [2, 10]);
}

#[test]
fn headers_that_no_record_can_have_are_refused() {
    let strangers: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", &[22, 9, 9, 0, 1, 0], &[99; 40], &[23, 3, 3, 0xff, 0xff]];
    for stranger in strangers {
        let mut inbound = Inbound::tls(acceptor(&["a.test"], &[]));
        let (mut wire, mut payload) = (Buf::new(1 << 17), Buf::new(1 << 17));
        assert!(wire.append(stranger));
        let outcome = inbound.decode(&mut wire, &mut payload, Step::Everything);
        assert!(matches!(outcome, Err(InboundError::Tls(_) | InboundError::BadRecord)), "{stranger:?}: {outcome:?}");
        assert!(payload.is_empty());
    }
}

#[test]
fn a_record_on_the_wire_is_at_most_the_overhead_longer_than_its_payload() {
    for versions in [ONLY_12, ONLY_13] {
        let mut pair = Pair::new(&acceptor(&["a.test"], &[]), versions, |_| ());
        pair.handshake();
        let mut wire = Buf::new(RECORD_PAYLOAD_BYTES + RECORD_OVERHEAD_BYTES);
        let length = pair.engine.seal(&[1; RECORD_PAYLOAD_BYTES], &mut wire).unwrap();
        assert_eq!((length, records(wire.bytes()).len()), (wire.len(), 1));
    }
}

/// What Vision needs: TLS ends with a record whose payload says so, and every byte behind that record stays untouched
/// in our own buffer, wherever the stream was cut.
#[test]
fn a_stream_that_leaves_tls_leaves_exactly_its_raw_bytes_wherever_it_is_cut() {
    for versions in [ONLY_12, ONLY_13] {
        let mut leaver = Leaver::new(versions);
        for cut in 0..=leaver.stream_len() {
            leaver.check(&[cut], through_engine);
        }
        let mut random = Random(0x1eaf);
        for _ in 0..200 {
            let mut cuts: Vec<_> = (0..random.below(12)).map(|_| random.below(leaver.stream_len())).collect();
            cuts.sort_unstable();
            leaver.check(&cuts, through_engine);
        }
    }
}

#[test]
fn the_stack_leaves_exactly_the_raw_bytes_too() {
    for versions in [ONLY_12, ONLY_13] {
        let mut leaver = Leaver::new(versions);
        for cut in 0..=leaver.stream_len() {
            leaver.check(&[cut], through_inbound);
        }
        let every_byte: Vec<_> = (0..leaver.stream_len()).collect();
        leaver.check(&every_byte, through_inbound);
    }
}

/// Builds "records, marker record, raw bytes" over and over, each for a server of its own.
struct Leaver {
    versions: &'static [&'static SupportedProtocolVersion],
    acceptor: TlsAcceptor,
    stream_len: usize,
}

impl Leaver {
    fn new(versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        let mut leaver = Self { versions, acceptor: acceptor(&["a.test"], &[]), stream_len: 0 };
        leaver.stream_len = leaver.stream().1.len();
        leaver
    }

    fn stream_len(&self) -> usize {
        self.stream_len
    }

    /// Raw bytes that look like records themselves: nobody may be tempted to frame them.
    fn raw() -> Vec<u8> {
        [plain_record(23, &[0xaa; 40]), vec![23, 3, 3, 0xff, 0xff, 1], plain_record(21, &[1, 0])].concat()
    }

    fn stream(&self) -> (Pair, Vec<u8>) {
        let mut pair = Pair::new(&self.acceptor, self.versions, |_| ());
        pair.handshake();
        let mut stream = Vec::new();
        for payload in [&b"one"[..], &[2; 300], b"", b"three", MARKER] {
            pair.client.writer().write_all(payload).unwrap();
            stream.extend(pair.client_bytes());
        }
        stream.extend(Self::raw());
        (pair, stream)
    }

    /// Gives the stream to a server in segments cut at `cuts`; `step` decodes what is there.
    fn check(&mut self, cuts: &[usize], step: fn(&mut Stack, &mut Buf, &mut Vec<u8>)) {
        let (pair, stream) = self.stream();
        assert_eq!(stream.len(), self.stream_len);
        let mut stack = Stack::Engine(Box::new(pair.engine), false);
        let (mut wire, mut payload) = (Buf::new(1 << 17), Vec::new());
        let mut start = 0;
        for &end in cuts.iter().chain([&stream.len()]) {
            assert!(wire.append(&stream[start..end]));
            start = end;
            step(&mut stack, &mut wire, &mut payload);
        }
        assert_eq!(payload, [&b"one"[..], &[2; 300], b"three", MARKER].concat(), "cut at {cuts:?}");
        assert_eq!(wire.bytes(), Leaver::raw(), "cut at {cuts:?}");
    }
}

/// The engine alone or inside an `Inbound`; the flag says that TLS was left.
enum Stack {
    Engine(Box<TlsEngine>, bool),
    Inbound(Box<Inbound>, bool),
    Moving,
}

fn through_engine(stack: &mut Stack, wire: &mut Buf, payload: &mut Vec<u8>) {
    let Stack::Engine(engine, left) = stack else { panic!("not the engine") };
    while !*left && let Record::Whole(length) = record_len(wire.bytes()) {
        let start = payload.len();
        engine.feed(&mut wire.bytes_mut()[..length], |bytes| payload.extend_from_slice(bytes)).unwrap();
        wire.consume(length);
        *left = &payload[start..] == MARKER;
    }
}

fn through_inbound(stack: &mut Stack, wire: &mut Buf, payload: &mut Vec<u8>) {
    *stack = match mem::replace(stack, Stack::Moving) {
        Stack::Engine(engine, left) => {
            let security = crate::inbound::Security::Tls(engine);
            let inbound = Inbound::new(security);
            Stack::Inbound(Box::new(inbound), left)
        }
        other => other,
    };
    let Stack::Inbound(inbound, left) = stack else { panic!("not a stack") };
    let mut output = Buf::new(1 << 17);
    while !*left {
        output.reset(0);
        let converted = inbound.decode(wire, &mut output, Step::OneRecord).unwrap();
        payload.extend_from_slice(output.bytes());
        *left = output.bytes() == MARKER;
        if converted == (Converted::Moved { again: false }) {
            return;
        }
    }
}

#[test]
fn the_response_header_shares_the_record_of_the_first_payload() {
    let mut pair = Pair::new(&acceptor(&["a.test"], &[]), ONLY_13, |_| ());
    pair.handshake();
    let security = crate::inbound::Security::Tls(Box::new(pair.engine));
    let mut inbound = Inbound::new(security);
    inbound.accept_request();
    let (mut payload, mut wire, mut tally) = (Buf::new(1000), Buf::new(1 << 17), Tally::default());
    payload.reset(crate::inbound::HEADROOM_BYTES);
    assert!(payload.append(b"first"));
    inbound.encode(&mut payload, &mut wire, &mut tally, &mut crate::io::random::Random::new()).unwrap();
    assert_eq!(records(wire.bytes()).len(), 1);
    assert_eq!(tally.taken(wire.len()).payload_bytes, 5);
    assert_eq!(client_reads(&mut pair.client, wire.bytes()), b"\0\0first");
}
