//! Which session goes on, when, and with how much work: the part of a worker that obeys [`Next`].
//!
//! Whoever drives it tells what happened ([`Schedule::on_event`], [`Schedule::on_timer`]), which costs no more than a
//! place in a queue, and then gives turns: [`Schedule::serve_urgent`] to those who wait for memory, move little or are
//! being opened, [`Schedule::serve_bulk`] to those who move much. A turn does a bounded amount of work, so that whoever
//! becomes ready in the middle of it waits for that much and no more.
//!
//! It owns the sessions, and knows neither poll nor thread nor clock. It is generic over their sockets, so a simulation
//! drives the same code as a worker. What sessions wish for ([`Schedule::take_wish`]) and what has ended
//! ([`Schedule::take_closed`]) are the driver's business. `B` is what the driver keeps for each session.
//!
//! Invariant: a session that is not to be dropped has a place in the queue that its answer names, or an alarm, or both.

mod baggage;
mod lent;
mod queues;
mod serving;
mod shedding;

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

pub use self::baggage::Baggage;
pub use self::lent::Lent;
use self::queues::{Pace, Ready, Starved};
pub use self::serving::{LIGHT_SHARE_BYTES, QUIET_TURN_WORK_BYTES, TURN_WORK_BYTES};
pub use self::shedding::OPENING_GRACE;
use self::shedding::Openings;
use crate::io::alarm::Alarm;
use crate::io::datagram::DatagramSocket;
use crate::io::endpoint::Readiness;
use crate::io::moment::Moment;
use crate::io::roster::Roster;
use crate::io::socket::Socket;
use crate::io::token::{Kind, Token};
use crate::reactor::pulse;
use crate::session::allowance::Allowance;
use crate::session::close::CloseReason;
use crate::session::{Context, Leg, Next, Session, SessionRecord, Wish};

/// Sessions, and who of them goes on.
pub struct Schedule<S, D, B> {
    roster: Roster<Slot<S, D, B>>,
    ready: Ready,
    starved: Starved,
    /// Sessions whose deadline may have come.
    due: VecDeque<Token>,
    openings: Openings,
    /// When somebody was ready who moves little or is being opened.
    spoken_at: Option<Instant>,
    wishes: VecDeque<(Token, Wish)>,
    /// It is empty between calls. Its memory is used again.
    wish_list: Vec<Wish>,
    closed: VecDeque<Closed<B>>,
}

struct Slot<S, D, B> {
    session: Box<Session<S, D>>,
    baggage: B,
    alarm: Alarm,
    /// It goes on at this instant, if nothing happens before.
    later: Option<Moment>,
    pace: Pace,
    /// It is in the queue of those that are ready.
    queued: bool,
    /// It is in the queue of those that wait for buffer memory.
    starved: bool,
    /// Its client has not said yet who it is.
    opening: bool,
    /// It counts among the strangers: it is not admitted, in whatever phase.
    stranger: bool,
}

/// A session that has ended. Its sockets are closed.
pub struct Closed<B> {
    pub token: Token,
    pub record: SessionRecord,
    pub baggage: B,
}

/// Where a session waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// For its next turn.
    pub queued: bool,
    /// For buffer memory.
    pub starved: bool,
}

/// How much work one call did.
type Work = usize;

impl<S: Socket, D: DatagramSocket, B: Baggage> Schedule<S, D, B> {
    #[expect(clippy::new_without_default, reason = "made once per worker, never by default")]
    pub fn new() -> Self {
        Self {
            roster: Roster::new(Kind::Session),
            ready: Ready::default(),
            starved: Starved::default(),
            due: VecDeque::new(),
            openings: Openings::default(),
            spoken_at: None,
            wishes: VecDeque::new(),
            wish_list: Vec::new(),
            closed: VecDeque::new(),
        }
    }

