//! One worker: the loop, its sessions, and obedience to what they answer (`wishes`).

mod accepting;
mod memory;
mod room;
mod udp;
mod wishes;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry};
use slab::Slab;

use super::inbox::{Inbox, Request};
use super::{Rules, Shared};
use crate::io::alarm::Alarm;
use crate::io::buffer_pool::BufferPool;
use crate::io::random::Random;
use crate::io::socket::Readiness;
use crate::io::splice::PipePool;
use crate::io::timer::TimerWheel;
use crate::io::token::{Kind, LEG_LIMIT, Token};
use crate::outbound::context::DialContext;
use crate::outbound::dial::{DialId, Dialer, Part};
use crate::outbound::udp::OutboundUdp;
use crate::session::allowance::Allowance;
use crate::session::close::CloseReason;
use crate::session::mux::SESSIONS_MAX;
use crate::session::transfer::{Means, Scratch};
use crate::session::{Context, Leg, Next, Session as AnySession, Target, Wish};
use crate::stats::Counters;

type Session = AnySession<TcpStream, OutboundUdp>;

/// Events taken from the kernel per poll.
const EVENTS_MAX: usize = 1024;

/// How often those who wait for buffer memory look whether another worker gave some back.
const STARVED_RETRY: Duration = Duration::from_millis(20);

/// What the poll reports of a stream: besides both directions also urgent data, because splice stops in front of it.
const STREAM_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// Legs of a session's token.
const CLIENT_LEG: usize = 0;
const TARGET_LEG: usize = 1;
const SUB_LEG: usize = 2;
const _: () = assert!(SUB_LEG + SESSIONS_MAX <= LEG_LIMIT);
/// Legs of the worker's own token: the inbox, the pause of accepting, the end of a drain, the sweep of Global
/// IDs, shrinking the buffer pool, then the listeners.
const INBOX_LEG: usize = 0;
const ACCEPT_LEG: usize = 1;
const DRAIN_LEG: usize = 2;
const SWEEP_LEG: usize = 3;
const SHRINK_LEG: usize = 4;
const LISTENER_LEG: usize = 16;

/// What a worker is given.
pub(super) struct Parts {
    pub(super) number: usize,
    pub(super) rules: Arc<Rules>,
    /// Targets that get spares at the start.
    pub(super) warm_up: Vec<Target>,
    pub(super) splice: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) shared: Arc<Shared>,
}

/// A worker to be; unlike the worker itself it may be sent to the worker's thread.
pub(super) struct Unstarted {
    parts: Parts,
    poll: Poll,
    inbox: Inbox,
    listeners: Vec<TcpListener>,
}

impl Unstarted {
    pub(super) fn new(parts: Parts, listeners: Vec<StdListener>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let inbox = Inbox::new(&poll, worker_token(INBOX_LEG))?;
        let mut listeners: Vec<_> = listeners.into_iter().map(TcpListener::from_std).collect();
        for (number, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, worker_token(LISTENER_LEG + number).into(), Interest::READABLE)?;
        }
        Ok(Self { parts, poll, inbox, listeners })
    }

    pub(super) fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }
}

/// A worker on its thread.
pub(super) struct Worker {
    number: usize,
    poll: Poll,
    inbox: Inbox,
    listeners: Vec<Listener>,
    rules: Arc<Rules>,
    /// Targets that get spares at the start; empty afterwards.
    warm_up: Vec<Target>,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    sessions: Slab<Slot>,
    generation: u32,
    dialer: Dialer,
    timers: TimerWheel<Token>,
    /// For sockets that take themselves out of the poll.
    registry: Option<Rc<Registry>>,
    sweep_alarm: Alarm,
    /// What sessions want done.
    wishes: VecDeque<(Token, Wish)>,
    /// Empty; its memory is used again.
    wish_list: Vec<Wish>,
    /// Sessions that stopped although they could go on.
    again: VecDeque<Token>,
    /// Sessions that wait for buffer memory, the first in front; among them some that have ended since.
    starved: VecDeque<Token>,
    /// Those that are alive.
    starved_sessions: usize,
    scratch: Scratch,
    pool: BufferPool,
    random: Random,
    /// `None`: splicing is switched off.
    pipes: Option<PipePool>,
    /// Read once per turn.
    now: Instant,
    accept_paused: bool,
    accept_alarm: Alarm,
    shrink_alarm: Alarm,
    shortage_logged_at: Option<Instant>,
    shortage_shared_at: Option<Instant>,
    /// Set while draining: when the sessions that are left are cut.
    drain_deadline: Option<Instant>,
    drain_alarm: Alarm,
    stopped: bool,
}

