//! The one owner of the running server: reactor, configuration, accounts, ledgers, log, control plane.
//!
//! Whoever wants something of the server (a signal, a command, the page, a watched file) leaves an [`Order`] in the
//! mailbox; one thread takes them one by one, so no two changes ever meet. Workers and the control thread are told,
//! never waited for.
//!
//! `changing.rs` makes changes of accounts, `clustered.rs` has those of the cluster's accounts made, `adopting.rs` brings
//! them, a reload and renewed certificates into effect, `answers.rs` obeys other orders, `changes.rs` says changes in
//! words, `cuts.rs` says whose sessions end by them, `roll.rs` keeps the accounts by the clock, `hours.rs` says what time
//! it is for them, `watch.rs` looks at certificate files, `listening.rs` has clients accepted, `heart.rs` tells the service
//! manager how it stands, `upgrading.rs` has another process take over.

mod adopting;
mod answers;
mod changes;
mod changing;
pub mod clustered;
mod cuts;
mod gates;
mod heart;
mod hours;
mod listening;
pub mod orders;
mod roll;
mod upgrading;
pub mod watch;

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};

use self::heart::Heart;
use self::hours::Hours;
pub use self::listening::{Inherited, Listening};
use self::orders::{Order, Orders};
use self::roll::Roll;
use self::upgrading::Upgrading;
use self::watch::Watch;
use crate::app::accounts::store::Stamp;
use crate::app::backend::AppBackend;
use crate::app::capacity::Capacity;
use crate::app::certs::LoadedCertificate;
use crate::app::cluster::Cluster;
use crate::app::cluster::list::Listed;
use crate::app::config::Config;
use crate::app::console::Reporter;
use crate::app::logging::LogHandle;
use crate::app::notify::Notifier;
use crate::app::report::counters_line;
use crate::app::upgrade::{Launch, Predecessor, Teller};
use crate::control::Control;
use crate::control::events::{Event, Kind, Level};
use crate::reactor::{Reactor, Rules, pulse};
use crate::stats::Ledgers;

/// How long the end waits for a stalled log or terminal.
pub const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// How often users are looked at who come from one address too many; their grace is counted in these.
const GUEST_INTERVAL: Duration = Duration::from_secs(1);
/// How often the supervisor looks at its clock while it serves: what is due by the second is done within one.
const TICK: Duration = Duration::from_millis(500);
/// How often the end of a drain is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// What a start hands over.
pub struct Parts {
    pub config: Config,
    pub certificates: Vec<LoadedCertificate>,
    pub rules: Arc<Rules>,
    pub reactor: Reactor,
    pub listening: Listening,
    /// What is counted for users, whatever becomes of their accounts.
    pub ledgers: Arc<Ledgers>,
    pub capacity: Capacity,
    /// Begun before the certificates were read.
    pub watch: Watch,
    pub log: LogHandle,
    pub reporter: Reporter,
    /// The service manager, if there is one.
    pub notifier: Notifier,
    /// How a successor is started.
    pub launch: Launch,
    pub orders: Orders,
    /// What the control plane sees of all this.
    pub backend: Arc<AppBackend>,
    pub control: Control,
    /// `None`: this node is alone.
    pub cluster: Option<Cluster>,
    pub started: Instant,
}

/// See the module.
pub struct Supervisor {
    parts: Parts,
    /// What the server was started with, without accounts.
    started: Config,
    roll: Roll,
    hours: Hours,
    heart: Heart,
    upgrading: Upgrading,
    /// The way to the process before this one.
    teller: Option<Teller>,
    is_draining: bool,
    /// Until then the end waits for what the process before this one still counts.
    drain_deadline: Option<Instant>,
    /// When guests were last looked for.
    looked_at: Instant,
    /// Accounts of the cluster that are not served here, each in words.
    clashes: Vec<String>,
    /// Of the users file whose accounts are served; `None`: it has to be read before it is changed.
    users_stamp: Option<Stamp>,
    /// The list of the cluster's accounts that was taken over last.
    listed: Option<Arc<Listed>>,
    turns: pulse::Watch,
}

/// Whether the supervisor goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    EndAtOnce,
}

impl Supervisor {
    /// Nothing happens before [`Supervisor::run`].
    pub fn new(mut parts: Parts, predecessor: Option<Predecessor>) -> Self {
        let now = Instant::now();
        let hours = Hours::new(now);
        let roll = Roll::new(&parts.config.users, &parts.ledgers, hours.unix_time());
        let heart = Heart::new(std::mem::take(&mut parts.notifier), parts.capacity.workers, now);
        gates::adopt(&parts.config, &parts.ledgers);
        let lane = parts.capacity.workers;
        let listen = |old: Predecessor| old.listen(Arc::clone(&parts.ledgers), lane, parts.backend.old_counts());
        let teller = predecessor.map(listen);
        let upgrading = Upgrading::default();
        let mut started = parts.config.clone();
        started.users = Vec::new();
        Self {
            parts,
            started,
            roll,
            hours,
            heart,
            upgrading,
            teller,
            is_draining: false,
            drain_deadline: None,
            looked_at: now,
            clashes: Vec::new(),
            users_stamp: None,
            listed: None,
            turns: pulse::Watch::default(),
        }
    }

