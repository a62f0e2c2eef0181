//! Everything of the control plane that is not a socket: it takes samples, judges alerts, keeps events and state, and
//! answers requests.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tungstenite::Bytes;

use super::alerts::deliver::Deliverer;
use super::api::{self, Answer};
use super::backend::{Backend, CutQuery, Done, Order};
use super::errands::Finished;
use super::events::{Event, Kind, Level};
use super::feed;
use super::guard::{Grant, Guard, Refused};
use super::http::connection::Request;
use super::http::response::Reply;
use super::http::stream::Peer;
use super::process::ProcessReader;
use super::report::overview::Scope;
use super::report::users;
use super::settings::Settings;
use super::snapshots::{Snapshots, Telling};
use super::state::writer::Writer;
use super::view::View;

/// How long the last state may take to be written before another process takes over.
const LAST_STATE_TIMEOUT: Duration = Duration::from_secs(5);
/// A state that is urgent is written so long after the one before.
const URGENT_STATE_PAUSE: Duration = Duration::from_secs(2);

/// What to do with a request.
pub enum Verdict {
    /// Send this, after a while.
    Reply(Reply, Duration),
    Order(Order),
    Feed(Newcomer),
}

/// Who goes over to the feed.
pub struct Newcomer {
    /// Of the handshake.
    pub key: String,
    /// The accounts in the first message with figures.
    pub scope: Scope,
    /// The feed goes on for as long as this holds.
    pub grant: Grant,
}

pub struct Desk {
    pub view: View,
    guard: Guard,
    /// A token or a login may have gone since [`Desk::take_rights_changed`].
    rights_changed: bool,
    backend: Arc<dyn Backend>,
    process: ProcessReader,
    deliverer: Deliverer,
    writer: Option<Writer>,
    state: StateWatch,
    /// The state file is another process's.
    is_resting: bool,
    /// Events of other threads.
    reported: Receiver<Event>,
    /// The figures at a glance, for `/api/stats` and the feed.
    snapshots: Snapshots,
    /// Messages for all readers of the feed.
    news: Vec<Bytes>,
}

/// What was last offered for writing, and how that went.
#[derive(Default)]
struct StateWatch {
    offered_at: Option<Instant>,
    fingerprint: Option<(u64, u64, usize, Value)>,
    failing: bool,
    /// Something in it should not wait for the interval.
    is_urgent: bool,
    /// When the file was last found to need no writing.
    current_at: Option<Instant>,
}

/// Everything a desk needs.
pub struct Parts {
    pub view: View,
    pub backend: Arc<dyn Backend>,
    pub deliverer: Deliverer,
    pub writer: Option<Writer>,
    pub reported: Receiver<Event>,
}

impl Desk {
    pub fn new(parts: Parts) -> Self {
        let guard = Guard::new(parts.view.settings.keys.clone());
        Self {
            view: parts.view,
            guard,
            rights_changed: false,
            backend: parts.backend,
            process: ProcessReader::new(),
            deliverer: parts.deliverer,
            writer: parts.writer,
            state: StateWatch::default(),
            is_resting: false,
            reported: parts.reported,
            snapshots: Snapshots::default(),
            news: Vec::new(),
        }
    }

    /// Once a second: a new sample and what follows from it.
    pub fn tick(&mut self, now: Instant) {
        if self.is_resting {
            return;
        }
        let process = self.process.read(now);
        self.view.tick(self.backend.sample(), process, now, unix_time());
        self.snapshots.forget();
        self.take_reported();
        self.judge(now);
        self.watch_state(now);
    }

    /// Takes the events that other threads reported.
    pub fn take_reported(&mut self) {
        while let Ok(event) = self.reported.try_recv() {
            self.report(event);
        }
    }

    fn report(&mut self, event: Event) {
        let at = self.view.unix_time(Instant::now());
        let event = self.view.events.push(event, at);
        let message = json!({ "type": "event", "payload": event }).to_string();
        self.news.push(feed::encode(|bytes| bytes.extend(message.into_bytes())));
    }

