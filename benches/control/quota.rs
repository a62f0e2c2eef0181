//! A quota of 100 MiB over many sessions: by how much it is passed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Options;
use crate::ground::{Ground, Server};
use crate::inner::{self, Mode as Wish, Pattern};
use crate::leg::{Leg, connect, recv_exact};
use crate::numbers::{head, id, row};
use crate::tls::TlsLeg;
use crate::udp::{self, Framing};
use crate::vision::VisionLeg;
use crate::vless::Header;

const QUOTA: u64 = 100 << 20;
const SESSIONS: [usize; 3] = [1, 8, 200];
const CHUNK: usize = 16 << 10;
/// The figures of the API are those of its last look, a second old at the most.
const SAMPLE: Duration = Duration::from_millis(1500);
/// Datagrams under way of each session.
const IN_FLIGHT: u64 = 16;

#[derive(Clone, Copy)]
enum Load {
    Down,
    Up,
    Both,
    Spliced,
    Udp,
}

impl Load {
    const ALL: [(Self, &'static str); 5] =
        [(Self::Down, "down"), (Self::Up, "up"), (Self::Both, "both"), (Self::Spliced, "spliced"), (Self::Udp, "udp")];

    fn flow(self) -> &'static str {
        if matches!(self, Self::Spliced) { "xtls-rprx-vision" } else { "" }
    }
}

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    let server = ground.start(true, &json!({}))?;
    let mut api = server.api()?;
    println!("quota of 100 MiB: bytes beyond it (negative: not used), and seconds until all sessions had ended");
    head(&["", "1 session", "8 sessions", "200 sessions"]);
    let mut number = 0;
    for (load, name) in Load::ALL.into_iter().filter(|(_, name)| options.wants(name)) {
        let mut cells = vec![name.to_owned()];
        for sessions in SESSIONS {
            number += 1;
            let email = format!("quota-{number}");
            api.add(&email, id(number), load.flow(), &json!({ "quota_bytes": QUOTA }))?;
            let begin = Instant::now();
            let received = use_up(load, ground, &server, id(number), sessions)?;
            let took = begin.elapsed().as_secs_f64();
            thread::sleep(SAMPLE);
            let user = api.user(&email)?;
            let used = user["quota_used_bytes"].as_u64().unwrap_or_default();
            let down = user["total_download_bytes"].as_u64().unwrap_or_default();
            if received > down {
                return Err(io::Error::other(format!("clients received {received} bytes, {down} were counted")));
            }
            if !is_refused(ground, &server, id(number), load)? {
                return Err(io::Error::other("a user without quota was let in"));
            }
            cells.push(format!("{:+} ({took:.1} s)", used.cast_signed() - QUOTA.cast_signed()));
            api.remove(&email)?;
        }
        row(cells);
    }
    Ok(())
}

/// Runs all sessions to their ends; the bytes that clients received.
fn use_up(load: Load, ground: &Ground, server: &Server, user: [u8; 16], sessions: usize) -> io::Result<u64> {
    let (received, pattern) = (AtomicU64::new(0), Pattern::new());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..sessions)
            .map(|_| {
                let (received, pattern) = (&received, &pattern);
                scope.spawn(move || {
                    let mut leg = open(load, ground, server, user)?;
                    // Its end is what is waited for, whatever it looks like.
                    let end = work(load, leg.as_mut(), ground, pattern, received);
                    match end {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                        _ => Ok(()),
                    }
                })
            })
            .collect();
        for thread in threads {
            let result = thread.join().map_err(|_| io::Error::other("a client panicked"))?;
            // A session that came too late was refused while it opened.
            result.or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Err(error) } else { Ok(()) })?;
        }
        Ok(received.load(Ordering::Relaxed))
    })
}

fn open(load: Load, ground: &Ground, server: &Server, user: [u8; 16]) -> io::Result<Box<dyn Leg>> {
    let socket = connect(server.port)?;
    let (origin, tls) = (ground.targets.origin_port, &ground.tls);
    Ok(match load {
        Load::Down | Load::Up | Load::Both => Box::new(TlsLeg::open(socket, tls, Header::plain(origin).of(user))?),
        Load::Spliced => Box::new(VisionLeg::open(socket, tls, Header::vision(origin).of(user))?),
        Load::Udp => Box::new(TlsLeg::open(socket, tls, Header::udp(ground.targets.datagram_port).of(user))?),
    })
}

fn work(load: Load, leg: &mut dyn Leg, ground: &Ground, pattern: &Pattern, received: &AtomicU64) -> io::Result<()> {
    let mut buf = vec![0; CHUNK];
    let count = |bytes: usize| received.fetch_add(bytes as u64, Ordering::Relaxed);
    match load {
        Load::Down | Load::Spliced => {
            if matches!(load, Load::Spliced) {
                inner::client_handshake(leg)?;
                count(inner::server_flight().len() + inner::ticket().len());
            }
            leg.send(&inner::request(Wish::Source(u64::MAX)))?;
            loop {
                match leg.skip(&mut buf)? {
                    0 => return Ok(()),
                    bytes => count(bytes),
                };
            }
        }
        Load::Up => {
            leg.send(&inner::request(Wish::Sink(u64::MAX)))?;
            loop {
                leg.send(&pattern.at(0)[..CHUNK])?;
            }
        }
        Load::Both => {
            leg.send(&inner::request(Wish::Echo))?;
            recv_exact(leg, &mut buf[..inner::REQUEST_BYTES])?;
            count(inner::REQUEST_BYTES);
            loop {
                leg.send(&pattern.at(0)[..CHUNK])?;
                recv_exact(leg, &mut buf)?;
                count(CHUNK);
            }
        }
        Load::Udp => {
            udp::exchange(leg, Framing::Packets, ground.targets.datagram_port, u64::MAX, IN_FLIGHT).map(|_| ())
        }
    }
}

/// Whether a new session gets nothing.
fn is_refused(ground: &Ground, server: &Server, user: [u8; 16], load: Load) -> io::Result<bool> {
    let mut leg = open(load, ground, server, user)?;
    let _ = leg.send(&inner::request(Wish::Echo));
    Ok(!matches!(leg.recv(&mut [0; 64]), Ok(1..)))
}
