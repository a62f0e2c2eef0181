//! What name servers answer.

use vless_rust::outbound::resolve::message::{Content, Form, decode_reply, encode_query, is_askable};
use vless_rust::outbound::resolve::wire::Capitals;
use vless_rust::outbound::resolve::{Family, Question};

use crate::input::shape;

/// How the query was put that the datagram is to answer.
const FORM: Form = Form { id: 0x1234, capitals: Capitals([0; 4]), edns: true };

/// The first byte chooses the family, the rest is the datagram.
pub(super) fn dns_reply(data: &[u8]) -> u64 {
    let Some((&mode, data)) = data.split_first() else { return 0 };
    let family = if mode & 1 == 0 { Family::V4 } else { Family::V6 };
    let question = Question { name: "example.com".into(), family };
    let outcome = decode_reply(data, FORM, &question);
    if let Ok(reply) = &outcome {
        assert_eq!(data[..2], FORM.id.to_be_bytes(), "not our id");
        if let Content::Addresses { addresses, .. } = &reply.content {
            assert!(!addresses.is_empty() && addresses.len() <= data.len() / 4);
            assert!(addresses.iter().all(|address| address.is_ipv4() == (family == Family::V4)));
        }
    }
    // Whatever may be asked for can be asked for.
    let name = String::from_utf8_lossy(data);
    let question = Question { name: name.as_ref().into(), family };
    assert_eq!(is_askable(&name), encode_query(FORM, &question).is_some_and(|query| query.len() <= 512));
    shape(outcome.map(|reply| (std::mem::discriminant(&reply.content), reply.is_truncated)))
}
