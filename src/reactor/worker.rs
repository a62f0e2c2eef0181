//! One worker: the loop, and what it is made of. The parts own what they need, and know each other only by arguments.
//!
//! | part | owns |
//! |---|---|
//! | `base` | what all others need: clock, timers, rules, counters |
//! | `stock` | what sessions borrow: memory, pipes, random numbers |
//! | `door` | the listeners |
//! | `targets` | the target-facing side |
//! | `listing` | answers that take more than a turn |

mod accepting;
mod base;
mod door;
mod listing;
mod mail;
mod stock;
mod targets;
mod udp;
mod wishes;

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll};

use self::base::Base;
use self::door::Door;
use self::listing::Listing;
use self::stock::Stock;
use self::targets::Targets;
use super::inbox::Inbox;
use super::legs::leg_of;
use super::meter::Meter;
use super::pulse::{Pulse, Step};
use super::rules::Rules;
use super::schedule::{Baggage, Schedule};
use super::shared::Shared;
use super::sources::Visit;
use super::timers::Timer;
use crate::io::endpoint::Readiness;
use crate::io::token::{Kind, Token};
use crate::outbound::dial::DialId;
use crate::outbound::udp::OutboundUdp;
use crate::session::allowance::Allowance;
use crate::session::close::CloseReason;
use crate::session::{Leg, Target, Undelivered, User};
use crate::stats::Counters;

/// Events taken from the kernel per poll.
const EVENTS_MAX: usize = 1024;

/// How often those who wait for buffer memory look whether another worker gave some back.
const STARVED_RETRY: Duration = Duration::from_millis(20);

/// What the poll reports of a stream. Besides both directions this is urgent data, because splice stops in front of it.
const STREAM_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// The leg of what wakes the poll for the inbox. Listeners have tokens of the same kind with another leg.
const INBOX_LEG: usize = 0;

/// What a worker is made from, besides its poll.
pub(super) struct Parts {
    pub(super) number: usize,
    pub(super) rules: Arc<Rules>,
    pub(super) warm_up: Vec<Target>,
    pub(super) splice: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) shared: Arc<Shared>,
    /// All workers' inboxes, by number.
    pub(super) inboxes: Arc<[Inbox]>,
}

/// A worker's poll with what wakes it. Unlike the worker itself it may be sent to the worker's thread.
pub(super) struct Unstarted {
    poll: Poll,
    inbox: Inbox,
    door: Door,
}

impl Unstarted {
    pub(super) fn new(listeners: Vec<StdListener>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let inbox = Inbox::new(&poll, Token::new(Kind::Worker, 0, 0, INBOX_LEG))?;
        let door = Door::new(listeners, poll.registry())?;
        Ok(Self { poll, inbox, door })
    }

    pub(super) fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }
}

/// A worker on its thread.
pub(super) struct Worker {
    poll: Poll,
    inbox: Inbox,
    base: Base,
    stock: Stock,
    schedule: Schedule<TcpStream, OutboundUdp, Errands>,
    door: Door,
    targets: Targets,
    listings: VecDeque<Listing>,
    /// More lies in the inbox than one turn takes.
    has_mail: bool,
    /// Set while draining: when the sessions that are left are cut.
    drain_deadline: Option<Instant>,
    stopped: bool,
}

/// What a worker does for one session at the moment.
struct Errands {
    /// It counts among the sessions of its source. `None`: a balancer's, until it has said who the client is.
    visit: Option<Visit>,
    worker: usize,
    /// Dials and look-ups under way, by the leg they are for.
    dials: Vec<(Leg, DialId)>,
    /// It was given a connection to its target.
    has_target: bool,
    /// `None` while its user has no limits.
    meter: Option<Box<Meter>>,
}

impl Errands {
    fn new(visit: Option<Visit>, worker: usize) -> Self {
        Self { visit, worker, dials: Vec::new(), has_target: false, meter: None }
    }
}

impl Baggage for Errands {
    fn limit(&mut self, allowance: &mut Allowance, user: Option<&Arc<User>>, now: Instant) {
        if self.meter.is_none() {
            self.meter = user.and_then(|user| Meter::of(user, self.worker));
        }
        if let Some(meter) = &mut self.meter {
            meter.limit(allowance, now);
        }
    }

    fn admit(&mut self) {
        if let Some(visit) = &mut self.visit {
            visit.admit();
        }
    }

    fn settle(&mut self, left: &Allowance, undelivered: impl FnOnce() -> Undelivered, now: Instant) {
        if let Some(meter) = &mut self.meter {
            meter.settle(left, undelivered(), now);
        }
    }
}

