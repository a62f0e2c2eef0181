//! The loads: what the clients do through the server under test. Blocking threads, nothing measured here but the clock.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustls::client::ClientConfig;

use crate::inner::{self, ACK_GOOD, Mode, Pattern, REQUEST_BYTES};
use crate::leg::{self, Leg, PlainLeg, recv_exact};
use crate::origin::SAMPLE_EVERY;
use crate::servers::{Peer, Protocol};
use crate::tls::TlsLeg;
use crate::udp::{self, Framing};
use crate::vision::VisionLeg;
use crate::vless::Header;

const READ_BYTES: usize = 1 << 20;
const IN_FLIGHT: u64 = 64;
/// What is not TLS is padded for about so long by real clients.
const PADDED_BLOCKS: usize = 7;

/// How a client gets to the origin.
pub(crate) struct Route<'a> {
    pub(crate) peer: Peer,
    pub(crate) protocol: Protocol,
    pub(crate) server_port: u16,
    pub(crate) origin_port: u16,
    pub(crate) tls: &'a Arc<ClientConfig>,
    pub(crate) pattern: &'a Pattern,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Download,
    Upload,
}

/// What a load reports.
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    /// Connections whose downlink had left the outer TLS at the end.
    pub(crate) direct: usize,
}

impl Route<'_> {
    /// A connection on which the inner handshake, if the protocol is about one, is done.
    fn open(&self) -> io::Result<Box<dyn Leg>> {
        let socket = leg::connect(self.server_port)?;
        let mut leg: Box<dyn Leg> = match (self.peer, self.protocol) {
            (Peer::Relay, _) => Box::new(PlainLeg::new(socket, Header::none())),
            (_, Protocol::Plain) => Box::new(PlainLeg::new(socket, Header::plain(self.origin_port))),
            (_, Protocol::Tls) => Box::new(TlsLeg::open(socket, self.tls, Header::plain(self.origin_port))?),
            (_, Protocol::Vision) => Box::new(VisionLeg::open(socket, self.tls, Header::vision(self.origin_port))?),
        };
        if self.protocol == Protocol::Vision {
            inner::client_handshake(leg.as_mut())?;
        }
        Ok(leg)
    }

    /// A connection whose body is datagrams.
    fn open_datagrams(&self, framing: Framing) -> io::Result<Box<dyn Leg>> {
        let socket = leg::connect(self.server_port)?;
        Ok(match framing {
            Framing::Packets => Box::new(TlsLeg::open(socket, self.tls, Header::udp(self.origin_port))?),
            Framing::Xudp => {
                let leg = VisionLeg::open(socket, self.tls, Header::vision_mux())?;
                Box::new(leg.with_blocks_max(PADDED_BLOCKS))
            }
        })
    }

    fn download(&self, bytes: u64) -> io::Result<Box<dyn Leg>> {
        let mut leg = self.open()?;
        leg.send(&inner::request(Mode::Source(bytes)))?;
        let mut buf = vec![0; READ_BYTES];
        let (mut received, mut reads) = (0, 0_u64);
        while received < bytes {
            let is_sample = reads.is_multiple_of(SAMPLE_EVERY);
            let part = if is_sample { leg.recv(&mut buf)? } else { leg.skip(&mut buf)? };
            if part == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if is_sample && !self.pattern.matches(received, &buf[..part]) {
                return Err(io::Error::other(format!("wrong bytes at {received} of the download")));
            }
            received += part as u64;
            reads += 1;
        }
        if received == bytes { Ok(leg) } else { Err(io::Error::other("the download is too long")) }
    }

    /// Downloads until it is told to stop, and counts what has come on the way.
    fn download_until(&self, stop: &AtomicBool, received: &AtomicU64) -> io::Result<()> {
        let mut leg = self.open()?;
        leg.send(&inner::request(Mode::Source(u64::MAX)))?;
        let mut buf = vec![0; READ_BYTES];
        while !stop.load(Ordering::Relaxed) {
            match leg.skip(&mut buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                part => received.fetch_add(part as u64, Ordering::Relaxed),
            };
        }
        Ok(())
    }

    fn upload(&self, bytes: u64) -> io::Result<Box<dyn Leg>> {
        let mut leg = self.open()?;
        leg.send(&inner::request(Mode::Sink(bytes)))?;
        let mut sent = 0;
        while sent < bytes {
            let piece = self.pattern.at(sent);
            let part = piece.len().min((bytes - sent).min(piece.len() as u64) as usize);
            leg.send(&piece[..part])?;
            sent += part as u64;
        }
        let mut ack = [0; ACK_GOOD.len()];
        recv_exact(leg.as_mut(), &mut ack)?;
        if ack == ACK_GOOD { Ok(leg) } else { Err(io::Error::other("the upload arrived damaged")) }
    }

    /// One small record there and back.
    fn echo(&self) -> io::Result<Box<dyn Leg>> {
        let mut leg = self.open()?;
        echo_once(leg.as_mut())?;
        Ok(leg)
    }
}

/// `streams` connections at once, `bytes` each.
pub(crate) fn bulk(route: &Route, direction: Direction, streams: usize, bytes: u64) -> io::Result<Outcome> {
    let begin = Instant::now();
    let legs = in_threads(streams, streams, || match direction {
        Direction::Download => route.download(bytes),
        Direction::Upload => route.upload(bytes),
    })?;
    Ok(Outcome { elapsed: begin.elapsed(), direct: count_direct(&legs) })
}

