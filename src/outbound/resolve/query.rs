//! One question on its way through the list of name servers: whom to ask when, and when to give up.
//!
//! It has no sockets and no clock. The owner calls [`Query::poll`] until it says to wait, opens the sockets that it
//! asks for, and reports what arrives. At most [`OPEN_TRIES_MAX`] tries are open at once. So an answer that comes after
//! the next server was asked is still welcome.
//!
//! - A silent server costs at most [`STEP_MAX`] before the next one is asked. One that fails or refuses costs nothing.
//! - Where an answer was cut, its server is asked again over TCP. That try keeps its place until it ends: the server
//!   did answer, and is not asked anything else meanwhile. Addresses that the cut answer held are used unless TCP
//!   answers soon.
//! - Over UDP the name is spelled at random, and the answer must repeat the spelling (known as 0x20). So whoever forges
//!   an answer must guess some more bits. A server that does not repeat the spelling, or does not understand EDNS, is
//!   asked again as it can answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Content, Form, Rejected, Reply, decode_reply, encode_query};
use super::quirks::{Lesson, Quirks};
use super::wire::Capitals;
use super::{Question, ResolveError};
use crate::io::random::Random;

/// Tries that may still be answered: the latest or one over TCP, and the one before.
pub const OPEN_TRIES_MAX: usize = 2;
/// Longest wait before the next server is asked.
pub const STEP_MAX: Duration = Duration::from_secs(1);
/// How long addresses at hand wait for the whole list.
pub const PARTIAL_PATIENCE: Duration = Duration::from_millis(300);
/// The most often that a question is sent to the servers in turn. What one answer makes us ask again does not count.
pub const TRIES_MAX: usize = 6;
/// The least often. With few servers the same one is asked again, because datagrams get lost.
pub const TRIES_MIN: usize = 3;
/// After so many datagrams that answer something else a try counts as failed. Somebody is guessing.
pub const BAD_ANSWERS_MAX: u32 = 16;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// With a length in two bytes before the message (RFC 1035 section 4.2.2).
    Tcp,
}

/// A wish to send `message` to `server` from a fresh socket.
#[derive(Debug, PartialEq, Eq)]
pub struct Ask {
    /// Counts from zero for each question. Replies and errors are reported with it.
    pub try_number: usize,
    pub server: SocketAddr,
    pub transport: Transport,
    pub message: Vec<u8>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Ask(Ask),
    /// Nothing until a message, an error or this instant.
    Wait(Instant),
    Done(Result<Content, ResolveError>),
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered the question, or was a failure of the server.
    Taken,
    /// It is cut short, and will be asked for over TCP.
    Truncated,
    /// The server cannot answer a question put like this. It will be put in another way.
    Misunderstood,
    /// It is no answer to the open query.
    NotOurs,
}

/// Whom to ask, in order, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At least one.
    pub servers: Vec<SocketAddr>,
    /// How often the list is gone through.
    pub attempts: u32,
    /// For the whole question.
    pub timeout: Duration,
    /// How the servers are asked at first.
    pub transport: Transport,
}

/// The state of one question.
#[derive(Debug)]
pub struct Query {
    question: Question,
    servers: Vec<SocketAddr>,
    transport: Transport,
    quirks: Quirks,
    /// What the owner has not learnt yet.
    lessons: Vec<(SocketAddr, Lesson)>,
    open: [Option<Try>; OPEN_TRIES_MAX],
    next_number: usize,
    /// How often the question was sent to the next server in turn, and how often that may be.
    sent: usize,
    sent_max: usize,
    step: Duration,
    next_try_at: Instant,
    deadline: Instant,
    /// To be asked again at the next poll.
    follow_up: Option<(SocketAddr, Transport)>,
    /// What a truncated answer held, for the case that nothing better comes until then.
    partial: Option<(Content, Instant)>,
    failure: ResolveError,
    /// Servers that failed at least once. When all have, and nobody is left to wait for, asking again is pointless.
    failed: Vec<SocketAddr>,
    answer: Option<Content>,
    answered_by: Option<SocketAddr>,
    silent: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Try {
    number: usize,
    server: SocketAddr,
    form: Form,
    transport: Transport,
    /// It repeats over TCP what was cut. No other try takes its place.
    keeps_place: bool,
    bad_answers: u32,
}

impl Query {
    /// A question that has not been asked yet. The name must be askable.
    pub fn new(question: Question, plan: Plan, quirks: Quirks, now: Instant) -> Self {
        let wanted = plan.servers.len() * plan.attempts as usize;
        let sent_max = wanted.clamp(TRIES_MIN, TRIES_MAX);
        Self {
            question,
            servers: plan.servers,
            transport: plan.transport,
            quirks,
            lessons: Vec::new(),
            open: [None, None],
            next_number: 0,
            sent: 0,
            sent_max,
            step: (plan.timeout / sent_max as u32).min(STEP_MAX),
            next_try_at: now,
            deadline: now + plan.timeout,
            follow_up: None,
            partial: None,
            failure: ResolveError::Timeout,
            failed: Vec::new(),
            answer: None,
            answered_by: None,
            silent: Vec::new(),
        }
    }