    /// Takes a client in. `watch` is given the token and makes sure that events of the client's socket come with it.
    ///
    /// # Errors
    /// That of `watch`. The client is dropped. `Ok(None)`: no token is left for it.
    pub fn admit<E>(
        &mut self,
        mut client: S,
        address: SocketAddr,
        baggage: B,
        watch: impl FnOnce(&mut S, Token) -> Result<(), E>,
        lent: &mut Lent<'_>,
    ) -> Result<Option<Token>, E> {
        let Some(vacancy) = self.roster.vacancy() else { return Ok(None) };
        let token = vacancy.token();
        watch(&mut client, token)?;
        let session = Box::new(Session::new(client, address, lent.settings, lent.now));
        let deadline = session.deadline(lent.settings);
        let mut slot = Slot {
            session,
            baggage,
            alarm: Alarm::default(),
            later: None,
            pace: Pace::Opening,
            queued: false,
            starved: false,
            opening: true,
            stranger: true,
        };
        if let Some(at) = deadline {
            slot.alarm.arm(at, token, lent.timers, lent.now);
        }
        vacancy.insert(slot);
        self.openings.enter(token, lent.now);
        // Its first words are about to come.
        self.spoken_at = Some(lent.now);
        lent.counters.sessions_accepted.add(1);
        lent.counters.sessions_active.add(1);
        Ok(Some(token))
    }

    /// Something changed on the socket that `token` and `leg` name: the session goes on in the next turn.
    pub fn on_event(&mut self, token: Token, leg: Leg, readiness: Readiness, lent: &mut Lent<'_>) {
        let Some(slot) = self.roster.get_mut(token) else {
            lent.counters.stale_events.add(1);
            return;
        };
        let mut cx = lent.context(Allowance::turn(0), Vec::new());
        slot.session.note(leg, readiness, &mut cx);
        debug_assert!(cx.wishes.is_empty(), "noting an event is no turn");
        self.ready.enter(token, slot.pace, &mut slot.queued);
    }

    /// A wake-up of a session came out of the wheel, maybe too early or for one that is gone.
    pub fn on_timer(&mut self, token: Token, now: Instant) {
        let Some(slot) = self.roster.get_mut(token) else { return };
        if !slot.alarm.fired(now) {
            return;
        }
        if slot.later.take_if(|at| Instant::from(*at) <= now).is_some() {
            self.ready.enter(token, slot.pace, &mut slot.queued);
        }
        self.due.push_back(token);
    }

    /// Tells a session something that is neither an event nor its turn, and obeys its answer.
    pub fn call(
        &mut self,
        token: Token,
        lent: &mut Lent<'_>,
        call: impl FnOnce(&mut Session<S, D>, &mut Context<'_>) -> Next,
    ) {
        self.call_with(token, LIGHT_SHARE_BYTES, lent, call);
    }

    /// Ends a session now, whatever it is doing. False if it is gone already.
    pub fn cut(&mut self, token: Token, reason: CloseReason, lent: &mut Lent<'_>) -> bool {
        let is_alive = self.roster.contains(token);
        if is_alive {
            self.call(token, lent, |session, cx| session.cut(reason, cx));
        }
        is_alive
    }

    /// The next wish of a session that is still alive. The answer goes to it by [`Schedule::call`].
    pub fn take_wish(&mut self) -> Option<(Token, Wish)> {
        while let Some((token, wish)) = self.wishes.pop_front() {
            if self.roster.contains(token) {
                return Some((token, wish));
            }
        }
        None
    }

    /// The next session that has ended. The driver takes them until there is none, after every other call.
    pub fn take_closed(&mut self) -> Option<Closed<B>> {
        self.closed.pop_front()
    }

    /// What the driver keeps for a session.
    pub fn baggage(&mut self, token: Token) -> Option<&mut B> {
        self.roster.get_mut(token).map(|slot| &mut slot.baggage)
    }

    pub fn contains(&self, token: Token) -> bool {
        self.roster.contains(token)
    }

    /// Sessions alive.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    pub fn is_empty(&self) -> bool {
        self.roster.is_empty()
    }

    /// Tokens of all sessions.
    pub fn tokens(&self) -> Vec<Token> {
        self.roster.tokens()
    }

