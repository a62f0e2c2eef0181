//! Many users at once with sessions of every kind, while there is memory for few of them: every byte arrives.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use serde_json::json;

use crate::echo::Echo;
use crate::member::{Member, Step};
use crate::program::Program;
use crate::support::client::config;
use crate::talk::Talk;
use crate::{alone, is_full, scaled};

/// Connections of a user: so many streams, and so many associations.
const STREAMS: usize = 10;
const ASSOCIATIONS: usize = 8;
/// Mux connections, and the sessions inside each. With the others that makes 30 sessions.
const CONNECTIONS: usize = 3;
const INSIDE: usize = 4;
const SESSIONS: usize = STREAMS + ASSOCIATIONS + CONNECTIONS * INSIDE;

/// Longer than anything takes on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// Everybody takes no byte for up to so long after the first answer, so that what comes back fills the memory there is.
const PAUSE_MS_MAX: usize = 3000;
/// The same where there are hundreds of users, so that all of their clients pause at the same time.
const LONG_PAUSE_MS_MAX: usize = 20_000;
/// What the kernel takes for a client that takes nothing. By itself it takes megabytes on loopback, and none would be left
/// for the server to keep.
const SEND_BUFFER_BYTES: usize = 8 << 10;
/// How often everybody is looked at, whatever their sockets say.
const LOOK: Duration = Duration::from_millis(250);

struct Crowd {
    poll: Poll,
    members: Vec<Member>,
    /// Those who want to go on although nothing happens at their sockets.
    queue: Vec<usize>,
    chunk: Vec<u8>,
}

#[test]
fn every_byte_of_many_users_arrives_while_memory_is_short() {
    let _alone = alone();
    let users = scaled(20, 300);
    let memory = scaled(2 << 20, 32 << 20);
    for tls in [false, true] {
        run(tls, users, memory);
    }
}

fn run(tls: bool, users: usize, memory: usize) {
    let ids: Vec<[u8; 16]> = (0..users).map(id).collect();
    let sections = json!({
        "limits": { "handshakes_per_source_max": 0 },
        "performance": { "buffer_memory_max": memory, "tcp_send_buffer": SEND_BUFFER_BYTES },
    });
    let server = Program::start(tls, &ids, &sections);
    let echo = Echo::start();
    let talks = talks(&ids, &echo);
    let connections = talks.len();
    let tls_config = server.certificate.as_ref().map(|certificate| config(certificate, rustls::ALL_VERSIONS));
    let begin = Instant::now();
    let mut held_peak = 0;
    let (heard, repeated) = thread::scope(|scope| {
        let worker = scope.spawn(|| Crowd::new().run(&server, tls_config.as_ref(), talks));
        while !worker.is_finished() {
            held_peak = held_peak.max(server.counter("vless_buffers_held_bytes"));
            thread::sleep(LOOK);
        }
        worker.join().unwrap()
    });
    let passed = begin.elapsed();
    let waits = server.counter("vless_buffer_waits_total");
    println!(
        "{}: {users} users with {SESSIONS} sessions each in {connections} connections under {} MiB: {} MiB echoed in \
         {passed:.1?}, {waits} waits for memory, {repeated} datagrams said again; held at most {} KiB, resident at \
         most {} MiB, server CPU {:?}",
        if tls { "TLS" } else { "plain" },
        memory >> 20,
        heard >> 20,
        held_peak >> 10,
        server.resident_bytes_peak() >> 20,
        server.cpu_time(),
    );
    assert_eq!(server.sum("vless_sessions_closed_total{reason=\"opening_shed\"}"), 0, "no user is a stranger");
    // In an everyday run handshakes may be so slow that hardly anybody is there at the same time.
    let may_be_plenty = tls && !is_full();
    assert!(waits > 0 || may_be_plenty, "memory was never short");
    assert!(held_peak as usize <= memory + (1 << 20), "{held_peak} bytes held of {memory}");
    server.wait_until_empty();
}

/// Clients that are not admitted, at the same time. They have a quarter of the memory, so there are fewer where that is small.
fn opening_max() -> usize {
    scaled(16, 256)
}

/// An id of nobody else.
fn id(number: usize) -> [u8; 16] {
    let mut id = *b"user of crowd...";
    id[8..16].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    id
}

