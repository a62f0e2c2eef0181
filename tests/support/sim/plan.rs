//! Plans for sessions: the plain ones that tests start from, and random ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use vless_rust::session::DialFailure;
use vless_rust::session::close::CloseReason;

use super::peer::Op;
use super::rng::Rng;
use super::socket::Manners;
use super::world::{Plan, USER};

/// A request header, encoded here and not by the crate.
pub(crate) fn header(id: [u8; 16], addons: &[u8], command: u8, port: u16, address: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&id);
    bytes.push(addons.len() as u8);
    bytes.extend_from_slice(addons);
    bytes.push(command);
    if command != 3 {
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend_from_slice(address);
    }
    bytes
}

pub(crate) fn name(name: &str) -> Vec<u8> {
    let mut bytes = vec![2, name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// What an ordinary client asks for.
pub(crate) fn request() -> Vec<u8> {
    header(USER, &[], 1, 443, &name("example.com"))
}

impl Plan {
    /// A session over smooth connections in which nobody does anything yet.
    pub(crate) fn quiet(client_tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            client_tls,
            client: Vec::new(),
            client_manners: Manners::smooth(),
            client_read_max: 1 << 30,
            dial: Ok(()),
            dial_time: Duration::ZERO,
            target: Vec::new(),
            target_manners: Manners::smooth(),
            target_read_max: 1 << 30,
            inner_targets: Vec::new(),
            reasons: vec![CloseReason::Finished],
        }
    }

    /// A random session; most go well, and for those nothing but [`CloseReason::Finished`] will do.
    pub(crate) fn random(rng: &mut Rng, tls: Option<Arc<ClientConfig>>, now: Instant) -> Self {
        let (client_manners, client_weight) = manners(rng);
        let (target_manners, target_weight) = manners(rng);
        let weight = client_weight.min(target_weight);
        let mut plan = Self {
            client_manners,
            client_read_max: read_max(rng, weight),
            target_manners,
            target_read_max: read_max(rng, weight),
            dial_time: Duration::from_millis(rng.below(9000) as u64),
            ..Self::quiet(tls)
        };
        let mut talk = Talk { rng, weight, now };
        talk.orderly(&mut plan);
        if talk.rng.percent(45) {
            talk.spoil(&mut plan);
        }
        plan
    }
}

/// How a connection behaves, and how many bytes a session over it may have to be done in reasonable time.
pub(crate) fn manners(rng: &mut Rng) -> (Manners, usize) {
    let (step, weight) = rng.pick(&[(3, 300), (40, 3000), (1500, 60_000), (20_000, 300_000), (1 << 20, 1_500_000)]);
    let widest = rng.pick(&[step, step * 4, 256 << 10]);
    let window = rng.up_to(widest);
    let mut cap = || if rng.percent(30) { 1 << 30 } else { step };
    let (recv_max, send_max, arrive_max) = (cap(), cap(), cap());
    let low_water = rng.up_to(window.div_ceil(3));
    let block_chance = rng.pick(&[0, 0, 5, 30]);
    (Manners { recv_max, send_max, arrive_max, window, low_water, block_chance }, weight)
}

pub(crate) fn read_max(rng: &mut Rng, weight: usize) -> usize {
    if rng.percent(30) { 1 << 30 } else { (weight / 50).max(2) }
}

struct Talk<'a> {
    rng: &'a mut Rng,
    weight: usize,
    now: Instant,
}