    /// The sessions in some slots, for whoever looks at all of them bit by bit; see [`Roster::page`].
    pub fn page(&self, start: usize, slots_max: usize) -> impl Iterator<Item = (Token, &Session<S, D>)> {
        self.roster.page(start, slots_max).map(|(token, slot)| (token, &*slot.session))
    }

    /// See [`Roster::slots`].
    pub fn slots(&self) -> usize {
        self.roster.slots()
    }

    /// Where a session waits. `None` when it is gone.
    pub fn standing(&self, token: Token) -> Option<Standing> {
        self.roster.get(token).map(|slot| Standing { queued: slot.queued, starved: slot.starved })
    }

    /// Sessions that wait for buffer memory.
    pub fn starved(&self) -> usize {
        self.starved.alive()
    }

    /// Calls a session with so much work allowed in each direction, and does what it answers.
    fn call_with(
        &mut self,
        token: Token,
        share_bytes: usize,
        lent: &mut Lent<'_>,
        call: impl FnOnce(&mut Session<S, D>, &mut Context<'_>) -> Next,
    ) -> Work {
        let Some(slot) = self.roster.get_mut(token) else { return 0 };
        pulse::serve(slot.session.state(), slot.session.mode());
        let mut allowed = Allowance::turn(share_bytes);
        slot.baggage.limit(&mut allowed, slot.session.user(), lent.now);
        let mut cx = lent.context(allowed, mem::take(&mut self.wish_list));
        let next = call(&mut slot.session, &mut cx);
        let left = cx.allowance;
        // A session that waits for memory with one direction may have to wait for its limit with the other.
        slot.later = match next {
            Next::Later(at) => Some(at.into()),
            Next::Starved => left.more_at().map(Moment::from),
            _ => slot.later,
        };
        let spent = |allowed: usize, left: usize| allowed.saturating_sub(left);
        let work = spent(allowed.uplink.work_bytes, left.uplink.work_bytes)
            + spent(allowed.downlink.work_bytes, left.downlink.work_bytes);
        self.wish_list = cx.wishes;
        slot.baggage.settle(&left, || slot.session.undelivered(), lent.now);
        self.wishes.extend(self.wish_list.drain(..).map(|wish| (token, wish)));
        self.obey(token, next, work, lent);
        lent.pool.let_wait(self.starved.since());
        work
    }

    fn obey(&mut self, token: Token, next: Next, work: Work, lent: &mut Lent<'_>) {
        let Some(slot) = self.roster.get_mut(token) else { return };
        if slot.opening && !slot.session.is_opening() {
            slot.opening = false;
            slot.baggage.admit();
        }
        if slot.stranger && !slot.session.is_stranger() {
            slot.stranger = false;
            self.openings.leave();
        }
        slot.pace = if slot.opening { Pace::Opening } else { slot.pace.after(work) };
        match next {
            Next::Close => return self.close(token, lent),
            Next::Again => self.ready.enter(token, slot.pace, &mut slot.queued),
            Next::Starved => {
                if self.starved.enter(token, &mut slot.starved, lent.now) {
                    lent.counters.buffer_waits.add(1);
                }
            }
            Next::Later(_) | Next::Wait => {}
        }
        let deadline = slot.session.deadline(lent.settings);
        if let Some(at) = deadline.into_iter().chain(slot.later.map(Instant::from)).min() {
            slot.alarm.arm(at, token, lent.timers, lent.now);
        }
    }

    /// Drops a session that asked for it. Closing its sockets takes them out of the poll.
    fn close(&mut self, token: Token, lent: &Lent<'_>) {
        let Some(slot) = self.roster.remove(token) else { return };
        let record = slot.session.record(lent.now);
        drop(slot.session);
        if slot.starved {
            self.starved.leave();
        }
        if slot.stranger {
            self.openings.leave();
        }
        lent.counters.sessions_active.sub(1);
        lent.counters.count_close(record.reason.index());
        self.closed.push_back(Closed { token, record, baggage: slot.baggage });
    }
}
