//! Whole Mux connections on scripted sockets: frames cut anywhere, numbers used again, ends in every state, sockets that
//! move away by their Global ID and sessions that expire, by seed. The scheduler is the one of the server.
//!
//! Sockets are edge-triggered: an event is delivered only after the session saw "blocked" and something has changed, so
//! a wake-up that the session loses stays lost and the run ends with bytes missing. `SIM_SEED` runs one seed alone.

mod counted;
mod shortage;
mod sockets;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sockets::{Datagrams, Net, Stream, Wire};
use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::io::endpoint::Readiness;
use vless_rust::io::random::Random;
use vless_rust::io::timer::TimerWheel;
use vless_rust::io::token::{Kind, Token};
use vless_rust::reactor::schedule::{Baggage, Lent, Schedule};
use vless_rust::session::close::CloseReason;
use vless_rust::session::permits::MuxSockets;
use vless_rust::session::transfer::Scratch;
use vless_rust::session::{
    BindFailure, Context, DialFailure, Flow, Leg, Next, Session, SessionRecord, SessionSettings, Timeouts, UdpSettings,
    User, Users, Wish,
};
use vless_rust::stats::{Counters, Ledger};

const SEEDS: u64 = 32;
const USER: [u8; 16] = *b"without any flow";
const FRAMES: usize = 120;

/// What the client asked for once: a session from its New frame to its end.
struct Asked {
    id: u16,
    /// For TCP the bytes, for UDP the datagrams that must arrive.
    stream: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
    is_udp: bool,
    /// The client ended it or used its number again.
    is_ended: bool,
    target: Option<Rc<RefCell<Wire>>>,
    net: Option<Rc<RefCell<Net>>>,
    is_refused: bool,
    /// Bytes or datagrams that its target has sent to the session.
    answered: usize,
    target_ended: bool,
    /// Another connection took its socket over.
    is_taken: bool,
    leg: Option<Leg>,
}

/// Nothing is kept beside the one session.
struct NoBaggage;

impl Baggage for NoBaggage {}

struct World {
    seed: u64,
    rng: Random,
    now: Instant,
    schedule: Schedule<Stream, Datagrams, NoBaggage>,
    token: Token,
    timers: TimerWheel<Token>,
    settings: SessionSettings,
    mux_sockets: Arc<MuxSockets>,
    counters: Counters,
    scratch: Scratch,
    pool: BufferPool,
    random: Random,
    wishes: VecDeque<Wish>,
    client: Rc<RefCell<Wire>>,
    script: VecDeque<u8>,
    asked: Vec<Asked>,
    /// Of its end.
    record: Option<SessionRecord>,
}

impl World {
    fn new(seed: u64) -> Self {
        let user = User { id: USER, email: String::new(), flow: Flow::None, ledger: Arc::new(Ledger::new(1)) };
        let long = Duration::from_secs(3600);
        let settings = SessionSettings {
            tls: None,
            proxy_protocol_from: Arc::default(),
            users: Arc::new(Users::new([user]).unwrap()),
            fallbacks: Arc::default(),
            timeouts: Timeouts {
                tls_handshake: long,
                first_byte: long,
                request: long,
                idle: long,
                half_close: long,
                write_stall: long,
            },
            vision_seed: [900, 500, 900, 256],
            read_bytes_max: 128 << 10,
            udp: UdpSettings { timeout: long, ..UdpSettings::default() },
        };
        let now = Instant::now();
        let client = Rc::new(RefCell::new(Wire { wants_read: true, wants_write: true, ..Wire::default() }));
        let mut world = Self {
            seed,
            rng: Random::seeded(seed),
            now,
            schedule: Schedule::new(),
            token: Token::new(Kind::Session, 0, 0, 0),
            timers: TimerWheel::new(now),
            settings,
            mux_sockets: Arc::new(MuxSockets::new(10_000)),
            counters: Counters::new(CloseReason::ALL.len()),
            scratch: Scratch::new(),
            pool: BufferPool::new(),
            random: Random::seeded(seed ^ 1),
            wishes: VecDeque::new(),
            client: Rc::clone(&client),
            script: [&[0], &USER[..], &[0, 3]].concat().into(),
            asked: Vec::new(),
            record: None,
        };
        let (schedule, mut lent) = world.parts();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let admitted = schedule.admit(Stream(client), address, NoBaggage, |_, _| Ok::<_, ()>(()), &mut lent);
        world.token = admitted.unwrap().unwrap();
        world
    }

