use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::super::pause::Ending;
use super::obey::Stop;
use super::*;
use crate::inbound::users::Users;
use crate::io::buf::Buf;
use crate::io::buffer_memory::BufferMemory;
use crate::io::buffer_pool::{BUFFER_BYTES_MAX, BufferPool, Loan};
use crate::io::datagram::{RecvFrom, SendTo};
use crate::io::random::Random;
use crate::io::socket::{Recv, Sent};
use crate::io::splice::KernelPipe;
use crate::session::allowance::Allowance;
use crate::session::intake::{Intake, Rest};
use crate::session::permits::MuxSockets;
use crate::session::transfer::{Means, Scratch};
use crate::session::{Flow, Timeouts, UdpSettings};
use crate::stats::{Counters, Ledger};

/// Everything was obeyed and nothing is left.
const OBEYED: Result<Stop, Ending> = Ok(Stop::Rest(Rest::Header));

const UDP_TARGET: &[u8] = &[2, 0, 53, 1, 192, 0, 2, 1];

const TCP_TARGET: &[u8] = &[1, 0, 80, 1, 192, 0, 2, 1];

/// What a target's socket takes, and what was done to it.
#[derive(Default)]
struct Wire {
    room: usize,
    taken: usize,
    incoming: VecDeque<Recv>,
    is_shut: bool,
    is_reset: bool,
}

struct Stream(Rc<RefCell<Wire>>);

impl Socket for Stream {
    fn recv(&mut self, _: &mut [u8]) -> Recv {
        self.0.borrow_mut().incoming.pop_front().unwrap_or(Recv::Blocked)
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        let mut wire = self.0.borrow_mut();
        let count = bytes.len().min(wire.room);
        wire.room -= count;
        wire.taken += count;
        if count == 0 { Sent::Blocked } else { Sent::Bytes(count) }
    }

    fn recv_pipe(&mut self, _: &mut KernelPipe, _: usize) -> Option<Recv> {
        None
    }

    fn send_pipe(&mut self, _: &mut KernelPipe) -> Sent {
        Sent::Failed
    }

    fn shutdown_write(&mut self) {
        self.0.borrow_mut().is_shut = true;
    }

    fn reset_on_close(&mut self) {
        self.0.borrow_mut().is_reset = true;
    }
}

struct Peer;

impl DatagramSocket for Peer {
    fn recv_from(&mut self, _: &mut [u8]) -> RecvFrom {
        RecvFrom::Blocked
    }

    fn send_to(&mut self, _: &[u8], _: SocketAddr) -> SendTo {
        SendTo::Sent
    }
}

struct Bench {
    mux: Mux<Stream, Peer>,
    settings: SessionSettings,
    mux_sockets: Arc<MuxSockets>,
    counters: Counters,
    scratch: Scratch,
    pool: BufferPool,
    random: Random,
    now: Instant,
    wishes: Vec<Wish>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let user = User { id: [7; 16], email: String::new(), flow: Flow::None, ledger: Arc::new(Ledger::new(1)) };
        let hour = Duration::from_secs(3600);
        let timeouts = Timeouts {
            tls_handshake: hour,
            first_byte: hour,
            request: hour,
            idle: hour,
            half_close: hour,
            write_stall: Duration::from_mins(1),
        };
        Self {
            mux: Mux::new(Arc::new(user), FirstFrame::Any, now),
            settings: SessionSettings {
                tls: None,
                proxy_protocol_from: Arc::default(),
                users: Arc::new(Users::new([]).unwrap()),
                fallbacks: Arc::default(),
                timeouts,
                vision_seed: [900, 500, 900, 256],
                read_bytes_max: 128 << 10,
                udp: UdpSettings::default(),
            },
            mux_sockets: Arc::new(MuxSockets::new(10_000)),
            counters: Counters::new(0),
            scratch: Scratch::new(),
            pool: BufferPool::new(),
            random: Random::seeded(1),
            now,
            wishes: Vec::new(),
        }
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Mux<Stream, Peer>, &mut Context<'_>) -> T) -> T {
        let mut cx = Context {
            means: Means {
                now: self.now,
                scratch: &mut self.scratch,
                pool: &self.pool,
                pipes: None,
                random: &mut self.random,
            },
            counters: &self.counters,
            settings: &self.settings,
            mux_sockets: &self.mux_sockets,
            worker: 0,
            unix_seconds: || 0,
            allowance: Allowance::turn(usize::MAX),
            wishes: Vec::new(),
        };
        let outcome = call(&mut self.mux, &mut cx);
        self.wishes.extend(cx.wishes);
        outcome
    }

    /// The client sends frames, and all of them are obeyed.
    fn obeys(&mut self, frames: &[u8]) {
        assert_eq!(self.client_says(frames), (OBEYED, 0));
    }

    /// The client sends frames. Returns what became of the last and how many bytes are left over.
    fn client_says(&mut self, frames: &[u8]) -> (Result<Stop, Ending>, usize) {
        let mut payload = Buf::new(BUFFER_BYTES_MAX);
        assert!(payload.append(frames));
        let obeyed = self.with(|mux, cx| mux.obey_all(&mut payload, &Intake::new(), cx));
        (obeyed, payload.len())
    }
}