    /// The messages that readers of the feed have not been offered yet.
    pub fn take_news(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.news)
    }

    fn judge(&mut self, now: Instant) {
        let mut watch = std::mem::take(&mut self.view.watch);
        let notices = watch.judge(|metric| self.view.figures(metric), now, self.view.clock.unix_time);
        self.view.watch = watch;
        if !notices.is_empty() {
            // What is told must not be told again by another process, so it is written soon.
            self.state.is_urgent = true;
        }
        for (notice, recipients) in notices {
            let (server, unix_time) = (&self.view.settings.server, self.view.clock.unix_time);
            self.deliverer.tell(&notice, &recipients, server, unix_time);
            let level = if notice.state == "fired" { Level::Warn } else { Level::Info };
            let data = serde_json::to_value(&notice).unwrap_or_default();
            let code = if notice.state == "fired" { "alert_fired" } else { "alert_resolved" };
            self.report(Event::new(Kind::Alert, level, notice.text).coded(code, data));
        }
        self.view.own.alert_failures_total = self.deliverer.failures();
    }

    fn watch_state(&mut self, now: Instant) {
        let Some(writer) = &self.writer else { return };
        let own = &mut self.view.own;
        own.state_writes_total = writer.writes_total();
        own.state_write_errors_total = writer.errors_total();
        own.state_write_errors_in_a_row = writer.errors_in_a_row();
        let current_at = writer.written_at().max(self.state.current_at).unwrap_or(self.view.clock.started);
        own.state_age_seconds = now.saturating_duration_since(current_at).as_secs();
        let failing = own.state_write_errors_in_a_row > 0;
        if failing != self.state.failing {
            self.state.failing = failing;
            let event = match writer.last_error().filter(|_| failing) {
                Some(error) => {
                    log::warn!("state: cannot be written, totals would be lost in a crash: {error}");
                    let text = format!("the state file cannot be written: {error}");
                    let data = json!({ "error": error });
                    Event::new(Kind::State, Level::Error, text).coded("state_not_written", data)
                }
                None => Event::new(Kind::State, Level::Info, "the state file is written again")
                    .coded("state_written", Value::Null),
            };
            self.report(event);
        }
        let interval = self.view.settings.state_interval;
        let interval = if self.state.is_urgent { interval.min(URGENT_STATE_PAUSE) } else { interval };
        if self.state.offered_at.is_none_or(|at| now.saturating_duration_since(at) >= interval) {
            self.state.offered_at = Some(now);
            self.state.is_urgent = false;
            self.offer_state(now);
        }
    }

    /// Has the state written, if something changed or the last attempt failed.
    fn offer_state(&mut self, now: Instant) {
        let Some(writer) = self.writer.as_ref().filter(|_| !self.is_resting) else { return };
        let accounts = self.backend.accounts_state();
        let lifetime = self.view.lifetime();
        let last_event = self.view.events.list(None, None, 1).first().map_or(0, |event| event.id);
        let online = self.view.sample.users.iter().filter(|user| user.totals.sessions_active > 0).count();
        let fingerprint = (lifetime.total(), last_event, online, accounts);
        let is_changed = self.state.fingerprint.as_ref() != Some(&fingerprint);
        // Whoever is online is seen at every moment.
        if is_changed || online > 0 || self.state.failing {
            writer.offer(self.view.save(fingerprint.3.clone()));
            self.state.fingerprint = Some(fingerprint);
        } else if writer.is_settled() {
            self.state.current_at = Some(now);
        }
    }

    /// The last sample and the last state, at the end.
    pub fn finish(&mut self, now: Instant) {
        if self.is_resting {
            return;
        }
        self.take_reported();
        let process = self.process.read(now);
        self.view.tick(self.backend.last_sample(), process, now, unix_time());
        self.state.fingerprint = None;
        self.offer_state(now);
    }

    /// Writes the last state and leaves the file to another process.
    ///
    /// # Errors
    /// The state cannot be written; then nothing has changed.
    pub fn rest(&mut self, now: Instant) -> Result<(), String> {
        self.finish(now);
        if let Some(writer) = &self.writer {
            let is_settled = writer.settle(LAST_STATE_TIMEOUT);
            if !is_settled || writer.errors_in_a_row() > 0 {
                let why = writer.last_error().unwrap_or_else(|| "the disk does not answer".to_owned());
                return Err(format!("the state file cannot be written: {why}"));
            }
        }
        self.is_resting = true;
        Ok(())
    }

    /// The state file is this process's again.
    pub fn resume(&mut self) {
        self.is_resting = false;
        self.state = StateWatch::default();
    }

    pub fn adopt(&mut self, settings: Settings) {
        self.guard.adopt(settings.keys.clone());
        self.rights_changed = true;
        self.view.adopt(settings);
        self.snapshots.forget();
    }

    /// Whether a token or a login may have gone since the last time this was asked.
    pub fn take_rights_changed(&mut self) -> bool {
        std::mem::take(&mut self.rights_changed)
    }

    /// Whether what somebody was let in with still opens the door.
    pub fn holds(&self, grant: Grant, now: Instant) -> bool {
        self.guard.holds(grant, now)
    }

    /// The answer to a request, or what has to be done first.
    pub fn answer(&mut self, request: &Request, now: Instant) -> Verdict {
        self.view.own.requests_total += 1;
        let access = match self.guard.check(request, api::exposure(request), now) {
            Ok(access) => access,
            Err(refused) => return self.refuse(refused),
        };
        match api::answer(request, &access, &self.view) {
            Answer::Reply(reply) => at_once(reply),
            Answer::Overview(scope) => at_once(self.snapshots.reply(&self.view, scope, request.head.accepts_gzip)),
            Answer::Accounts(ids) => {
                let tag = users::tag(&self.view, ids);
                let reply = self.snapshots.accounts(&self.view, ids, request.head.accepts_gzip);
                at_once(reply.with("ETag", tag))
            }
            Answer::Order(order) => Verdict::Order(order),
            Answer::Feed(key, scope) => Verdict::Feed(Newcomer { key, scope, grant: access.grant() }),
            Answer::Login(token) => match self.guard.login(&token, request, now) {
                Ok(cookie) => {
                    // It may have taken the place of the oldest login.
                    self.rights_changed = true;
                    at_once(Reply::empty(204).with("Set-Cookie", cookie))
                }
                Err(refused) => self.refuse(refused),
            },
            Answer::Logout => {
                self.rights_changed = true;
                at_once(Reply::empty(204).with("Set-Cookie", self.guard.logout(request)))
            }
        }
    }

    fn refuse(&mut self, refused: Refused) -> Verdict {
        self.view.own.auth_failures_total = self.guard.failures_total();
        // The first failure may be a slip; then only every tenfold number is worth an event.
        if let Some((Peer::Ip(source), count)) = refused.failure
            && matches!(count, 3 | 10 | 100 | 1000 | 10_000 | 100_000)
        {
            log::warn!("monitoring: {count} wrong tokens from {source}");
            let text = format!("{count} wrong tokens from {source}");
            let event = Event::new(Kind::Auth, Level::Warn, text).by(source.to_string());
            self.report(event.coded("wrong_tokens", json!({ "n": count, "source": source.to_string() })));
        }
        Verdict::Reply(*refused.reply, refused.delay)
    }

    /// Takes note of orders that were obeyed or not, before anybody hears of it.
    pub fn note(&mut self, finished: &[Finished]) {
        for one in finished {
            self.note_cut(one);
        }
        let is_list = |order: &Order| matches!(order, Order::Sessions(_) | Order::Link { .. } | Order::QrCode { .. });
        if !finished.iter().all(|one| is_list(&one.order)) {
            // Whoever asks next must see what was changed.
            self.view.refresh(self.backend.sample());
            self.snapshots.forget();
            self.take_reported();
        }
    }

    fn note_cut(&mut self, finished: &Finished) {
        if let (Order::Cut { query, by }, Ok(Done::Cut { sessions, took, .. })) = (&finished.order, &finished.result) {
            let ms = took.as_millis() as u64;
            let (code, whose, data) = match query {
                CutQuery::Session(id) => ("cut_session", format!("session {id}"), json!({ "session": id, "ms": ms })),
                CutQuery::User(email) => (
                    "cut_user",
                    format!("{sessions} sessions of {email}"),
                    json!({ "n": sessions, "user": email, "ms": ms }),
                ),
                CutQuery::Source(address) => (
                    "cut_source",
                    format!("{sessions} sessions from {address}"),
                    json!({ "n": sessions, "source": address.to_string(), "ms": ms }),
                ),
            };
            let text = format!("{whose} cut in {ms} ms");
            self.report(Event::new(Kind::Cut, Level::Info, text).by(by.clone()).coded(code, data));
        }
    }

    /// What the readers of the feed are told of accounts, so long after the last time.
    pub fn next_telling(&mut self, passed: Duration) -> Telling {
        self.snapshots.next_telling(&self.view.roll, passed)
    }

    /// The feed's message with the figures, and the version of the accounts that whoever takes it has seen then.
    pub fn snapshot(&mut self, scope: Scope) -> (Bytes, Option<u64>) {
        let version = (scope != Scope::Nobody).then(|| self.view.roll.version());
        (self.snapshots.message(&self.view, scope).clone(), version)
    }

    /// The first message of a new reader.
    pub fn history(&mut self) -> Bytes {
        self.snapshots.history(&self.view).clone()
    }
}

fn at_once(reply: Reply) -> Verdict {
    Verdict::Reply(reply, Duration::ZERO)
}

/// Seconds since 1970; 0 where the clock is before that.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