    /// What to do at `now`. The owner calls it until it answers [`Step::Wait`] or [`Step::Done`].
    pub fn poll(&mut self, now: Instant, random: &mut Random) -> Step {
        if let Some(answer) = self.answer.take() {
            return Step::Done(Ok(answer));
        }
        if now >= self.deadline {
            return self.give_up(ResolveError::Timeout);
        }
        let patience = self.partial.as_ref().map(|(_, until)| *until);
        if patience.is_some_and(|until| now >= until) {
            return self.give_up(ResolveError::Timeout);
        }
        if let Some((server, transport)) = self.follow_up.take() {
            return self.start_try(server, transport, now, random);
        }
        if self.servers.is_empty() {
            return self.give_up(ResolveError::ServerFailure);
        }
        let nobody_is_asked = self.open.iter().all(Option::is_none);
        let everybody_failed = self.servers.iter().all(|server| self.failed.contains(server));
        if nobody_is_asked && (everybody_failed || self.sent >= self.sent_max) {
            return self.give_up(self.failure);
        }
        let until = patience.map_or(self.deadline, |patience| patience.min(self.deadline));
        if let Some(server) = self.next_server() {
            if now < self.next_try_at {
                return Step::Wait(self.next_try_at.min(until));
            }
            self.note_silence();
            self.sent += 1;
            return self.start_try(server, self.transport, now, random);
        }
        Step::Wait(until)
    }

    /// A whole message came for try `try_number`.
    pub fn on_message(&mut self, try_number: usize, message: &[u8], now: Instant) -> Verdict {
        let Some(open) = find_try(&mut self.open, try_number) else { return Verdict::NotOurs };
        let (server, transport, form) = (open.server, open.transport, open.form);
        let reply = match decode_reply(message, form, &self.question) {
            Ok(reply) => reply,
            Err(Rejected::OtherSpelling) if transport == Transport::Udp => {
                return self.put_otherwise(try_number, Lesson::FoldsCase, now);
            }
            Err(_) => {
                open.bad_answers += 1;
                // Over TCP nobody else can have sent it.
                if open.bad_answers >= BAD_ANSWERS_MAX || transport == Transport::Tcp {
                    self.on_failure(try_number, ResolveError::ServerFailure, now);
                }
                return Verdict::NotOurs;
            }
        };
        if reply.refuses_form && form.edns {
            return self.put_otherwise(try_number, Lesson::RefusesEdns, now);
        }
        self.learn_about_edns(server, form, transport, now);
        match transport {
            Transport::Udp if reply.is_truncated => return self.on_truncated(try_number, reply, now),
            // What is cut over TCP was not sent whole.
            _ if reply.is_cut || reply.content == Content::ServerFailure => {
                self.on_failure(try_number, ResolveError::ServerFailure, now);
            }
            _ => {
                self.answer = Some(reply.content);
                self.answered_by = Some(server);
            }
        }
        Verdict::Taken
    }

    fn on_truncated(&mut self, try_number: usize, reply: Reply, now: Instant) -> Verdict {
        let Some(server) = find_try(&mut self.open, try_number).map(|open| open.server) else {
            return Verdict::NotOurs;
        };
        if matches!(reply.content, Content::Addresses { .. }) && self.partial.is_none() {
            self.partial = Some((reply.content, now + PARTIAL_PATIENCE));
        }
        self.close_try(try_number);
        // Of several datagrams that one server answered, one is asked for again.
        if !self.is_followed_up(server) {
            self.follow_up = Some((server, Transport::Tcp));
        }
        Verdict::Truncated
    }

    /// Asks the server again at once in another way, because it does not take questions put like this.
    fn put_otherwise(&mut self, try_number: usize, lesson: Lesson, now: Instant) -> Verdict {
        if let Some(open) = find_try(&mut self.open, try_number) {
            let (server, transport) = (open.server, open.transport);
            self.learn(server, lesson, now);
            self.close_try(try_number);
            self.follow_up = Some((server, transport));
        }
        Verdict::Misunderstood
    }

    fn learn_about_edns(&mut self, server: SocketAddr, form: Form, transport: Transport, now: Instant) {
        if form.edns {
            self.learn(server, Lesson::TakesEdns, now);
        } else if transport == Transport::Udp && self.silent.contains(&server) && self.quirks.takes_edns(server, now) {
            self.learn(server, Lesson::SilentOnEdns, now);
        }
    }

    fn learn(&mut self, server: SocketAddr, lesson: Lesson, now: Instant) {
        self.quirks.learn(server, lesson, now);
        self.lessons.push((server, lesson));
    }

