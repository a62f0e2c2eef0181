//! Plans for Vision sessions: an inner TLS connection, or what is none, and everything that can happen to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use vless_rust::session::close::CloseReason;

use crate::sim::peer::Op;
use crate::sim::plan::{header, manners, name, read_max};
use crate::sim::rng::Rng;
use crate::sim::socket::Manners;
use crate::sim::vision::{DIRECT, END};
use crate::sim::world::{Plan, VISION_USER};
use crate::support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, client_hello, data, record, server_hello};

/// What a Vision client asks for.
pub(crate) fn request() -> Vec<u8> {
    header(VISION_USER, b"\x0a\x10xtls-rprx-vision", 1, 443, &name("example.com"))
}

/// What each side says before the bulk: the client, the target, the client again.
type Prelude = [Vec<u8>; 3];

/// A random session; most go well, and for those nothing but [`CloseReason::Finished`] will do.
pub(crate) fn random(rng: &mut Rng, tls: Arc<ClientConfig>, now: Instant) -> Plan {
    let (client_manners, client_weight) = seldom_tiny(rng);
    let (target_manners, target_weight) = seldom_tiny(rng);
    let weight = client_weight.min(target_weight);
    let mut plan = Plan {
        client_manners,
        client_read_max: read_max(rng, weight),
        target_manners,
        target_read_max: read_max(rng, weight),
        dial_time: Duration::from_millis(rng.below(9000) as u64),
        ..Plan::quiet(Some(tls))
    };
    orderly(rng, &mut plan, weight, now);
    if rng.percent(40) {
        spoil(rng, &mut plan);
    }
    plan
}

/// A handshake inside padding takes some thousand bytes, for which connections that move a byte or two at a time take
/// long.
fn seldom_tiny(rng: &mut Rng) -> (Manners, usize) {
    loop {
        let (manners, weight) = manners(rng);
        if weight > 1000 || rng.percent(10) {
            return (manners, weight);
        }
    }
}

fn prelude(rng: &mut Rng) -> Prelude {
    let inner = match rng.below(10) {
        0 => return [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Vec::new()],
        // The target speaks first, or nobody.
        1 => return [Vec::new(), rng.bytes(30), Vec::new()],
        2 => Inner::Tls12,
        3 => Inner::Ccm8,
        _ => Inner::Tls13,
    };
    let certificates = rng.up_to(2000);
    let flight = [server_hello(inner), CHANGE_CIPHER_SPEC.to_vec(), data(certificates)].concat();
    [client_hello(), flight, [CHANGE_CIPHER_SPEC, &data(53)].concat()]
}

/// Inner records of all kinds and lengths, mostly application data.
fn bulk(rng: &mut Rng, weight: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    let total = rng.below(weight);
    while stream.len() < total {
        let longest = rng.pick(&[1, 100, 3000, 16_384]);
        let body = rng.up_to(longest);
        stream.extend(if rng.percent(97) { data(body) } else { record(rng.pick(&[0x15, 0x16]), body) });
    }
    if rng.percent(5) {
        // Not TLS after all.
        stream.extend(rng.bytes(500));
    }
    stream
}

fn pieces(rng: &mut Rng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let longest = rng.pick(&[bytes.len() / 40 + 1, bytes.len() / 7 + 1, bytes.len() + 1]).min(60_000);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rng.up_to(longest).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    pieces
}

fn says(rng: &mut Rng, bytes: &[u8]) -> Vec<Op> {
    pieces(rng, bytes).into_iter().map(Op::Say).collect()
}