impl Worker {
    pub(super) fn new(Unstarted { poll, inbox, door }: Unstarted, parts: Parts) -> Self {
        let stock = Stock::new(&parts.shared, parts.splice);
        let targets = Targets::new(&parts, poll.registry());
        let base = Base::new(parts);
        Self {
            poll,
            inbox,
            base,
            stock,
            schedule: Schedule::new(),
            door,
            targets,
            listings: VecDeque::new(),
            has_mail: false,
            drain_deadline: None,
            stopped: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut due = Vec::new();
        self.targets.warm_up(&mut self.base, self.poll.registry());
        let pulse = self.base.pulse();
        pulse.adopt();
        while !self.stopped {
            let timeout = self.poll_timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // epoll_wait fails only on arguments that we never pass. Without it this worker is no use.
                log::error!("worker {}: poll: {error}", self.base.number);
                break;
            }
            self.base.now = Instant::now();
            pulse.begin_turn(self.base.now);
            self.targets.grow_old(self.base.now);
            for event in &events {
                self.dispatch(event);
            }
            pulse.enter(Step::Mail);
            self.read_mail();
            pulse.enter(Step::Timers);
            self.base.timers.expire(self.base.now, &mut due);
            for token in due.drain(..) {
                self.on_timer(token);
            }
            self.turn(&pulse);
            pulse.enter(Step::House);
            self.keep_house();
            pulse.end_turn();
            self.base.counters.timings.turn.record(self.base.now.elapsed());
        }
        self.end();
    }

    /// Everybody who waits before those who move much: what dials came to, short turns, new clients.
    fn turn(&mut self, pulse: &Pulse) {
        pulse.enter(Step::Wishes);
        self.serve_wishes();
        self.schedule.serve_urgent(&mut self.stock.lend(&mut self.base));
        pulse.enter(Step::Wishes);
        self.serve_wishes();
        pulse.enter(Step::Accepting);
        self.accept();
        self.schedule.serve_bulk(&mut self.stock.lend(&mut self.base));
        pulse.enter(Step::Wishes);
        self.serve_wishes();
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        let is_listing = !self.listings.is_empty();
        if self.has_mail
            || is_listing
            || self.door.has_work()
            || self.schedule.is_busy(&self.stock.lend(&mut self.base))
        {
            return Some(Duration::ZERO);
        }
        let due = self.base.timers.next_expiry().map(|at| at.saturating_duration_since(self.base.now));
        if self.schedule.starved() == 0 {
            return due;
        }
        // Memory given back here was looked for already. What other workers give back wakes nobody.
        Some(due.map_or(STARVED_RETRY, |due| due.min(STARVED_RETRY)))
    }

    fn dispatch(&mut self, event: &Event) {
        let token = Token::from(event.token());
        match token.kind() {
            Kind::Worker if token.leg() == INBOX_LEG => self.has_mail = true,
            Kind::Worker => self.door.on_event(token),
            Kind::Session => {
                let mut lent = self.stock.lend(&mut self.base);
                self.schedule.on_event(token, leg_of(token), readiness(event), &mut lent);
            }
            Kind::Dial | Kind::Resolve => {
                let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
                dialer.on_event(token, &mut cx);
            }
        }
    }

    fn on_timer(&mut self, token: Token) {
        match token.kind() {
            Kind::Worker => match self.base.alarms.fired(token, self.base.now) {
                Some(Timer::Accept) => self.door.resume(),
                Some(Timer::Shrink) => self.stock.shrink(),
                Some(Timer::SweepGlobalIds) => self.base.sweep_global_ids(),
                // The worker is awake now, and looks at the deadline itself.
                Some(Timer::Drain) | None => {}
            },
            Kind::Session => self.schedule.on_timer(token, self.base.now),
            Kind::Dial | Kind::Resolve => {
                let (dialer, mut cx) = self.targets.parts(&mut self.base, self.poll.registry());
                dialer.on_timer(token, &mut cx);
            }
        }
    }

    /// What is looked after once per turn.
    fn keep_house(&mut self) {
        self.list();
        self.stock.watch_growth(&mut self.base);
        self.targets.limit_spares(&self.base);
        self.stock.publish(&self.base.counters);
        self.base.counters.sessions_awaiting_buffer.set(self.schedule.starved() as u64);
        self.door.close_empty(self.poll.registry());
        if let Some(deadline) = self.drain_deadline {
            let is_done = self.door.is_empty() && self.schedule.is_empty();
            self.stopped |= is_done || self.base.now >= deadline;
        }
    }

    fn end(&mut self) {
        for token in self.schedule.tokens() {
            self.schedule.cut(token, CloseReason::Shutdown, &mut self.stock.lend(&mut self.base));
        }
        self.bury();
        self.targets.close_pool(&self.base.counters);
        self.stock.publish(&self.base.counters);
        self.base.counters.sessions_awaiting_buffer.set(0);
    }
}

fn readiness(event: &Event) -> Readiness {
    let broken = event.is_error();
    Readiness {
        readable: event.is_readable() || event.is_read_closed() || broken,
        read_closed: event.is_read_closed(),
        writable: event.is_writable() || event.is_write_closed() || broken,
        broken,
        urgent: event.is_priority(),
    }
}