    /// The socket of try `try_number` could not be opened or broke.
    pub fn on_error(&mut self, try_number: usize, error: ResolveError, now: Instant) {
        if let Some(open) = find_try(&mut self.open, try_number) {
            let server = open.server;
            // A shortage of ours is not the server's fault.
            if error != ResolveError::NoDescriptors {
                self.remember_silent(server);
            }
            self.on_failure(try_number, error, now);
        }
    }

    /// Whether a message for try `try_number` would still be read.
    pub fn is_open(&self, try_number: usize) -> bool {
        self.open[try_number % OPEN_TRIES_MAX].as_ref().is_some_and(|open| open.number == try_number)
    }

    /// Servers that did not answer although another one did.
    pub fn silent_servers(&self) -> impl Iterator<Item = SocketAddr> {
        let answered_by = self.answered_by;
        self.silent.iter().copied().filter(move |server| answered_by.is_some_and(|other| other != *server))
    }

    /// What answers taught about servers.
    pub fn lessons(&self) -> &[(SocketAddr, Lesson)] {
        &self.lessons
    }

    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The server that answered, once one has.
    pub fn answered_by(&self) -> Option<SocketAddr> {
        self.answered_by
    }

    /// The server to ask next, if there is any: the next in order that is not being asked over TCP what was cut.
    fn next_server(&self) -> Option<SocketAddr> {
        let has_room = self.open.iter().any(|open| !keeps_place(open.as_ref()));
        if !has_room || self.sent >= self.sent_max {
            return None;
        }
        let first = self.sent % self.servers.len().max(1);
        let in_order = self.servers.iter().cycle().skip(first).take(self.servers.len());
        in_order.copied().find(|server| !self.is_followed_up(*server))
    }

    fn is_followed_up(&self, server: SocketAddr) -> bool {
        self.open.iter().flatten().any(|open| open.keeps_place && open.server == server)
    }

    fn start_try(&mut self, server: SocketAddr, transport: Transport, now: Instant, random: &mut Random) -> Step {
        let form = self.form(server, transport, now, random);
        let Some(message) = encode_query(form, &self.question) else {
            return Step::Done(Err(ResolveError::NoSuchName));
        };
        if keeps_place(self.open[self.next_number % OPEN_TRIES_MAX].as_ref()) {
            // Its place is taken. The number after that belongs to the other place.
            self.next_number += 1;
        }
        let try_number = self.next_number;
        self.next_number += 1;
        self.next_try_at = now + self.step;
        let keeps_place = transport == Transport::Tcp && self.transport == Transport::Udp;
        self.open[try_number % OPEN_TRIES_MAX] =
            Some(Try { number: try_number, server, form, transport, keeps_place, bad_answers: 0 });
        Step::Ask(Ask { try_number, server, transport, message })
    }

    /// How the question is put to `server`. A server that kept silent may sit behind something that swallows EDNS.
    fn form(&self, server: SocketAddr, transport: Transport, now: Instant, random: &mut Random) -> Form {
        let is_spelled = transport == Transport::Udp && self.quirks.keeps_case(server, now);
        Form {
            id: random.next_u64() as u16,
            capitals: if is_spelled { Capitals([(); 4].map(|()| random.next_u64())) } else { Capitals::default() },
            edns: self.quirks.takes_edns(server, now) && !self.silent.contains(&server),
        }
    }

    fn on_failure(&mut self, try_number: usize, error: ResolveError, now: Instant) {
        self.failure = error;
        if let Some(server) = find_try(&mut self.open, try_number).map(|open| open.server)
            && !self.failed.contains(&server)
        {
            self.failed.push(server);
        }
        self.close_try(try_number);
        // A late failure of an earlier server says nothing about the one that was asked after it.
        if try_number + 1 == self.next_number {
            self.next_try_at = now;
        }
    }

    fn close_try(&mut self, try_number: usize) {
        if let Some(slot) = self.open.get_mut(try_number % OPEN_TRIES_MAX) {
            slot.take_if(|open| open.number == try_number);
        }
    }

    /// Takes note that the latest server is silent, if its try is still open: the next one is asked because time
    /// passed.
    fn note_silence(&mut self) {
        let latest = self.next_number.wrapping_sub(1);
        if let Some(server) = find_try(&mut self.open, latest).map(|open| open.server) {
            self.remember_silent(server);
        }
    }

    fn remember_silent(&mut self, server: SocketAddr) {
        if !self.silent.contains(&server) {
            self.silent.push(server);
        }
    }

    fn give_up(&mut self, error: ResolveError) -> Step {
        Step::Done(self.partial.take().map(|(content, _)| content).ok_or(error))
    }
}

fn keeps_place(open: Option<&Try>) -> bool {
    open.is_some_and(|open| open.keeps_place)
}

fn find_try(open: &mut [Option<Try>; OPEN_TRIES_MAX], try_number: usize) -> Option<&mut Try> {
    open[try_number % OPEN_TRIES_MAX].as_mut().filter(|open| open.number == try_number)
}

#[cfg(test)]
mod tests;