fn orderly(rng: &mut Rng, plan: &mut Plan, weight: usize, now: Instant) {
    let [first, answer, second] = prelude(rng);
    let mut client = Vec::new();
    if rng.percent(70) {
        client.push(Op::WaitOpen);
    }
    if rng.percent(70) {
        client.push(Op::Open(request(), first.clone()));
    } else {
        client.push(Op::Header(request()));
        client.extend(says(rng, &first));
    }
    client.push(Op::WaitHeard(2 + answer.len()));
    client.extend(says(rng, &second));
    let mut talk = says_with_switch(rng, weight);
    if rng.percent(30) {
        talk.insert(rng.below(talk.len() + 1), Op::KeyUpdate);
    }
    client.extend(talk);

    let spoken = first.len() + second.len();
    let mut target = vec![Op::WaitHeard(first.len())];
    target.extend(says(rng, &answer));
    target.push(Op::WaitHeard(spoken));
    let down = bulk(rng, weight);
    target.extend(says(rng, &down));
    for script in [&mut client, &mut target] {
        if rng.percent(15) {
            let at = now + Duration::from_secs(10 + rng.below(10) as u64);
            script.push(Op::WaitUntil(at));
        }
    }

    let client_ends_first = rng.percent(60);
    // Behind DIRECT close_notify is one more inner record, as Go clients send it.
    let goodbye = if rng.percent(40) { vec![Op::Fin] } else { vec![Op::CloseNotify, Op::Fin] };
    if client_ends_first {
        client.extend(goodbye);
        client.push(Op::WaitEnd);
        if rng.percent(50) {
            target.push(Op::WaitEnd);
        }
    } else {
        client.push(Op::WaitEnd);
        client.extend(goodbye);
    }
    target.push(Op::Fin);
    (plan.client, plan.target) = (client, target);
    plan.reasons = vec![CloseReason::Finished];
}

/// The uplink's bulk, with padding ending somewhere in it, or nowhere.
fn says_with_switch(rng: &mut Rng, weight: usize) -> Vec<Op> {
    let up = bulk(rng, weight);
    let mut ops = says(rng, &up);
    let place = rng.below(ops.len() + 1);
    match rng.below(10) {
        0 => {}
        1..=2 => ops.insert(place, Op::Block(END, Vec::new())),
        3..=5 => ops.insert(place, Op::Block(DIRECT, Vec::new())),
        _ => {
            let content = match ops.get_mut(place) {
                Some(Op::Say(content)) => std::mem::take(content),
                _ => data(1),
            };
            ops.splice(place..(place + 1).min(ops.len()), [Op::Block(DIRECT, content)]);
        }
    }
    ops
}

/// Something goes wrong in an orderly plan.
fn spoil(rng: &mut Rng, plan: &mut Plan) {
    use CloseReason::{
        BadPadding, ClientReset, Finished, FirstByteTimeout, HalfCloseTimeout, Idle, RequestTimeout, TargetReset,
        TlsFailed, Truncated, WriteStall,
    };

    let place = rng.below(plan.client.len() + 1);
    let target_place = rng.below(plan.target.len() + 1);
    let stalls = [WriteStall, HalfCloseTimeout, Idle, Finished];
    // As long as padding has not ended for sure.
    let padded = |op: &Op| matches!(op, Op::Open(..) | Op::Header(_) | Op::WaitOpen | Op::WaitHeard(_) | Op::Say(_));
    let padded_end = plan.client.iter().position(|op| !padded(op)).unwrap_or(plan.client.len());
    let opened = plan.client.iter().position(|op| matches!(op, Op::Open(..) | Op::Header(_))).unwrap() + 1;
    let within = opened + rng.below(padded_end - opened + 1);
    match rng.below(7) {
        0 => {
            plan.client.insert(place, Op::Reset);
            plan.reasons = vec![ClientReset, Finished];
        }
        1 => {
            plan.target.insert(target_place, Op::Reset);
            plan.reasons = vec![TargetReset, Finished];
        }
        2 => {
            plan.client.splice(place..place, [Op::WaitOpen, Op::StopReading]);
            plan.reasons = [&stalls[..], &[FirstByteTimeout, RequestTimeout]].concat();
        }
        3 => {
            plan.target.insert(target_place, Op::StopReading);
            plan.reasons = stalls.to_vec();
        }
        4 => {
            plan.client.truncate(within);
            let bytes = rng.bytes(200);
            plan.client.extend([Op::TornBlock(bytes), Op::Fin]);
            plan.reasons = vec![Truncated];
        }
        5 => {
            plan.client.truncate(within);
            let bytes = rng.bytes(100);
            plan.client.extend([Op::WaitOpen, Op::Spoilt(bytes), Op::WaitEnd, Op::Fin]);
            plan.reasons = vec![TlsFailed];
        }
        _ => {
            plan.client.truncate(within);
            plan.client.extend([Op::WaitOpen, Op::BadBlock, Op::WaitEnd, Op::Fin]);
            plan.reasons = vec![BadPadding];
        }
    }
}
