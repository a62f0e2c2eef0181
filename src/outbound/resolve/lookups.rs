//! All look-ups of one worker: what is known already, who waits for what, and which servers to ask first.
//!
//! It has no sockets and no clock. The shell in the parent module carries out the [`Action`]s and reports what happens.
//! Equal questions share one look-up. Everything is bounded by [`Limits`]. Beyond them the answer is "busy".

mod owners;
mod waiters;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::owners::Owners;
use self::waiters::{Waiters, Waiting};
use super::cache::{self, Cache};
use super::hosts::Hosts;
use super::message::{Content, is_askable};
use super::query::{Ask, Plan, Query, Step, Transport, Verdict};
use super::quirks::Quirks;
use super::{Answer, Family, Question, ResolveError, normalized};
use crate::io::random::Random;
use crate::io::roster::Roster;
use crate::io::token::{Kind, Token};
use crate::stats::Counters;

/// How long a server that kept silent while another one answered is asked last.
pub const SILENT_SERVER_PENALTY: Duration = Duration::from_secs(30);

/// How much may be under way and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions under way. Each holds up to two sockets.
    pub lookups_max: usize,
    /// Those who wait for an answer, over all look-ups. A client that has few is let in beyond that, up to twice as many.
    pub waiters_max: usize,
    /// Answers kept.
    pub cache_entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lookups_max: 512, waiters_max: 16_384, cache_entries_max: 4096 }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Who gets the answer.
    pub waiter: Token,
    /// Whose the question is: a client's may be many waiters.
    pub owner: Token,
}

/// The outcome of [`Lookups::ask`].
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Ready(Answer),
    /// The answer comes out of [`Lookups::next_answer`]. The token names the look-up.
    Waiting(Token),
}

/// Something for the shell to do. The token names the look-up, leg 0.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Ask(Token, Ask),
    /// Call [`Lookups::on_timer`] at this instant.
    WakeAt(Token, Instant),
    /// Close the socket of this try.
    CloseTry(Token, usize),
    /// Close all its sockets. It is over.
    Close(Token),
}

/// An answer for one who waited.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    pub waiter: Token,
    pub family: Family,
    pub answer: Answer,
}

/// The look-ups of one worker.
pub struct Lookups {
    plan: Plan,
    limits: Limits,
    hosts: Arc<Hosts>,
    cache: Cache,
    under_way: Roster<Lookup>,
    by_question: HashMap<Question, Token>,
    owners: Owners,
    waiting: Waiting,
    penalties: Vec<(SocketAddr, Instant)>,
    quirks: Quirks,
    random: Random,
    actions: VecDeque<Action>,
    answers: VecDeque<Answered>,
}

struct Lookup {
    query: Query,
    waiters: Waiters,
    /// Whose it is; `None`: nobody's who waits any more.
    owner: Option<Token>,
}

