//! From a target to a connected socket: look-up, destination policy, happy eyeballs, one deadline over all of it.
//!
//! The [`Dialer`] belongs to one worker and never blocks. It owns the resolver and all connects under way; it knows no
//! session, only the token of whom to answer. The reactor hands it the events and wake-ups of [`Kind::Dial`] and
//! [`Kind::Resolve`] and then takes what has finished.
//!
//! Invariants: an address is connected to only in `Dialer::attempt`, behind the policy's check, or by the connection
//! pool, which knows addresses from there. Every dial ends exactly once, in [`Finished`], [`Resolved`] or by
//! [`Dialer::cancel`]. A dial holds at most four sockets and ends at its deadline, so the number of dials is bounded by
//! what sessions may ask for at a time.

pub mod error;
pub mod race;
mod report;
mod routes;
mod shortage;
mod socket;
mod spares;

pub use self::error::DialError;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry};
use slab::Slab;

use self::race::{Race, Step};
use self::report::RefusalReport;
use self::routes::Routes;
use self::socket::Progress;
use super::connection_pool::{ConnectionPool, SPARE_LEG, TICK_LEG};
use super::policy::{self, DestinationPolicy};
use super::resolve::lookups::{Answered, Asked};
use super::resolve::{Answer, Family, ResolveError, Resolver, ResolverSettings};
use crate::io::alarm::Alarm;
use crate::io::sockopt::{SocketOptions, is_shortage};
use crate::io::timer::TimerWheel;
use crate::io::token::{Kind, Token, next_generation};
use crate::session::{Host, Target};
use crate::stats::Counters;

/// Which family is dialled first when a name has both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// IPv6 where the host has a route to the IPv6 internet, and a family without a route is not asked for at all.
    #[default]
    Auto,
    /// IPv4, with IPv6 as the fallback.
    Ipv4,
    /// IPv6, with IPv4 as the fallback.
    Ipv6,
}

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialSettings {
    /// For look-up and connect together.
    pub connect_timeout: Duration,
    pub prefer: Prefer,
    /// Source address; only its family is dialled.
    pub bind: Option<IpAddr>,
    pub policy: Arc<DestinationPolicy>,
    pub resolver: ResolverSettings,
    pub options: SocketOptions,
}

/// What the dialer needs from its reactor in every call.
pub struct DialContext<'a> {
    pub registry: &'a Registry,
    pub timers: &'a mut TimerWheel<Token>,
    pub now: Instant,
    pub counters: &'a Counters,
}

/// Names one dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialId(Token);

/// The end of a dial that was not cancelled.
#[derive(Debug)]
pub struct Finished {
    /// As given to [`Dialer::dial`].
    pub owner: Token,
    pub dial: DialId,
    pub result: Result<Dialed, DialError>,
}

/// The end of a look-up asked for by [`Dialer::resolve`] that was not cancelled.
#[derive(Debug)]
pub struct Resolved {
    /// As given to [`Dialer::resolve`].
    pub owner: Token,
    pub dial: DialId,
    pub target: Target,
    /// The address to use first, which the policy permits.
    pub result: Result<SocketAddr, DialError>,
}

/// A connected socket.
#[derive(Debug)]
pub struct Dialed {
    /// Non-blocking and still registered, for both interests, under the dial's token: the new owner registers it again.
    pub socket: TcpStream,
    pub peer: SocketAddr,
    /// From the call of [`Dialer::dial`], look-up included.
    pub connect_time: Duration,
    /// It was connected before anybody asked for it, and nothing went through it since.
    pub is_spare: bool,
}

/// All dials of one worker.
pub struct Dialer {
    settings: DialSettings,
    resolver: Resolver,
    dials: Slab<Dial>,
    generation: u32,
    finished: VecDeque<Finished>,
    resolved: VecDeque<Resolved>,
    routes: Routes,
    refusals: RefusalReport,
    pool: ConnectionPool<TcpStream>,
    pool_alarm: Alarm,
    is_short: bool,
}

