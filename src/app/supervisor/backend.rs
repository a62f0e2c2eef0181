//! What the control plane sees of the server, and how its orders reach the supervisor and the workers.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};

use super::orders::{Mailbox, Order};
use super::present::{Moment, Present};
use crate::app::accounts::standing::{Standing, expires_at, period_end, standing};
use crate::app::certs::{LoadedCertificate, hex};
use crate::app::clock::{rfc3339_seconds, unix_time};
use crate::app::config::{Origin, User};
use crate::app::logging::LogHandle;
use crate::app::report::memory_pool;
use crate::control::backend::{self, Backend, Denied, Done, SessionLine, SessionPage, SessionQuery};
use crate::control::sample::{CertificateSample, Sample, ServerState, UserLimits, UserSample, UserState};
use crate::protocol::addons::Flow;
use crate::protocol::user_id::mask;
use crate::reactor::handle::Handle;
use crate::reactor::request::{Busy, CutQuery, ListPage, ListQuery, SessionId, Which};
use crate::session::View;
use crate::session::close::CloseReason;
use crate::stats::pools::ConnectionPoolStats;
use crate::stats::{Ledgers, timings, totals};

/// How long an answer of a worker, or of the supervisor, may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Sessions in a page at the most.
const PAGE_MAX: usize = 1000;

/// See the module.
pub struct Server {
    pub mailbox: Mailbox,
    pub handle: Handle,
    pub present: Arc<Present>,
    pub ledgers: Arc<Ledgers>,
    pub log: LogHandle,
}

impl Backend for Server {
    fn sample(&self) -> Sample {
        let moment = self.present.moment();
        let workers = self.handle.counters();
        let totals = totals(workers.iter().map(AsRef::as_ref));
        let closes = CloseReason::ALL.iter().map(|reason| {
            let count = workers.iter().map(|worker| worker.closes(reason.index())).sum();
            (reason.name(), count)
        });
        let closes: Vec<_> = closes.collect();
        let now = unix_time();
        Sample {
            memory_pool: memory_pool(workers, &totals),
            connection_pool: ConnectionPoolStats::new(&totals),
            rejected: rejected(&closes),
            closes,
            sessions: self.handle.sessions() as u64,
            sessions_max: moment.rules.sessions_max as u64,
            users: moment.config.users.iter().map(|user| user_sample(user, &self.ledgers, now)).collect(),
            users_revision: moment.config.users_revision,
            state: if self.present.is_draining() { ServerState::Draining } else { ServerState::Serving },
            workers: workers.len() as u64,
            certificates: moment.certificates.iter().map(certificate_sample).collect(),
            last_reload: self.present.last_reload(),
            timings: timings(workers.iter().map(AsRef::as_ref)),
            log_lines_dropped: self.log.dropped_lines(),
            totals,
        }
    }

    fn execute(&self, order: backend::Order) -> Result<Done, Denied> {
        match order {
            backend::Order::Sessions(query) => self.sessions(query).map(Done::Sessions),
            backend::Order::Cut(query) => self.cut(query),
            order => {
                let (reply, answer) = mpsc::sync_channel(1);
                if !self.mailbox.leave(Order::Control { order, reply }) {
                    return Err(busy());
                }
                answer.recv_timeout(ANSWER_TIMEOUT).map_err(|_| busy())?
            }
        }
    }

    fn accounts_state(&self) -> Value {
        let accounts = self.ledgers.save();
        json!(accounts.into_iter().map(|(id, notes)| (hex(&id), notes)).collect::<serde_json::Map<_, _>>())
    }
}

impl Server {
    fn sessions(&self, query: SessionQuery) -> Result<SessionPage, Denied> {
        let limit = query.limit.clamp(1, PAGE_MAX);
        let after = query.after.map(|id| session_id(&id)).transpose()?;
        let query = ListQuery { after, user: query.user, source: query.source, target: query.target, limit };
        let mut pages = answers(&self.handle.list(&query))?;
        pages.sort_by_key(|page: &ListPage| page.worker);
        let total = pages.iter().map(|page| page.matching).sum();
        let mut sessions: Vec<_> = pages.into_iter().flat_map(|page| page.sessions).collect();
        let has_more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| has_more || sessions.len() == limit).map(|(id, _)| id.to_string());
        Ok(SessionPage { total, connections: sessions.into_iter().map(|(id, view)| line(id, view)).collect(), next })
    }

    fn cut(&self, query: backend::CutQuery) -> Result<Done, Denied> {
        let started = Instant::now();
        let which = match query {
            backend::CutQuery::Session(id) => Which::Session(session_id(&id)?),
            backend::CutQuery::User(email) => Which::User(email),
            backend::CutQuery::Source(ip) => Which::Source(ip),
        };
        let is_one = matches!(which, Which::Session(_));
        let sessions: usize = answers(&self.handle.cut(&CutQuery { which, reason: CloseReason::Cut }))?.into_iter().sum();
        if is_one && sessions == 0 {
            return Err(Denied::not_found("such session"));
        }
        Ok(Done::Cut { sessions, took: started.elapsed() })
    }
}

