//! The thread: what it has, and what it does in each round.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::books::{Books, SharedBooks, Writer};
use super::borrowers::Borrowers;
use super::call::Call;
use super::engine::{Engine, EngineError};
use super::files::Folder;
use super::list::List;
use super::news::{News, Outcome, Request};
use super::presence::Presence;
use super::retry::Retry;
use super::settings::Settings;
use super::status::Shared;
use crate::app::clock::unix_time;
use crate::app::exit::{self, Failure};
use crate::app::supervisor::orders::{Mailbox, Order};
use crate::cluster::node::Node;
use crate::control::ControlHandle;
use crate::control::events::{Event, Kind, Level};
use crate::reactor::Handle;

/// A round of the loop, unless something happens: the longest that a change waits to be sent, and the time in which a
/// quota in use is looked at again.
const ROUND: Duration = Duration::from_millis(100);
/// The same while somebody is about to use up a lease.
const ROUND_IN_NEED: Duration = Duration::from_millis(10);
/// No round is shorter.
const ROUND_LEAST: Duration = Duration::from_millis(5);
/// How often a changed list of accounts is written down.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// News that wait for the supervisor at the most.
const NEWS_MAX: usize = 1000;

/// What the thread reads and tells, beside its settings.
pub struct Surroundings {
    pub folder: Folder,
    pub list: List,
    pub shared: Arc<Shared>,
    pub mailbox: Mailbox,
    pub control: ControlHandle,
    pub reactor: Handle,
}

/// This node as a member of the cluster.
pub(super) struct Member {
    pub(super) settings: Settings,
    pub(super) around: Around,
    pub(super) folder: Folder,
    requests: Receiver<Request>,
    pub(super) engine: Option<Engine>,
    pub(super) books: SharedBooks,
    writer: Writer,
    pub(super) boot: u64,
    pub(super) started_at: u64,
    pub(super) clock: Instant,
    pub(super) list: List,
    pub(super) borrowers: Borrowers,
    pub(super) presence: Presence,
    /// News for a supervisor whose mailbox was full.
    pub(super) news: Vec<News>,
    /// The engine's name of the last change that was heard of.
    pub(super) heard: Option<String>,
    pub(super) due: Due,
    served_changes: u64,
    pub(super) retry: Retry,
    pub(super) is_unsaved: bool,
    is_stopping: bool,
    pub(super) last_error: Option<String>,
    pub(super) last_beat: Option<LastBeat>,
    /// Why what the engine has is not taken for this cluster's; `None`: it is. Nothing is told to it then, and no change of
    /// accounts is taken from it.
    pub(super) doubt: Option<String>,
    /// Somebody wants the list read whole.
    pub(super) is_reload_wanted: bool,
    /// Where among the accounts the next look at what they have used begins.
    pub(super) usage_at: usize,
}

/// What others see and hear of the thread.
pub(super) struct Around {
    pub(super) shared: Arc<Shared>,
    pub(super) mailbox: Mailbox,
    pub(super) control: ControlHandle,
    pub(super) reactor: Handle,
}

/// When something is to be done again.
pub(super) struct Due {
    save: Instant,
    pub(super) beat: Instant,
    pub(super) report: Instant,
}

/// How far the counters were at the last sign of life.
pub(super) struct LastBeat {
    pub(super) at: Instant,
    pub(super) up: u64,
    pub(super) down: u64,
}