impl Talk<'_> {
    fn payload(&mut self) -> Vec<Op> {
        let total = match self.rng.below(10) {
            0 => 0,
            1..=5 => self.rng.below(self.weight.min(2000)),
            _ => self.rng.below(self.weight),
        };
        let chunk = self.rng.pick(&[total / 40 + 1, total / 7 + 1, total + 1]);
        let mut ops = Vec::new();
        let bytes = self.rng.bytes(total);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(self.rng.up_to(chunk).min(rest.len()));
            ops.push(Op::Say(head.to_vec()));
            rest = tail;
        }
        ops
    }

    /// The header in some cut, perhaps before TLS is open, perhaps together with the first payload.
    fn opening(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        if self.rng.percent(25) {
            // Late enough to resume the TLS session of another.
            ops.push(Op::WaitUntil(self.now + Duration::from_millis(self.rng.below(5000) as u64)));
        }
        if self.rng.percent(70) {
            ops.push(Op::WaitOpen);
        }
        let address = self.rng.pick(&[
            name("example.com"),
            vec![1, 192, 0, 2, 1],
            [&[3][..], &[0x20; 16]].concat(),
            name(&"long.".repeat(50)),
        ]);
        let addons = self.rng.pick(&[vec![], vec![0x12, 3, 1, 2, 3], vec![0x18, 5]]);
        let mut id = USER;
        id[6] = self.rng.next() as u8;
        let request = header(id, &addons, 1, 1 + self.rng.below(65535) as u16, &address);
        match self.rng.below(4) {
            0 => ops.extend(request.iter().map(|&byte| Op::Header(vec![byte]))),
            1 => {
                let (head, tail) = request.split_at(self.rng.below(request.len()));
                ops.extend([head, tail].map(|part| Op::Header(part.to_vec())));
            }
            _ => ops.push(Op::Header(request)),
        }
        ops
    }

    fn orderly(&mut self, plan: &mut Plan) {
        let mut client = self.opening();
        let opening = client.len();
        let uplink = self.payload();
        let spoken: usize = uplink.iter().map(said).sum();
        client.extend(uplink);
        let mut target = self.payload();
        if self.rng.percent(50) {
            let place = opening + self.rng.below(client.len() - opening + 1);
            client.insert(place, Op::KeyUpdate);
        }
        if self.rng.percent(15) {
            let at = self.now + Duration::from_secs(10 + self.rng.below(10) as u64);
            client.insert(opening + self.rng.below(client.len() - opening + 1), Op::WaitUntil(at));
        }
        if self.rng.percent(15) {
            let at = self.now + Duration::from_secs(10 + self.rng.below(10) as u64);
            target.insert(self.rng.below(target.len() + 1), Op::WaitUntil(at));
        }
        let client_ends_first = self.rng.percent(60);
        let goodbye = match self.rng.below(3) {
            0 => vec![Op::Fin],
            1 => vec![Op::CloseNotify, Op::Fin],
            _ if client_ends_first => vec![Op::CloseNotify, Op::WaitEnd, Op::Fin],
            _ => vec![Op::CloseNotify, Op::Fin],
        };
        // Plain clients know no close_notify.
        let goodbye = if plan.client_tls.is_some() { goodbye } else { vec![Op::Fin] };
        if client_ends_first {
            client.extend(goodbye);
            client.push(Op::WaitEnd);
            match self.rng.below(3) {
                0 => target.insert(0, Op::WaitEnd),
                1 => target.push(Op::WaitEnd),
                _ => target.insert(0, Op::WaitHeard(self.rng.below(spoken + 1))),
            }
        } else {
            client.push(Op::WaitEnd);
            client.extend(goodbye);
            target.insert(0, Op::WaitHeard(self.rng.below(spoken + 1)));
        }
        target.push(Op::Fin);
        (plan.client, plan.target) = (client, target);
        plan.reasons = vec![CloseReason::Finished];
    }

    /// Something goes wrong in an orderly plan.
    fn spoil(&mut self, plan: &mut Plan) {
        use CloseReason::{
            ClientLeft, ClientReset, Finished, HalfCloseTimeout, HandshakeTimeout, Idle, RequestTimeout, TargetReset,
            TargetTimeout, TargetUnreachable, TargetUnresolved, TlsFailed, Truncated, WriteStall,
        };

        let relay = plan.client.iter().rposition(|op| matches!(op, Op::Header(_))).unwrap() + 1;
        let place = self.rng.below(plan.client.len() + 1);
        let later = relay + self.rng.below(plan.client.len() - relay + 1);
        let bytes = self.rng.bytes(100);
        let stalls = [WriteStall, HalfCloseTimeout, Idle, Finished];
        match self.rng.below(9) {
            0 => {
                plan.client.insert(place, Op::Reset);
                plan.reasons = vec![ClientReset, Finished];
            }
            1 => {
                plan.target.insert(self.rng.below(plan.target.len() + 1), Op::Reset);
                plan.reasons = vec![TargetReset, Finished];
            }
            2 => {
                let (failure, reason) = self.rng.pick(&[
                    (DialFailure::Policy, CloseReason::PolicyRefused),
                    (DialFailure::Unresolved, TargetUnresolved),
                    (DialFailure::Unreachable, TargetUnreachable),
                    (DialFailure::TimedOut, TargetTimeout),
                    (DialFailure::NoResources, CloseReason::NoResources),
                ]);
                plan.dial = Err(failure);
                plan.reasons = vec![reason];
            }
            3 => {
                plan.client.splice(later..later, [Op::WaitOpen, Op::StopReading]);
                // A client that does not even read its ticket, over a tiny window, never gets to speak.
                plan.reasons = [&stalls[..], &[CloseReason::FirstByteTimeout, RequestTimeout]].concat();
            }
            4 => {
                plan.target.insert(self.rng.below(plan.target.len() + 1), Op::StopReading);
                plan.reasons = stalls.to_vec();
            }
            5 => {
                plan.client.truncate(relay - 1);
                plan.client.push(Op::Fin);
                // Only the last part of the header is missing, which may be empty.
                plan.reasons = vec![ClientLeft, Finished];
            }
            6 => {
                plan.client.truncate(relay - 1);
                plan.reasons =
                    vec![HandshakeTimeout, CloseReason::FirstByteTimeout, RequestTimeout, HalfCloseTimeout, Idle];
            }
            7 if plan.client_tls.is_some() => {
                let end = plan.client.iter().position(|op| matches!(op, Op::CloseNotify | Op::Fin | Op::WaitEnd));
                let place = later.min(end.unwrap());
                plan.client.truncate(place);
                plan.client.extend([Op::WaitOpen, Op::Torn(bytes), Op::Fin]);
                plan.reasons = vec![Truncated];
            }
            8 if plan.client_tls.is_some() => {
                let end = plan.client.iter().position(|op| matches!(op, Op::CloseNotify | Op::Fin | Op::WaitEnd));
                let place = later.min(end.unwrap());
                plan.client.truncate(place);
                plan.client.extend([Op::WaitOpen, Op::Spoilt(bytes), Op::WaitEnd, Op::Fin]);
                plan.reasons = vec![TlsFailed];
            }
            _ => {
                plan.client.truncate(relay - 1);
                plan.client.insert(0, Op::Raw(b"GET / HTTP/1.1\r\n\r\n".to_vec()));
                plan.client.push(Op::HangUp);
                plan.reasons = if plan.client_tls.is_some() { vec![TlsFailed] } else { vec![CloseReason::NotVless] };
            }
        }
    }
}

fn said(op: &Op) -> usize {
    if let Op::Say(bytes) = op { bytes.len() } else { 0 }
}