impl Lookups {
    /// Nothing known yet.
    pub fn new(plan: Plan, hosts: Arc<Hosts>, limits: Limits) -> Self {
        Self {
            plan,
            limits,
            hosts,
            cache: Cache::new(limits.cache_entries_max),
            under_way: Roster::new(Kind::Resolve),
            by_question: HashMap::new(),
            owners: Owners::default(),
            waiting: Waiting::default(),
            penalties: Vec::new(),
            quirks: Quirks::default(),
            random: Random::new(),
            actions: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// Asks for the addresses of `name` in one family.
    pub fn ask(&mut self, name: &str, family: Family, asker: Asker, now: Instant, counters: &Counters) -> Asked {
        counters.dns_lookups.add(1);
        let question = Question::new(name, family);
        if let Some(answer) = self.known(&question, now, counters) {
            return Asked::Ready(answer);
        }
        if !is_askable(&question.name) {
            return Asked::Ready(Err(ResolveError::NoSuchName));
        }
        let shared = self.by_question.get(&question).copied();
        if !self.waiting.has_room(asker.owner, self.limits.waiters_max) {
            counters.dns_refused_busy.add(1);
            return Asked::Ready(Err(ResolveError::Busy));
        }
        if shared.is_none() && self.under_way.len() >= self.limits.lookups_max {
            self.make_room(now, counters);
        }
        let id = if shared.is_some() {
            counters.dns_coalesced.add(1);
            shared
        } else {
            self.start(question, asker.owner, now, counters)
        };
        let Some(id) = id else { return Asked::Ready(Err(ResolveError::Busy)) };
        let Some(lookup) = self.under_way.get_mut(id) else {
            return Asked::Ready(Err(ResolveError::ServerFailure));
        };
        if lookup.waiters.join(asker) {
            self.waiting.add(asker.owner);
        }
        if lookup.owner.is_none() {
            lookup.owner = Some(asker.owner);
            self.owners.remove(None, id);
            self.owners.add(Some(asker.owner), id);
        }
        Asked::Waiting(id)
    }

    /// `waiter` does not want the answer any more. The look-up goes on, for the cache.
    pub fn leave(&mut self, id: Token, waiter: Token) {
        let Some(lookup) = self.under_way.get_mut(id) else { return };
        let Some(owner) = lookup.waiters.leave(waiter) else { return };
        self.waiting.remove(owner);
        if lookup.waiters.is_empty() {
            self.owners.remove(lookup.owner.take(), id);
            self.owners.add(None, id);
        }
    }

    /// A whole message came in for try `try_number` of a look-up.
    pub fn on_message(&mut self, id: Token, try_number: usize, message: &[u8], now: Instant, counters: &Counters) {
        let Some(lookup) = self.under_way.get_mut(id) else { return };
        match lookup.query.on_message(try_number, message, now) {
            Verdict::Taken | Verdict::Misunderstood => {}
            Verdict::Truncated => counters.dns_truncated.add(1),
            Verdict::NotOurs => counters.dns_bad_answers.add(1),
        }
        if !lookup.query.is_open(try_number) {
            self.actions.push_back(Action::CloseTry(id, try_number));
        }
        self.poll(id, now, counters);
    }

    /// The socket of try `try_number` failed.
    pub fn on_error(&mut self, id: Token, try_number: usize, error: ResolveError, now: Instant, counters: &Counters) {
        let Some(lookup) = self.under_way.get_mut(id) else { return };
        lookup.query.on_error(try_number, error, now);
        self.poll(id, now, counters);
    }

    /// The instant of a [`Action::WakeAt`] has come. A call too early or too late does no harm.
    pub fn on_timer(&mut self, id: Token, now: Instant, counters: &Counters) {
        self.poll(id, now, counters);
    }

    /// What the shell has to do next. It takes these until nothing is left, after every other call.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next answer for one who waited.
    pub fn next_answer(&mut self) -> Option<Answered> {
        self.answers.pop_front()
    }

    /// Replaces the servers. Look-ups under way keep the old ones.
    pub fn set_servers(&mut self, servers: Vec<SocketAddr>, attempts: u32, transport: Transport) {
        self.plan = Plan { servers, attempts, transport, timeout: self.plan.timeout };
        self.penalties.clear();
        self.quirks = Quirks::default();
    }

    /// Changes what a look-up may take, for those that begin.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.plan.timeout = timeout;
    }

    /// Changes the limits. What is under way beyond them goes on. Answers beyond them are forgotten.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.cache.set_entries_max(limits.cache_entries_max);
    }

    /// Replaces what the hosts file says.
    pub fn set_hosts(&mut self, hosts: Arc<Hosts>) {
        self.hosts = hosts;
    }

    /// Forgets all answers.
    pub fn clear_cache(&mut self) {
        self.cache.clear();
    }

