//! The `run` command: from a configuration file to a serving process.
//!
//! Starts everything in its order, and leaves it to the supervisor.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::app::access::AccessLines;
use crate::app::activation::Given;
use crate::app::backend::{AppBackend, notes};
use crate::app::capacity::Capacity;
use crate::app::clock::unix_time;
use crate::app::cluster::files::{Folder, SavedAccounts};
use crate::app::cluster::list::List;
use crate::app::cluster::settings::Settings;
use crate::app::cluster::status::Shared;
use crate::app::cluster::{self, Cluster};
use crate::app::config::{Config, DEFAULT_FILE};
use crate::app::console::Reporter;
use crate::app::exit::{self, Failure};
use crate::app::first_run::first_run;
use crate::app::logging::{self, LogHandle};
use crate::app::notify::Notifier;
use crate::app::rules::{self, Surroundings};
use crate::app::sites::Sites;
use crate::app::supervisor::clustered::served;
use crate::app::supervisor::orders::Orders;
use crate::app::supervisor::watch::Watch;
use crate::app::supervisor::{Inherited, LAST_WORDS_TIMEOUT, Listening, Parts, Supervisor};
use crate::app::upgrade::{Launch, Predecessor};
use crate::app::wizard::Lang;
use crate::app::{certs, last_words, link, memory, monitoring, port_holder, preflight};
use crate::cluster::journal::Bytes;
use crate::control::Control;
use crate::control::state::Saved;
use crate::control::state::file::{Loaded, load};
use crate::reactor::{Reactor, Rules, Seed};
use crate::stats::Ledgers;

/// Serves until a signal ends it. Without `path` and without the default file it makes a configuration first, asking in
/// `lang`; none = that of the terminal.
///
/// # Errors
/// Before anything is served; see [`exit`] for the codes.
pub fn run(path: Option<&PathBuf>, lang: Option<Lang>) -> Result<(), Failure> {
    let given = Given::take()?;
    let predecessor = Predecessor::find();
    let (parts, log) = begin((path, lang), predecessor.as_ref(), given).inspect_err(|failure| {
        if let Some(predecessor) = &predecessor {
            predecessor.failed(failure);
        }
    })?;
    Supervisor::new(parts, predecessor).run();
    log.flush(LAST_WORDS_TIMEOUT);
    Ok(())
}

fn begin(
    (path, lang): (Option<&PathBuf>, Option<Lang>),
    predecessor: Option<&Predecessor>,
    given: Given,
) -> Result<(Parts, LogHandle), Failure> {
    let config = match path {
        None if !Path::new(DEFAULT_FILE).exists() => first_run(lang)?,
        None => Config::load(Path::new(DEFAULT_FILE))?,
        Some(path) => Config::load(path)?,
    };
    let launch = Launch::again(config.file.clone());
    let log = logging::start(&config.log)?;
    last_words::install(log.clone());
    let started = start(config, log.clone(), launch, predecessor, given);
    if started.is_err() {
        log.flush(LAST_WORDS_TIMEOUT);
    }
    started.map(|parts| (parts, log))
}

/// Starts everything but the supervisor. Whoever takes over asks for the state when nothing can be wrong any more that
/// a look at the files could have told.
fn start(
    config: Config,
    log: LogHandle,
    launch: Launch,
    predecessor: Option<&Predecessor>,
    given: Given,
) -> Result<Parts, Failure> {
    let started = Instant::now();
    let inherited = match predecessor {
        Some(predecessor) => predecessor.sockets()?,
        None => given.for_addresses(&rules::listen_addresses(&config))?,
    };
    warn_all(config.warnings());
    preflight::source_address(&config)?;
    let orders = Orders::with_signals()?;
    let watch = Watch::certificates(&config);
    let certificates = certs::load_or_generate(&config, &link::host(&config).host, SystemTime::now())?;
    for certificate in &certificates {
        warn_all(&certificate.warnings);
    }
    let capacity = Capacity::claim(&config);
    warn_all(capacity.warning(config.monitoring.vless_max_connections).as_slice());
    let tls = rules::acceptor(&config, &certificates)?;
    predecessor.map(Predecessor::take_state).transpose()?;
    let Loaded { saved, warnings } = load(&config.monitoring.state_file, unix_time());
    warn_all(&warnings);
    // A lane for each worker, and one for what another process counts.
    let ledgers = Arc::new(Ledgers::new(capacity.workers + 1));
    notes::restore(&ledgers, &saved.accounts);
    let (config, membership) = membership(config)?;
    let observer = Arc::new(AccessLines::new(&config.log, &log));
    let sites = Sites::serve(&config)?;
    let around = Surroundings { tls, sites: &sites, ledgers: &ledgers, now: unix_time(), capacity, observer };
    let rules = Arc::new(rules::rules(&config, &around)?);
    preflight::hosts_file(&rules.dial.resolver.hosts)?;
    let (listening, reactor) = start_reactor(&config, capacity, &rules, inherited)?;
    let backend = AppBackend::new(reactor.handle(), orders.mailbox(), Arc::clone(&ledgers), log.clone());
    let backend = Arc::new(backend);
    backend.publish(&config, &certificates, rules.sessions_max);
    let control = start_control(&config, saved, &backend, started)?;
    last_words::keep_totals(control.handle());
    let cluster = membership.map(|membership| join(membership, &config, &ledgers, &reactor, &orders, &control));
    let cluster = cluster.transpose()?;
    if let Some(cluster) = &cluster {
        backend.join(cluster);
    }
    let reporter = Reporter::start().map_err(|error| Failure::writing("/dev/stderr".as_ref(), &error))?;
    predecessor.map(Predecessor::take_service).transpose()?;
    Ok(Parts {
        config,
        certificates,
        rules,
        reactor,
        listening,
        ledgers,
        capacity,
        watch,
        log,
        reporter,
        notifier: Notifier::from_environment(),
        launch,
        orders,
        backend,
        control,
        cluster,
        started,
    })
}

