//! The `run` command: from a configuration file to a serving process, and its orderly end.
//!
//! The main thread starts everything and then only waits for signals: TERM and INT drain, a second one ends the process
//! at once, USR1 writes the counters, HUP is answered with a warning until reloading is built.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::app::access::AccessLines;
use crate::app::certs::{self, LoadedCertificate};
use crate::app::config::{self, Config, DEFAULT_FILE, TlsVersion};
use crate::app::console::{self, Reporter};
use crate::app::exit::{self, Failure};
use crate::app::logging::{self, LogHandle};
use crate::app::memory;
use crate::app::report::counters_line;
use crate::app::{init, link, preflight};
use crate::inbound::tls::{Certificate, TlsSettings};
use crate::io::sockopt::SocketOptions;
use crate::outbound::connection_pool::PoolSettings;
use crate::outbound::dial::{DialSettings, Prefer};
use crate::outbound::policy::DestinationPolicy;
use crate::outbound::resolve::ResolverSettings;
use crate::outbound::resolve::lookups::Limits;
use crate::outbound::resolve::query::OPEN_TRIES_MAX;
use crate::protocol::addons::Flow;
use crate::protocol::user_id;
use crate::reactor::accept;
use crate::reactor::{Reactor, Settings};
use crate::session::permits::MuxSockets;
use crate::session::{Host, SessionSettings, Target, Timeouts, TlsAcceptor, UdpSettings, User, Users};
use crate::stats::Ledgers;

/// Descriptors that are not sessions': standard streams, log, listeners, polls, connection races.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Descriptors a worker may hold for kernel pipes (two each).
const DESCRIPTORS_PER_WORKER: u64 = 160;
/// The part of the descriptors that the look-ups of all workers may be in number; each holds two at the most.
const LOOKUPS_SHARE: u64 = 16;
/// Look-ups that each worker may have under way however few descriptors there are: a page of names at a time.
const LOOKUPS_MIN: usize = 16;
/// A session that is served has a client and a target.
const DESCRIPTORS_PER_SESSION: u64 = 2;
/// Spare connections in the process at the most, and the part of the descriptors that they may take.
const SPARES_MAX: usize = 1000;
const SPARES_SHARE: u64 = 8;
/// Fewer sessions than this, and one browser may use them up: the operator is told.
const SESSIONS_FEW: usize = 256;
/// How long the end waits for a stalled log or terminal.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the end of a drain is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Serves until a signal ends it. Without `path` and without the default file it makes a configuration first.
///
/// # Errors
/// Before anything is served; see [`exit`] for the codes.
pub fn run(path: Option<&PathBuf>) -> Result<(), Failure> {
    let config = match path {
        None if !Path::new(DEFAULT_FILE).exists() => first_run()?,
        None => Config::load(Path::new(DEFAULT_FILE))?,
        Some(path) => Config::load(path)?,
    };
    let log = logging::start(&config.log)?;
    let served = serve(&config, &log);
    log.flush(LAST_WORDS_TIMEOUT);
    served
}

/// What `init --yes` does; the link goes to stdout.
fn first_run() -> Result<Config, Failure> {
    let created = init::init_with_defaults(Path::new(DEFAULT_FILE))?;
    console::note(&format!("{DEFAULT_FILE} was written; import this link into a client:"));
    if let Err(error) = console::result(&format!("{}\n", created.link)) {
        console::note(&format!("the link could not be written to stdout ({error}); `vless-rust link` prints it again"));
    }
    for warning in &created.warnings {
        console::note(warning);
    }
    Ok(created.config)
}

