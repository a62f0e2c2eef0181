//! The rest of the server as the control plane sees it: a sample of everything once a second, and orders.
//!
//! What is alive is reached through shared handles, so nobody is waited for. What changes with the configuration is
//! told here by [`AppBackend::publish`]. `live.rs` asks the workers; everything else that is ordered is the
//! supervisor's, and `notes.rs` what accounts want kept.

mod live;
pub mod notes;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::app::accounts::standing::{Standing, expires_at, period_end, standing};
use crate::app::certs::{LoadedCertificate, hex};
use crate::app::clock::{rfc3339_seconds, unix_time};
use crate::app::cluster::call::Call;
use crate::app::cluster::news::Forgotten;
use crate::app::cluster::{self, Cluster};
use crate::app::config::{self, Config, Origin, User};
use crate::app::logging::LogHandle;
use crate::app::report::memory_pool;
use crate::app::supervisor::orders::{self, Asked, Mailbox};
use crate::app::tally::{Counting, Counts, OldCounts};
use crate::control::backend::{Backend, CutQuery, Denied, Done, Order};
use crate::control::sample::{CertificateSample, ReloadSample, Sample, ServerState, UserLimits, UserSample, UserState};
use crate::protocol::user_id;
use crate::reactor::Handle;
use crate::session::address_of;
use crate::session::close::CloseReason;
use crate::stats::pools::ConnectionPoolStats;
use crate::stats::{Ledgers, Totals, timings, totals};

/// Addresses of one user that are shown.
const ADDRESSES_SHOWN: usize = 16;

/// How long the supervisor's answer may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a successor may take to serve, and a little more.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(80);

/// Why a client was not served although it asked: it is worth knowing who knocks. Reasons for which sessions that are
/// there are cut, too, have counters of their own for those who are refused.
const REJECTIONS: &[CloseReason] = &[
    CloseReason::TlsFailed,
    CloseReason::HandshakeTimeout,
    CloseReason::FirstByteTimeout,
    CloseReason::RequestTimeout,
    CloseReason::OpeningShed,
    CloseReason::NotVless,
    CloseReason::UnknownUser,
    CloseReason::BadRequest,
    CloseReason::FlowRefused,
    CloseReason::UdpLimit,
    CloseReason::CommandRefused,
    CloseReason::ReservedName,
    CloseReason::PolicyRefused,
    CloseReason::UserSessionsLimit,
    CloseReason::UserAddressesLimit,
];

/// See the module.
pub struct AppBackend {
    handle: Handle,
    mailbox: Mailbox,
    ledgers: Arc<Ledgers>,
    log: LogHandle,
    is_draining: AtomicBool,
    sessions_max: AtomicU64,
    /// What the process that this one took over from still counts.
    old: Arc<OldCounts>,
    /// What was counted when another process took over.
    baseline: Mutex<Counts>,
    published: Mutex<Published>,
    /// Where this node is one of a cluster.
    cluster: OnceLock<cluster::Link>,
}

/// What changes with the configuration.
#[derive(Default)]
struct Published {
    /// Everything of the accounts but what is counted, and the limits from which dates follow as time passes.
    users: Vec<(UserSample, config::UserLimits)>,
    users_revision: u64,
    certificates: Vec<CertificateSample>,
    last_reload: Option<ReloadSample>,
}

impl AppBackend {
    /// `mailbox` is that of the supervisor.
    pub fn new(handle: Handle, mailbox: Mailbox, ledgers: Arc<Ledgers>, log: LogHandle) -> Self {
        Self {
            handle,
            mailbox,
            ledgers,
            log,
            is_draining: AtomicBool::new(false),
            sessions_max: AtomicU64::new(0),
            old: Arc::default(),
            baseline: Mutex::default(),
            published: Mutex::default(),
            cluster: OnceLock::new(),
        }
    }