fn frame(id: u16, status: u8, rest: &[u8], payload: Option<&[u8]>) -> Vec<u8> {
    let mut frame = (4 + rest.len() as u16).to_be_bytes().to_vec();
    frame.extend(id.to_be_bytes());
    frame.extend([status, u8::from(payload.is_some())]);
    frame.extend(rest);
    if let Some(payload) = payload {
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend(payload);
    }
    frame
}

#[test]
fn sessions_that_come_and_go_while_the_client_does_not_read_leave_nothing_behind() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.obeys(&frame(1, 1, UDP_TARGET, Some(b"x")));
        bench.with(|mux, cx| mux.on_bound(0, Some(Peer), cx));
        bench.obeys(&frame(1, 3, &[], None));
    }
    assert!(bench.mux.subs.is_empty() && bench.mux.ready.is_empty(), "{} marks", bench.mux.ready.len());
}

impl Bench {
    /// A session with this number whose target is connected and takes so many bytes.
    fn connected(&mut self, id: u16, room: usize) -> Rc<RefCell<Wire>> {
        self.obeys(&frame(id, 1, TCP_TARGET, Some(b"")));
        let Some(Wish::Dial { leg: Leg::Sub(sub), .. }) = self.wishes.pop() else { panic!("no dial") };
        let wire = Rc::new(RefCell::new(Wire { room, ..Wire::default() }));
        let socket = Stream(Rc::clone(&wire));
        self.with(|mux, cx| mux.on_connected(sub.into(), socket, cx));
        wire
    }

    fn writable(&mut self, sub: usize) {
        self.with(|mux, cx| mux.on_ready(sub, Readiness { writable: true, ..Readiness::default() }, cx));
    }

    /// Time passes until a deadline comes.
    fn wait_for(&mut self, deadline: Duration) {
        self.now += deadline;
        let downlink = Transfer::new(self.now);
        let next = self.mux.deadline(&self.settings, &downlink).0;
        assert!(next <= self.now, "nobody looks for another {:?}", next - self.now);
        assert!(self.with(|mux, cx| mux.expire(&downlink, cx)), "the connection goes on");
    }

    fn control(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.mux.ends).concat()
    }
}

#[test]
fn a_target_that_takes_nothing_is_reset_in_time_and_ends_with_an_error() {
    let mut bench = Bench::new();
    let wire = bench.connected(1, 10);
    assert_eq!(bench.client_says(&frame(1, 2, &[], Some(&[7; 1000]))), (OBEYED, 0));
    bench.wait_for(bench.settings.timeouts.write_stall);
    assert_eq!(bench.control(), mux::end(1, true));
    let wire = wire.borrow();
    assert!(wire.is_reset && !wire.is_shut && wire.taken == 10);
}

#[test]
fn an_idle_target_that_is_owed_nothing_ends_in_order() {
    let mut bench = Bench::new();
    let wire = bench.connected(1, 10);
    bench.wait_for(bench.settings.timeouts.idle);
    assert_eq!(bench.control(), mux::end(1, false));
    assert!(!wire.borrow().is_reset);
}

#[test]
fn what_the_client_sent_before_its_end_is_flushed_or_cut_short_with_a_reset() {
    let mut bench = Bench::new();
    let (late, prompt) = (bench.connected(1, 0), bench.connected(2, 2000));
    for id in [1, 2] {
        bench.obeys(&[frame(id, 2, &[], Some(&[7; 1000])), frame(id, 3, &[], None)].concat());
    }
    assert!(prompt.borrow().is_shut && !late.borrow().is_shut);
    // A client that breaks off harms only what is not complete.
    bench.mux.reset_targets();
    assert!(!prompt.borrow().is_reset && late.borrow().is_reset);
    late.borrow_mut().is_reset = false;
    bench.wait_for(Duration::from_secs(30));
    assert!(late.borrow().is_reset && !late.borrow().is_shut);
    assert!(bench.mux.subs.is_empty() && bench.control().is_empty());
}