fn serve(config: &Config, log: &LogHandle) -> Result<(), Failure> {
    let started = Instant::now();
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    preflight::source_address(config)?;
    let signals = signals()?;
    let certificates = certs::load_or_generate(config, &link::host(config).host, SystemTime::now())?;
    for warning in certificates.iter().flat_map(|certificate| &certificate.warnings) {
        log::warn!("{warning}");
    }
    let workers = workers(config);
    let users = Arc::new(users(config, &Ledgers::new(workers))?);
    let descriptors = raise_descriptor_limit();
    let options = socket_options(config);
    let addresses: Vec<_> = config.server.listen.iter().map(|ip| SocketAddr::new(*ip, config.server.port)).collect();
    let listeners = accept::listen(&addresses, workers, options).map_err(|(address, error)| {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
            _ => exit::UNAVAILABLE,
        };
        Failure::new(code, format!("cannot listen on {address}: {error}{}", advice(&error)))
    })?;
    let settings = Settings {
        session: session_settings(
            config,
            tls(config, certificates)?,
            Arc::clone(&users),
            // Half of what sessions may have.
            MuxSockets::new(possible_sessions(workers, descriptors)),
        ),
        dial: dial_settings(config, addresses.clone(), options, lookups_max(workers, descriptors)),
        pool: pool_settings(config, descriptors),
        warm_up: warm_up_targets(config),
        splice: config.performance.splice,
        sessions_max: sessions_max(config, workers, descriptors),
        buffer_memory_max: config.performance.buffer_memory_max.unwrap_or_else(memory::default_buffer_memory),
        observer: Arc::new(AccessLines { log: config.log.access.then(|| log.access_log()), format: config.log.format }),
    };
    let mut reactor = Reactor::start(listeners, &settings)
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot start the workers: {error}")))?;
    for address in &addresses {
        log::info!(
            "listening on {address} ({}), {workers} worker{}, at most {} sessions",
            if config.tls.is_some() { "TLS" } else { "no TLS" },
            if workers == 1 { "" } else { "s" },
            settings.sessions_max
        );
    }
    let reporter = Reporter::start().map_err(|error| Failure::writing("/dev/stderr".as_ref(), &error))?;
    let report = |reactor: &_| counters_line(reactor, &users, started.elapsed(), log.dropped_lines());
    wait_for_the_end(&reactor, &signals, config.timeouts.drain, || reporter.offer(report(&reactor)));
    // Drained, the workers have ended; after a second signal they cut what is left, and that counts, too.
    reactor.stop();
    reporter.write(report(&reactor), LAST_WORDS_TIMEOUT);
    log::info!("stopped");
    Ok(())
}

