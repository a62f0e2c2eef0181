//! From a target to a connected socket: look-up, destination policy, happy eyeballs, one deadline over all of it.
//!
//! The [`Dialer`] belongs to one worker and never blocks. It owns the resolver and all connects under way. It knows no
//! session, only the token of whom to answer.
//!
//! The worker hands it the events and wake-ups of [`Kind::Dial`] and [`Kind::Resolve`], and makes room for it where
//! descriptors are short. After every call the worker takes what has finished.
//!
//! Invariants:
//!
//! - An address is connected to only in `Dialer::attempt`, behind the policy's check, or by the connection pool, which
//!   knows addresses from there.
//! - Every dial ends exactly once: in [`Finished`], in [`Resolved`] or by [`Dialer::cancel`].
//! - A dial holds at most four sockets and ends at its deadline. So the number of dials is bounded by what sessions may
//!   ask for at a time.

mod attempts;
mod connector;
mod ending;
pub mod error;
mod families;
mod look_ups;
pub mod outcome;
pub mod race;
mod report;
pub mod rules;
pub mod shortage;
mod socket;
mod spares;
mod under_way;

pub use self::error::DialError;
pub use self::outcome::{DialId, Dialed, Finished, Resolved};
pub use self::rules::{DialRules, Prefer};
pub use self::shortage::Room;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;
use mio::net::TcpStream;

use self::families::Families;
use self::outcome::Outcomes;
use self::race::{Race, Step};
use self::report::RefusalReport;
use self::shortage::Wanting;
use self::under_way::{Authority, Dial, Purpose};
use super::connection_pool::{ConnectionPool, SPARE_LEG, TICK_LEG};
use super::context::DialContext;
use super::policy::judge::Judge;
use super::resolve::{Family, Resolver};
use crate::io::alarm::Alarm;
use crate::io::roster::Roster;
use crate::io::token::{Kind, Token};
use crate::session::{Host, Target};

/// The leg of news about this machine's addresses. The legs of attempts are lower, those of the pool higher.
const ADDRESSES_LEG: usize = TICK_LEG - 1;

/// All dials of one worker.
pub struct Dialer {
    rules: Arc<DialRules>,
    part: Part,
    judge: Rc<Judge>,
    resolver: Resolver,
    dials: Roster<Dial>,
    finished: Outcomes<Finished>,
    resolved: Outcomes<Resolved>,
    families: Families,
    refusals: RefusalReport,
    pool: ConnectionPool<TcpStream>,
    pool_alarm: Alarm,
    /// Dials that wait for the worker to make room.
    short: Vec<(Token, Wanting)>,
}

/// Which worker of how many. It decides the worker's part of figures that are meant for the process.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The worker's number, below `workers`.
    pub worker: usize,
    pub workers: usize,
}

impl Part {
    /// The only worker.
    pub const WHOLE: Self = Self { worker: 0, workers: 1 };
}

impl Dialer {
    /// A dialer without dials. It opens nothing but the socket by which the kernel is asked about routes.
    pub fn new(rules: Arc<DialRules>, part: Part) -> Self {
        Self {
            judge: Rc::new(Judge::new(Arc::clone(&rules.policy), rules.bind)),
            resolver: Resolver::new(rules.resolver.clone()),
            dials: Roster::new(Kind::Dial),
            finished: Outcomes::default(),
            resolved: Outcomes::default(),
            families: Families::default(),
            refusals: RefusalReport::default(),
            pool: ConnectionPool::new(rules.pool.as_ref().map(|pool| pool.share(part.worker, part.workers))),
            pool_alarm: Alarm::default(),
            short: Vec::new(),
            rules,
            part,
        }
    }

    /// Makes the dialer hear of addresses of this machine that come or go.
    ///
    /// # Errors
    /// When the kernel cannot watch one more descriptor.
    pub fn watch_addresses(&self, registry: &Registry) -> io::Result<()> {
        self.judge.watch(registry, Token::new(Kind::Dial, 0, 0, ADDRESSES_LEG))
    }

    /// Tells the judge the time. The worker does so once per turn, because UDP sockets ask without a dial.
    pub fn grow_old(&self, now: Instant) {
        self.judge.grow_old(now);
    }

    /// Obeys `rules` from now on. They hold for dials and look-ups that begin, for spares, and for every UDP socket
    /// that asks this dialer's [`Judge`]. Dials under way keep their deadline and the addresses they know. Each further
    /// address is judged by the new policy.
    pub fn adopt(&mut self, rules: Arc<DialRules>, cx: &mut DialContext<'_>) {
        self.judge.adopt(Arc::clone(&rules.policy), rules.bind);
        self.resolver.adopt(&rules.resolver);
        let is_other_way = self.rules.bind != rules.bind || self.rules.options != rules.options;
        self.rules = rules;
        if is_other_way {
            self.pool.close_unneeded(cx.counters);
        }
        let Part { worker, workers } = self.part;
        let share = self.rules.pool.as_ref().map(|pool| pool.share(worker, workers));
        self.with_pool(cx, |pool, cx| pool.adopt(share, cx));
    }