/// What this node needs to be one of a cluster.
struct Membership {
    settings: Settings,
    folder: Folder,
    list: List,
}

/// `config` with the accounts of the cluster as they were known last: the engine may be away.
fn membership(config: Config) -> Result<(Config, Option<Membership>), Failure> {
    let Some(settings) = Settings::of(&config)? else { return Ok((config, None)) };
    let folder = Folder::take(&settings.folder)?;
    let saved = folder.read_accounts().unwrap_or_else(|error| {
        log::warn!(
            "cluster: the last list of accounts cannot be read, so there are none before the engine answers: {error}"
        );
        SavedAccounts::default()
    });
    let list = List::new(saved, settings.flow_with_tls);
    let listed = list.listed();
    let (config, clashes) = config.with_cluster(listed.version, &listed.users);
    for words in clashes {
        log::error!("{words}; the account of the cluster is not served here, remove one of them");
    }
    Ok((config, Some(Membership { settings, folder, list })))
}

fn join(
    membership: Membership,
    config: &Config,
    ledgers: &Ledgers,
    reactor: &Reactor,
    orders: &Orders,
    control: &Control,
) -> Result<Cluster, Failure> {
    let Membership { settings, folder, list } = membership;
    log::info!("cluster: this node is {}, the engine {}", settings.node, settings.access.url);
    let shared = Arc::new(Shared::default());
    // Nothing was counted for anybody else in this process.
    let served = served(config, ledgers, &list.listed(), |_, _| Bytes::default());
    shared.serve(served, Vec::new());
    let around = cluster::Surroundings {
        folder,
        list,
        shared,
        mailbox: orders.mailbox(),
        control: control.handle(),
        reactor: reactor.handle(),
    };
    Cluster::start(settings, around)
}

fn start_control(
    config: &Config,
    saved: Saved,
    backend: &Arc<AppBackend>,
    started: Instant,
) -> Result<Control, Failure> {
    let control = Control::start(monitoring::settings(config), saved, Arc::<AppBackend>::clone(backend), started)
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot start monitoring: {error}")))?;
    match control.address() {
        Some(address) => log::info!("monitoring on http://{address}/"),
        // Looking for the holder takes long where many processes run, so it is for this case alone.
        None if config.monitoring.enabled => {
            let port = config.monitoring.port;
            if let Some(holder) = port_holder::holder(port) {
                log::warn!("monitoring.port: {port} is taken by {holder}: stop it, or change the port");
            }
        }
        None => {}
    }
    Ok(control)
}

fn warn_all(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

fn start_reactor(
    config: &Config,
    capacity: Capacity,
    rules: &Arc<Rules>,
    inherited: Inherited,
) -> Result<(Listening, Reactor), Failure> {
    let addresses = rules::listen_addresses(config);
    let (listening, listeners) =
        Listening::open(&addresses, capacity.workers, rules::socket_options(config), inherited)?;
    let seed = Seed {
        listeners,
        warm_up: rules::warm_up_targets(config),
        splice: config.performance.splice,
        buffer_memory_max: config.performance.buffer_memory_max.unwrap_or_else(memory::default_buffer_memory),
        // Half of what sessions may have.
        mux_sockets_max: capacity.sessions(),
    };
    let reactor = Reactor::start(seed, rules)
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
    Ok((listening, reactor))
}