    /// Look-ups under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    fn known(&self, question: &Question, now: Instant, counters: &Counters) -> Option<Answer> {
        if let Some(answer) = loopback_name(question) {
            return Some(answer);
        }
        if let Some(answer) = self.hosts.find(&question.name, question.family) {
            return Some(answer);
        }
        let answer = self.cache.find(question, now)?.clone();
        counters.dns_cache_hits.add(1);
        Some(answer)
    }

    /// Begins a look-up, which may have ended when this returns. `None`: no token is left for it.
    fn start(&mut self, question: Question, owner: Token, now: Instant, counters: &Counters) -> Option<Token> {
        let plan = Plan { servers: self.servers_in_order(now), ..self.plan };
        let query = Query::new(question.clone(), plan, self.quirks.clone(), now);
        let id = self.under_way.insert(Lookup { query, waiters: Waiters::default(), owner: Some(owner) })?;
        self.owners.add(Some(owner), id);
        self.by_question.insert(question, id);
        self.poll(id, now, counters);
        Some(id)
    }

    /// Makes room for a look-up: one that nobody waits for ends, else the oldest of the client that has most. A server that
    /// answers does so within a fraction of the time that a silent one is waited for. So this strikes those who ask for
    /// names that nobody answers.
    fn make_room(&mut self, now: Instant, counters: &Counters) {
        if let Some(id) = self.owners.first_to_go() {
            counters.dns_refused_busy.add(1);
            self.finish(id, Err(ResolveError::Busy), now, counters);
        }
    }

    /// The configured order, with servers that lately kept silent at the end.
    fn servers_in_order(&mut self, now: Instant) -> Vec<SocketAddr> {
        self.penalties.retain(|(_, until)| now < *until);
        let mut servers = self.plan.servers.clone();
        servers.sort_by_key(|server| self.penalties.iter().any(|(silent, _)| silent == server));
        servers
    }

    fn poll(&mut self, id: Token, now: Instant, counters: &Counters) {
        loop {
            let Some(lookup) = self.under_way.get_mut(id) else { return };
            match lookup.query.poll(now, &mut self.random) {
                Step::Ask(ask) => {
                    counters.dns_queries.add(1);
                    self.actions.push_back(Action::Ask(id, ask));
                }
                Step::Wait(at) => return self.actions.push_back(Action::WakeAt(id, at)),
                Step::Done(outcome) => return self.finish(id, outcome, now, counters),
            }
        }
    }

    fn finish(&mut self, id: Token, outcome: Result<Content, ResolveError>, now: Instant, counters: &Counters) {
        let Some(lookup) = self.under_way.remove(id) else { return };
        self.owners.remove(lookup.owner, id);
        let question = lookup.query.question().clone();
        self.by_question.remove(&question);
        self.judge_servers(&lookup.query, now);
        for &(server, lesson) in lookup.query.lessons() {
            self.quirks.learn(server, lesson, now);
        }
        if outcome == Err(ResolveError::Timeout) {
            counters.dns_timeouts.add(1);
        }
        let (answer, ttl) = answer_and_ttl(outcome);
        let family = question.family;
        if let Some(ttl) = ttl {
            self.cache.insert(question, answer.clone(), ttl, now);
        }
        let waiters = lookup.waiters.in_order();
        for Asker { waiter, owner } in waiters {
            self.waiting.remove(owner);
            self.answers.push_back(Answered { waiter, family, answer: answer.clone() });
        }
        self.actions.push_back(Action::Close(id));
    }

    fn judge_servers(&mut self, query: &Query, now: Instant) {
        let answered_by = query.answered_by();
        self.penalties.retain(|(server, _)| Some(*server) != answered_by);
        for server in query.silent_servers() {
            self.penalties.retain(|(other, _)| *other != server);
            // Servers of an earlier configuration are of no interest.
            if self.plan.servers.contains(&server) {
                self.penalties.push((server, now + SILENT_SERVER_PENALTY));
            }
        }
    }
}

/// The answer for those who wait, and how long to keep it.
fn answer_and_ttl(outcome: Result<Content, ResolveError>) -> (Answer, Option<Duration>) {
    match outcome {
        Ok(Content::Addresses { addresses, ttl_s }) => (Ok(Arc::from(addresses)), Some(cache::positive_ttl(ttl_s))),
        Ok(Content::NoAddress { ttl_s }) => (Err(ResolveError::NoAddress), Some(cache::negative_ttl(ttl_s))),
        Ok(Content::NoSuchName { ttl_s }) => (Err(ResolveError::NoSuchName), Some(cache::negative_ttl(ttl_s))),
        Ok(Content::ServerFailure) => (Err(ResolveError::ServerFailure), Some(cache::FAILURE_TTL)),
        // A shortage of ours says nothing about the name.
        Err(error @ (ResolveError::NoDescriptors | ResolveError::Busy)) => (Err(error), None),
        Err(error) => (Err(error), Some(cache::FAILURE_TTL)),
    }
}

/// Names that always mean this machine and are never asked for (RFC 6761 section 6.3).
fn loopback_name(question: &Question) -> Option<Answer> {
    let name = &*question.name;
    if name != "localhost" && !name.ends_with(".localhost") {
        return None;
    }
    let ip = match question.family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    Some(Ok(Arc::from([ip])))
}

impl Question {
    /// The question for `name`, whatever its case and with or without a dot at its end.
    pub fn new(name: &str, family: Family) -> Self {
        Self { name: Arc::from(normalized(name)), family }
    }
}

#[cfg(test)]
mod tests;