    /// Tells what is served from now on.
    pub fn publish(&self, config: &Config, certificates: &[LoadedCertificate], sessions_max: usize) {
        self.sessions_max.store(sessions_max as u64, Ordering::Relaxed);
        let mut published = self.lock();
        let now = unix_time();
        let known = |one: &User| (user(one, &self.ledgers, now), one.limits.clone());
        published.users = config.users.iter().map(known).collect();
        published.users_revision = config.revision();
        published.certificates = certificates.iter().map(certificate).collect();
    }

    /// Tells that this node is one of a cluster.
    pub fn join(&self, cluster: &Cluster) {
        // Done once, at the start.
        let _ = self.cluster.set(cluster.link());
    }

    /// Tells how a reload went.
    pub fn note_reload(&self, reload: ReloadSample) {
        self.lock().last_reload = Some(reload);
    }

    /// Tells that no new clients are taken.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Where the process before this one leaves what it still counts.
    pub fn old_counts(&self) -> Arc<OldCounts> {
        Arc::clone(&self.old)
    }

    /// All workers' counters, and payload that the process before this one still counts.
    fn totals(&self) -> Totals {
        let mut totals = totals(self.handle.counters().iter().map(AsRef::as_ref));
        totals.uplink_bytes += self.old.uplink_bytes.load(Ordering::Relaxed);
        totals.downlink_bytes += self.old.downlink_bytes.load(Ordering::Relaxed);
        totals
    }

    /// Takes a node of the cluster off the list.
    fn forget_node(&self, node: &str, by: &str) -> Result<Done, Denied> {
        let link = self.cluster.get().ok_or_else(|| Denied::not_found("cluster: this node is alone"))?;
        match link.forget(node, by) {
            Forgotten::Done => Ok(Done::Json { status: 200, body: json!({ "forgotten": node }), revision: None }),
            Forgotten::Unknown => Err(Denied::not_found(&format!("node called {node} in the cluster"))),
            Forgotten::There(seconds) => {
                let message =
                    format!("the node {node} was there {seconds} s ago; stop it, and it is not listed any more");
                Err(Denied::new(409, "node_online", message))
            }
            Forgotten::Away(words) => {
                let message = format!("the engine of the cluster is away, so no node can be forgotten now: {words}");
                Err(Denied::new(503, "cluster_away", message))
            }
        }
    }

    /// The accounts that somebody could have sessions of, and their names.
    fn names(&self) -> live::Names {
        let mut names = live::Names::default();
        for (user, _) in &self.lock().users {
            if let Some(ledger) = self.ledgers.find(&user.ledger_id) {
                names.add(Arc::clone(&user.email), ledger);
            }
        }
        names
    }

