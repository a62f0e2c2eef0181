//! The list of scenarios: what each one does, counts and is expected to show.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustls::client::ClientConfig;

use crate::inner::{Pattern, RECORD_BYTES};
use crate::load::{self, Direction, Exchange, Outcome, Route};
use crate::measure;
use crate::options::Options;
use crate::servers::{Bed, Peer, Protocol, Server};
use crate::udp::Framing;

pub(crate) const ALL: [Scenario; 16] = [
    Scenario {
        name: "plain-download",
        about: "bulk from the origin, flow none without TLS",
        protocol: Protocol::Plain,
        load: Load::Bulk(Direction::Download),
        goals: &[Goal::Times(0.75, Peer::Xray), Goal::Times(1.25, Peer::Relay)],
    },
    Scenario {
        name: "plain-upload",
        about: "bulk to the origin, flow none without TLS",
        protocol: Protocol::Plain,
        load: Load::Bulk(Direction::Upload),
        goals: &[Goal::Times(0.75, Peer::Xray)],
    },
    Scenario {
        name: "tls-download",
        about: "bulk from the origin, flow none over TLS",
        protocol: Protocol::Tls,
        load: Load::Bulk(Direction::Download),
        goals: &[Goal::Times(0.55, Peer::Xray)],
    },
    Scenario {
        name: "tls-upload",
        about: "bulk to the origin, flow none over TLS",
        protocol: Protocol::Tls,
        load: Load::Bulk(Direction::Upload),
        goals: &[Goal::Times(0.55, Peer::Xray)],
    },
    Scenario {
        name: "tls-connections",
        about: "new TLS connections, one small echo on each",
        protocol: Protocol::Tls,
        load: Load::Connections(Exchange::Echo),
        goals: &[Goal::Times(0.55, Peer::Xray), Goal::Times(1.03, Peer::OursWithoutPool)],
    },
    Scenario {
        name: "tls-newcomer",
        about: "first byte of a new TLS session beside 8 downloads",
        protocol: Protocol::Tls,
        load: Load::Newcomers,
        goals: &[Goal::Times(1.0, Peer::Xray)],
    },
    Scenario {
        name: "vision-newcomer",
        about: "first byte of a new Vision session, inner handshake included, beside 8 downloads",
        protocol: Protocol::Vision,
        load: Load::Newcomers,
        goals: &[Goal::Times(1.0, Peer::Xray)],
    },
    Scenario {
        name: "idle",
        about: "memory of TLS sessions that wait behind one small echo",
        protocol: Protocol::Tls,
        load: Load::Idle,
        goals: &[Goal::Value(6.0 * 1024.0)],
    },
    Scenario {
        name: "idle-silent",
        about: "memory of clients that connect and send nothing",
        protocol: Protocol::Tls,
        load: Load::Silent,
        goals: &[Goal::Value(1024.0)],
    },
    Scenario {
        name: "vision-download",
        about: "bulk of inner TLS 1.3 records from the origin, Vision",
        protocol: Protocol::Vision,
        load: Load::Bulk(Direction::Download),
        goals: &[Goal::Times(1.25, Peer::Relay)],
    },
    Scenario {
        name: "vision-upload",
        about: "bulk of inner TLS 1.3 records to the origin, Vision",
        protocol: Protocol::Vision,
        load: Load::Bulk(Direction::Upload),
        goals: &[Goal::Times(1.25, Peer::Relay)],
    },
    Scenario {
        name: "vision-page",
        about: "new Vision connections, inner handshake and 64 KiB of records on each",
        protocol: Protocol::Vision,
        // Four records of the pattern.
        load: Load::Connections(Exchange::Page(4 * RECORD_BYTES as u64)),
        goals: &[Goal::Times(0.45, Peer::Xray)],
    },
    Scenario {
        name: "vision-idle",
        about: "memory of Vision sessions that wait in direct mode",
        protocol: Protocol::Vision,
        load: Load::Idle,
        goals: &[Goal::Value(1.5 * 1024.0)],
    },
    Scenario {
        name: "udp",
        about: "datagrams of 512 bytes to a UDP echo, command 2 over TLS",
        protocol: Protocol::Tls,
        load: Load::Datagrams(Framing::Packets),
        goals: &[Goal::Times(0.55, Peer::Xray)],
    },
    Scenario {
        name: "xudp",
        about: "datagrams of 512 bytes to a UDP echo, XUDP over Vision",
        protocol: Protocol::Vision,
        load: Load::Datagrams(Framing::Xudp),
        goals: &[Goal::Times(0.6, Peer::Xray)],
    },
    Scenario {
        name: "xudp-idle",
        about: "memory of XUDP sessions over Vision that wait behind a few datagrams",
        protocol: Protocol::Vision,
        load: Load::IdleDatagrams(Framing::Xudp),
        goals: &[Goal::Value(8.0 * 1024.0)],
    },
];