    /// The scheduler, and what it is lent.
    fn parts(&mut self) -> (&mut Schedule<Stream, Datagrams, NoBaggage>, Lent<'_>) {
        let lent = Lent {
            now: self.now,
            scratch: &mut self.scratch,
            pool: &self.pool,
            pipes: None,
            random: &mut self.random,
            timers: &mut self.timers,
            counters: &self.counters,
            settings: &self.settings,
            mux_sockets: &self.mux_sockets,
            worker: 0,
        };
        (&mut self.schedule, lent)
    }

    fn is_closed(&self) -> bool {
        self.record.is_some()
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u32) as usize
    }

    /// Writes the client's frames and what they must lead to.
    fn write_script(&mut self) {
        let mut open: BTreeMap<u16, usize> = BTreeMap::new();
        for _ in 0..FRAMES {
            let id = self.below(4) as u16;
            let size = if self.below(20) == 0 { self.below(65536) } else { self.below(300) };
            let payload: Vec<u8> = (0..size).map(|place| (place ^ self.script.len()) as u8).collect();
            let known = open.get(&id).copied();
            match (self.below(10), known) {
                (0..3, _) | (_, None) if self.below(4) > 0 => {
                    let instance = self.asked.len();
                    if let Some(old) = known {
                        self.asked[old].is_ended = true;
                    }
                    let is_udp = self.below(2) == 0;
                    let port = 1000 + instance as u16;
                    let [high, low] = port.to_be_bytes();
                    let mut destination = vec![if is_udp { 2 } else { 1 }, high, low, 1, 10, 0, 0, 1];
                    if is_udp {
                        destination.extend(global_id(instance));
                    }
                    self.frame(id, 1, &destination, Some(&payload));
                    self.asked.push(Asked {
                        id,
                        stream: Vec::new(),
                        datagrams: Vec::new(),
                        is_udp,
                        is_ended: false,
                        target: None,
                        net: None,
                        is_refused: false,
                        answered: 0,
                        target_ended: false,
                        is_taken: false,
                        leg: None,
                    });
                    open.insert(id, instance);
                    self.expect(instance, &payload);
                }
                (3, Some(old)) => {
                    self.frame(id, 3, &[], None);
                    self.asked[old].is_ended = true;
                    open.remove(&id);
                }
                (4, _) => self.frame(id, 4, &[], (self.seed & 1 == 0).then_some(&payload)),
                (_, Some(instance)) => {
                    self.frame(id, 2, &[], Some(&payload));
                    self.expect(instance, &payload);
                }
                // Data and ends for sessions that do not exist.
                (odd, None) => self.frame(id, if odd % 2 == 0 { 2 } else { 3 }, &[], Some(&payload)),
            }
        }
    }

    fn expect(&mut self, instance: usize, payload: &[u8]) {
        let asked = &mut self.asked[instance];
        asked.stream.extend_from_slice(payload);
        asked.datagrams.push(payload.to_vec());
    }

    fn frame(&mut self, id: u16, status: u8, rest: &[u8], payload: Option<&Vec<u8>>) {
        self.script.extend((4 + rest.len() as u16).to_be_bytes());
        self.script.extend(id.to_be_bytes());
        self.script.extend([status, u8::from(payload.is_some())]);
        self.script.extend(rest);
        if let Some(payload) = payload {
            self.script.extend((payload.len() as u16).to_be_bytes());
            self.script.extend(payload);
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Session<Stream, Datagrams>, &mut Context<'_>) -> Next) {
        let token = self.token;
        let (schedule, mut lent) = self.parts();
        schedule.call(token, &mut lent, call);
        self.take_answers();
    }

    /// Tells of an event, which the next turn will look at.
    fn tell(&mut self, leg: Leg, readiness: Readiness) {
        let token = self.token;
        let (schedule, mut lent) = self.parts();
        schedule.on_event(token, leg, readiness, &mut lent);
    }

    /// The scheduler's turn, as a worker gives it; false if there is nobody to serve.
    fn turn(&mut self) -> bool {
        let (schedule, mut lent) = self.parts();
        let is_busy = schedule.is_busy(&lent);
        if is_busy {
            schedule.serve_urgent(&mut lent);
            schedule.serve_bulk(&mut lent);
            self.take_answers();
        }
        is_busy
    }

    fn take_answers(&mut self) {
        while let Some((_, wish)) = self.schedule.take_wish() {
            self.wishes.push_back(wish);
        }
        if let Some(closed) = self.schedule.take_closed() {
            self.record = Some(closed.record);
        }
    }

    /// Delivers an event of a stream socket if one is due.
    fn event(&mut self, leg: Leg, wire: &Rc<RefCell<Wire>>) {
        let readiness = {
            let mut wire = wire.borrow_mut();
            let has_news = !wire.incoming.is_empty() || wire.is_ended || wire.is_reset;
            let readable = wire.wants_read && has_news;
            let writable = wire.wants_write && (wire.room > 0 || wire.is_reset);
            wire.wants_read &= !readable;
            wire.wants_write &= !writable;
            Readiness { readable, writable, ..Readiness::default() }
        };
        if readiness != Readiness::default() {
            self.tell(leg, readiness);
        }
    }

    /// One random thing happens; `is_calm` leaves out what makes it harder.
    fn step(&mut self, is_calm: bool) {
        match self.below(9) {
            0 | 1 => {
                let count = self.below(if is_calm { 100_000 } else { 2000 }).min(self.script.len());
                let bytes: Vec<u8> = self.script.drain(..count).collect();
                self.client.borrow_mut().incoming.extend(bytes);
            }
            2 => {
                let client = Rc::clone(&self.client);
                self.event(Leg::Client, &client);
            }
            3 => {
                let room = self.below(if is_calm { 1 << 20 } else { 3000 });
                self.client.borrow_mut().room += room;
            }
            4 => self.serve_wish(),
            5 => {
                self.turn();
            }
            6..9 if self.asked.is_empty() => {}
            6..9 => {
                let instance = self.below(self.asked.len());
                self.step_target(instance, is_calm);
            }
            _ => {}
        }
    }

    fn step_target(&mut self, instance: usize, is_calm: bool) {
        let Some(leg) = self.asked[instance].leg else { return };
        if let Some(net) = self.asked[instance].net.clone() {
            if self.below(3) == 0 && !is_calm {
                let source = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 1000 + instance as u16);
                net.borrow_mut().incoming.push_back((vec![instance as u8; 1 + self.below(600)], source));
                self.asked[instance].answered += 1;
            }
            let is_due = {
                let mut net = net.borrow_mut();
                let is_due = net.wants_read && !net.incoming.is_empty();
                net.wants_read &= !is_due;
                is_due
            };
            if is_due && Rc::strong_count(&net) > 2 {
                self.tell(leg, Readiness { readable: true, ..Readiness::default() });
            }
            if !is_calm && self.below(60) == 0 && Rc::strong_count(&net) > 2 {
                self.asked[instance].is_taken = true;
                self.call(|session, cx| session.on_udp_taken(leg, global_id(instance), cx));
            }
        }
        let Some(wire) = self.asked[instance].target.clone() else { return };
        let room = self.below(if is_calm { 1 << 20 } else { 2000 });
        wire.borrow_mut().room += room;
        if !is_calm && !self.asked[instance].target_ended {
            match self.below(100) {
                0 => {
                    self.asked[instance].target_ended = true;
                    wire.borrow_mut().is_ended = true;
                }
                1 => {
                    self.asked[instance].target_ended = true;
                    wire.borrow_mut().is_reset = true;
                }
                2..50 => {
                    let count = self.below(60_000);
                    wire.borrow_mut().incoming.extend(std::iter::repeat_n(instance as u8, count));
                    self.asked[instance].answered += count;
                }
                _ => {}
            }
        }
        // Somebody must still hold the other end.
        if Rc::strong_count(&wire) > 2 {
            self.event(leg, &wire);
        }
    }

    fn serve_wish(&mut self) {
        let Some(wish) = self.wishes.pop_front() else { return };
        let is_good = self.below(8) > 0;
        match wish {
            Wish::DialFallback { .. } => panic!("there are no fallbacks"),
            Wish::Enter { .. } => panic!("nobody is announced"),
            Wish::Dial { leg, target } => {
                let instance = usize::from(target.port) - 1000;
                if !is_good {
                    self.asked[instance].is_refused = true;
                    return self.call(|session, cx| session.on_dial_failed(leg, DialFailure::Unreachable, cx));
                }
                // A dial that was given up meanwhile is never answered.
                let is_cancelled =
                    self.wishes.iter().any(|wish| matches!(wish, Wish::Cancel { leg: of } if *of == leg));
                if is_cancelled {
                    self.asked[instance].is_refused = true;
                    return;
                }
                let wire = Rc::new(RefCell::new(Wire { wants_read: true, ..Wire::default() }));
                self.asked[instance].target = Some(Rc::clone(&wire));
                self.asked[instance].leg = Some(leg);
                self.call(|session, cx| session.on_connected(leg, Stream(wire), cx));
            }
            Wish::BindUdp { leg, global_id: id, .. } => {
                let instance = (0..self.asked.len()).find(|&instance| Some(global_id(instance)) == id).unwrap();
                if !is_good {
                    self.asked[instance].is_refused = true;
                    return self.call(|session, cx| session.on_bound(leg, Err(BindFailure::NoResources), cx));
                }
                let net = Rc::new(RefCell::new(Net::default()));
                self.call(|session, cx| session.on_bound(leg, Ok(Datagrams(Rc::clone(&net))), cx));
                self.asked[instance].net = Some(net);
                self.asked[instance].leg = Some(leg);
            }
            Wish::Resolve { .. } => unreachable!("no names were used"),
            Wish::Cancel { .. } => {}
        }
    }

    fn run(&mut self) {
        self.write_script();
        for _ in 0..3000 {
            self.step(false);
        }
        // Now everybody reads and nothing new is said: all that can arrive must.
        for _ in 0..60 {
            for _ in 0..1000 {
                self.step(true);
            }
            if self.is_quiet() {
                break;
            }
        }
        assert!(!self.is_closed(), "closed before the client left");
        assert!(self.script.is_empty() && self.client.borrow().incoming.is_empty(), "the client is not read any more");
        self.check_uplink();
        self.check_downlink();
        self.expire();
        self.client.borrow_mut().is_ended = true;
        let client = Rc::clone(&self.client);
        self.event(Leg::Client, &client);
        while self.turn() {}
        assert!(self.is_closed(), "the client has left");
        assert_eq!(self.pool.held(), 0, "buffers are held");
    }

    /// Everybody is silent for too long: every session that is left gets its one End.
    fn expire(&mut self) {
        let heard = self.client.borrow().sent.len();
        self.now += Duration::from_secs(3600);
        self.call(Session::on_timeout);
        for _ in 0..1000 {
            self.step(true);
        }
        let mut ended: Vec<_> = self.client.borrow().sent[heard..].chunks(6).map(<[u8]>::to_vec).collect();
        ended.sort_unstable();
        let open = self.asked.iter().filter(|asked| !asked.is_ended && !asked.is_ended_by_server());
        let mut expected: Vec<_> = open.map(|asked| [&[0, 4], &asked.id.to_be_bytes()[..], &[3, 0]].concat()).collect();
        expected.sort_unstable();
        assert_eq!(ended, expected, "ends of idle sessions");
    }

    /// Nothing waits for the session any more; what the session has kept to itself is found out afterwards.
    fn is_quiet(&self) -> bool {
        let is_heard = |wire: &Rc<RefCell<Wire>>| Rc::strong_count(wire) == 1 || wire.borrow().incoming.is_empty();
        self.script.is_empty()
            && self.wishes.is_empty()
            && self.schedule.standing(self.token).is_none_or(|standing| !standing.queued)
            && is_heard(&self.client)
            && self.asked.iter().all(|asked| asked.target.as_ref().is_none_or(is_heard))
    }

    fn check_uplink(&self) {
        for (instance, asked) in self.asked.iter().enumerate() {
            if let Some(wire) = &asked.target {
                let wire = wire.borrow();
                assert!(asked.stream.starts_with(&wire.sent), "{instance}: other bytes");
                if !asked.target_ended {
                    assert_eq!(wire.sent.len(), asked.stream.len(), "{instance}: bytes are missing");
                    assert_eq!(wire.saw_shutdown, asked.is_ended, "{instance}: the end");
                }
            } else if !asked.is_udp {
                // A dial is given up only for a session that had nothing to say.
                assert!(asked.is_refused || asked.stream.is_empty(), "{instance}: never dialled");
            }
            if let Some(net) = &asked.net {
                let sent: Vec<_> = net.borrow().sent.iter().map(|(bytes, _)| bytes.clone()).collect();
                assert!(asked.datagrams.starts_with(&sent), "{instance}: other datagrams");
                if !asked.is_ended && !asked.is_taken {
                    assert_eq!(sent.len(), asked.datagrams.len(), "{instance}: datagrams are missing");
                }
            }
        }
    }

    fn check_downlink(&self) {
        let bytes = self.client.borrow().sent.clone();
        let Some(mut rest) = bytes.strip_prefix(&[0, 0][..]) else {
            return assert!(bytes.is_empty(), "no response header");
        };
        let mut arrived = vec![0; self.asked.len()];
        let (mut ends, mut errors) = (0, 0);
        while let [0, length, id_high, id_low, status, option, tail @ ..] = rest {
            let id = u16::from_be_bytes([*id_high, *id_low]);
            rest = &tail[usize::from(*length) - 4..];
            if *status == 3 {
                assert!(*length == 4 && matches!(option, 0 | 2));
                ends += 1;
                errors += usize::from(*option == 2);
                continue;
            }
            assert_eq!((*status, *option), (2, 1));
            let (payload, behind) = rest[2..].split_at(usize::from(u16::from_be_bytes([rest[0], rest[1]])));
            rest = behind;
            // Payload is made of the number of its instance.
            let instance = usize::from(payload[0]);
            assert!(payload.iter().all(|&byte| usize::from(byte) == instance), "sessions are mixed up");
            assert_eq!(self.asked[instance].id, id);
            assert_eq!(*length > 4, self.asked[instance].is_udp, "an address in front of datagrams only");
            arrived[instance] += if self.asked[instance].is_udp { 1 } else { payload.len() };
        }
        assert!(rest.is_empty(), "a frame is cut");
        self.check_ends(ends, errors);
        for (instance, (asked, arrived)) in self.asked.iter().zip(arrived).enumerate() {
            let is_reset = asked.target.as_ref().is_some_and(|wire| wire.borrow().is_reset);
            assert!(arrived <= asked.answered, "{instance}: more than was said");
            if !asked.is_ended && !is_reset && !asked.is_taken {
                assert_eq!(arrived, asked.answered, "{instance}: answers are missing");
            }
        }
    }
}