#[test]
fn targets_get_all_that_a_client_sent_before_it_ended_its_stream() {
    let mut bench = Bench::new();
    let (ended, open) = (bench.connected(1, 0), bench.connected(2, 0));
    let data = [frame(1, 2, &[], Some(&[7; 1000])), frame(1, 3, &[], None), frame(2, 2, &[], Some(&[7; 500]))];
    bench.obeys(&data.concat());
    assert_eq!(bench.with(Mux::end_by_eof), Ok(Pause::Wait));
    for (sub, wire) in [&ended, &open].into_iter().enumerate() {
        wire.borrow_mut().room = 5000;
        bench.writable(sub);
        assert!(wire.borrow().is_shut && !wire.borrow().is_reset);
        assert_eq!(bench.with(Mux::outlive_client), Ok(Pause::Wait), "they may not have read it yet");
        wire.borrow_mut().incoming.push_back(Recv::End);
        bench.with(|mux, cx| mux.on_ready(sub, Readiness { readable: true, ..Readiness::default() }, cx));
    }
    assert_eq!((ended.borrow().taken, open.borrow().taken), (1000, 500));
    assert_eq!(bench.with(Mux::outlive_client), Err(Ending::InOrder(CloseReason::Finished)));
}

#[test]
fn a_connection_that_ends_resets_the_targets_it_owes_bytes() {
    let mut bench = Bench::new();
    let (owed, satisfied) = (bench.connected(1, 0), bench.connected(2, 1000));
    bench.obeys(&[frame(1, 2, &[], Some(b"x")), frame(2, 2, &[], Some(b"x"))].concat());
    bench.mux.reset_owed_targets();
    assert!(owed.borrow().is_reset && !satisfied.borrow().is_reset);
}

#[test]
fn port_zero_costs_only_the_session_or_the_datagram() {
    let mut bench = Bench::new();
    let nowhere =
        [frame(1, 1, &[1, 0, 0, 1, 192, 0, 2, 1], Some(b"x")), frame(2, 1, &[2, 0, 0, 2, 1, b'a'], Some(b"x"))];
    assert_eq!(bench.client_says(&nowhere.concat()), (OBEYED, 0));
    assert_eq!(bench.control(), mux::end(1, true));
    bench.with(|mux, cx| mux.on_bound(0, Some(Peer), cx));
    assert_eq!(bench.client_says(&frame(2, 2, &[2, 0, 0, 1, 192, 0, 2, 1], Some(b"x"))), (OBEYED, 0));
    assert!(bench.control().is_empty());
}

#[test]
fn what_waits_is_known_at_every_moment_and_without_memory_nothing_more_is_taken() {
    let mut bench = Bench::new();
    let check = |bench: &Bench| {
        let held =
            bench.mux.subs.iter().map(|(_, one)| if let SubLeg::Tcp(leg) = &one.leg { leg.held_bytes() } else { 0 });
        assert_eq!(bench.mux.held_bytes, held.sum::<usize>());
        assert_eq!(bench.mux.held_bytes, bench.pool.held_bytes());
        bench.mux.held_bytes
    };
    let wire = bench.connected(1, 100);
    for bytes in [50, 100, 3000, 2000] {
        bench.obeys(&frame(1, 2, &[], Some(&vec![7; bytes])));
        check(&bench);
    }
    assert_eq!(check(&bench), 64 << 10);
    wire.borrow_mut().room = 10_000;
    bench.writable(0);
    assert_eq!((check(&bench), wire.borrow().taken), (0, 5150));
    bench.obeys(&frame(2, 1, TCP_TARGET, Some(b"waits for its dial")));
    assert_eq!(check(&bench), 4 << 10);
    bench.obeys(&frame(2, 1, TCP_TARGET, Some(b"another")));
    assert_eq!(check(&bench), 8 << 10, "the first one's bytes still leave");

    let memory = Arc::new(BufferMemory::new(64 << 10, 1));
    bench.pool = BufferPool::with_memory(Arc::clone(&memory));
    let lent: Vec<_> = (0..memory.lent_bytes_max() >> 12).map(|_| bench.pool.take(1, Loan::Waiting)).collect();
    let data = frame(1, 2, &[], Some(b"x"));
    assert_eq!(bench.client_says(&data), (OBEYED, 0), "its target takes it at once");
    let new = frame(3, 1, TCP_TARGET, Some(b"x"));
    assert_eq!(bench.client_says(&new), (Ok(Stop::Pause(Pause::Wait)), 1), "it waits for its target, not for memory");
    assert_eq!(bench.mux.by_id.len(), 3, "which is dialled");
    drop(lent);
    assert_eq!(bench.client_says(b"x"), (OBEYED, 0));
    bench.pool = BufferPool::new();
    let mut bench = Bench::new();
    bench.obeys(&frame(2, 1, UDP_TARGET, Some(b"x")));
    bench.with(|mux, cx| mux.on_bound(0, Some(Peer), cx));
    // A datagram that is not whole waits for its rest.
    let whole = frame(2, 2, &[], Some(&[7; 100]));
    assert_eq!(bench.client_says(&whole[..50]), (Ok(Stop::Rest(Rest::Part(whole.len()))), 50));
}