struct Dial {
    owner: Token,
    target: Target,
    purpose: Purpose,
    generation: u32,
    started: Instant,
    deadline: Instant,
    alarm: Alarm,
    race: Race,
    /// Look-ups whose answers are still missing.
    lookups: Vec<(Family, Token)>,
    attempts: Vec<Attempt>,
    next_leg: usize,
    failure: Option<DialError>,
    /// The policy let an address pass, so that the pool was asked.
    reached_address: bool,
}

/// What a dial is to end with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A connected socket.
    Connect,
    /// An address that may be sent to.
    Address,
}

struct Attempt {
    leg: usize,
    socket: TcpStream,
    address: SocketAddr,
    started: Instant,
}

impl Dialer {
    /// Opens nothing yet.
    pub fn new(settings: DialSettings) -> Self {
        Self {
            resolver: Resolver::new(settings.resolver.clone()),
            settings,
            dials: Slab::new(),
            generation: 0,
            finished: VecDeque::new(),
            resolved: VecDeque::new(),
            routes: Routes::default(),
            refusals: RefusalReport::default(),
            pool: ConnectionPool::new(None),
            pool_alarm: Alarm::default(),
            is_short: false,
        }
    }

    /// Starts to dial `target`. The outcome comes out of [`Dialer::take_finished`], maybe already after this call, with
    /// `owner` beside it.
    pub fn dial(&mut self, owner: Token, target: &Target, cx: &mut DialContext<'_>) -> DialId {
        cx.counters.dials_started.add(1);
        self.start(owner, target, Purpose::Connect, cx)
    }

    /// Looks up an address of `target` that may be sent to, without connecting: of the preferred family if there is one.
    /// The outcome comes out of [`Dialer::take_resolved`], maybe already after this call.
    pub fn resolve(&mut self, owner: Token, target: &Target, cx: &mut DialContext<'_>) -> DialId {
        self.start(owner, target, Purpose::Address, cx)
    }

    fn start(&mut self, owner: Token, target: &Target, purpose: Purpose, cx: &mut DialContext<'_>) -> DialId {
        self.generation = next_generation(self.generation);
        let families = self.families(cx.now);
        let preferred = families.first().copied().unwrap_or(Family::V4);
        let index = self.dials.insert(Dial {
            owner,
            target: target.clone(),
            purpose,
            generation: self.generation,
            started: cx.now,
            deadline: cx.now + self.settings.connect_timeout,
            alarm: Alarm::default(),
            race: Race::new(preferred),
            lookups: Vec::new(),
            attempts: Vec::new(),
            next_leg: 1,
            failure: None,
            reached_address: false,
        });
        let token = Token::new(Kind::Dial, self.generation, index, 0);
        match &target.host {
            Host::Ip(ip) => self.on_address(token, *ip, cx.now),
            Host::Name(name) => self.look_up(token, name, families, cx),
        }
        self.drive(token, cx);
        self.deliver_answers(cx);
        DialId(token)
    }

    /// Gives up a dial: its attempts are closed, its look-ups go on for the cache. A dial that has finished but was not
    /// taken yet is dropped with its socket.
    pub fn cancel(&mut self, id: DialId, cx: &mut DialContext<'_>) {
        if let Some(dial) = self.remove(id.0) {
            if dial.purpose == Purpose::Connect {
                cx.counters.dials_cancelled.add(1);
                self.count_miss(&dial, cx);
            }
        } else {
            self.finished.retain(|finished| finished.dial != id);
            self.resolved.retain(|resolved| resolved.dial != id);
        }
    }

    /// A socket of a dial or a look-up is ready. Which readiness does not matter: the socket itself says what happened.
    pub fn on_event(&mut self, token: Token, cx: &mut DialContext<'_>) {
        match token.kind() {
            Kind::Resolve => self.resolver.on_event(token, cx),
            Kind::Dial if token.leg() == SPARE_LEG => self.on_spare_event(token, cx),
            Kind::Dial => self.on_attempt_event(token, cx),
            Kind::Worker | Kind::Session => {}
        }
        self.deliver_answers(cx);
    }