/// Downloads beside newcomers, and how many of `--connections` are newcomers: each is made alone.
const NEWCOMER_STREAMS: usize = 8;
const NEWCOMERS_PART: usize = 5;

/// One measurement of one server.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    protocol: Protocol,
    load: Load,
    /// What our server's first figure should not exceed.
    pub(crate) goals: &'static [Goal],
}

#[derive(Debug, Clone, Copy)]
enum Load {
    Bulk(Direction),
    Connections(Exchange),
    Newcomers,
    Idle,
    Silent,
    Datagrams(Framing),
    IdleDatagrams(Framing),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At most this many times the other's figure.
    Times(f64, Peer),
    /// At most this value.
    Value(f64),
}

/// A figure of a measurement with its unit; the first of a scenario is the one that goals and ratios are about.
pub(crate) type Figure = (&'static str, f64);

/// What all measurements share.
pub(crate) struct Ground {
    pub(crate) bed: Bed,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) pattern: Arc<Pattern>,
    pub(crate) origin_port: u16,
    pub(crate) echo_port: u16,
}

impl Scenario {
    /// Whether this scenario says anything about a peer: the bare relay is only a yardstick for bulk without crypto,
    /// the lack of a pool one for new connections.
    pub(crate) fn fits(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ours | Peer::Before | Peer::Xray | Peer::SingBox => true,
            Peer::OursWithoutPool => matches!(self.load, Load::Connections(_)),
            Peer::Relay => matches!(self.load, Load::Bulk(_)) && self.protocol != Protocol::Tls,
        }
    }

    /// Starts the peer, puts the load on it, stops it.
    pub(crate) fn measure(&self, peer: Peer, ground: &Ground, options: &Options) -> io::Result<Vec<Figure>> {
        let server = ground.bed.start(peer, self.protocol)?;
        let route = Route {
            peer,
            protocol: self.protocol,
            server_port: server.port(),
            origin_port: match self.load {
                Load::Datagrams(_) | Load::IdleDatagrams(_) => ground.echo_port,
                _ => ground.origin_port,
            },
            tls: &ground.tls,
            pattern: &ground.pattern,
        };
        match self.load {
            Load::Bulk(direction) => measure_bulk(&route, &server, direction, options),
            Load::Connections(exchange) => measure_connections(&route, &server, exchange, options),
            Load::Newcomers => measure_newcomers(&route, &server, options),
            Load::Idle => measure_idle(&route, &server, options),
            Load::Silent => measure_silent(&server, options.silent),
            Load::Datagrams(framing) => measure_datagrams(&route, &server, framing, options),
            Load::IdleDatagrams(framing) => measure_idle_datagrams(&route, &server, framing, options),
        }
    }
}

fn measure_bulk(route: &Route, server: &Server, direction: Direction, options: &Options) -> io::Result<Vec<Figure>> {
    // Whole records of the pattern, so that the inner stream ends where a record does.
    let bytes = (options.mib * 1024 * 1024).div_ceil(RECORD_BYTES as u64) * RECORD_BYTES as u64;
    let (cpu, outcome) = with_cpu(server, || load::bulk(route, direction, options.streams, bytes))?;
    let gib = (bytes * options.streams as u64) as f64 / f64::from(1 << 30);
    let mut figures = vec![("CPU-s/GiB", cpu / gib), ("GiB/s", gib / outcome.elapsed.as_secs_f64())];
    push_direct(&mut figures, route, outcome.direct, options.streams);
    Ok(figures)
}

fn measure_connections(
    route: &Route,
    server: &Server,
    exchange: Exchange,
    options: &Options,
) -> io::Result<Vec<Figure>> {
    let count = options.connections;
    let (cpu, outcome) = with_cpu(server, || load::connections(route, exchange, count, options.threads))?;
    let mut figures = vec![
        ("CPU-us/connection", cpu * 1e6 / count as f64),
        ("connections/s", count as f64 / outcome.elapsed.as_secs_f64()),
    ];
    push_direct(&mut figures, route, outcome.direct, count);
    Ok(figures)
}