/// What happens on each of many short connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// One record of 69 bytes there and back.
    Echo,
    /// A download of this many bytes.
    Page(u64),
}

/// `count` connections one after the other in each of `threads` threads, every one closed after its exchange.
pub(crate) fn connections(route: &Route, exchange: Exchange, count: usize, threads: usize) -> io::Result<Outcome> {
    let begin = Instant::now();
    let direct = in_threads(count, threads, || {
        let mut leg = match exchange {
            Exchange::Echo => route.echo()?,
            Exchange::Page(bytes) => route.download(bytes)?,
        };
        leg.close()?;
        Ok(leg.is_downlink_direct())
    })?;
    let direct = direct.into_iter().filter(|&is_direct| is_direct).count();
    Ok(Outcome { elapsed: begin.elapsed(), direct })
}

/// What [`newcomers`] reports.
pub(crate) struct Waits {
    /// From connecting to the first byte of the answer, sorted.
    pub(crate) sorted: Vec<Duration>,
    /// What the downloads beside them received meanwhile.
    pub(crate) bulk_bytes: u64,
    pub(crate) elapsed: Duration,
}

/// `count` new connections one after the other, each with one small echo, beside `streams` downloads. From one to the
/// next at least `interval` passes.
pub(crate) fn newcomers(route: &Route, streams: usize, count: usize, interval: Duration) -> io::Result<Waits> {
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let downloads: Vec<_> = (0..streams).map(|_| scope.spawn(|| route.download_until(&stop, &received))).collect();
        // Streams need a moment until their windows are open.
        while received.load(Ordering::Relaxed) < (streams as u64) << 24
            && !downloads.iter().any(ScopedJoinHandle::is_finished)
        {
            thread::sleep(Duration::from_millis(5));
        }
        let (begin, received_before) = (Instant::now(), received.load(Ordering::Relaxed));
        let waits: io::Result<Vec<_>> = (0..count)
            .map(|_| {
                let begin = Instant::now();
                let mut leg = route.echo()?;
                let wait = begin.elapsed();
                leg.close()?;
                thread::sleep(interval.saturating_sub(begin.elapsed()));
                Ok(wait)
            })
            .collect();
        let elapsed = begin.elapsed();
        let bulk_bytes = received.load(Ordering::Relaxed) - received_before;
        stop.store(true, Ordering::Relaxed);
        for download in downloads {
            download.join().map_err(|_| io::Error::other("a load thread panicked"))??;
        }
        let mut sorted = waits?;
        sorted.sort_unstable();
        Ok(Waits { sorted, bulk_bytes, elapsed })
    })
}

/// `count` connections that stay open behind one small echo.
pub(crate) fn idle(route: &Route, count: usize, threads: usize) -> io::Result<Vec<Box<dyn Leg>>> {
    in_threads(count, threads, || route.echo())
}

/// `count` datagrams over one connection, [`IN_FLIGHT`] of them under way.
pub(crate) fn datagrams(route: &Route, framing: Framing, count: u64) -> io::Result<Outcome> {
    let mut leg = route.open_datagrams(framing)?;
    let elapsed = udp::exchange(leg.as_mut(), framing, route.origin_port, count, IN_FLIGHT)?;
    Ok(Outcome { elapsed, direct: 0 })
}

/// `count` connections that stay open behind so many datagrams that Vision's padding has ended.
pub(crate) fn idle_datagrams(
    route: &Route,
    framing: Framing,
    count: usize,
    threads: usize,
) -> io::Result<Vec<Box<dyn Leg>>> {
    in_threads(count, threads, || {
        let mut leg = route.open_datagrams(framing)?;
        udp::exchange(leg.as_mut(), framing, route.origin_port, 12, 1)?;
        Ok(leg)
    })
}

/// Sends one more echo through each of these: a server that has quietly dropped sessions has not saved their memory.
pub(crate) fn revisit(legs: &mut [Box<dyn Leg>]) -> io::Result<()> {
    legs.iter_mut().try_for_each(|leg| echo_once(leg.as_mut()))
}

/// The first record is the request for echoes, which comes back like everything behind it.
fn echo_once(leg: &mut dyn Leg) -> io::Result<()> {
    let request = inner::request(Mode::Echo);
    leg.send(&request)?;
    let mut answer = [0; REQUEST_BYTES];
    recv_exact(leg, &mut answer)?;
    if answer == request { Ok(()) } else { Err(io::Error::other("the echo differs")) }
}

/// How many of these have a downlink outside the outer TLS.
pub(crate) fn count_direct(legs: &[Box<dyn Leg>]) -> usize {
    legs.iter().filter(|leg| leg.is_downlink_direct()).count()
}

/// `count` TCP connections on which the client never says a word.
pub(crate) fn silent(server_port: u16, count: usize) -> io::Result<Vec<TcpStream>> {
    (0..count).map(|_| leg::connect(server_port)).collect()
}

/// Runs `task` `count` times, shared out among `threads` threads; the first error of any of them is the result.
fn in_threads<T: Send>(count: usize, threads: usize, task: impl Fn() -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let spread: Vec<_> = (0..threads)
            .map(|index| {
                let share = count / threads + usize::from(index < count % threads);
                let task = &task;
                scope.spawn(move || (0..share).map(|_| task()).collect::<io::Result<Vec<T>>>())
            })
            .collect();
        let mut results = Vec::with_capacity(count);
        for thread in spread {
            results.extend(thread.join().map_err(|_| io::Error::other("a load thread panicked"))??);
        }
        Ok(results)
    })
}