    /// A wake-up of a dial or a look-up came out of the wheel, maybe too early or for one that is gone.
    /// `cx.now` must not be earlier than the instant the wheel was asked to expire at: a wake-up that seems to come too
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

    /// The next outcome; to be taken until there is none after every other call.
    pub fn take_finished(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    /// The next outcome of a look-up; to be taken like those of dials.
    pub fn take_resolved(&mut self) -> Option<Resolved> {
        self.resolved.pop_front()
    }

    /// The rules that dials obey, for those who reach targets in another way.
    pub fn policy(&self) -> &DestinationPolicy {
        &self.settings.policy
    }

    /// Dials under way.
    pub fn under_way(&self) -> usize {
        self.dials.len()
    }

    /// Look-ups under way, those that nobody waits for any more included.
    pub fn look_ups_under_way(&self) -> usize {
        self.resolver.under_way()
    }

    /// The families to look up, the preferred one first.
    fn families(&mut self, now: Instant) -> &'static [Family] {
        match (self.settings.bind, self.settings.prefer) {
            (Some(IpAddr::V4(_)), _) => &[Family::V4],
            (Some(IpAddr::V6(_)), _) => &[Family::V6],
            (None, Prefer::Ipv4) => &[Family::V4, Family::V6],
            (None, Prefer::Ipv6) => &[Family::V6, Family::V4],
            (None, Prefer::Auto) => self.routes.families(now),
        }
    }

    fn look_up(&mut self, token: Token, name: &str, families: &[Family], cx: &mut DialContext<'_>) {
        for &family in families {
            let Some(dial) = self.find(token) else { return };
            dial.race.expect(family);
            self.ask(token, name, family, cx);
        }
    }

    fn ask(&mut self, token: Token, name: &str, family: Family, cx: &mut DialContext<'_>) {
        match self.resolver.ask(name, family, token, cx) {
            Asked::Ready(answer) => self.on_answer(token, family, answer, cx.now),
            Asked::Waiting(lookup) => {
                if let Some(dial) = self.find(token) {
                    dial.lookups.push((family, lookup));
                }
            }
        }
    }

    /// Passes on what the resolver found, which may start and end dials, and asks again where only a descriptor lacked
    /// and spares gave way.
    fn deliver_answers(&mut self, cx: &mut DialContext<'_>) {
        let mut room = 0;
        while let Some(Answered { waiter, family, answer }) = self.resolver.next_answer() {
            let Some(dial) = self.find(waiter) else { continue };
            dial.lookups.retain(|(awaited, _)| *awaited != family);
            if answer == Err(ResolveError::NoDescriptors) && self.has_room(&mut room, cx) {
                self.ask_again(waiter, family, cx);
            } else {
                self.on_answer(waiter, family, answer, cx.now);
            }
            self.drive(waiter, cx);
        }
    }

    fn on_answer(&mut self, token: Token, family: Family, answer: Answer, now: Instant) {
        let dial = self.dials.get_mut(token.index()).filter(|dial| dial.generation == token.generation());
        let Some(dial) = dial else { return };
        match answer {
            Ok(addresses) => {
                let mut addresses = addresses.to_vec();
                self.pool.order(&mut addresses, dial.target.port, now);
                dial.race.on_addresses(family, &addresses, now);
            }
            Err(error) => {
                dial.note(error.into());
                dial.race.on_addresses(family, &[], now);
            }
        }
    }

    /// A look-up had no descriptor, and now there are some.
    fn ask_again(&mut self, token: Token, family: Family, cx: &mut DialContext<'_>) {
        let Some(dial) = self.find(token) else { return };
        if let Host::Name(name) = dial.target.host.clone() {
            self.ask(token, &name, family, cx);
        }
    }

    /// The target is an address already.
    fn on_address(&mut self, token: Token, ip: IpAddr, now: Instant) {
        let bind = self.settings.bind;
        let Some(dial) = self.find(token) else { return };
        let ip = ip.to_canonical();
        if bind.is_some_and(|source| source.is_ipv4() != ip.is_ipv4()) {
            return dial.note(DialError::Unreachable);
        }
        let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
        dial.race.on_addresses(family, &[ip], now);
    }

