//! What a session says in the simulation of scarcity, and what must have come of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use vless_rust::session::SessionRecord;
use vless_rust::session::close::CloseReason;

use crate::Sum;
use crate::sim::outlet::End;
use crate::sim::peer::Op;
use crate::sim::plan::{header, request};
use crate::sim::rng::Rng;
use crate::sim::run::Run;
use crate::sim::socket::Manners;
use crate::sim::world::{Plan, USER};

/// What a stranger says first.
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

/// What a stranger hears whose fallback is not there.
const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Datagrams,
    Mux,
    /// Nobody's user, who is passed on to the fallback.
    Stranger,
}

/// What becomes of the client in the middle of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Orderly,
    Stalls,
    BreaksOff,
}

/// Everything that one session is to say.
pub(crate) struct Talk {
    pub(crate) kind: Kind,
    fate: Fate,
    /// For a stream and a stranger one part without a name, for datagrams one, for Mux as many as it has sessions.
    parts: Vec<Part>,
    /// When an orderly client that talks in packets leaves.
    leaves_at: Instant,
}

/// What is said to one target, and what a target of bytes says.
struct Part {
    id: u16,
    port: u16,
    is_udp: bool,
    up: Vec<Vec<u8>>,
    down: Vec<u8>,
}

impl Talk {
    pub(crate) fn random(number: usize, rng: &mut Rng, may_be_stranger: bool, leaves_at: Instant) -> Self {
        let users = [Kind::Stream, Kind::Datagrams, Kind::Mux];
        let kind = if may_be_stranger && rng.percent(25) { Kind::Stranger } else { rng.pick(&users) };
        let fate =
            rng.pick(&[Fate::Orderly, Fate::Orderly, Fate::Orderly, Fate::Orderly, Fate::Stalls, Fate::BreaksOff]);
        let count = if kind == Kind::Mux { rng.up_to(4) } else { 1 };
        let parts = (0..count).map(|place| Part::random(kind, (number * 8 + place) as u16, rng));
        Self { kind, fate, parts: parts.collect(), leaves_at }
    }

    fn is_orderly(&self) -> bool {
        self.fate == Fate::Orderly
    }

    pub(crate) fn plan(&self, rng: &mut Rng, tls: Option<Arc<ClientConfig>>) -> Plan {
        let (is_stream, is_stranger) = (self.kind == Kind::Stream, self.kind == Kind::Stranger);
        let hello = if is_stranger { Op::Say(HELLO.to_vec()) } else { Op::Header(self.request()) };
        let mut client = vec![Op::WaitOpen, hello];
        let says = client.len();
        let wire = self.wire(rng);
        client.extend(pieces(rng, &wire));
        let middle = says + rng.below(client.len() - says + 1);
        match (self.fate, self.kind) {
            (Fate::Orderly, Kind::Stream | Kind::Stranger) => {}
            (Fate::Orderly, _) => client.push(Op::WaitUntil(self.leaves_at)),
            (Fate::Stalls, _) => {
                client.insert(middle, Op::StopReading);
                client.push(Op::WaitUntil(self.leaves_at));
            }
            (Fate::BreaksOff, _) => client.insert(middle, Op::Reset),
        }
        client.extend([Op::Fin, Op::WaitEnd]);
        let mut target = if is_stream || is_stranger { pieces(rng, &self.parts[0].down) } else { Vec::new() };
        target.push(Op::Fin);
        let inner = self.parts.iter().filter(|part| !part.is_udp);
        let inner_targets = inner.map(|part| {
            let script = pieces(rng, &part.down).into_iter().chain([Op::WaitEnd, Op::Fin]);
            (part.port, script.collect())
        });
        let inner_targets = inner_targets.collect();
        Plan {
            client,
            target,
            inner_targets,
            client_manners: manners(rng),
            target_manners: manners(rng),
            client_read_max: rng.pick(&[1000, 20_000, 1 << 30]),
            target_read_max: rng.pick(&[1000, 20_000, 1 << 30]),
            reasons: self.reasons(),
            ..Plan::quiet(tls)
        }
    }

    fn reasons(&self) -> Vec<CloseReason> {
        match self.fate {
            Fate::Orderly => vec![CloseReason::Finished],
            // It may have heard all that there was before, or leave before it hears anything.
            Fate::Stalls => vec![CloseReason::WriteStall, CloseReason::Finished],
            Fate::BreaksOff => vec![CloseReason::ClientReset, CloseReason::Finished],
        }
    }