struct Listener {
    socket: TcpListener,
    /// An event came and the queue was not found empty since.
    ready: bool,
}

struct Slot {
    generation: u32,
    session: Box<Session>,
    /// Dials and look-ups under way for it, by the leg they are for.
    dials: Vec<(usize, DialId)>,
    alarm: Alarm,
    /// It goes on at this instant, if nothing happens before.
    later: Option<Instant>,
    /// It is in the queue of those that go on in the next turn.
    queued: bool,
    /// It is in the queue of those that wait for buffer memory.
    starved: bool,
    /// It was given a connection to its target.
    has_target: bool,
}

impl Worker {
    pub(super) fn new(Unstarted { parts, poll, inbox, listeners }: Unstarted) -> Self {
        let now = Instant::now();
        let part = Part { worker: parts.number, workers: parts.shared.workers };
        let dialer = Dialer::new(Arc::clone(&parts.rules.dial), part);
        if let Err(error) = dialer.watch_addresses(poll.registry()) {
            log::warn!("worker {}: changes of this machine's addresses cannot be watched: {error}", parts.number);
        }
        Self {
            number: parts.number,
            poll,
            inbox,
            listeners: listeners.into_iter().map(|socket| Listener { socket, ready: false }).collect(),
            dialer,
            counters: parts.counters,
            sessions: Slab::new(),
            generation: 0,
            timers: TimerWheel::new(now),
            registry: None,
            sweep_alarm: Alarm::default(),
            wishes: VecDeque::new(),
            wish_list: Vec::new(),
            again: VecDeque::new(),
            starved: VecDeque::new(),
            starved_sessions: 0,
            scratch: Scratch::new(),
            pool: BufferPool::with_memory(Arc::clone(&parts.shared.buffer_memory)),
            random: Random::new(),
            pipes: parts.splice.then(PipePool::new),
            now,
            accept_paused: false,
            accept_alarm: Alarm::default(),
            shrink_alarm: Alarm::default(),
            shortage_logged_at: None,
            shortage_shared_at: None,
            drain_deadline: None,
            drain_alarm: Alarm::default(),
            stopped: false,
            rules: parts.rules,
            warm_up: parts.warm_up,
            shared: parts.shared,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut due = Vec::new();
        self.warm_up();
        while !self.stopped {
            if let Err(error) = self.poll.poll(&mut events, self.poll_timeout())
                && error.kind() != io::ErrorKind::Interrupted
            {
                // epoll_wait fails only on arguments that we never pass; without it this worker is no use.
                log::error!("worker {}: poll: {error}", self.number);
                break;
            }
            self.now = Instant::now();
            for event in &events {
                self.dispatch(event);
            }
            self.serve_wishes();
            self.serve_again();
            self.timers.expire(self.now, &mut due);
            for token in due.drain(..) {
                self.on_timer(token);
            }
            self.serve_wishes();
            self.serve_starved();
            self.serve_wishes();
            self.accept();
            self.watch_growth();
            self.limit_spares();
            self.publish();
            self.stop_when_drained();
            self.counters.timings.turn.record(self.now.elapsed());
        }
        for index in 0..self.sessions.capacity() {
            if self.sessions.contains(index) {
                self.cut(index, CloseReason::Shutdown);
            }
        }
        self.dialer.close_pool(&self.counters);
        self.publish();
    }

    fn warm_up(&mut self) {
        // What each named target gets is shared out among the workers; some may be left without.
        let pool = self.rules.dial.pool.as_ref().map(|pool| pool.share(self.number, self.shared.workers));
        if pool.is_some_and(|pool| pool.warm_up_spares > 0) {
            let targets = mem::take(&mut self.warm_up);
            let (dialer, mut cx) = self.dial_context();
            dialer.warm_up(&targets, &mut cx);
        }
    }

    /// Spares may use half of the descriptors that sessions leave free: one of the two that each more could have.
    fn limit_spares(&mut self) {
        let sessions = self.shared.sessions.load(Ordering::Relaxed);
        let room = self.rules.sessions_max.saturating_sub(sessions) / self.shared.workers;
        self.dialer.set_spare_room(room, &self.counters);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() || (!self.accept_paused && self.listeners.iter().any(|listener| listener.ready)) {
            return Some(Duration::ZERO);
        }
        let due = self.timers.next_expiry().map(|at| at.saturating_duration_since(self.now));
        if self.starved.is_empty() {
            return due;
        }
        // Memory given back here was looked for already; what other workers give back wakes nobody.
        Some(due.map_or(STARVED_RETRY, |due| due.min(STARVED_RETRY)))
    }

    fn dispatch(&mut self, event: &Event) {
        let token = Token::from(event.token());
        let readiness = readiness(event);
        match token.kind() {
            Kind::Worker if token.leg() == INBOX_LEG => self.serve_inbox(),
            Kind::Worker => {
                if let Some(listener) = self.listeners.get_mut(token.leg().wrapping_sub(LISTENER_LEG)) {
                    listener.ready = true;
                }
            }
            Kind::Session => {
                let leg = session_leg(token);
                self.with_session(token, |session, cx| session.on_ready(leg, readiness, cx));
                self.shed_openings();
            }
            Kind::Dial | Kind::Resolve => {
                let (dialer, mut cx) = self.dial_context();
                dialer.on_event(token, &mut cx);
            }
        }
    }

    fn on_timer(&mut self, token: Token) {
        match token.kind() {
            Kind::Worker if token.leg() == ACCEPT_LEG => {
                if self.accept_alarm.fired(self.now) {
                    self.resume_accepting();
                }
            }
            Kind::Worker if token.leg() == SHRINK_LEG => {
                if self.shrink_alarm.fired(self.now) {
                    self.pool.shrink();
                }
            }
            Kind::Worker if token.leg() == SWEEP_LEG => self.sweep_global_ids(),
            Kind::Worker => {
                self.drain_alarm.fired(self.now);
            }
            Kind::Session => {
                let now = self.now;
                let Some(slot) = self.slot(token) else { return };
                if !slot.alarm.fired(now) {
                    return;
                }
                if slot.later.take_if(|at| *at <= now).is_some() {
                    self.with_session(token, Session::advance);
                }
                if self.slot(token).is_some() {
                    self.with_session(token, Session::on_timeout);
                }
            }
            Kind::Dial | Kind::Resolve => {
                let (dialer, mut cx) = self.dial_context();
                dialer.on_timer(token, &mut cx);
            }
        }
    }

    /// The slot that `token` names, unless it was taken by somebody else since.
    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        self.sessions.get_mut(token.index()).filter(|slot| slot.generation == token.generation())
    }

