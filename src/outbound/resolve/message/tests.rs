use std::net::{Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, CNAME, NS, RData, SOA, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use super::*;

/// Id 7, small letters, no EDNS.
const FORM: Form = Form { id: 7, capitals: Capitals([0; 4]), edns: false };

/// Answers as another implementation writes them.
struct Writer {
    packet: Packet<'static>,
}

impl Writer {
    fn answering(id: u16, name: &'static str, kind: TYPE) -> Self {
        let mut packet = Packet::new_reply(id);
        packet.set_flags(PacketFlag::RECURSION_AVAILABLE);
        let question =
            simple_dns::Question::new(Name::new(name).unwrap(), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
        packet.questions.push(question);
        Self { packet }
    }

    fn with(mut self, owner: &'static str, ttl: u32, data: RData<'static>) -> Self {
        self.packet.answers.push(ResourceRecord::new(Name::new(owner).unwrap(), CLASS::IN, ttl, data));
        self
    }

    fn a(self, owner: &'static str, ttl: u32, address: &str) -> Self {
        self.with(owner, ttl, RData::A(A { address: address.parse::<Ipv4Addr>().unwrap().to_bits() }))
    }

    fn aaaa(self, owner: &'static str, ttl: u32, address: &str) -> Self {
        self.with(owner, ttl, RData::AAAA(AAAA { address: address.parse::<Ipv6Addr>().unwrap().to_bits() }))
    }

    fn alias(self, owner: &'static str, ttl: u32, target: &'static str) -> Self {
        self.with(owner, ttl, RData::CNAME(CNAME(Name::new(target).unwrap())))
    }

    fn soa(mut self, ttl: u32, minimum: u32) -> Self {
        let data = RData::SOA(SOA {
            mname: Name::new("ns.example.org").unwrap(),
            rname: Name::new("admin.example.org").unwrap(),
            serial: 1,
            refresh: 2,
            retry: 3,
            expire: 4,
            minimum,
        });
        self.packet.name_servers.push(ResourceRecord::new(Name::new("example.org").unwrap(), CLASS::IN, ttl, data));
        self
    }

    fn rcode(mut self, rcode: RCODE) -> Self {
        *self.packet.rcode_mut() = rcode;
        self
    }

    fn truncated(mut self) -> Self {
        self.packet.set_flags(PacketFlag::TRUNCATION);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.packet.build_bytes_vec_compressed().unwrap()
    }
}

fn question() -> Question {
    Question::new("www.example.org", Family::V4)
}

fn reply(writer: &Writer) -> Content {
    decode_reply(&writer.bytes(), FORM, &question()).unwrap().content
}

fn www() -> Writer {
    Writer::answering(7, "www.example.org", TYPE::A)
}

fn addresses(texts: &[&str], ttl_s: u32) -> Content {
    Content::Addresses { addresses: texts.iter().map(|text| text.parse().unwrap()).collect(), ttl_s }
}

#[test]
fn the_query_reads_as_another_implementation_expects() {
    for (family, kind) in [(Family::V4, TYPE::A), (Family::V6, TYPE::AAAA)] {
        let bytes =
            encode_query(Form { id: 0xbeef, edns: true, ..FORM }, &Question::new("Www.Example.ORG.", family)).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 0xbeef);
        assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED) && !packet.has_flags(PacketFlag::RESPONSE));
        assert_eq!(packet.questions.len(), 1);
        assert_eq!(packet.questions[0].qname.to_string(), "www.example.org");
        assert_eq!(packet.questions[0].qtype, QTYPE::TYPE(kind));
        assert_eq!(packet.questions[0].qclass, QCLASS::CLASS(CLASS::IN));
        let edns = packet.opt().unwrap();
        assert_eq!((edns.udp_packet_size, edns.version), (1232, 0));
    }
}

#[test]
fn golden_query_bytes() {
    let (form, question) = (Form { id: 0x1234, ..FORM }, Question::new("a.bc", Family::V6));
    let plain = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x1c\x00\x01";
    assert_eq!(encode_query(form, &question).unwrap(), plain);
    // The first byte of the name is the length of its first label; its letters are at 1, 3 and 4.
    let spelled = encode_query(Form { capitals: Capitals([0b1011, 0, 0, 0]), edns: true, ..form }, &question).unwrap();
    let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01A\x02Bc\x00\x00\x1c\x00\x01\
                     \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    assert_eq!(spelled, expected);
}

#[test]
fn names_that_do_not_fit_a_message_are_not_asked_for() {
    let label = "x".repeat(63);
    let longest = [&label[..], &label, &label, &label[..61]].join(".");
    assert!(is_askable(&longest));
    for name in ["", ".", "a..b", ".a", &"x".repeat(64), &format!("{longest}x")] {
        assert!(!is_askable(name), "{name}");
    }
}

#[test]
fn addresses_come_in_order_with_the_smallest_time() {
    let writer = www().a("www.example.org", 300, "1.2.3.4").a("WWW.example.org", 60, "5.6.7.8");
    assert_eq!(reply(&writer), addresses(&["1.2.3.4", "5.6.7.8"], 60));
}