    fn request(&self) -> Vec<u8> {
        let port = self.parts[0].port;
        match self.kind {
            Kind::Stream => request(),
            Kind::Stranger => Vec::new(),
            Kind::Datagrams => header(USER, &[], 2, port, &[1, 192, 0, 2, 7]),
            Kind::Mux => header(USER, &[], 3, 0, &[]),
        }
    }

    /// All payload of the client, with the frames of several sessions in any order.
    fn wire(&self, rng: &mut Rng) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut next = vec![0; self.parts.len()];
        loop {
            let left: Vec<_> = (0..next.len()).filter(|&part| next[part] < self.parts[part].up.len()).collect();
            if left.is_empty() {
                return wire;
            }
            let place = rng.pick(&left);
            let part = &self.parts[place];
            let bytes = &part.up[next[place]];
            match self.kind {
                Kind::Stream | Kind::Stranger => wire.extend(bytes),
                Kind::Datagrams => wire.extend(packet(bytes)),
                Kind::Mux => wire.extend(part.frame(next[place] == 0, bytes)),
            }
            next[place] += 1;
        }
    }

    /// Says what is wrong with a session of a stranger that has ended.
    pub(crate) fn check_stranger(&self, run: &Run, record: &SessionRecord) -> Result<(), String> {
        let check = |holds: bool, fault: &str| if holds { Ok(()) } else { Err(fault.to_owned()) };
        let (client, fallback) = (&run.client, &run.target);
        if record.reason == CloseReason::FallbackUnreachable {
            check(client.heard.is_empty() || client.heard.starts_with(BAD_GATEWAY), "another answer than nginx's")?;
            return check(fallback.heard.is_empty(), "a fallback that is not there has heard something");
        }
        check(client.said.starts_with(&fallback.heard), "the fallback heard what the stranger did not say")?;
        check(fallback.said.starts_with(&client.heard), "the stranger heard what the fallback did not say")?;
        check(record.user.is_none(), "a stranger counts as a user")?;
        let all = fallback.heard == client.said && client.heard == fallback.said;
        check(!self.is_orderly() || record.reason != CloseReason::Finished || all, "bytes are missing")
    }

    /// Says what is wrong with a session of packets or frames that has ended.
    pub(crate) fn check_packets(&self, run: &Run, record: &SessionRecord, sum: &mut Sum) -> Result<(), String> {
        let check = |holds: bool, fault: &str| if holds { Ok(()) } else { Err(fault.to_owned()) };
        let heard = self.heard(run)?;
        let everything = self.is_orderly() && record.reason == CloseReason::Finished;
        for (place, part) in self.parts.iter().enumerate() {
            let answer = heard.get(&part.id).map_or(&[][..], Vec::as_slice);
            let outlet = run.outlets.iter().find(|outlet| match &outlet.end {
                End::Tcp(port, _) => *port == part.port,
                End::Udp(id, _) => part.is_udp && (id.is_none() || *id == Some(part.global_id())),
            });
            let Some(outlet) = outlet else {
                check(!everything || run.was_short, "an orderly client was given no target")?;
                continue;
            };
            match &outlet.end {
                End::Tcp(_, peer) => {
                    let (up, down) = (part.up.concat(), answer.concat());
                    check(up.starts_with(&peer.heard), "the target heard what the client did not say")?;
                    check(part.down.starts_with(&down), "the client heard what the target did not say")?;
                    let all = peer.heard.len() == up.len() && down.len() == part.down.len();
                    check(!everything || all, &format!("bytes of session {place} are missing"))?;
                }
                End::Udp(_, net) => {
                    let net = net.borrow();
                    check(is_part_of(&net.sent, &part.up), "other datagrams, or another order")?;
                    check(is_part_of(answer, &net.sent), "other answers, or another order")?;
                    if everything {
                        sum.datagrams += part.up.len() + net.sent.len();
                        sum.dropped += part.up.len() - answer.len();
                    }
                }
            }
        }
        Ok(())
    }

    /// What the client heard from each session inside: pieces of bytes, or datagrams.
    fn heard(&self, run: &Run) -> Result<BTreeMap<u16, Vec<Vec<u8>>>, String> {
        let mut heard: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        let mut rest = match &run.client.heard[..] {
            [] => return Ok(heard),
            [0, 0, rest @ ..] => rest,
            [0] if !self.is_orderly() => return Ok(heard),
            _ => return Err("a wrong response header".to_owned()),
        };
        while !rest.is_empty() {
            let taken = if self.kind == Kind::Mux { take_frame(rest) } else { take_packet(rest, self.parts[0].id) };
            let Some((payload, behind)) = taken else {
                return if self.is_orderly() { Err("a packet is cut".to_owned()) } else { Ok(heard) };
            };
            if let Some((id, payload)) = payload {
                heard.entry(id).or_default().push(payload.to_vec());
            }
            rest = behind;
        }
        Ok(heard)
    }
}