    /// Has the supervisor obey these orders; an answer for each.
    fn ask_supervisor(&self, orders: Vec<Order>) -> Vec<Result<Done, Denied>> {
        if orders.is_empty() {
            return Vec::new();
        }
        let is_upgrade = orders.iter().any(|order| matches!(order, Order::Upgrade { .. }));
        let deadline = Instant::now() + if is_upgrade { UPGRADE_TIMEOUT } else { ORDER_TIMEOUT };
        let asked = |order| {
            let (reply, answer) = mpsc::sync_channel(1);
            (Asked { order, reply }, answer)
        };
        let (asked, answers): (Vec<_>, Vec<_>) = orders.into_iter().map(asked).unzip();
        let is_left = self.mailbox.leave(orders::Order::Control(asked));
        let answers = answers.into_iter().map(|answer| {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = if is_left { answer.recv_timeout(left).ok() } else { None };
            answer.unwrap_or_else(|| Err(live::busy()))
        });
        answers.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closes(&self) -> Vec<(&'static str, u64)> {
        let count =
            |reason: CloseReason| self.handle.counters().iter().map(|worker| worker.closes(reason.index())).sum();
        CloseReason::ALL.iter().map(|reason| (reason.name(), count(*reason))).collect()
    }
}

impl Counting for AppBackend {
    fn saved(&self) -> Counts {
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self) -> Counts {
        let totals = self.totals();
        let ledgers = self.ledgers.notes().into_iter().filter_map(|(id, _)| {
            let totals = self.ledgers.find(&id)?.totals();
            Some((id, (totals.uplink_bytes, totals.downlink_bytes)))
        });
        Counts {
            all: (totals.uplink_bytes, totals.downlink_bytes),
            ledgers: ledgers.collect(),
            sessions: self.handle.sessions(),
        }
    }
}

impl Backend for AppBackend {
    fn sample(&self) -> Sample {
        let workers = || self.handle.counters().iter().map(AsRef::as_ref);
        let totals = self.totals();
        let closes = self.closes();
        let published = self.lock();
        let now = unix_time();
        let users = published.users.iter().map(|(user, limits)| {
            let ledger = self.ledgers.find(&user.ledger_id);
            let counted = ledger.as_ref().map(|ledger| ledger.totals()).unwrap_or_default();
            let sources = ledger.as_ref().map(|ledger| ledger.gate().sources(ADDRESSES_SHOWN)).unwrap_or_default();
            let addresses = sources.into_iter().map(address_of).collect();
            // The first use begins the days of an account, and midnight a new period, without anybody changing it.
            let expires_at = expires_at(limits, ledger.as_ref().and_then(|ledger| ledger.first_seen()));
            let quota_resets_at = period_end(limits, now);
            let quota_used_bytes = ledger.map_or(0, |ledger| ledger.used_bytes());
            UserSample { totals: counted, quota_used_bytes, addresses, expires_at, quota_resets_at, ..user.clone() }
        });
        Sample {
            users: users.collect(),
            users_revision: published.users_revision,
            certificates: published.certificates.clone(),
            last_reload: published.last_reload.clone(),
            memory_pool: memory_pool(self.handle.counters(), &totals),
            connection_pool: ConnectionPoolStats::new(&totals),
            rejected: rejected(&closes, &totals),
            closes,
            sessions: totals.sessions_active,
            sessions_max: self.sessions_max.load(Ordering::Relaxed),
            state: if self.is_draining.load(Ordering::Relaxed) { ServerState::Draining } else { ServerState::Serving },
            workers: self.handle.counters().len() as u64,
            timings: timings(workers()),
            totals,
            log_lines_dropped: self.log.dropped_lines(),
            cluster: self.cluster.get().map(cluster::Link::sample),
        }
    }

    fn last_sample(&self) -> Sample {
        let mut baseline = self.counts();
        let sample = self.sample();
        // What the state file is told, to the byte; the others are not among the accounts and count nothing any more.
        baseline.all = (sample.totals.uplink_bytes, sample.totals.downlink_bytes);
        let users = sample.users.iter();
        baseline
            .ledgers
            .extend(users.map(|user| (user.ledger_id, (user.totals.uplink_bytes, user.totals.downlink_bytes))));
        *self.baseline.lock().unwrap_or_else(PoisonError::into_inner) = baseline;
        sample
    }

    fn execute(&self, order: Order) -> Result<Done, Denied> {
        match order {
            Order::Sessions(query) => live::sessions(&self.handle, &self.names(), query).map(Done::Sessions),
            Order::Cut { query, by } => {
                let call = match &query {
                    CutQuery::User(email) => Some(Call::Cut { email: email.clone() }),
                    CutQuery::Source(source) => Some(Call::CutSource { source: source.to_string() }),
                    CutQuery::Session(_) => None,
                };
                let mut done = live::cut(&self.handle, &self.names(), query);
                let told = self.cluster.get().zip(call).map(|(link, call)| link.call(call, &by));
                if told == Some(false) {
                    log::warn!("cluster: sessions are cut on this node only, because the engine was not reached");
                }
                if let Ok(Done::Cut { others_told, .. }) = &mut done {
                    *others_told = told;
                }
                done
            }
            Order::Online { user } => {
                let link = self.cluster.get().ok_or_else(|| Denied::not_found("cluster: this node is alone"))?;
                Ok(Done::Json { status: 200, body: link.online(user.as_deref()), revision: None })
            }
            Order::ForgetNode { node, by } => self.forget_node(&node, &by),
            Order::ReloadAll { by } => {
                let link = self.cluster.get().ok_or_else(|| Denied::not_found("cluster: this node is alone"))?;
                if !link.call(Call::Reload, &by) {
                    let message = "the engine of the cluster was not reached, so no node was told to reload";
                    return Err(Denied::new(503, "cluster_away", message));
                }
                self.execute(Order::Reload { by })
            }
            order => self.ask_supervisor(vec![order]).pop().unwrap_or_else(|| Err(live::busy())),
        }
    }

