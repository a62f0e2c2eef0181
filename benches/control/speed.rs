//! Speed limits: the rate over a while, how evenly sessions share it, and what it costs.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Options;
use crate::ground::{Ground, Server};
use crate::inner::{self, Mode as Wish};
use crate::leg::{Leg, connect};
use crate::numbers::{head, id, row, thread_cpu_seconds};
use crate::tls::TlsLeg;
use crate::vision::VisionLeg;
use crate::vless::Header;

const MIB: f64 = 1_048_576.0;
const RATES: [(u64, &str); 5] =
    [(64 << 10, "64 KiB/s"), (1 << 20, "1 MiB/s"), (10 << 20, "10 MiB/s"), (100 << 20, "100 MiB/s"), (0, "no limit")];
const SESSIONS: [usize; 2] = [1, 50];
/// What a pause has left in the bucket is used up by then.
const WARM_UP: Duration = Duration::from_millis(1500);
/// Below this rate the CPU time of a few seconds is too little to divide by.
const CPU_SHOWN_FROM: u64 = 10 << 20;

/// What was measured.
struct Figures {
    bytes_per_second: f64,
    /// Of an even share.
    slowest: f64,
    fastest: f64,
    cpu_seconds_per_gib: f64,
}

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    let server = ground.start(true, &json!({}))?;
    let mut api = server.api()?;
    println!("downloads over {} s: rate, slowest and fastest session, CPU of the workers", options.seconds);
    head(&["", "sessions", "limit", "rate, MiB/s", "of the limit", "slowest", "fastest", "CPU-s per GiB"]);
    let mut number = 0;
    for (kind, flow) in [("TLS", ""), ("spliced", "xtls-rprx-vision")] {
        if !options.wants(kind) {
            continue;
        }
        for (sessions, (rate, limit)) in SESSIONS.iter().flat_map(|count| RATES.map(|rate| (*count, rate))) {
            number += 1;
            let email = format!("speed-{number}");
            api.add(&email, id(number), flow, &json!({ "down_bytes_per_second_max": rate }))?;
            let figures = measure(ground, &server, (id(number), flow), sessions, options.seconds)?;
            api.remove(&email)?;
            let share = if rate > 0 {
                format!("{:+.1} %", (figures.bytes_per_second / rate as f64 - 1.0) * 100.0)
            } else {
                String::new()
            };
            let has_cpu = rate == 0 || rate >= CPU_SHOWN_FROM;
            row([
                kind.to_owned(),
                sessions.to_string(),
                limit.to_owned(),
                format!("{:.3}", figures.bytes_per_second / MIB),
                share,
                format!("{:.2}", figures.slowest),
                format!("{:.2}", figures.fastest),
                if has_cpu { format!("{:.2}", figures.cpu_seconds_per_gib) } else { String::new() },
            ]);
        }
    }
    Ok(())
}

fn measure(
    ground: &Ground,
    server: &Server,
    (user, flow): ([u8; 16], &str),
    sessions: usize,
    seconds: u64,
) -> io::Result<Figures> {
    let (stop, counts) = (AtomicBool::new(false), (0..sessions).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
    thread::scope(|scope| {
        let threads: Vec<_> = counts
            .iter()
            .map(|count| {
                let stop = &stop;
                scope.spawn(move || download(open(ground, server, user, flow)?.as_mut(), count, stop))
            })
            .collect();
        thread::sleep(WARM_UP);
        let look = || counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let (begin, before, cpu_before) = (Instant::now(), look(), thread_cpu_seconds(server.pid(), "worker")?);
        thread::sleep(Duration::from_secs(seconds));
        let (took, after) = (begin.elapsed().as_secs_f64(), look());
        let cpu = thread_cpu_seconds(server.pid(), "worker")? - cpu_before;
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a client panicked"))??;
        }
        let bytes: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (after - before) as f64).collect();
        let total: f64 = bytes.iter().sum();
        let even = total / sessions as f64;
        Ok(Figures {
            bytes_per_second: total / took,
            slowest: bytes.iter().copied().fold(f64::MAX, f64::min) / even,
            fastest: bytes.iter().copied().fold(0.0, f64::max) / even,
            cpu_seconds_per_gib: cpu / (total / MIB / 1024.0),
        })
    })
}

fn open(ground: &Ground, server: &Server, user: [u8; 16], flow: &str) -> io::Result<Box<dyn Leg>> {
    let (socket, origin) = (connect(server.port)?, ground.targets.origin_port);
    if flow.is_empty() {
        return Ok(Box::new(TlsLeg::open(socket, &ground.tls, Header::plain(origin).of(user))?));
    }
    let mut leg = VisionLeg::open(socket, &ground.tls, Header::vision(origin).of(user))?;
    inner::client_handshake(&mut leg)?;
    Ok(Box::new(leg))
}

fn download(leg: &mut dyn Leg, count: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    leg.send(&inner::request(Wish::Source(u64::MAX)))?;
    let mut buf = vec![0; 256 << 10];
    while !stop.load(Ordering::Relaxed) {
        match leg.skip(&mut buf)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => count.fetch_add(bytes as u64, Ordering::Relaxed),
        };
    }
    Ok(())
}