    /// Serves orders until the reactor has stopped, and says the last words.
    pub fn run(mut self) {
        self.describe_to_cluster(&self.parts.config);
        self.heart.notifier().ready();
        if self.teller.is_some() {
            self.catch_up();
        }
        while !self.parts.reactor.is_stopped() || self.waits_for_predecessor() {
            match self.parts.orders.next(if self.is_draining { DRAIN_POLL } else { TICK }) {
                Ok(order) => {
                    if self.obey(order) == Then::EndAtOnce {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tick();
        }
        // Drained, the workers have ended; after a second signal they cut what is left, and that counts, too.
        self.parts.reactor.stop();
        // After the workers, so that the state has the last byte, and the engine, too.
        if let Some(cluster) = &mut self.parts.cluster {
            cluster.stop();
        }
        self.upgrading.finish();
        self.parts.control.stop();
        let report = self.report();
        self.parts.reporter.write(report, LAST_WORDS_TIMEOUT);
        log::info!("stopped");
    }

    fn obey(&mut self, order: Order) -> Then {
        match order {
            Order::Signal(SIGUSR1) => {
                let report = self.report();
                if !self.parts.reporter.offer(report) {
                    log::warn!("SIGUSR1: stderr is still busy with the counters of an earlier one");
                }
                Then::GoOn
            }
            // A terminal that is closed sends it too; it must not end a server that has sessions.
            Order::Signal(SIGHUP) if self.is_draining => Then::GoOn,
            Order::Signal(SIGHUP) => {
                // What came of it is in log and events.
                let _ = self.reload("signal");
                Then::GoOn
            }
            Order::Signal(SIGUSR2) => {
                self.upgrade("signal", None);
                Then::GoOn
            }
            Order::Signal(_) => self.end(),
            Order::Successor(news) => {
                self.hear_successor(news);
                Then::GoOn
            }
            Order::Control(asked) => {
                self.obey_control(asked);
                Then::GoOn
            }
            Order::Cluster(news) => {
                self.hear(news);
                Then::GoOn
            }
        }
    }

    /// What is due by the clock: accounts that end, quotas that begin anew, certificates that were renewed.
    fn tick(&mut self) {
        self.beat(Instant::now());
        for turn in self.turns.look(self.parts.reactor.handle().pulses(), Instant::now()) {
            log::warn!("{turn}");
        }
        if self.is_draining {
            return;
        }
        let now = self.hours.look(Instant::now());
        let found = self.roll.tick(&self.parts.config.users, now);
        for warning in found.warnings {
            self.warn(warning);
        }
        if found.is_changed {
            self.adopt_standing(now);
        }
        if self.looked_at.elapsed() >= GUEST_INTERVAL {
            self.looked_at = Instant::now();
            self.cut_guests();
        }
        if self.parts.watch.is_due(Instant::now()) {
            self.renew_certificates();
        }
    }

    /// Tells the service manager how it stands.
    fn beat(&mut self, now: Instant) {
        let handle = self.parts.reactor.handle();
        if let Some(worker) = self.heart.beat(&handle, now) {
            let text = format!("worker {worker} does not turn any more; the service manager is to end this process");
            log::error!("{text}");
            let event = Event::new(Kind::State, Level::Error, text);
            self.tell(event.coded("worker_stuck", json!({ "worker": worker })));
        }
        let (sessions, users) = (self.parts.reactor.sessions(), self.parts.config.users.len());
        let doing = if self.is_draining { "stopping, with" } else { "serving" };
        self.heart.say(|| format!("{doing} {sessions} sessions; {users} accounts"), now);
    }

    /// The first signal lets sessions end, the second does not.
    fn end(&mut self) -> Then {
        let (sessions, drain) = (self.parts.reactor.sessions(), self.parts.config.timeouts.drain);
        if self.is_draining && !self.upgrading.is_first_signal() {
            log::warn!("second signal: ending at once with {sessions} sessions open");
            return Then::EndAtOnce;
        }
        self.is_draining = true;
        self.drain_deadline = Some(Instant::now() + drain);
        self.heart.stopping();
        self.parts.backend.drain();
        self.parts.listening.release();
        match sessions {
            0 => log::info!("stopping: no session is open"),
            sessions => log::info!("stopping: {sessions} sessions have {} s to end", drain.as_secs()),
        }
        self.parts.reactor.drain(drain);
        Then::GoOn
    }

    /// Has an event kept for the page and the API.
    fn tell(&self, event: Event) {
        self.parts.control.handle().report(event);
    }

    fn report(&self) -> String {
        let parts = &self.parts;
        let users: Vec<_> = parts.config.users.iter().map(|user| user.email.as_str()).zip(self.roll.totals()).collect();
        counters_line(parts.reactor.counters(), &users, parts.started.elapsed(), parts.log.dropped_lines())
    }
}
