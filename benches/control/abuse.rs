//! Abuse of the control port beside a relay: the worst gap in the relay's bytes, and what is left behind.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Options;
use crate::api;
use crate::ground::{Ground, Server};
use crate::harmful::cases;
use crate::inner::{self, Mode as Wish};
use crate::leg::{Leg, PlainLeg, connect};
use crate::measure::memory;
use crate::numbers::{head, milliseconds, percentile, row, sorted};
use crate::vless::Header;

const SILENT: usize = 2000;
const ABUSERS: usize = 4;
/// A relay of small pieces, so that each shows when it came.
const TRICKLE: Wish = Wish::Trickle { piece_bytes: 512, pause_us: 2000 };
const MIB: f64 = 1_048_576.0;

/// Abuse of one kind, until it is told to stop; the number of attempts.
type Abuse = fn(u16, &AtomicBool) -> usize;

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    let mut server = ground.start(false, &json!({}))?;
    println!("abuse of the control port beside a relay that brings a piece every 2 ms");
    head(&["", "attempts", "pieces", "p99.9 gap, ms", "worst gap, ms", "operator's answer, worst ms", "RSS, MiB"]);
    let kinds: [(&str, Abuse, usize); 4] = [
        ("nobody", nothing, 1),
        ("harmful inputs", harm, ABUSERS),
        ("2,000 silent connections", silence, 1),
        ("nobody again", nothing, 1),
    ];
    for (name, abuse, threads) in kinds {
        measure(ground, &server, options.seconds, (name, abuse, threads))?;
        server.check_alive()?;
    }
    Ok(())
}

fn measure(
    ground: &Ground,
    server: &Server,
    seconds: u64,
    (name, abuse, threads): (&str, Abuse, usize),
) -> io::Result<()> {
    let (stop, worst_answer_us) = (AtomicBool::new(false), AtomicU64::new(0));
    let (gaps, attempts) = thread::scope(|scope| {
        let abusers: Vec<_> = (0..threads).map(|_| scope.spawn(|| abuse(server.monitor_port, &stop))).collect();
        let operator = scope.spawn(|| operate(server.monitor_port, &stop, &worst_answer_us));
        let gaps = relay(ground, server, Duration::from_secs(seconds));
        let resident = memory(server.pid());
        stop.store(true, Ordering::Relaxed);
        let mut attempts = 0;
        for abuser in abusers {
            attempts += abuser.join().map_err(|_| io::Error::other("an abuser panicked"))?;
        }
        operator.join().map_err(|_| io::Error::other("the operator panicked"))??;
        Ok::<_, io::Error>(((sorted(gaps?), resident?.resident / MIB), attempts))
    })?;
    let (gaps, resident) = gaps;
    row([
        name.to_owned(),
        attempts.to_string(),
        gaps.len().to_string(),
        format!("{:.1}", percentile(&gaps, 0.999)),
        format!("{:.1}", percentile(&gaps, 1.0)),
        format!("{:.1}", worst_answer_us.load(Ordering::Relaxed) as f64 / 1000.0),
        format!("{resident:.1}"),
    ]);
    Ok(())
}

/// Milliseconds between the arrivals of pieces.
fn relay(ground: &Ground, server: &Server, time: Duration) -> io::Result<Vec<f64>> {
    let mut leg = PlainLeg::new(connect(server.port)?, Header::plain(ground.targets.origin_port));
    leg.send(&inner::request(TRICKLE))?;
    let (mut buf, mut gaps, end) = (vec![0; 4096], Vec::new(), Instant::now() + time);
    leg.recv(&mut buf)?;
    let mut last = Instant::now();
    while last < end {
        if leg.recv(&mut buf)? == 0 {
            return Err(io::Error::other("the relay ended"));
        }
        let now = Instant::now();
        gaps.push(milliseconds(now - last));
        last = now;
    }
    Ok(gaps)
}

/// Asks five times a second, each time on a connection of its own.
fn operate(port: u16, stop: &AtomicBool, worst_us: &AtomicU64) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        api::poll(&mut api::connect(port)?, "/api/stats")?;
        worst_us.fetch_max(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn nothing(_: u16, _: &AtomicBool) -> usize {
    0
}

/// All harmful inputs, over and over. Only whether a connection is refused does not matter here; tests look at that.
fn harm(port: u16, stop: &AtomicBool) -> usize {
    let (cases, mut attempts) = (cases(), 0);
    while !stop.load(Ordering::Relaxed) {
        for (_, bytes, _) in &cases {
            attempts += 1;
            let Ok(mut stream) = api::connect(port) else { continue };
            // The server may have refused, and left, before all was sent.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    attempts
}

/// Connections that say nothing; those that the server gives up are opened again.
fn silence(port: u16, stop: &AtomicBool) -> usize {
    let (mut held, mut attempts): (Vec<TcpStream>, _) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        held.retain(|stream| {
            let is_open = stream.peek(&mut [0]);
            is_open.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        });
        while held.len() < SILENT && attempts < 100 * SILENT {
            attempts += 1;
            let Ok(stream) = api::connect(port) else { continue };
            if stream.set_nonblocking(true).is_ok() {
                held.push(stream);
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    attempts
}
