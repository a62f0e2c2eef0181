//! What an idle server costs: thousands of sessions that say nothing, and one reader of the feed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::Options;
use crate::api;
use crate::crowd;
use crate::feeds;
use crate::ground::Ground;
use crate::measure::memory;
use crate::numbers::{head, row, thread_cpu_seconds};

/// A measurement is so many times as long as others: little CPU time is used.
const PATIENCE: u64 = 3;
const MIB: f64 = 1_048_576.0;

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    let seconds = options.seconds * PATIENCE;
    println!("idle server, % of a core over {seconds} s");
    head(&["sessions", "readers of the feed", "all threads", "workers", "control", "RSS, MiB"]);
    for is_monitored in [false, true] {
        let server = ground.start(false, &crowd::keys(options.sessions, is_monitored))?;
        let crowd = crowd::open(ground, &server, options.sessions)?;
        let feed = is_monitored.then(|| api::open_feed(server.monitor_port)).transpose()?;
        thread::sleep(Duration::from_secs(3));
        let look = || ["", "worker", "control"].map(|name| thread_cpu_seconds(server.pid(), name));
        let (begin, before) = (Instant::now(), look());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let reading = feed.as_ref().map(|feed| {
                let feed = std::slice::from_ref(feed);
                scope.spawn(|| feeds::read_all(feed, &stop))
            });
            thread::sleep(Duration::from_secs(seconds));
            stop.store(true, Ordering::Relaxed);
            reading.map_or(Ok(()), |reading| reading.join().map_err(|_| io::Error::other("a reader panicked"))?)
        })?;
        let took = begin.elapsed().as_secs_f64();
        let mut cells = vec![options.sessions.to_string()];
        cells.push(if is_monitored { "1".to_owned() } else { "0, without control plane".to_owned() });
        for (before, after) in before.into_iter().zip(look()) {
            cells.push(format!("{:.2}", (after? - before?) / took * 100.0));
        }
        cells.push(format!("{:.1}", memory(server.pid())?.resident / MIB));
        row(cells);
        drop(crowd);
    }
    Ok(())
}
