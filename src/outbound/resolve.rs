//! The stub resolver of one worker: names to addresses without ever blocking.
//!
//! `message` reads and writes messages, `query` takes one question through the list of servers, `lookups` shares and
//! remembers. These three know no socket and no clock. This module is the thin shell around them: it opens sockets,
//! moves bytes, arms wake-ups, and reads `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Each query leaves from a socket of its own, connected to the server. So the kernel chooses its port anew, and
//! datagrams from elsewhere never arrive. The message id is random, and so is the spelling of the name. Whoever forges
//! an answer has some 2^31 combinations to guess (RFC 5452), and twice as many for each letter of the name.
//!
//! DNS sockets are not bound to `outbound.bind`. Name servers are not subject to the destination policy.
//!
//! Names are asked for exactly as given, without a search list. Texts such as `127.1` or `0x7f000001` are names here
//! and never addresses.

pub mod cache;
#[cfg(test)]
mod fake_server;
pub mod hosts;
pub mod hosts_file;
pub mod lookups;
pub mod message;
pub mod query;
pub mod quirks;
pub mod resolv_conf;
mod socket;
pub mod watched_file;
pub mod wire;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::hosts_file::HostsFile;
use self::lookups::{Action, Answered, Asked, Asker, Limits, Lookups};
use self::query::{Ask, OPEN_TRIES_MAX, Plan, Transport};
use self::resolv_conf::ResolvConf;
use self::socket::{Received, ServerSocket};
use self::watched_file::WatchedFile;
use super::context::DialContext;
use crate::io::alarm::Alarm;
use crate::io::token::Token;

/// How often the two files are looked at, while names are asked for.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
const RESOLV_CONF_BYTES_MAX: u64 = 1 << 20;
/// How often the list of servers is gone through when it comes from the settings.
const ATTEMPTS: u32 = 2;

/// An address family, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// A name in lower case without a dot at its end, and the family of addresses wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub name: Arc<str>,
    pub family: Family,
}

/// What became of a question: at least one address, at most 16.
pub type Answer = Result<Arc<[IpAddr]>, ResolveError>;

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The name does not exist, or cannot exist.
    NoSuchName,
    /// The name has no address of this family.
    NoAddress,
    /// No server answered in time.
    Timeout,
    /// All servers failed or refused to answer.
    ServerFailure,
    /// Too many look-ups or waiters.
    Busy,
    /// No descriptor was left for a socket.
    NoDescriptors,
}

/// How to resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverSettings {
    /// Name servers. Empty means those of `resolv_conf`.
    pub servers: Vec<SocketAddr>,
    /// The time for one name in one family, over all servers and repeats.
    pub timeout: Duration,
    pub limits: Limits,
    pub hosts: HostsFile,
    pub resolv_conf: PathBuf,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            limits: Limits::default(),
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// The resolver of one worker.
pub struct Resolver {
    settings: ResolverSettings,
    lookups: Lookups,
    lines: HashMap<Token, Line>,
    /// Not looked at when the settings name servers.
    resolv_conf: Option<WatchedFile>,
    files_checked: Option<Instant>,
}

/// The sockets and the wake-up of one look-up.
#[derive(Default)]
struct Line {
    alarm: Alarm,
    sockets: [Option<OpenTry>; OPEN_TRIES_MAX],
}

struct OpenTry {
    number: usize,
    socket: ServerSocket,
}

impl Resolver {
    /// A resolver that has opened nothing yet. The two files are read when the first name is asked for.
    pub fn new(settings: ResolverSettings) -> Self {
        Self {
            lookups: Lookups::new(plan(&settings), Arc::default(), settings.limits),
            lines: HashMap::new(),
            resolv_conf: resolv_conf(&settings),
            files_checked: None,
            settings,
        }
    }

    /// Resolves by other settings from now on. Look-ups under way end as they began. Answers of other servers are
    /// forgotten.
    pub fn adopt(&mut self, settings: &ResolverSettings) {
        let known = std::mem::replace(&mut self.settings, settings.clone());
        if known == *settings {
            self.settings = known;
            return;
        }
        self.lookups.set_limits(settings.limits);
        self.lookups.set_timeout(settings.timeout);
        if known.hosts == settings.hosts {
            // It was read already.
            self.settings.hosts = known.hosts;
        }
        if known.servers != settings.servers || known.resolv_conf != settings.resolv_conf {
            self.resolv_conf = resolv_conf(settings);
            let Plan { servers, attempts, transport, .. } = plan(settings);
            self.lookups.set_servers(servers, attempts, transport);
            self.lookups.clear_cache();
        }
        self.files_checked = None;
    }

    /// Asks for the addresses of `name` in one family. The waiter of `asker` comes back with the answer.
    pub fn ask(&mut self, name: &str, family: Family, asker: Asker, cx: &mut DialContext<'_>) -> Asked {
        self.check_files(cx.now);
        let asked = self.lookups.ask(name, family, asker, cx.now, cx.counters);
        self.act(cx);
        asked
    }