/// Serves signals until the reactor has stopped.
fn wait_for_the_end(reactor: &Reactor, signals: &Receiver<i32>, drain: Duration, on_usr1: impl Fn() -> bool) {
    let mut is_draining = false;
    while !reactor.is_stopped() {
        let signal = if is_draining {
            match signals.recv_timeout(DRAIN_POLL) {
                Ok(signal) => signal,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        } else {
            let Ok(signal) = signals.recv() else { return };
            signal
        };
        match signal {
            SIGUSR1 => {
                if !on_usr1() {
                    log::warn!("SIGUSR1: stderr is still busy with the counters of an earlier one");
                }
            }
            // A terminal that is closed sends it too; it must not end a server that has sessions.
            SIGHUP => log::warn!("HUP: reloading is not built yet; restart to use a changed configuration"),
            _ if is_draining => {
                log::warn!("second signal: ending at once with {} sessions open", reactor.sessions());
                return;
            }
            _ => {
                is_draining = true;
                match reactor.sessions() {
                    0 => log::info!("stopping: no session is open"),
                    sessions => log::info!("stopping: {sessions} sessions have {} s to end", drain.as_secs()),
                }
                reactor.drain(drain);
            }
        }
    }
}

/// The signals as values; a thread of their own waits for them.
fn signals() -> Result<Receiver<i32>, Failure> {
    let failed = |error: io::Error| Failure::new(exit::UNAVAILABLE, format!("cannot watch signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP]).map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
    Ok(receiver)
}

fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

fn users(config: &Config, ledgers: &Ledgers) -> Result<Users, Failure> {
    let users = config.users.iter().map(|user| User {
        id: user.id,
        email: user.email.clone(),
        flow: if user.flow.is_vision() { Flow::Vision } else { Flow::None },
        ledger: ledgers.of(user_id::mask(user.id)),
    });
    Users::new(users).map_err(|user| {
        // The configuration's own check comes first and says where; this is for users that tests put together.
        Failure::new(exit::CONFIG, format!("users: the id of {} cannot be told from another user's", user.email))
    })
}

fn tls(config: &Config, certificates: Vec<LoadedCertificate>) -> Result<Option<TlsAcceptor>, Failure> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let certificates =
        certificates.into_iter().map(|loaded| Certificate { names: loaded.names, key: loaded.certified_key });
    let settings = TlsSettings {
        certificates: certificates.collect(),
        alpn: tls.alpn.clone(),
        tls13_only: tls.min_version == TlsVersion::Tls13,
    };
    TlsAcceptor::new(settings).map(Some).map_err(|error| Failure::new(exit::CONFIG, format!("tls: {error}")))
}

fn session_settings(
    config: &Config,
    tls: Option<TlsAcceptor>,
    users: Arc<Users>,
    mux_sockets: MuxSockets,
) -> SessionSettings {
    let timeouts = &config.timeouts;
    SessionSettings {
        tls,
        users,
        timeouts: Timeouts {
            tls_handshake: timeouts.tls_handshake,
            first_byte: timeouts.first_byte,
            request: timeouts.request,
            idle: timeouts.idle,
            half_close: timeouts.half_close,
            write_stall: timeouts.write_stall,
        },
        vision_seed: config.performance.vision_seed.map(u32::from),
        read_bytes_max: config.performance.buffer_size,
        udp: UdpSettings {
            timeout: config.performance.udp_timeout,
            recv_buffer_bytes: config.performance.udp_recv_buffer,
            sockets_per_user_max: config.performance.udp_sockets_per_user_max,
        },
        mux_sockets: Arc::new(mux_sockets),
    }
}

fn dial_settings(
    config: &Config,
    own_listeners: Vec<SocketAddr>,
    options: SocketOptions,
    lookups_max: usize,
) -> DialSettings {
    let outbound = &config.outbound;
    // The public address may be somebody else's translation of ours, which only the operator knows.
    let public = config.server.public_host.as_ref().and_then(|host| host.parse().ok());
    let own_listeners =
        own_listeners.into_iter().chain(public.map(|ip| SocketAddr::new(ip, config.server.port))).collect();
    DialSettings {
        connect_timeout: config.connection_pool.connect_timeout,
        prefer: match outbound.prefer {
            config::Prefer::Auto => Prefer::Auto,
            config::Prefer::Ipv4 => Prefer::Ipv4,
            config::Prefer::Ipv6 => Prefer::Ipv6,
        },
        bind: outbound.bind,
        policy: Arc::new(DestinationPolicy::new(
            outbound.allow_private,
            outbound.allow.clone(),
            outbound.deny_ports.clone(),
            own_listeners,
        )),
        resolver: ResolverSettings {
            servers: outbound.dns_servers.clone(),
            timeout: outbound.dns_timeout,
            limits: Limits { lookups_max, ..Limits::default() },
            ..ResolverSettings::default()
        },
        options,
    }
}

/// Spare connections; their figures are the process's, and at most one descriptor in eight is for them.
fn pool_settings(config: &Config, descriptors: u64) -> Option<PoolSettings> {
    let pool = &config.connection_pool;
    pool.enabled.then(|| PoolSettings {
        spares_per_target_max: pool.max_connections_per_host,
        spares_max: usize::try_from(descriptors / SPARES_SHARE).unwrap_or(usize::MAX).min(SPARES_MAX),
        idle_max: pool.max_idle_time,
        lifetime_max: pool.max_lifetime,
        connect_timeout: pool.connect_timeout,
        health_check_interval: pool.health_check_interval,
        warm_up_spares: if pool.enable_warmup { pool.warmup_connections.min(pool.max_connections_per_host) } else { 0 },
    })
}

fn warm_up_targets(config: &Config) -> Vec<Target> {
    let targets = config.connection_pool.warmup_targets.iter().map(|(host, port)| Target {
        host: host.parse().map_or_else(|_| Host::Name(host.as_str().into()), Host::Ip),
        port: *port,
    });
    targets.collect()
}

fn socket_options(config: &Config) -> SocketOptions {
    let performance = &config.performance;
    SocketOptions {
        nodelay: performance.tcp_nodelay,
        recv_buffer_bytes: performance.tcp_recv_buffer.unwrap_or(0),
        send_buffer_bytes: performance.tcp_send_buffer.unwrap_or(0),
    }
}

/// Raises the soft limit of descriptors to the hard one, and returns what then is allowed.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // The maximum is always allowed; should it be refused, what there is stays.
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn sessions_max(config: &Config, workers: usize, descriptors: u64) -> usize {
    let possible = possible_sessions(workers, descriptors);
    let wanted = config.monitoring.vless_max_connections;
    if wanted > possible || (wanted == 0 && possible < SESSIONS_FEW) {
        log::warn!(
            "{descriptors} descriptors are enough for {possible} sessions only{}: raise the limit (ulimit -n, or \
             LimitNOFILE= of the service)",
            if wanted > 0 { format!(", and monitoring.vless_max_connections is {wanted}") } else { String::new() }
        );
    }
    // More would only mean clients whose targets cannot be connected.
    if wanted == 0 { possible } else { wanted.min(possible) }
}

/// Sessions that `descriptors` are enough for. What is kept back for other uses is at most half of them: on a machine
/// with many processors and a low limit there would be none left, while pipes and races do without.
fn possible_sessions(workers: usize, descriptors: u64) -> usize {
    let per_worker = DESCRIPTORS_PER_WORKER + (lookups_max(workers, descriptors) * OPEN_TRIES_MAX) as u64;
    let reserved = (DESCRIPTORS_RESERVED + per_worker * workers as u64).min(descriptors / 2);
    usize::try_from((descriptors - reserved) / DESCRIPTORS_PER_SESSION).unwrap_or(usize::MAX).max(1)
}

/// Look-ups that each worker may have under way. With few descriptors they are fewer, so that name servers that keep
/// silent cannot take away everybody's.
fn lookups_max(workers: usize, descriptors: u64) -> usize {
    let share = descriptors / LOOKUPS_SHARE / workers.max(1) as u64;
    usize::try_from(share).unwrap_or(usize::MAX).clamp(LOOKUPS_MIN, Limits::default().lookups_max)
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: stop it, or change server.port",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE: grant it, or change server.port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address: change server.listen",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out_sensibly_whatever_their_number() {
        assert_eq!(possible_sessions(2, 20_000), (20_000 - 128 - 320 - 2 * 2 * 512) / 2);
        // 64 processors and a limit that used to be common.
        assert_eq!(possible_sessions(64, 4096), 1024);
        assert_eq!(possible_sessions(2, 64), 16);
        assert_eq!(possible_sessions(2, 1), 1);
        assert!(possible_sessions(2, u64::MAX) > 1 << 62);
    }

    #[test]
    fn look_ups_that_nobody_answers_leave_descriptors_to_the_sessions() {
        assert_eq!(
            [(1, 1024), (2, 1024), (4, 65_536), (2, u64::MAX)].map(|(w, d)| lookups_max(w, d)),
            [64, 32, 512, 512]
        );
        // However many processors: a few names at a time must be possible.
        assert_eq!(lookups_max(64, 1024), LOOKUPS_MIN);
        for (workers, descriptors) in [(1, 1024), (2, 1024), (4, 4096), (2, 20_000), (64, 1 << 20)] {
            let sockets = workers * lookups_max(workers, descriptors) * OPEN_TRIES_MAX;
            let sessions = possible_sessions(workers, descriptors) as u64 * DESCRIPTORS_PER_SESSION;
            assert!(sessions + sockets as u64 + DESCRIPTORS_RESERVED <= descriptors, "{workers} {descriptors}");
        }
    }
}
