//! What watching costs those who are served: feeds, polls and scrapes beside a relay and thousands of sessions.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Options;
use crate::api;
use crate::crowd;
use crate::ground::{Ground, Server};
use crate::inner::{self, Mode as Wish};
use crate::leg::{Leg, PlainLeg, connect};
use crate::measure::memory;
use crate::numbers::{head, median, percentile, row, sorted, thread_cpu_seconds};
use crate::vless::Header;

const FEEDS: usize = 300;
/// Of these, readers that do not read.
const IDLE_FEEDS: usize = 50;
const POLLS_PER_SECOND: u32 = 20;
const SCRAPES_PER_SECOND: u32 = 2;
const STREAMS: usize = 4;
/// How long each of the turns with and without watchers lasts.
const TURN: Duration = Duration::from_secs(4);
const SETTLE: Duration = Duration::from_millis(700);
const MIB: f64 = 1_048_576.0;

/// One turn: MiB per CPU second of the workers, CPU share of the control thread, memory.
struct Turn {
    mib_per_cpu_second: f64,
    control_share: f64,
    resident: f64,
}

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    let mut server = ground.start(false, &crowd::keys(options.sessions, true))?;
    let crowd = crowd::open(ground, &server, options.sessions)?;
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let pairs = (options.seconds as usize * 2).max(4) / 2;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let streams: Vec<_> =
            (0..STREAMS).map(|_| scope.spawn(|| download(ground, &server, &stop, &received))).collect();
        thread::sleep(SETTLE);
        let measured = (0..pairs).try_for_each(|_| {
            without.push(turn(&server, &received)?);
            with.push(watched(&server, &received)?);
            Ok::<_, io::Error>(())
        });
        stop.store(true, Ordering::Relaxed);
        for stream in streams {
            stream.join().map_err(|_| io::Error::other("a stream panicked"))??;
        }
        measured
    })?;
    server.check_alive()?;
    drop(crowd);
    say(options.sessions, &without, &with);
    Ok(())
}

fn say(sessions: usize, without: &[Turn], with: &[Turn]) {
    println!(
        "{sessions} idle sessions, {STREAMS} spliced downloads; with and without {FEEDS} readers of the feed \
         ({IDLE_FEEDS} do not read), {POLLS_PER_SECOND} polls and {SCRAPES_PER_SECOND} scrapes a second; {} turns of \
         {} s each, in turn",
        with.len(),
        TURN.as_secs()
    );
    head(&["", "MiB per CPU-s of the workers", "lowest to highest", "control thread, % of a core", "RSS, MiB"]);
    for (name, turns) in [("nobody watches", without), ("all of them watch", with)] {
        let rates = sorted(turns.iter().map(|turn| turn.mib_per_cpu_second).collect());
        row([
            name.to_owned(),
            format!("{:.0}", percentile(&rates, 0.5)),
            format!("{:.0} to {:.0}", rates[0], rates[rates.len() - 1]),
            format!("{:.1}", median(turns.iter().map(|turn| turn.control_share * 100.0).collect())),
            format!("{:.1}", turns.iter().map(|turn| turn.resident).fold(0.0, f64::max) / MIB),
        ]);
    }
    // Neighbours in time have the machine's same mood.
    let changes = with.iter().zip(without).map(|(with, without)| with.mib_per_cpu_second / without.mib_per_cpu_second);
    println!("median change from one turn to the next: {:+.1} %", (median(changes.collect()) - 1.0) * 100.0);
}

fn turn(server: &Server, received: &AtomicU64) -> io::Result<Turn> {
    let look = || -> io::Result<_> {
        let cpu = |name| thread_cpu_seconds(server.pid(), name);
        Ok((received.load(Ordering::Relaxed), cpu("worker")?, cpu("control")?))
    };
    let begin = Instant::now();
    let before = look()?;
    thread::sleep(TURN);
    let after = look()?;
    Ok(Turn {
        mib_per_cpu_second: (after.0 - before.0) as f64 / MIB / (after.1 - before.1),
        control_share: (after.2 - before.2) / begin.elapsed().as_secs_f64(),
        resident: memory(server.pid())?.resident,
    })
}

/// The same while everybody watches.
fn watched(server: &Server, received: &AtomicU64) -> io::Result<Turn> {
    let feeds = (0..FEEDS).map(|_| api::open_feed(server.monitor_port)).collect::<io::Result<Vec<_>>>()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(&feeds[IDLE_FEEDS..], &stop));
        let polling = scope.spawn(|| ask(server.monitor_port, "/api/stats", POLLS_PER_SECOND, &stop));
        let scraping = scope.spawn(|| ask(server.monitor_port, "/metrics", SCRAPES_PER_SECOND, &stop));
        thread::sleep(SETTLE);
        let measured = turn(server, received);
        stop.store(true, Ordering::Relaxed);
        for thread in [reading, polling, scraping] {
            thread.join().map_err(|_| io::Error::other("a watcher panicked"))??;
        }
        measured
    })
}

/// Takes whatever the feeds bring.
///
/// # Errors
/// One ended, or nothing came at all.
pub(crate) fn read_all(feeds: &[TcpStream], stop: &AtomicBool) -> io::Result<()> {
    let (mut buf, mut count) = (vec![0; 64 << 10], 0);
    feeds.iter().try_for_each(|feed| feed.set_nonblocking(true))?;
    while !stop.load(Ordering::Relaxed) {
        for mut feed in feeds {
            loop {
                match feed.read(&mut buf) {
                    Ok(0) => return Err(io::Error::other("a reader of the feed was dropped")),
                    Ok(bytes) => count += bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    if count > 0 { Ok(()) } else { Err(io::Error::other("the feed is silent")) }
}

fn ask(port: u16, path: &str, per_second: u32, stop: &AtomicBool) -> io::Result<()> {
    let (mut stream, begin, mut number) = (api::connect(port)?, Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        api::poll(&mut stream, path)?;
        number += 1;
        let due = begin + Duration::from_secs(1) / per_second * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn download(ground: &Ground, server: &Server, stop: &AtomicBool, received: &AtomicU64) -> io::Result<()> {
    let mut leg = PlainLeg::new(connect(server.port)?, Header::plain(ground.targets.origin_port));
    leg.send(&inner::request(Wish::Source(u64::MAX)))?;
    let mut buf = vec![0; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        match leg.skip(&mut buf)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => received.fetch_add(bytes as u64, Ordering::Relaxed),
        };
    }
    Ok(())
}