impl World {
    /// Each session that the server ended was told so once, and none that the client had ended before. When both ended
    /// it, the order in which the frames crossed decides.
    fn check_ends(&self, ends: usize, errors: usize) {
        let count = |is_counted: &dyn Fn(&Asked) -> bool| self.asked.iter().filter(|asked| is_counted(asked)).count();
        let certain = count(&|asked| asked.is_ended_by_server() && !asked.is_ended);
        // A frame for a session that does not exist is answered with an end, unless its number was used meanwhile.
        let possible = count(&Asked::is_ended_by_server) + self.counters.mux_frames_astray.value() as usize;
        assert!((certain..=possible).contains(&ends), "{ends} ends for {certain} to {possible} sessions");
        let certain = count(&|asked| asked.has_failed() && !asked.is_ended);
        let possible = count(&Asked::has_failed);
        assert!((certain..=possible).contains(&errors), "{errors} errors for {certain} to {possible} sessions");
    }
}

impl Asked {
    fn has_failed(&self) -> bool {
        self.is_refused || self.target.as_ref().is_some_and(|wire| wire.borrow().is_reset)
    }

    fn is_ended_by_server(&self) -> bool {
        self.has_failed() || self.target_ended || self.is_taken
    }
}

/// The Global ID of the UDP session that was asked for in this place.
fn global_id(instance: usize) -> [u8; 8] {
    (instance as u64 + 1).to_be_bytes()
}

#[test]
fn random_connections_lose_nothing_and_mix_nothing_up() {
    let seeds = match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(outcome.is_ok(), "seed {seed} failed; SIM_SEED={seed} runs it alone");
    }
}