#[test]
fn the_payload_of_a_stream_passes_as_it_comes() {
    let mut bench = Bench::new();
    let wire = bench.connected(1, 10_000);
    let data = frame(1, 2, &[], Some(&[7; 9000]));
    for piece in data.chunks(1000) {
        assert_eq!(bench.client_says(piece), (OBEYED, 0));
    }
    assert_eq!((wire.borrow().taken, bench.pool.held()), (9000, 0));
    bench.obeys(&frame(1, 3, &[], Some(b"a reason that nobody reads")));
    assert!(wire.borrow().is_shut);
}

#[test]
fn the_rest_of_a_frame_for_a_session_that_ends_is_thrown_away() {
    let mut bench = Bench::new();
    let (one, other) = (bench.connected(1, 10_000), bench.connected(2, 10_000));
    let data = frame(1, 2, &[], Some(&[7; 500]));
    bench.obeys(&data[..200]);
    bench.with(|mux, cx| mux.on_failed(0, cx));
    assert_eq!(bench.control(), mux::end(1, true));
    bench.obeys(&[&data[200..], &frame(2, 2, &[], Some(b"next"))].concat());
    assert_eq!((one.borrow().taken, other.borrow().taken), (200 - 8, 4));
}

#[test]
fn a_bad_frame_ends_its_session_and_no_other() {
    let bad_name = |id| frame(id, 1, &[1, 0, 80, 2, 3, b'a', b' ', b'b'], Some(b"hello"));
    let mut bench = Bench::new();
    let wire = bench.connected(1, 1000);
    for bad in [bad_name(7), frame(7, 1, &[1, 0, 80, 2, 3, b':', b':', b'1'], None), frame(7, 1, &[9], Some(b"x"))] {
        bench.obeys(&[bad, frame(1, 2, &[], Some(b"on"))].concat());
        assert_eq!(bench.control(), mux::end(7, true));
    }
    assert_eq!(wire.borrow().taken, 6);
    // A datagram for nowhere is lost, like one that the network loses.
    bench.obeys(&[frame(2, 1, UDP_TARGET, Some(b"x"))].concat());
    bench.with(|mux, cx| mux.on_bound(1, Some(Peer), cx));
    bench.obeys(&frame(2, 2, &[2, 0, 53, 2, 1, b' '], Some(b"x")));
    assert_eq!((bench.counters.udp_dropped_unresolved.value(), bench.control().len()), (1, 0));
    assert_eq!(bench.mux.by_id.len(), 2);
}

#[test]
fn a_number_that_is_used_again_never_hears_the_end_of_its_past() {
    let mut bench = Bench::new();
    bench.connected(1, 0);
    bench.with(|mux, cx| mux.on_failed(0, cx));
    bench.obeys(&frame(1, 1, TCP_TARGET, None));
    assert!(bench.control().is_empty());
}

#[test]
fn a_target_without_client_is_heard_up_to_a_bound_and_counted() {
    let mut bench = Bench::new();
    let wire = bench.connected(1, 1000);
    bench.obeys(&frame(1, 3, &[], None));
    for _ in 0..400 {
        wire.borrow_mut().incoming.push_back(Recv::Bytes(10_000));
    }
    let readable = Readiness { readable: true, ..Readiness::default() };
    bench.with(|mux, cx| mux.on_ready(0, readable, cx));
    bench.mux.is_client_gone = true;
    for _ in 0..200 {
        let _ = bench.with(Mux::outlive_client);
    }
    assert!(bench.mux.subs.is_empty());
    let discarded = bench.counters.mux_bytes_discarded.value();
    assert!(((1 << 20)..(1 << 20) + 50_000).contains(&discarded), "{discarded}");
}