impl Member {
    pub(super) fn new(settings: Settings, around: Surroundings, requests: Receiver<Request>) -> Result<Self, Failure> {
        let Surroundings { folder, list, shared, mailbox, control, reactor } = around;
        // Later than every earlier start of this node, as far as the clock was not set back by as much as it ran.
        let boot = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |passed| passed.as_millis() as u64);
        let broken = |words: String| {
            let place = settings.folder.display();
            Failure::new(exit::UNAVAILABLE, format!("cluster.folder: the journal in {place} cannot be used: {words}"))
        };
        let journal = folder.journal().map_err(|error| broken(error.to_string()))?;
        let node = Node::open(journal, boot, settings.lease_bytes, settings.away);
        let node = node.map_err(|error| broken(error.to_string()))?;
        let books = SharedBooks::new(Books::new(node));
        let writer = Writer::start(&books)?;
        let now = Instant::now();
        shared.list(list.listed());
        shared.tell(|status| {
            status.node.clone_from(&settings.node);
            status.away_since = Some(now);
            status.version = list.version;
            status.accounts = list.len() as u64;
        });
        Ok(Self {
            settings,
            around: Around { shared, mailbox, control, reactor },
            folder,
            requests,
            engine: None,
            books,
            writer,
            boot,
            started_at: unix_time(),
            clock: now,
            list,
            borrowers: Borrowers::default(),
            presence: Presence::default(),
            news: Vec::new(),
            heard: None,
            due: Due { save: now, beat: now, report: now },
            served_changes: 0,
            retry: Retry::new(now),
            is_unsaved: false,
            is_stopping: false,
            last_error: None,
            last_beat: None,
            doubt: None,
            is_reload_wanted: false,
            usage_at: 0,
        })
    }

    pub(super) fn run(mut self) {
        while !self.is_stopping {
            self.adopt_served();
            self.count_if_in_need();
            self.take_requests();
            match self.round() {
                Ok(()) => {}
                Err(error) => self.lose(&error),
            }
            self.lend();
            self.save_if_due();
            self.tell_news();
            self.tell_status();
        }
        self.say_goodbye();
    }

    /// Milliseconds of a clock that only goes forward.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.elapsed().as_millis() as u64
    }

    /// What is to be said to the engine, and then the wait for what it has to say.
    fn round(&mut self) -> Result<(), EngineError> {
        if self.engine.is_none() {
            return self.connect_if_due();
        }
        if self.due.beat <= Instant::now() {
            self.beat()?;
        }
        self.report_if_due()?;
        self.tell_presence()?;
        let wait = if self.borrowers.is_in_need { ROUND_IN_NEED } else { ROUND };
        let since = Instant::now();
        self.follow(wait)?;
        // An engine that does not wait as it was told, or always has something to say, does not keep a core busy.
        thread::sleep(ROUND_LEAST.saturating_sub(since.elapsed()));
        Ok(())
    }

    fn adopt_served(&mut self) {
        let (changes, served) = self.around.shared.served();
        if changes != self.served_changes {
            self.served_changes = changes;
            self.books.lock().counting.adopt(&served);
            self.borrowers.adopt(&served);
            self.presence.adopt(&served);
        }
    }

    /// What is used of a lease is counted more often than it is written down anyway.
    fn count_if_in_need(&mut self) {
        let failed = {
            let mut books = self.books.lock();
            if self.borrowers.is_in_need {
                books.count();
            }
            books.failed.take()
        };
        if let Some(error) = failed {
            self.cannot_write(&error);
        }
    }

    pub(super) fn cannot_write(&mut self, error: &io::Error) {
        let words =
            format!("{} cannot be written, totals would be lost in a crash: {error}", self.settings.folder.display());
        if self.last_error.as_ref() != Some(&words) {
            log::error!("cluster: {words}");
            self.tell_event(Level::Error, &words, ("folder_not_written", json!({ "error": words })));
            self.last_error = Some(words);
        }
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Stop => self.is_stopping = true,
                Request::Call { call, by, reply } => {
                    let mut called = self.call_others(&call, &by);
                    if call == Call::Reload && called.is_ok() {
                        called = self.read_all();
                    }
                    // Nobody waits any more: it was called for all the same.
                    let _ = reply.try_send(called.is_ok() && self.engine.is_some() && self.doubt.is_none());
                    called.unwrap_or_else(|error| self.lose(&error));
                }
                Request::Online { account, reply } => {
                    self.tell_online(account.as_ref(), &reply).unwrap_or_else(|error| self.lose(&error));
                }
                Request::Forget { node, by, reply } => {
                    self.forget_node(&node, &by, &reply).unwrap_or_else(|error| self.lose(&error));
                }
                Request::Warn(warning) => self.warn(warning).unwrap_or_else(|error| self.lose(&error)),
                Request::Change(asked) => match self.change(&asked) {
                    Ok(outcome) => self.news.push(News::Changed { asked, outcome }),
                    Err(error) => {
                        self.news.push(News::Changed { asked, outcome: Outcome::Away(error.to_string()) });
                        self.lose(&error);
                    }
                },
            }
        }
    }

    fn save_if_due(&mut self) {
        let now = Instant::now();
        if self.is_unsaved && now >= self.due.save {
            self.due.save = now + SAVE_INTERVAL;
            match self.folder.write_accounts(&self.list.saved()) {
                Ok(()) => self.is_unsaved = false,
                Err(error) => self.cannot_write(&error),
            }
        }
    }

    /// The list is another: the supervisor is to serve it.
    pub(super) fn list_has_changed(&mut self) {
        self.is_unsaved = true;
        self.around.shared.list(self.list.listed());
        self.news.push(News::Accounts);
    }

    /// In order; what does not go into the mailbox now goes later.
    fn tell_news(&mut self) {
        let news = std::mem::take(&mut self.news);
        let mut rest = news.into_iter();
        for one in rest.by_ref() {
            if let Err(one) = self.around.mailbox.offer(Order::Cluster(one)) {
                if let Order::Cluster(one) = one {
                    self.news.push(one);
                }
                break;
            }
        }
        self.news.extend(rest);
        // A list replaces those before it, and whoever waited for an answer has given up by then.
        if self.news.len() > NEWS_MAX {
            self.news = vec![News::Accounts];
        }
    }

    fn tell_status(&self) {
        let (untold, lost, offset) = {
            let node = &self.books.lock().node;
            let untold = node.journal().open_accounts() + node.journal().sealed_accounts();
            (untold, node.lost_batches(), node.clock_offset_ms())
        };
        // Our clock of milliseconds began with the thread.
        let began_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64);
        let began_ms = began_ms.saturating_sub(self.now_ms());
        let is_known = offset != 0;
        self.around.shared.tell(|status| {
            status.untold_accounts = untold as u64;
            status.lost_batches = lost;
            status.version = self.list.version;
            status.accounts = self.list.len() as u64;
            status.clock_offset_ms = if is_known { offset - began_ms.cast_signed() } else { 0 };
        });
    }

    /// `coded` says the same for programs, see [`Event::code`].
    pub(super) fn tell_event(&self, level: Level, text: &str, coded: (&'static str, Value)) {
        self.around.control.report(Event::new(Kind::Cluster, level, text).coded(coded.0, coded.1));
    }

    pub(super) fn tell_user_event(&self, text: &str) {
        let data = json!({ "text": text });
        self.around.control.report(Event::new(Kind::User, Level::Info, text).coded("accounts_followed", data));
    }

    /// The last bytes, on disk and, if the engine answers, there.
    fn say_goodbye(&mut self) {
        self.writer.stop();
        if let Err(error) = self.books.lock().finish() {
            log::error!("cluster: the journal cannot be written, the last bytes may be lost: {error}");
        }
        self.due.report = Instant::now();
        let told = if self.engine.is_some() { self.report_if_due().and_then(|()| self.leave()) } else { Ok(()) };
        if let Err(error) = told {
            log::warn!("cluster: the engine was not told the last bytes, which are kept for the next start: {error}");
        }
        if let Err(error) = self.folder.write_accounts(&self.list.saved()) {
            log::error!("cluster: the list of accounts cannot be written: {error}");
        }
    }
}