    fn execute_all(&self, orders: Vec<Order>) -> Vec<Result<Done, Denied>> {
        // Changes of accounts are made together; of clients who wait at the same time nobody was first.
        let changes = orders.iter().filter(|order| order.changes_account()).cloned().collect();
        let mut changed = self.ask_supervisor(changes).into_iter();
        let answers = orders.into_iter().map(|order| {
            let answer = if order.changes_account() { changed.next() } else { Some(self.execute(order)) };
            answer.unwrap_or_else(|| Err(live::busy()))
        });
        answers.collect()
    }

    fn accounts_state(&self) -> Value {
        notes::save(&self.ledgers)
    }
}

fn rejected(closes: &[(&'static str, u64)], totals: &Totals) -> Vec<(&'static str, u64)> {
    let is_rejection = |name: &str| REJECTIONS.iter().any(|reason| reason.name() == name);
    let mut rejected: Vec<_> = closes.iter().copied().filter(|(name, _)| is_rejection(name)).collect();
    rejected.push(("user_disabled", totals.disabled_users_refused));
    rejected.push(("expired", totals.expired_users_refused));
    rejected.push(("quota_used", totals.used_quotas_refused));
    rejected.push(("sessions_limit", totals.accept_paused_limit));
    rejected.push(("source_sessions_limit", totals.source_sessions_refused));
    rejected.push(("source_handshakes_limit", totals.source_openings_refused));
    rejected.push(("source_accepts_limit", totals.source_accepts_refused));
    rejected.push(("no_descriptors", totals.accept_paused_descriptors));
    rejected
}

/// An account as it stands at `now`, in seconds since 1970.
fn user(user: &User, ledgers: &Ledgers, now: u64) -> UserSample {
    let limits = &user.limits;
    let ledger = ledgers.of(user_id::mask(user.id));
    UserSample {
        id: user.id,
        ledger_id: user_id::mask(user.id),
        email: user.email.as_str().into(),
        note: user.note.as_str().into(),
        flow: user.flow.as_str(),
        enabled: user.enabled,
        state: match standing(user, &ledger, now) {
            Standing::Active => UserState::Active,
            Standing::Disabled => UserState::Disabled,
            Standing::Expired => UserState::Expired,
            Standing::QuotaUsed => UserState::QuotaUsed,
        },
        locked: user.origin == Origin::Configuration,
        created_at: user.created_at,
        limits: UserLimits {
            quota_bytes: limits.quota_bytes as u64,
            quota_period: limits.quota_period.as_str(),
            quota_day: limits.quota_day as u64,
            expires_at: limits.expires_at.map(rfc3339_seconds),
            expires_after_days: limits.expires_after_days as u64,
            addresses_max: limits.addresses_max as u64,
            sessions_max: limits.sessions_max as u64,
            up_bytes_per_second_max: limits.up_bytes_per_second_max as u64,
            down_bytes_per_second_max: limits.down_bytes_per_second_max as u64,
        },
        ..UserSample::default()
    }
}

fn certificate(loaded: &LoadedCertificate) -> CertificateSample {
    let addresses = loaded.ip_addresses.iter().map(ToString::to_string);
    CertificateSample {
        names: loaded.names.iter().cloned().chain(addresses).collect(),
        issuer: loaded.issuer.clone(),
        self_signed: loaded.self_signed,
        not_after: unix_seconds(loaded.not_after),
        pin_sha256: hex(&loaded.fingerprint),
        public_key_sha256: loaded.public_key_sha256.clone(),
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
