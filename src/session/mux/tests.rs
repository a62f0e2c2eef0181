use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::obey::Obeyed;
use super::*;
use crate::inbound::users::Users;
use crate::io::buf::Buf;
use crate::io::buffer_pool::{BUFFER_BYTES_MAX, BufferPool};
use crate::io::datagram::{RecvFrom, SendTo};
use crate::io::random::Random;
use crate::io::socket::{Recv, Send};
use crate::io::splice::KernelPipe;
use crate::session::permits::MuxSockets;
use crate::session::transfer::{Means, Scratch};
use crate::session::{Flow, Timeouts, UdpSettings};
use crate::stats::{Counters, UserCounters};

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

    fn send(&mut self, bytes: &[u8]) -> Send {
        let mut wire = self.0.borrow_mut();
        let count = bytes.len().min(wire.room);
        wire.room -= count;
        wire.taken += count;
        if count == 0 { Send::Blocked } else { Send::Bytes(count) }
    }

    fn recv_pipe(&mut self, _: &mut KernelPipe) -> Option<Recv> {
        None
    }

    fn send_pipe(&mut self, _: &mut KernelPipe) -> Send {
        Send::Failed
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
        let user = User { id: [7; 16], email: String::new(), flow: Flow::None, counters: UserCounters::new(1) };
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
            mux: Mux::new(Arc::new(user), Opening::Any, now),
            settings: SessionSettings {
                tls: None,
                users: Arc::new(Users::new([]).unwrap()),
                timeouts,
                vision_seed: [900, 500, 900, 256],
                read_bytes_max: 128 << 10,
                udp: UdpSettings::default(),
                mux_sockets: Arc::new(MuxSockets::new(10_000)),
            },
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
            worker: 0,
            wishes: Vec::new(),
        };
        let outcome = call(&mut self.mux, &mut cx);
        self.wishes.extend(cx.wishes);
        outcome
    }

    /// The client sends frames; returns what became of the last and how many bytes are left over.
    fn client_says(&mut self, frames: &[u8]) -> (Obeyed, usize) {
        let mut payload = Buf::new(BUFFER_BYTES_MAX);
        assert!(payload.append(frames));
        let mut budget = usize::MAX;
        let obeyed = self.with(|mux, cx| mux.obey_all(&mut payload, &mut budget, cx));
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

const UDP_TARGET: &[u8] = &[2, 0, 53, 1, 192, 0, 2, 1];

#[test]
fn sessions_that_come_and_go_while_the_client_does_not_read_leave_nothing_behind() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.client_says(&frame(1, 1, UDP_TARGET, Some(b"x")));
        bench.with(|mux, cx| mux.on_bound(0, Some(Peer), cx));
        bench.client_says(&frame(1, 3, &[], None));
    }
    assert!(bench.mux.subs.is_empty() && bench.mux.ready.is_empty(), "{} marks", bench.mux.ready.len());
}
