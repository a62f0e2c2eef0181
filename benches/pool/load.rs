//! The clients: dials at random times, each in a connection of its own; prints the microseconds to the first byte.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::targets::PORT as TARGET_PORT;

const USER: [u8; 16] = [0x57, 0x83, 0xa3, 0xe7, 0xe3, 0x73, 0x51, 0xcd, 0x86, 0x42, 0xc8, 0x37, 0x82, 0xb8, 0x07, 0xc5];
pub(crate) const USER_TEXT: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";

/// In front of the time at which a request was sent, in its first payload.
const MARK: &[u8; 8] = b"sent at ";

const TARGETS: u64 = 10;
const DIALS_PER_TARGET_AND_SECOND: u64 = 5;

/// Where the dials go.
#[derive(Clone, Copy)]
pub(crate) enum Demand {
    /// To ten targets.
    Steady,
    /// Anywhere in a network of 65,536 addresses.
    Random,
}

impl Demand {
    pub(crate) fn named(name: &str) -> io::Result<Self> {
        match name {
            "steady" => Ok(Self::Steady),
            "random" => Ok(Self::Random),
            _ => Err(io::Error::other(format!("no such demand: {name}"))),
        }
    }
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// When the request with this first payload was sent.
pub(crate) fn sent_at(payload: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(payload.strip_prefix(MARK)?.try_into().ok()?))
}

/// Dials for so many seconds.
pub(crate) fn run(demand: Demand, seconds: u64, seed: u64, server_port: u16) {
    let mut random = seed;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut next = Instant::now();
    let mut dials = Vec::new();
    while next < end {
        // Gaps of an exponential distribution: dials that know nothing of each other.
        let uniform = (splitmix(&mut random) >> 11) as f64 / (1_u64 << 53) as f64;
        next += Duration::from_secs_f64(-(1.0 - uniform).ln() / (TARGETS * DIALS_PER_TARGET_AND_SECOND) as f64);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let target = match demand {
            Demand::Steady => splitmix(&mut random) % TARGETS,
            Demand::Random => splitmix(&mut random) % 65_536,
        };
        dials.push(thread::spawn(move || dial([10, 77, (target >> 8) as u8, target as u8], server_port)));
    }
    for dial in dials {
        match dial.join() {
            Ok(Ok(time)) => println!("{}", time.as_micros()),
            Ok(Err(error)) => eprintln!("{error}"),
            Err(_) => eprintln!("a dial panicked"),
        }
    }
}

fn dial(target: [u8; 4], server_port: u16) -> io::Result<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", server_port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = vec![0];
    request.extend(USER);
    request.extend([0, 1]);
    request.extend(TARGET_PORT.to_be_bytes());
    request.push(1);
    request.extend(target);
    let sent = Instant::now();
    request.extend(MARK);
    request.extend(now_us().to_be_bytes());
    stream.write_all(&request)?;
    let mut answer = [0; 3];
    stream.read_exact(&mut answer)?;
    Ok(sent.elapsed())
}

/// splitmix64.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
