//! Sessions of somebody else, who must not notice anything: small echoes all the time, and how long each took.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ground::{Ground, Server, connect_from};
use crate::inner::{self, Mode};
use crate::leg::{Leg, recv_exact};
use crate::numbers::{milliseconds, percentile, sorted};
use crate::tls::TlsLeg;
use crate::vless::Header;

/// Nobody else comes from here.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Every session has an echo so often.
const INTERVAL: Duration = Duration::from_millis(25);
const MESSAGE: [u8; 64] = [0x17; 64];

pub(crate) struct Bystanders {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Milliseconds of each echo since somebody last asked.
    times: Mutex<Vec<f64>>,
}

/// How long echoes took.
pub(crate) struct Stalls {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p999: f64,
    pub(crate) worst: f64,
}

impl Stalls {
    pub(crate) fn say(&self, when: &str) {
        println!(
            "bystanders {when}: {} echoes, p50 {:.2} ms, p99.9 {:.1} ms, worst {:.1} ms",
            self.count, self.p50, self.p999, self.worst
        );
    }
}

impl Bystanders {
    /// Opens `count` sessions over TLS.
    pub(crate) fn start(ground: &Ground, server: &Server, count: usize) -> io::Result<Self> {
        let open = |_| {
            let socket = connect_from(SOURCE, server.port)?;
            let mut leg = TlsLeg::open(socket, &ground.tls, Header::plain(ground.targets.origin_port))?;
            let request = inner::request(Mode::Echo);
            leg.send(&request)?;
            recv_exact(&mut leg, &mut request.clone())?;
            Ok(leg)
        };
        let legs = (0..count).map(open).collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        Ok(Self { shared, thread: Some(thread::spawn(move || echo(legs, &theirs))) })
    }

    /// What has happened since the last call.
    pub(crate) fn take(&self) -> Stalls {
        let times = std::mem::take(&mut *self.shared.times.lock().unwrap_or_else(PoisonError::into_inner));
        let times = sorted(times);
        let at = |share| percentile(&times, share);
        Stalls { count: times.len(), p50: at(0.5), p999: at(0.999), worst: at(1.0) }
    }

    /// # Errors
    /// One of them was disturbed.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.map_err(|error| io::Error::other(format!("a bystander: {error}"))),
            _ => Err(io::Error::other("the bystanders' thread panicked")),
        }
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn echo(mut legs: Vec<TlsLeg>, shared: &Shared) -> io::Result<()> {
    let pause = INTERVAL / legs.len().max(1) as u32;
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let mut times = Vec::with_capacity(legs.len());
        for leg in &mut legs {
            // One after the other, so that the wait for one is not the queue of all.
            let begin = Instant::now();
            leg.send(&MESSAGE)?;
            let mut answer = MESSAGE;
            recv_exact(leg, &mut answer)?;
            if answer != MESSAGE {
                return Err(io::Error::other("an echo came back changed"));
            }
            times.push(milliseconds(begin.elapsed()));
            next = (next + pause).max(Instant::now());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        shared.times.lock().unwrap_or_else(PoisonError::into_inner).append(&mut times);
    }
    Ok(())
}