#[test]
fn ipv6_addresses_are_read() {
    let writer = Writer::answering(7, "v6.example.org", TYPE::AAAA).aaaa("v6.example.org", 9, "2606:4700::1");
    let reply = decode_reply(&writer.bytes(), FORM, &Question::new("v6.example.org", Family::V6)).unwrap();
    assert_eq!(reply.content, addresses(&["2606:4700::1"], 9));
}

#[test]
fn aliases_are_followed_in_any_order() {
    let writer = www().a("c.example.net", 50, "1.2.3.4").alias("b.example.net", 40, "c.example.net").alias(
        "www.example.org",
        70,
        "b.example.net",
    );
    assert_eq!(reply(&writer), addresses(&["1.2.3.4"], 40));
}

#[test]
fn addresses_of_other_names_are_not_taken() {
    let writer = www().a("evil.example.org", 50, "1.2.3.4");
    assert_eq!(reply(&writer), Content::NoAddress { ttl_s: None });
}

#[test]
fn a_loop_of_aliases_is_a_failure() {
    let writer = www().alias("www.example.org", 1, "b.example.org").alias("b.example.org", 1, "www.example.org");
    assert_eq!(reply(&writer), Content::ServerFailure);
}

#[test]
fn at_most_sixteen_different_addresses_are_kept() {
    let mut writer = www().a("www.example.org", 1, "1.1.1.1").a("www.example.org", 1, "1.1.1.1");
    for last in 0..30 {
        writer = writer.a("www.example.org", 1, &format!("1.0.0.{last}"));
    }
    let Content::Addresses { addresses, .. } = reply(&writer) else { panic!() };
    assert_eq!(addresses.len(), ADDRESSES_MAX);
}

#[test]
fn records_of_other_types_are_stepped_over() {
    let text = RData::TXT(TXT::new().with_string("anything").unwrap());
    let writer = www().with("www.example.org", 5, text).a("www.example.org", 300, "1.2.3.4");
    assert_eq!(reply(&writer), addresses(&["1.2.3.4"], 300));
}

#[test]
fn a_missing_name_and_a_missing_address_differ_and_have_the_zones_time() {
    assert_eq!(reply(&www().rcode(RCODE::NameError).soa(900, 30)), Content::NoSuchName { ttl_s: Some(30) });
    assert_eq!(reply(&www().rcode(RCODE::NameError)), Content::NoSuchName { ttl_s: None });
    assert_eq!(reply(&www().soa(20, 300)), Content::NoAddress { ttl_s: Some(20) });
}

#[test]
fn refusals_of_the_server_are_failures() {
    for rcode in [RCODE::ServerFailure, RCODE::Refused, RCODE::NotImplemented, RCODE::FormatError] {
        assert_eq!(reply(&www().rcode(rcode)), Content::ServerFailure, "{rcode:?}");
    }
}

#[test]
fn a_failure_may_leave_the_question_out_but_an_answer_may_not() {
    let without_question = |flags: u8| [0, 7, 0x81, 0x80 | flags, 0, 0, 0, 0, 0, 0, 0, 0];
    let failure = decode_reply(&without_question(1), FORM, &question()).unwrap();
    assert_eq!(failure.content, Content::ServerFailure);
    assert_eq!(decode_reply(&without_question(0), FORM, &question()), Err(Rejected::NotOurs));
    assert_eq!(decode_reply(&without_question(3), FORM, &question()), Err(Rejected::NotOurs));
}

#[test]
fn what_answers_another_query_is_not_ours() {
    let good = www().a("www.example.org", 300, "1.2.3.4").bytes();
    assert!(decode_reply(&good, FORM, &question()).is_ok());
    assert_eq!(decode_reply(&good, Form { id: 8, ..FORM }, &question()), Err(Rejected::NotOurs));
    assert_eq!(decode_reply(&good, FORM, &Question::new("ww.example.org", Family::V4)), Err(Rejected::NotOurs));
    assert_eq!(decode_reply(&good, FORM, &Question::new("www.example.org", Family::V6)), Err(Rejected::NotOurs));
    let mut query = good.clone();
    query[2] &= 0x7f;
    assert_eq!(decode_reply(&query, FORM, &question()), Err(Rejected::NotOurs));
    let mut class = good.clone();
    class[12 + 17 + 3] = 3;
    assert_eq!(decode_reply(&class, FORM, &question()), Err(Rejected::NotOurs));
}

#[test]
fn the_answer_must_repeat_the_question_as_it_was_spelled_but_may_spell_owners_as_it_likes() {
    let writer = Writer::answering(7, "WWW.eXample.org", TYPE::A).a("www.EXAMPLE.org", 300, "1.2.3.4");
    let other = Form { capitals: Capitals([0b10, 0, 0, 0]), ..FORM };
    assert_eq!(decode_reply(&writer.bytes(), other, &question()), Err(Rejected::OtherSpelling));
    assert_eq!(reply(&writer), addresses(&["1.2.3.4"], 300), "where nothing was spelled at random, nothing is missed");
    // Letters are at 1, 2, 3 and from 5 on.
    let form = Form { capitals: Capitals([0b100_1110, 0, 0, 0]), ..FORM };
    assert_eq!(decode_reply(&writer.bytes(), form, &question()).unwrap().content, addresses(&["1.2.3.4"], 300));
}