    fn drive(&mut self, token: Token, cx: &mut DialContext<'_>) {
        loop {
            self.choose_family(token, cx.now);
            let Some(dial) = self.find(token) else { return };
            match dial.race.next(cx.now) {
                Step::Attempt(ip) => self.attempt(token, ip, cx),
                Step::Wait(at) => {
                    let wake_at = at.map_or(dial.deadline, |at| at.min(dial.deadline));
                    return dial.alarm.arm(wake_at, token, cx.timers, cx.now);
                }
                Step::Exhausted => {
                    let failure = dial.failure.unwrap_or(DialError::NoAddress);
                    return self.finish(token, Err(failure), cx);
                }
            }
        }
    }

    /// The only place from which a target is connected to.
    fn attempt(&mut self, token: Token, ip: IpAddr, cx: &mut DialContext<'_>) {
        let policy = Arc::clone(&self.settings.policy);
        let Some(dial) = self.find(token) else { return };
        let address = policy::canonical(SocketAddr::new(ip, dial.target.port));
        // The operator's own targets are nobody's wish; clients are judged when they ask for one.
        if let Err(refusal) = policy.check(address).or_else(|refusal| spares::pardon(dial.owner, refusal)) {
            log::debug!("target {}: {address} refused by policy: {refusal}", dial.target);
            dial.note(DialError::RefusedByPolicy(refusal));
            return dial.race.on_attempt_forbidden(cx.now);
        }
        if dial.purpose == Purpose::Address {
            return self.finish_resolved(token, Ok(address), cx);
        }
        dial.reached_address = true;
        let (owner, started) = (dial.owner, dial.started);
        if let Some(spare) = self.take_spare(owner, address, started, cx) {
            return self.finish(token, Ok(spare), cx);
        }
        let Some(dial) = self.find(token) else { return };
        cx.counters.dial_attempts.add(1);
        let leg = dial.next_leg;
        dial.next_leg += 1;
        match self.connect(address, token.with_leg(leg), cx) {
            Ok(socket) => {
                let Some(dial) = self.find(token) else { return };
                dial.attempts.push(Attempt { leg, socket, address, started: cx.now });
            }
            Err(error) => self.on_attempt_error(token, address, &error, cx),
        }
    }

    /// Begins to connect, and has others give way where descriptors have run out.
    fn connect(&mut self, address: SocketAddr, token: Token, cx: &DialContext<'_>) -> io::Result<TcpStream> {
        let (bind, options) = (self.settings.bind, self.settings.options);
        loop {
            let connected = socket::connect(address, bind, options).and_then(|mut socket| {
                let interests = Interest::READABLE | Interest::WRITABLE;
                cx.registry.register(&mut socket, token.into(), interests).map(|()| socket)
            });
            match connected {
                Err(error) if is_shortage(&error) && self.make_room(cx.counters) => {}
                connected => return connected,
            }
        }
    }

    fn on_attempt_event(&mut self, token: Token, cx: &mut DialContext<'_>) {
        let Some(dial) = self.find(token) else { return };
        let Some(place) = dial.attempts.iter().position(|attempt| attempt.leg == token.leg()) else { return };
        match socket::progress(&dial.attempts[place].socket) {
            Progress::Pending => {}
            Progress::Connected(peer) => {
                let Attempt { socket, address, started, .. } = dial.attempts.swap_remove(place);
                let connect_time = cx.now.saturating_duration_since(dial.started);
                let owner = dial.owner;
                self.on_connected(owner, address, cx.now.saturating_duration_since(started), cx);
                self.finish(token, Ok(Dialed { socket, peer, connect_time, is_spare: false }), cx);
            }
            Progress::Failed(error) => {
                let address = dial.attempts.swap_remove(place).address;
                self.on_attempt_error(token, address, &error, cx);
                self.drive(token.with_leg(0), cx);
            }
        }
    }

