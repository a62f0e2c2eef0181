//! A reactor that does nothing but dial, for tests.

use std::env;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use rustix::process::{Resource, getrlimit, setrlimit};
use vless_rust::io::sockopt::SocketOptions;
use vless_rust::io::timer::TimerWheel;
use vless_rust::io::token::{Kind, Token};
use vless_rust::outbound::connection_pool::PoolSettings;
use vless_rust::outbound::context::DialContext;
use vless_rust::outbound::dial::{DialError, DialId, DialRules, Dialed, Dialer, Finished, Part, Prefer, Room};
use vless_rust::outbound::policy::DestinationPolicy;
use vless_rust::outbound::resolve::ResolverSettings;
use vless_rust::session::{Host, Target};
use vless_rust::stats::Counters;

/// Longest time any test waits for something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Reactor {
    poll: Poll,
    timers: TimerWheel<Token>,
    pub(crate) dialer: Dialer,
    pub(crate) counters: Counters,
    rules: Arc<DialRules>,
    /// Where there are several workers, the others would have been asked for room.
    pub(crate) has_asked_others: bool,
    dials: usize,
}

impl Reactor {
    pub(crate) fn new(rules: DialRules) -> Self {
        let (rules, poll) = (Arc::new(rules), Poll::new().unwrap());
        let dialer = Dialer::new(Arc::clone(&rules), Part::WHOLE);
        dialer.watch_addresses(poll.registry()).unwrap();
        Self {
            poll,
            timers: TimerWheel::new(Instant::now()),
            dialer,
            counters: Counters::new(0),
            rules,
            has_asked_others: false,
            dials: 0,
        }
    }

    /// Changes the rules.
    pub(crate) fn adopt(&mut self, change: impl FnOnce(&mut DialRules)) {
        change(Arc::make_mut(&mut self.rules));
        let rules = Arc::clone(&self.rules);
        self.with_context(|dialer, cx| dialer.adopt(rules, cx));
    }

    /// Keeps spares from now on.
    pub(crate) fn enable_pool(&mut self, pool: PoolSettings) {
        self.adopt(|rules| rules.pool = Some(pool));
    }

    pub(crate) fn dial(&mut self, target: &Target) -> DialId {
        self.dials += 1;
        let owner = Token::new(Kind::Session, 1, self.dials, 1);
        self.with_context(|dialer, cx| dialer.dial(owner, target, cx)).expect("a token is left")
    }

    /// Starts a look-up without a connect.
    pub(crate) fn resolve(&mut self, target: &Target) -> DialId {
        self.dials += 1;
        let owner = Token::new(Kind::Session, 1, self.dials, 1);
        self.with_context(|dialer, cx| dialer.resolve(owner, target, cx)).expect("a token is left")
    }

    /// Looks up and waits for the outcome.
    pub(crate) fn resolved(&mut self, target: &Target) -> Result<SocketAddr, DialError> {
        let id = self.resolve(target);
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(resolved) = self.dialer.take_resolved() {
                assert_eq!((resolved.dial, &resolved.target), (id, target));
                return resolved.result;
            }
            assert!(Instant::now() < give_up, "no look-up finished");
            self.turn(give_up);
        }
    }

    pub(crate) fn cancel(&mut self, id: DialId) {
        self.with_context(|dialer, cx| dialer.cancel(id, cx));
    }

    /// Dials and waits for the outcome.
    pub(crate) fn outcome(&mut self, target: &Target) -> Result<Dialed, DialError> {
        let id = self.dial(target);
        let finished = self.next_finished();
        assert_eq!((finished.dial, finished.owner), (id, Token::new(Kind::Session, 1, self.dials, 1)));
        finished.result
    }

    pub(crate) fn next_finished(&mut self) -> Finished {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(finished) = self.dialer.take_finished() {
                return finished;
            }
            assert!(Instant::now() < give_up, "no dial finished");
            self.turn(give_up);
        }
    }

    /// Names a target, for which the pool then has a spare.
    pub(crate) fn warm_up(&mut self, address: SocketAddr) {
        let before = self.counters.spares_idle.value();
        self.with_context(|dialer, cx| dialer.warm_up(&[address.into()], cx));
        self.run_until(|reactor| reactor.counters.spares_idle.value() > before);
    }

    /// Turns until `condition` holds.
    pub(crate) fn run_until(&mut self, condition: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < give_up, "the condition never came true");
            self.turn(give_up);
        }
    }

    /// Turns for so long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(end);
        }
    }

    /// One turn: waits for events or the next deadline, and passes on what came.
    fn turn(&mut self, give_up: Instant) {
        let wake_at = self.timers.next_expiry().map_or(give_up, |at| at.min(give_up));
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(wake_at.saturating_duration_since(Instant::now()))).unwrap();
        for event in &events {
            let token = Token::from(event.token());
            self.with_context(|dialer, cx| dialer.on_event(token, cx));
        }
        let mut due = Vec::new();
        self.timers.expire(Instant::now(), &mut due);
        for token in due {
            self.with_context(|dialer, cx| dialer.on_timer(token, cx));
        }
    }

    fn with_context<R>(&mut self, call: impl FnOnce(&mut Dialer, &mut DialContext<'_>) -> R) -> R {
        let Self { poll, timers, dialer, counters, has_asked_others, .. } = self;
        let mut cx = DialContext { registry: poll.registry(), timers, now: Instant::now(), counters };
        let result = call(dialer, &mut cx);
        while dialer.is_short() {
            let had_spares = dialer.give_up_spares(counters);
            *has_asked_others |= !had_spares;
            let room = if had_spares || dialer.give_up_slow_attempts() { Room::Made } else { Room::None };
            dialer.on_room(room, &mut cx);
        }
        result
    }
}

/// Loopback allowed, nobody to resolve names, five seconds.
pub(crate) fn settings() -> DialRules {
    let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
    DialRules {
        connect_timeout: Duration::from_secs(5),
        prefer: Prefer::Ipv4,
        bind: None,
        policy: Arc::new(DestinationPolicy::new(false, allow, vec![25], Vec::new())),
        resolver: ResolverSettings {
            servers: vec![closed_address()],
            hosts: "/nonexistent/hosts".into(),
            ..ResolverSettings::default()
        },
        options: SocketOptions::default(),
        pool: None,
    }
}

pub(crate) fn name(name: &str, port: u16) -> Target {
    Target { host: Host::Name(name.into()), port }
}

pub(crate) fn listener(ip: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address on which nobody listens. No test of these binds to 127.0.0.99.
pub(crate) fn closed_address() -> SocketAddr {
    listener("127.0.0.99").1
}

/// Runs `body`, which is the test called `name`, in a process of its own, because the limit of descriptors is one of the
/// process.
pub(crate) fn alone(name: &str, body: fn()) {
    const MARK: &str = "DIAL_TEST_ALONE";
    if env::var_os(MARK).is_some() {
        return body();
    }
    let mut child = Command::new(env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env(MARK, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "there is no test called {name}");
}

/// Calls `call` while this process cannot open one more descriptor.
pub(crate) fn without_descriptors<R>(call: impl FnOnce() -> R) -> R {
    let normal = getrlimit(Resource::Nofile);
    let mut short = normal;
    // Descriptors are handed out lowest first, so none is free below this one.
    short.current = Some(File::open("/dev/null").unwrap().as_raw_fd() as u64);
    setrlimit(Resource::Nofile, short).unwrap();
    let result = call();
    setrlimit(Resource::Nofile, normal).unwrap();
    result
}