#[test]
fn a_truncated_answer_yields_what_is_there() {
    let mut bytes = www().a("www.example.org", 300, "1.2.3.4").a("www.example.org", 300, "5.6.7.8").truncated().bytes();
    bytes.truncate(bytes.len() - 3);
    let reply = decode_reply(&bytes, FORM, &question()).unwrap();
    assert!(reply.is_truncated);
    assert_eq!(reply.content, addresses(&["1.2.3.4"], 300));
}

#[test]
fn an_answer_that_was_cut_without_the_truncation_flag_is_told_apart_and_yields_what_is_there() {
    let bytes = www().a("www.example.org", 300, "1.2.3.4").a("www.example.org", 300, "5.6.7.8").bytes();
    for length in 0..bytes.len() {
        if let Ok(reply) = decode_reply(&bytes[..length], FORM, &question()) {
            assert!(reply.is_cut && reply.is_truncated, "{length}");
            let is_there = reply.content == addresses(&["1.2.3.4"], 300);
            assert_eq!(is_there, length >= bytes.len() - 16, "{length}");
        }
    }
    assert!(!decode_reply(&bytes, FORM, &question()).unwrap().is_cut);
}

#[test]
fn a_server_that_neither_asks_others_nor_owns_the_name_has_said_nothing() {
    let lame = |mut writer: Writer| {
        writer.packet.remove_flags(PacketFlag::RECURSION_AVAILABLE);
        writer
    };
    let owning = |mut writer: Writer| {
        writer.packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        writer
    };
    assert_eq!(reply(&lame(www())), Content::ServerFailure);
    assert_eq!(reply(&lame(www().rcode(RCODE::NameError))), Content::ServerFailure);
    assert_eq!(reply(&lame(www().soa(20, 300))), Content::NoAddress { ttl_s: Some(20) });
    assert_eq!(reply(&owning(lame(www()))), Content::NoAddress { ttl_s: None });
    let alias = owning(lame(www().alias("www.example.org", 30, "elsewhere.example.net")));
    assert_eq!(reply(&alias), Content::ServerFailure, "where the alias leads is not its own");
    assert_eq!(reply(&www()), Content::NoAddress { ttl_s: None });
}

#[test]
fn a_server_that_names_others_sends_us_on() {
    let mut writer = www();
    let servers = RData::NS(NS(Name::new("a.gtld.example").unwrap()));
    writer.packet.name_servers.push(ResourceRecord::new(Name::new("example.org").unwrap(), CLASS::IN, 9, servers));
    assert_eq!(reply(&writer), Content::ServerFailure);
    assert_eq!(reply(&writer.soa(20, 300)), Content::NoAddress { ttl_s: Some(20) });
}

#[test]
fn pointers_that_lead_nowhere_are_refused() {
    let header = b"\x00\x07\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00";
    for name in [&b"\xc0\x0c"[..], b"\xc0\x0e", b"\xff\xff", b"\x03www\xc0\x0c", b"\x41x", b"\x80\x00", b"\xc0"] {
        let message = [&header[..], name, b"\x00\x01\x00\x01"].concat();
        assert_eq!(decode_reply(&message, FORM, &question()), Err(Rejected::NotOurs), "{name:x?}");
    }
}

#[test]
fn a_time_with_the_top_bit_set_counts_as_zero() {
    assert_eq!(reply(&www().a("www.example.org", 1 << 31, "1.2.3.4")), addresses(&["1.2.3.4"], 0));
}

#[test]
fn hundred_thousand_mutated_answers_do_no_harm() {
    let seeds = [
        www().a("www.example.org", 300, "1.2.3.4").a("www.example.org", 60, "5.6.7.8").bytes(),
        www().alias("www.example.org", 70, "b.example.net").a("b.example.net", 50, "1.2.3.4").bytes(),
        www().rcode(RCODE::NameError).soa(900, 30).bytes(),
        www().a("www.example.org", 300, "1.2.3.4").truncated().bytes(),
    ];
    let mut random = Lcg(0x5eed);
    let mut read = 0;
    for round in 0..100_000 {
        let mut message = seeds[round % seeds.len()].clone();
        for _ in 0..random.below(6) {
            // The header's id stays, or hardly anything would be looked into.
            let at = 2 + random.below(message.len() - 2);
            match random.below(4) {
                0 => message[at] = random.below(256) as u8,
                1 => message[at] ^= 1 << random.below(8),
                2 => message.truncate(at.max(12)),
                _ => message.insert(at, [0, 0xc0, 0xff, 0x3f][random.below(4)]),
            }
        }
        if let Ok(Reply { content: Content::Addresses { addresses, .. }, .. }) =
            decode_reply(&message, FORM, &question())
        {
            assert!(!addresses.is_empty() && addresses.len() <= ADDRESSES_MAX);
            read += 1;
        }
    }
    assert!(read > 10_000, "the mutations leave hardly any answer readable: {read}");
}

/// A linear congruential generator: tests repeat exactly.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