    /// Calls a session and does what it answers.
    fn with_session(&mut self, token: Token, call: impl FnOnce(&mut Session, &mut Context<'_>) -> Next) {
        let slot = self.sessions.get_mut(token.index()).filter(|slot| slot.generation == token.generation());
        let Some(slot) = slot else {
            self.counters.stale_events.add(1);
            return;
        };
        let mut cx = Context {
            means: Means {
                now: self.now,
                scratch: &mut self.scratch,
                pool: &self.pool,
                pipes: self.pipes.as_ref(),
                random: &mut self.random,
            },
            counters: &self.counters,
            settings: &self.rules.session,
            mux_sockets: &self.shared.mux_sockets,
            worker: self.number,
            allowance: Allowance::default(),
            wishes: mem::take(&mut self.wish_list),
        };
        let next = call(&mut slot.session, &mut cx);
        let more_at = cx.allowance.more_at();
        self.wish_list = cx.wishes;
        self.wishes.extend(self.wish_list.drain(..).map(|wish| (token.with_leg(CLIENT_LEG), wish)));
        if next == Next::Close {
            self.close(token.index());
            return;
        }
        if next == Next::Again && !mem::replace(&mut slot.queued, true) {
            self.again.push_back(token.with_leg(CLIENT_LEG));
        }
        if next == Next::Starved && !mem::replace(&mut slot.starved, true) {
            self.counters.buffer_waits.add(1);
            self.starved.push_back(token.with_leg(CLIENT_LEG));
            self.starved_sessions += 1;
        }
        // Whoever waits for memory with one direction may have to wait for its limit with the other.
        slot.later = match next {
            Next::Later(at) => Some(at),
            Next::Starved => more_at,
            _ => slot.later,
        };
        let deadline = slot.session.deadline(&self.rules.session);
        if let Some(at) = deadline.into_iter().chain(slot.later).min() {
            slot.alarm.arm(at, token.with_leg(CLIENT_LEG), &mut self.timers, self.now);
        }
    }

    fn dial_context(&mut self) -> (&mut Dialer, DialContext<'_>) {
        let cx = DialContext {
            registry: self.poll.registry(),
            timers: &mut self.timers,
            now: self.now,
            counters: &self.counters,
        };
        (&mut self.dialer, cx)
    }

    /// One more turn for everybody who was queued before this; those who want yet another wait for the next poll.
    fn serve_again(&mut self) {
        for _ in 0..self.again.len() {
            let Some(token) = self.again.pop_front() else { return };
            if let Some(slot) = self.slot(token) {
                slot.queued = false;
                self.with_session(token, Session::advance);
                self.shed_openings();
            }
        }
    }

    fn serve_inbox(&mut self) {
        while let Some(request) = self.inbox.take() {
            match request {
                Request::Drain(timeout) => {
                    let deadline = self.now + timeout;
                    self.dialer.close_pool(&self.counters);
                    self.drain_deadline = Some(deadline);
                    self.drain_alarm.arm(deadline, worker_token(DRAIN_LEG), &mut self.timers, self.now);
                    for listener in &mut self.listeners {
                        listener.ready = true;
                    }
                }
                Request::LoseUdp(token, id) => self.lose_udp(token, id),
                Request::GiveUpSpares => {
                    self.dialer.give_up_spares(&self.counters);
                }
                Request::Stop => self.stopped = true,
            }
        }
    }

    fn cut(&mut self, index: usize, reason: CloseReason) {
        let Some(slot) = self.sessions.get(index) else { return };
        let token = Token::new(Kind::Session, slot.generation, index, CLIENT_LEG);
        self.with_session(token, |session, cx| session.cut(reason, cx));
    }

    /// Drops a session that asked for it; closing its sockets takes them out of the poll.
    fn close(&mut self, index: usize) {
        let Some(slot) = self.sessions.try_remove(index) else { return };
        let (dialer, mut cx) = self.dial_context();
        for (_, dial) in &slot.dials {
            dialer.cancel(*dial, &mut cx);
        }
        let record = slot.session.record(self.now);
        if slot.has_target {
            self.counters.targets_connected.sub(1);
        }
        self.starved_sessions -= usize::from(slot.starved);
        drop(slot);
        self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
        self.counters.sessions_active.sub(1);
        self.counters.count_close(record.reason.index());
        self.rules.observer.on_closed(record);
        // A descriptor is free again: no need to wait out the pause.
        self.accept_paused = false;
    }

    fn publish(&self) {
        self.counters.buffers_held.set(self.pool.held() as u64);
        self.counters.buffer_bytes_held.set(self.pool.held_bytes() as u64);
        self.counters.sessions_awaiting_buffer.set(self.starved_sessions as u64);
        for (counters, usage) in self.counters.buffer_tiers.iter().zip(self.pool.usage()) {
            counters.lent.set(usage.lent);
            counters.lent_peak.set(usage.lent_peak);
            counters.hits.set(usage.hits);
            counters.misses.set(usage.misses);
            counters.returned.set(usage.returned);
            counters.kept.set(usage.kept);
        }
        self.counters.pipes_held.set(self.pipes.as_ref().map_or(0, PipePool::in_use) as u64);
    }

    fn stop_when_drained(&mut self) {
        let Some(deadline) = self.drain_deadline else { return };
        // A listener goes once its queue was found empty, so that nobody whom the kernel has accepted is reset.
        self.listeners.retain(|listener| listener.ready && self.now < deadline);
        if self.now >= deadline || (self.listeners.is_empty() && self.sessions.is_empty()) {
            self.stopped = true;
        }
    }
}

fn worker_token(leg: usize) -> Token {
    Token::new(Kind::Worker, 0, 0, leg)
}

fn session_leg(token: Token) -> Leg {
    match token.leg() {
        CLIENT_LEG => Leg::Client,
        TARGET_LEG => Leg::Target,
        sub => Leg::Sub((sub - SUB_LEG) as u16),
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