    fn on_attempt_error(&mut self, token: Token, address: SocketAddr, error: &io::Error, cx: &mut DialContext<'_>) {
        let error = DialError::from(error);
        if error != DialError::NoDescriptors {
            self.pool.on_failed(address, cx.now);
        }
        let Some(dial) = self.find(token) else { return };
        dial.note(error);
        dial.race.on_attempt_failed(cx.now);
        // No other address would fare better; attempts under way keep their chance.
        if error == DialError::NoDescriptors && dial.attempts.is_empty() {
            self.finish(token, Err(error), cx);
        }
    }

    fn on_wake_up(&mut self, token: Token, cx: &mut DialContext<'_>) {
        let Some(dial) = self.find(token) else { return };
        if !dial.alarm.fired(cx.now) {
            return;
        }
        if cx.now < dial.deadline {
            return self.drive(token, cx);
        }
        // Without an open attempt only a look-up can have been waited for.
        dial.note(DialError::DnsTimeout);
        let failure = if dial.attempts.is_empty() { dial.failure } else { Some(DialError::TimedOut) };
        for attempt in std::mem::take(&mut dial.attempts) {
            self.pool.on_failed(attempt.address, cx.now);
        }
        self.finish(token, Err(failure.unwrap_or(DialError::TimedOut)), cx);
    }

    fn finish(&mut self, token: Token, result: Result<Dialed, DialError>, cx: &mut DialContext<'_>) {
        if self.find(token).is_some_and(|dial| dial.purpose == Purpose::Address) {
            // A look-up connects to nothing, so it can only have failed.
            return self.finish_resolved(token, Err(result.err().unwrap_or(DialError::NoAddress)), cx);
        }
        let Some(dial) = self.remove(token) else { return };
        if result.is_ok() {
            self.note_overtaken(&dial, cx.now);
        }
        if spares::is_warm_up(dial.owner) {
            return self.finish_warm_up(&dial.target, result, cx);
        }
        if !matches!(&result, Ok(dialed) if dialed.is_spare) {
            self.count_miss(&dial, cx);
        }
        match &result {
            Ok(_) => cx.counters.dials_connected.add(1),
            Err(error) => error.count(cx.counters),
        }
        if let Err(DialError::RefusedByPolicy(refusal)) = result {
            self.refusals.on_refusal(refusal, cx.now);
        }
        self.finished.push_back(Finished { owner: dial.owner, dial: DialId(token.with_leg(0)), result });
    }

    /// An address that was given its time and let another overtake it is not to cost the next dial that time again.
    fn note_overtaken(&mut self, dial: &Dial, now: Instant) {
        let had_its_time = |started| now.saturating_duration_since(started) >= race::ATTEMPT_DELAY;
        for attempt in dial.attempts.iter().filter(|attempt| had_its_time(attempt.started)) {
            self.pool.on_failed(attempt.address, now);
        }
    }

    fn finish_resolved(&mut self, token: Token, result: Result<SocketAddr, DialError>, cx: &mut DialContext<'_>) {
        let Some(dial) = self.remove(token) else { return };
        if let Err(DialError::RefusedByPolicy(refusal)) = result {
            self.refusals.on_refusal(refusal, cx.now);
        }
        let dial_id = DialId(token.with_leg(0));
        self.resolved.push_back(Resolved { owner: dial.owner, dial: dial_id, target: dial.target, result });
    }

    fn find(&mut self, token: Token) -> Option<&mut Dial> {
        self.dials.get_mut(token.index()).filter(|dial| dial.generation == token.generation())
    }

    /// Takes a dial out and leaves its look-ups.
    fn remove(&mut self, token: Token) -> Option<Dial> {
        self.find(token)?;
        let dial = self.dials.try_remove(token.index())?;
        for (_, lookup) in &dial.lookups {
            self.resolver.leave(*lookup, token.with_leg(0));
        }
        Some(dial)
    }
}

impl Dial {
    /// Remembers why something failed; of several reasons the most telling one stays, among equals the first.
    fn note(&mut self, error: DialError) {
        if self.failure.is_none_or(|known| known.weight() < error.weight()) {
            self.failure = Some(error);
        }
    }
}