    /// Starts to dial `target`. The outcome comes out of [`Dialer::take_finished`] with `owner` beside it, maybe
    /// already after this call. `None`: no token is left for one more dial.
    pub fn dial(&mut self, owner: Token, target: &Target, cx: &mut DialContext<'_>) -> Option<DialId> {
        cx.counters.dials_started.add(1);
        self.start(Authority::Client(owner), target, Purpose::Connect, cx)
    }

    /// As [`Dialer::dial`], for a target that the operator named as a fallback. The policy is for targets of clients.
    /// Of such a target it refuses only the server's own listeners.
    pub fn dial_fallback(&mut self, owner: Token, target: &Target, cx: &mut DialContext<'_>) -> Option<DialId> {
        cx.counters.dials_started.add(1);
        self.start(Authority::Fallback(owner), target, Purpose::Connect, cx)
    }

    /// Looks up an address of `target` that may be sent to, without connecting. It is one of the preferred family if
    /// there is any. The outcome comes out of [`Dialer::take_resolved`], maybe already after this call.
    pub fn resolve(&mut self, owner: Token, target: &Target, cx: &mut DialContext<'_>) -> Option<DialId> {
        self.start(Authority::Client(owner), target, Purpose::Address, cx)
    }

    fn start(
        &mut self,
        authority: Authority,
        target: &Target,
        purpose: Purpose,
        cx: &mut DialContext<'_>,
    ) -> Option<DialId> {
        self.judge.grow_old(cx.now);
        let families = self.families(cx.now);
        let preferred = families.first().copied().unwrap_or(Family::V4);
        let token = self.dials.insert(Dial {
            authority,
            target: target.clone(),
            purpose,
            started: cx.now,
            deadline: cx.now + self.rules.connect_timeout,
            alarm: Alarm::default(),
            race: Race::new(preferred),
            lookups: Vec::new(),
            attempts: Vec::new(),
            next_leg: 1,
            failure: None,
            unroutable: None,
            reached_address: false,
        })?;
        match &target.host {
            Host::Ip(ip) => self.on_address(token, *ip, cx.now),
            Host::Name(name) => self.look_up(token, name, families, cx),
        }
        self.drive(token, cx);
        self.deliver_answers(cx);
        Some(DialId(token))
    }

    /// A socket of a dial or a look-up is ready. Which readiness does not matter, because the socket itself says what
    /// happened.
    pub fn on_event(&mut self, token: Token, cx: &mut DialContext<'_>) {
        match token.kind() {
            Kind::Resolve => self.resolver.on_event(token, cx),
            Kind::Dial if token.leg() == SPARE_LEG => self.on_spare_event(token, cx),
            Kind::Dial if token.leg() == ADDRESSES_LEG => self.judge.on_event(),
            Kind::Dial => self.on_attempt_event(token, cx),
            Kind::Worker | Kind::Session => {}
        }
        self.deliver_answers(cx);
    }

    /// A wake-up of a dial or a look-up came out of the wheel, maybe too early or for one that is gone.
    ///
    /// `cx.now` must not be earlier than the instant the wheel was asked to expire at. A wake-up that seems to come too
    /// early is taken for a stale one.
    pub fn on_timer(&mut self, token: Token, cx: &mut DialContext<'_>) {
        match token.kind() {
            Kind::Resolve => self.resolver.on_timer(token, cx),
            Kind::Dial if token.leg() == TICK_LEG => self.on_pool_tick(cx),
            Kind::Dial => self.on_wake_up(token, cx),
            Kind::Worker | Kind::Session => {}
        }
        self.deliver_answers(cx);
    }

    /// The next outcome of a dial. The worker takes them until there is none, after every other call.
    pub fn take_finished(&mut self) -> Option<Finished> {
        self.finished.pop()
    }

    /// The next outcome of a look-up. They are taken like those of dials.
    pub fn take_resolved(&mut self) -> Option<Resolved> {
        self.resolved.pop()
    }

    /// The judge that dials ask, for those who reach targets in another way.
    pub fn judge(&self) -> Rc<Judge> {
        Rc::clone(&self.judge)
    }

    /// Dials under way.
    pub fn under_way(&self) -> usize {
        self.dials.len()
    }

    /// Look-ups under way, those that nobody waits for any more included.
    pub fn look_ups_under_way(&self) -> usize {
        self.resolver.under_way()
    }

    fn drive(&mut self, token: Token, cx: &mut DialContext<'_>) {
        loop {
            self.choose_family(token, cx.now);
            let Some(dial) = self.dials.get_mut(token) else { return };
            match dial.race.next(cx.now) {
                Step::Attempt(ip) => self.attempt(token, ip, cx),
                Step::Wait(at) => {
                    let wake_at = at.map_or(dial.deadline, |at| at.min(dial.deadline));
                    return dial.alarm.arm(wake_at, token, cx.timers, cx.now);
                }
                Step::Exhausted => return self.on_exhausted(token, cx),
            }
        }
    }
}