/// What everybody says, so that all kinds begin at once.
fn talks(ids: &[[u8; 16]], echo: &Echo) -> Vec<Talk> {
    let bytes = scaled(64 << 10, 128 << 10);
    let one_of_each = STREAMS + ASSOCIATIONS + CONNECTIONS;
    let talk = |number: usize, id: &[u8; 16], place: usize| {
        let seed = number * one_of_each + place;
        if place < STREAMS {
            Talk::stream(id, echo.address, seed, bytes + seed * 101 % bytes)
        } else if place < STREAMS + ASSOCIATIONS {
            Talk::datagrams(id, echo.datagrams[seed % echo.datagrams.len()], seed, 20)
        } else {
            Talk::mux(id, echo.address, seed, INSIDE, bytes / 2)
        }
    };
    let talk = &talk;
    let talks =
        (0..one_of_each).flat_map(|place| ids.iter().enumerate().map(move |(number, id)| talk(number, id, place)));
    talks.collect()
}

impl Crowd {
    fn new() -> Self {
        Self { poll: Poll::new().unwrap(), members: Vec::new(), queue: Vec::new(), chunk: vec![0; 64 << 10] }
    }

    /// Runs all to their ends; the payload heard, and the datagrams that were said again.
    fn run(mut self, server: &Program, tls: Option<&Arc<ClientConfig>>, talks: Vec<Talk>) -> (usize, usize) {
        let begin = Instant::now();
        let (all, mut waiting) = (talks.len(), talks.into_iter());
        let mut events = Events::with_capacity(4096);
        let (mut done, mut looked) = (0, begin);
        while done < all {
            assert!(begin.elapsed() < PATIENCE, "{done} of {all} are done: {}", self.undone());
            let opening = self.members.iter().filter(|member| member.is_unanswered()).count();
            for talk in waiting.by_ref().take(opening_max().saturating_sub(opening).min(64)) {
                let pause =
                    Duration::from_millis((self.members.len() * 37 % scaled(PAUSE_MS_MAX, LONG_PAUSE_MS_MAX)) as u64);
                self.admit(server, tls, talk, pause);
            }
            let pause = if self.queue.is_empty() { Duration::from_millis(20) } else { Duration::ZERO };
            let _ = self.poll.poll(&mut events, Some(pause));
            let mut turn = std::mem::take(&mut self.queue);
            turn.extend(events.iter().map(|event| event.token().0));
            let now = Instant::now();
            if now - looked > LOOK {
                looked = now;
                turn.extend((0..self.members.len()).filter(|&number| self.wants_a_look(number, now)));
            }
            for number in turn {
                done += usize::from(self.go_on(number, now));
            }
        }
        let heard = self.members.iter().map(|member| member.talk.heard_bytes()).sum();
        let repeated = self.members.iter().map(|member| match &member.talk {
            Talk::Datagrams(datagrams) => datagrams.repeated,
            _ => 0,
        });
        (heard, repeated.sum())
    }

    fn admit(&mut self, server: &Program, tls: Option<&Arc<ClientConfig>>, talk: Talk, pause: Duration) {
        let mut socket = TcpStream::connect(server.address).unwrap();
        let (token, both) = (Token(self.members.len()), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(&mut socket, token, both).unwrap();
        // A small window, so that what comes back waits in the server.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(16 << 10);
        self.members.push(Member::new(socket, tls, talk, pause));
    }

    /// Its time to read may have come, or it may have to say something again.
    fn wants_a_look(&self, number: usize, now: Instant) -> bool {
        let member = &self.members[number];
        !member.is_done && (member.has_paused(now, LOOK * 8) || member.talk.is_late(now))
    }

    /// True: it is done now.
    fn go_on(&mut self, number: usize, now: Instant) -> bool {
        let member = &mut self.members[number];
        if member.is_done {
            return false;
        }
        match member.go_on(now, &mut self.chunk) {
            Ok(Step::Waits) => false,
            Ok(Step::Again) => {
                self.queue.push(number);
                false
            }
            Ok(Step::Done) => {
                let _ = member.socket.shutdown(std::net::Shutdown::Both);
                true
            }
            Err(fault) => panic!("client {number}: {fault}"),
        }
    }

    fn undone(&self) -> String {
        let undone = self.members.iter().enumerate().filter(|(_, member)| !member.is_done).take(10);
        let lines = undone.map(|(number, member)| format!("{number} behind {} bytes", member.talk.heard_bytes()));
        lines.collect::<Vec<_>>().join(", ")
    }
}