/// What every worker that was asked has answered.
fn answers<T>(receiver: &Receiver<Result<T, Busy>>) -> Result<Vec<T>, Denied> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut answers = Vec::new();
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(answer) => answers.push(answer.map_err(|Busy| busy())?),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(answers),
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(busy()),
        }
    }
}

fn busy() -> Denied {
    Denied::new(503, "busy", "the server has too much to do; try again")
}

fn session_id(text: &str) -> Result<SessionId, Denied> {
    text.parse().map_err(|_| Denied::not_found("such session"))
}

fn line(id: SessionId, view: View) -> SessionLine {
    SessionLine {
        id: id.to_string(),
        user: view.user.unwrap_or_default(),
        client: view.client.to_string(),
        target: view.target.unwrap_or_default(),
        flow: if view.flow == Flow::Vision { "xtls-rprx-vision".to_owned() } else { String::new() },
        state: view.state.name().to_owned(),
        mode: view.mode.name().to_owned(),
        upload_bytes: view.uplink_bytes,
        download_bytes: view.downlink_bytes,
        age_seconds: view.age.as_secs(),
    }
}

/// Reasons for which a client was not served.
const REJECTIONS: [CloseReason; 17] = [
    CloseReason::HandshakeTimeout,
    CloseReason::FirstByteTimeout,
    CloseReason::RequestTimeout,
    CloseReason::TlsFailed,
    CloseReason::NotVless,
    CloseReason::UnknownUser,
    CloseReason::FlowRefused,
    CloseReason::BadRequest,
    CloseReason::CommandRefused,
    CloseReason::ReservedName,
    CloseReason::PolicyRefused,
    CloseReason::TargetUnresolved,
    CloseReason::TargetUnreachable,
    CloseReason::TargetTimeout,
    CloseReason::NoResources,
    CloseReason::UdpLimit,
    CloseReason::BadPadding,
];

fn rejected(closes: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    REJECTIONS.iter().filter_map(|reason| closes.get(reason.index()).copied()).collect()
}

fn user_sample(user: &User, ledgers: &Ledgers, now: u64) -> UserSample {
    let ledger = ledgers.of(mask(user.id));
    let limits = &user.limits;
    UserSample {
        id: user.id,
        ledger_id: mask(user.id),
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
        totals: ledger.totals(),
        addresses: Vec::new(),
        quota_used_bytes: ledger.used_bytes(),
        quota_resets_at: period_end(limits, now),
        created_at: user.created_at,
        expires_at: expires_at(limits, ledger.first_seen()),
        limits: UserLimits {
            quota_bytes: limits.quota_bytes as u64,
            quota_period: limits.quota_period.as_str(),
            quota_day: limits.quota_day as u8,
            expires_at: limits.expires_at.map(rfc3339_seconds),
            expires_after_days: limits.expires_after_days as u64,
            addresses_max: limits.addresses_max as u64,
            sessions_max: limits.sessions_max as u64,
            up_bytes_per_second_max: limits.up_bytes_per_second_max as u64,
            down_bytes_per_second_max: limits.down_bytes_per_second_max as u64,
        },
    }
}

fn certificate_sample(certificate: &LoadedCertificate) -> CertificateSample {
    CertificateSample {
        names: certificate.names.clone(),
        issuer: certificate.issuer.clone(),
        self_signed: certificate.self_signed,
        not_after: certificate.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        pin_sha256: hex(&certificate.fingerprint),
    }
}

/// Gives the ledgers back what a former process knew; what cannot be read is told and left out.
pub fn restore(ledgers: &Ledgers, accounts: &Value) {
    let Value::Object(accounts) = accounts else { return };
    for (id, notes) in accounts {
        match (unhex(id), serde_json::from_value(notes.clone())) {
            (Some(id), Ok(notes)) => ledgers.of(id).restore(&notes),
            _ => log::warn!("state: what an account has used cannot be read and is left out"),
        }
    }
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(u128::to_be_bytes)
}