    /// `waiter` does not want the answer of look-up `id` any more.
    pub fn leave(&mut self, id: Token, waiter: Token) {
        self.lookups.leave(id, waiter);
    }

    /// A socket of this resolver is ready.
    pub fn on_event(&mut self, token: Token, cx: &mut DialContext<'_>) {
        let id = token.with_leg(0);
        let Some(number) = token.leg().checked_sub(1) else { return };
        while let Some(received) = self.receive(id, number) {
            match received {
                Received::Message(message) => self.lookups.on_message(id, number, &message, cx.now, cx.counters),
                Received::Failed(error) => {
                    self.close_try(id, number);
                    self.lookups.on_error(id, number, error, cx.now, cx.counters);
                }
            }
            // Closes the socket if the message ended the look-up, which also ends this loop.
            self.act(cx);
        }
    }

    /// A wake-up of this resolver came out of the wheel.
    pub fn on_timer(&mut self, token: Token, cx: &mut DialContext<'_>) {
        if self.lines.get_mut(&token).is_some_and(|line| line.alarm.fired(cx.now)) {
            self.lookups.on_timer(token, cx.now, cx.counters);
            self.act(cx);
        }
    }

    /// The next answer for one who waited. The dialer takes them until there is none, after every other call.
    pub fn next_answer(&mut self) -> Option<Answered> {
        self.lookups.next_answer()
    }

    /// Look-ups under way.
    pub fn under_way(&self) -> usize {
        self.lookups.under_way()
    }

    /// Carries out what the look-ups want, which may make them want more. Each look-up has a bounded number of tries.
    fn act(&mut self, cx: &mut DialContext<'_>) {
        while let Some(action) = self.lookups.next_action() {
            match action {
                Action::Ask(id, ask) => self.send(id, &ask, cx),
                Action::WakeAt(id, at) => {
                    self.lines.entry(id).or_default().alarm.arm(at, id, cx.timers, cx.now);
                }
                Action::CloseTry(id, number) => self.close_try(id, number),
                Action::Close(id) => {
                    self.lines.remove(&id);
                }
            }
        }
    }

    fn send(&mut self, id: Token, ask: &Ask, cx: &mut DialContext<'_>) {
        let token = id.with_leg(ask.try_number + 1);
        match ServerSocket::open(ask, token, cx.registry) {
            Ok(socket) => {
                let line = self.lines.entry(id).or_default();
                line.sockets[ask.try_number % OPEN_TRIES_MAX] = Some(OpenTry { number: ask.try_number, socket });
            }
            Err(error) => self.lookups.on_error(id, ask.try_number, error, cx.now, cx.counters),
        }
    }

    fn receive(&mut self, id: Token, number: usize) -> Option<Received> {
        let open = self.lines.get_mut(&id)?.sockets[number % OPEN_TRIES_MAX].as_mut()?;
        if open.number == number { open.socket.receive() } else { None }
    }

    fn close_try(&mut self, id: Token, number: usize) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.sockets[number % OPEN_TRIES_MAX].take_if(|open| open.number == number);
        }
    }

    fn check_files(&mut self, now: Instant) {
        if self.files_checked.is_some_and(|checked| now.saturating_duration_since(checked) < FILE_CHECK_INTERVAL) {
            return;
        }
        self.files_checked = Some(now);
        self.lookups.set_hosts(self.settings.hosts.current(now));
        let Some(file) = &mut self.resolv_conf else { return };
        let changed = file.changed().unwrap_or_else(|error| {
            log::warn!("{error}; the name servers stay as they were");
            None
        });
        if let Some(text) = changed {
            let file = ResolvConf::parse(&text);
            self.lookups.set_servers(file.servers, file.attempts, file.transport);
            // Another network may have other answers to the same names.
            self.lookups.clear_cache();
        }
    }
}

/// Whom to ask before a file has said so.
fn plan(settings: &ResolverSettings) -> Plan {
    if settings.servers.is_empty() {
        let ResolvConf { servers, attempts, transport } = ResolvConf::default();
        Plan { servers, attempts, timeout: settings.timeout, transport }
    } else {
        let (servers, timeout) = (settings.servers.clone(), settings.timeout);
        Plan { servers, attempts: ATTEMPTS, timeout, transport: Transport::Udp }
    }
}

/// The file that names servers where the settings do not.
fn resolv_conf(settings: &ResolverSettings) -> Option<WatchedFile> {
    settings.servers.is_empty().then(|| WatchedFile::new(settings.resolv_conf.clone(), RESOLV_CONF_BYTES_MAX))
}

/// A name as it is compared: lower case, without the dot that marks it as complete.
fn normalized(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
