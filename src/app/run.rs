//! The `run` command: from a configuration file to a serving process, and its orderly end.
//!
//! The main thread starts everything and then only waits for signals: TERM and INT drain, a second one ends the process
//! at once, USR1 writes the counters, HUP is answered with a warning until reloading is built.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::app::access::AccessLines;
use crate::app::capacity::Capacity;
use crate::app::certs;
use crate::app::config::{Config, DEFAULT_FILE};
use crate::app::console::{self, Reporter};
use crate::app::exit::{self, Failure};
use crate::app::logging::{self, LogHandle};
use crate::app::memory;
use crate::app::report::counters_line;
use crate::app::rules::{self, Surroundings};
use crate::app::{init, link, preflight};
use crate::reactor::accept;
use crate::reactor::{Reactor, Seed};
use crate::stats::Ledgers;

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
    let capacity = Capacity::claim(config);
    if let Some(warning) = capacity.warning(config.monitoring.vless_max_connections) {
        log::warn!("{warning}");
    }
    let ledgers = Ledgers::new(capacity.workers);
    let observer = AccessLines { log: config.log.access.then(|| log.access_log()), format: config.log.format };
    let around =
        Surroundings { certificates: &certificates, ledgers: &ledgers, capacity, observer: Arc::new(observer) };
    let rules = Arc::new(rules::rules(config, &around)?);
    let addresses = rules::listen_addresses(config);
    let seed = Seed {
        listeners: listeners(&addresses, capacity.workers, config)?,
        warm_up: rules::warm_up_targets(config),
        splice: config.performance.splice,
        buffer_memory_max: config.performance.buffer_memory_max.unwrap_or_else(memory::default_buffer_memory),
        // Half of what sessions may have.
        mux_sockets_max: capacity.sessions(),
    };
    let mut reactor = Reactor::start(seed, &rules)
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot start the workers: {error}")))?;
    for address in &addresses {
        log::info!(
            "listening on {address} ({}), {} worker{}, at most {} sessions",
            if config.tls.is_some() { "TLS" } else { "no TLS" },
            capacity.workers,
            if capacity.workers == 1 { "" } else { "s" },
            rules.sessions_max
        );
    }
    let reporter = Reporter::start().map_err(|error| Failure::writing("/dev/stderr".as_ref(), &error))?;
    let report = |reactor: &_| counters_line(reactor, &rules.session.users, started.elapsed(), log.dropped_lines());
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

/// A listener per address and worker.
fn listeners(addresses: &[SocketAddr], workers: usize, config: &Config) -> Result<Vec<Vec<TcpListener>>, Failure> {
    accept::listen(addresses, workers, rules::socket_options(config)).map_err(|(address, error)| {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
            _ => exit::UNAVAILABLE,
        };
        Failure::new(code, format!("cannot listen on {address}: {error}{}", advice(&error)))
    })
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