impl Part {
    fn random(kind: Kind, id: u16, rng: &mut Rng) -> Self {
        let is_udp = kind == Kind::Datagrams || kind == Kind::Mux && rng.percent(50);
        let is_stream = matches!(kind, Kind::Stream | Kind::Stranger);
        let count = rng.up_to(if is_stream { 1 } else { 40 });
        let bytes_max = match (kind, is_udp) {
            (Kind::Stream | Kind::Stranger, _) => 60_000,
            (_, true) => rng.pick(&[20, 600, 1400, 8000]),
            (_, false) => rng.pick(&[100, 2000, 10_000]),
        };
        let up = (0..count).map(|number| {
            let bytes = rng.up_to(bytes_max);
            // No two are alike.
            [&(number as u16).to_be_bytes()[..], &rng.bytes(bytes)].concat()
        });
        let up = up.collect();
        let down_bytes = rng.below(80_000);
        Self { id, port: 1000 + id, is_udp, up, down: rng.bytes(down_bytes) }
    }

    fn global_id(&self) -> [u8; 8] {
        (u64::from(self.id) + 1).to_be_bytes()
    }

    fn frame(&self, is_first: bool, payload: &[u8]) -> Vec<u8> {
        if self.is_udp && is_first {
            let mut metadata = metadata(self.id, self.port, Some(2));
            metadata.extend(self.global_id());
            return [packet(&metadata), packet(payload)].concat();
        }
        [packet(&metadata(self.id, self.port, is_first.then_some(1))), packet(payload)].concat()
    }
}

/// A frame of a UDP session: New if it is the first, else Keep.
pub(crate) fn frame(id: u16, port: u16, is_first: bool, payload: &[u8]) -> Vec<u8> {
    [packet(&metadata(id, port, is_first.then_some(2))), packet(payload)].concat()
}

/// Metadata of a New frame over this network (1: TCP, 2: UDP), or of a Keep frame.
fn metadata(id: u16, port: u16, network: Option<u8>) -> Vec<u8> {
    let mut metadata = id.to_be_bytes().to_vec();
    metadata.extend([if network.is_some() { 1 } else { 2 }, 1]);
    if let Some(network) = network {
        metadata.push(network);
        metadata.extend(port.to_be_bytes());
        metadata.extend([1, 192, 0, 2, 7]);
    }
    metadata
}

/// Bytes behind their length.
pub(crate) fn packet(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

type Taken<'a> = Option<(Option<(u16, &'a [u8])>, &'a [u8])>;

/// The packet at the front, as one of this session; `None` if it is cut.
fn take_packet(bytes: &[u8], id: u16) -> Taken<'_> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (payload, behind) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((Some((id, payload)), behind))
}

/// The frame at the front and what it carries, if anything; `None` if it is cut.
fn take_frame(bytes: &[u8]) -> Taken<'_> {
    let (Some((_, metadata)), behind) = take_packet(bytes, 0)? else { return None };
    let &[high, low, status, option, ..] = metadata else { panic!("a frame without metadata") };
    let id = u16::from_be_bytes([high, low]);
    assert!(matches!((status, option), (2, 1) | (3, 0 | 2)), "status {status}, option {option}");
    if status == 3 { Some((None, behind)) } else { take_packet(behind, id) }
}

/// All of `few` are in `many`, in the same order.
fn is_part_of(few: &[Vec<u8>], many: &[Vec<u8>]) -> bool {
    let mut many = many.iter();
    few.iter().all(|one| many.any(|other| other == one))
}

/// These bytes in a few pieces.
fn pieces(rng: &mut Rng, bytes: &[u8]) -> Vec<Op> {
    let longest = rng.pick(&[bytes.len() / 30 + 1, bytes.len() / 5 + 1, bytes.len() + 1]);
    let mut ops = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.up_to(longest).min(rest.len()));
        ops.push(Op::Say(piece.to_vec()));
        rest = behind;
    }
    ops
}

/// Narrow enough that whoever does not read leaves us with bytes.
fn manners(rng: &mut Rng) -> Manners {
    let all = 1 << 30;
    let mut cap = || rng.pick(&[1500, 20_000, all]);
    let (recv_max, send_max, arrive_max) = (cap(), cap(), cap());
    let window = rng.pick(&[3000, 20_000, 60_000]);
    Manners { recv_max, send_max, arrive_max, window, low_water: window / 3, block_chance: rng.pick(&[0, 5]) }
}