fn measure_newcomers(route: &Route, server: &Server, options: &Options) -> io::Result<Vec<Figure>> {
    let before = measure::cpu_seconds(server.pid())?;
    let count = options.connections / NEWCOMERS_PART;
    let interval = Duration::from_millis(options.newcomer_ms);
    let load::Waits { sorted: waits, bulk_bytes, elapsed } = load::newcomers(route, NEWCOMER_STREAMS, count, interval)?;
    let cpu = measure::cpu_seconds(server.pid())? - before;
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    let gib = bulk_bytes as f64 / f64::from(1 << 30);
    Ok(vec![
        ("us to the first byte (p50)", at(50)),
        ("us (p99)", at(99)),
        ("GiB/s beside", gib / elapsed.as_secs_f64()),
        ("CPU-s/GiB of all", cpu / gib),
    ])
}

fn measure_idle(route: &Route, server: &Server, options: &Options) -> io::Result<Vec<Figure>> {
    measure::settled_cpu_seconds(server.pid())?;
    let before = measure::memory(server.pid())?;
    let mut legs = load::idle(route, options.idle, options.threads)?;
    measure::settled_cpu_seconds(server.pid())?;
    let after = measure::memory(server.pid())?;
    load::revisit(&mut legs)?;
    let count = options.idle as f64;
    let mut figures = vec![
        ("RSS bytes/session", (after.resident - before.resident) / count),
        ("anonymous bytes/session", (after.anonymous - before.anonymous) / count),
    ];
    push_direct(&mut figures, route, load::count_direct(&legs), options.idle);
    Ok(figures)
}

fn measure_datagrams(route: &Route, server: &Server, framing: Framing, options: &Options) -> io::Result<Vec<Figure>> {
    let count = options.datagrams;
    let (cpu, outcome) = with_cpu(server, || load::datagrams(route, framing, count))?;
    let count = count as f64;
    Ok(vec![("CPU-us/datagram", cpu * 1e6 / count), ("datagrams/s", count / outcome.elapsed.as_secs_f64())])
}

fn measure_idle_datagrams(
    route: &Route,
    server: &Server,
    framing: Framing,
    options: &Options,
) -> io::Result<Vec<Figure>> {
    measure::settled_cpu_seconds(server.pid())?;
    let before = measure::memory(server.pid())?;
    // One account may have 1024 UDP sockets.
    let count = options.idle.min(1000);
    let legs = load::idle_datagrams(route, framing, count, options.threads)?;
    measure::settled_cpu_seconds(server.pid())?;
    let after = measure::memory(server.pid())?;
    drop(legs);
    let count = count as f64;
    Ok(vec![
        ("RSS bytes/session", (after.resident - before.resident) / count),
        ("anonymous bytes/session", (after.anonymous - before.anonymous) / count),
    ])
}

fn measure_silent(server: &Server, count: usize) -> io::Result<Vec<Figure>> {
    measure::settled_cpu_seconds(server.pid())?;
    let before = measure::memory(server.pid())?;
    let descriptors_before = measure::descriptors(server.pid())?;
    let sockets = load::silent(server.port(), count)?;
    // Connected is not yet accepted.
    let deadline = Instant::now() + Duration::from_secs(5);
    while measure::descriptors(server.pid())? < descriptors_before + count {
        if Instant::now() > deadline {
            return Err(io::Error::other("the server does not accept silent connections"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    measure::settled_cpu_seconds(server.pid())?;
    let after = measure::memory(server.pid())?;
    if measure::descriptors(server.pid())? < descriptors_before + count {
        return Err(io::Error::other("the server dropped silent connections before they were measured"));
    }
    let count = sockets.len() as f64;
    Ok(vec![
        ("anonymous bytes/client", (after.anonymous - before.anonymous) / count),
        ("RSS bytes/client", (after.resident - before.resident) / count),
    ])
}

/// The load's outcome and the CPU time it cost the server.
fn with_cpu(server: &Server, load: impl FnOnce() -> io::Result<Outcome>) -> io::Result<(f64, Outcome)> {
    let before = measure::settled_cpu_seconds(server.pid())?;
    let outcome = load()?;
    let after = measure::settled_cpu_seconds(server.pid())?;
    Ok((after - before, outcome))
}

/// A Vision figure means something else when the server never left TLS: say how often it did.
fn push_direct(figures: &mut Vec<Figure>, route: &Route, direct: usize, count: usize) {
    if route.protocol == Protocol::Vision && route.peer != Peer::Relay {
        figures.push(("% downlink direct", direct as f64 * 100.0 / count as f64));
    }
}
