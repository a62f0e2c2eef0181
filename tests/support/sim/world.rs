//! A worker without a poll: sessions that share one scratch, one pool and one clock, and the peers around them.
//!
//! The scheduler is the one of the server. Which of all possible things happens next is chance: an event is delivered, a
//! peer acts, the scheduler gives its turns. Time moves only when nothing else can happen, so a wake-up that is lost
//! shows as a timeout.

use std::cell::{Cell, RefCell};
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vless_rust::io::buffer_memory::STEP_BYTES;
use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::io::endpoint::Readiness;
use vless_rust::io::random::Random;
use vless_rust::io::splice::PipePool;
use vless_rust::io::timer::TimerWheel;
use vless_rust::io::token::Token;
use vless_rust::protocol::vision::SEED_DEFAULT;
use vless_rust::reactor::schedule::{Lent, Schedule};
use vless_rust::session::close::CloseReason;
use vless_rust::session::permits::MuxSockets;
use vless_rust::session::transfer::Scratch;
use vless_rust::session::{
    DialFailure, Flow, Host, Leg, Session, SessionSettings, Target, Timeouts, UdpSettings, User, Users, View, Wish,
};
use vless_rust::stats::{Counters, Ledger};

use super::datagrams::SimDatagrams;
use super::peer::{Op, Peer};
use super::rng::Rng;
use super::run::{Luggage, Run};
use super::scarcity::Scarcity;
use super::socket::{Link, Manners, SimSocket};
use super::tls::{self, TlsPeer};

pub(crate) const USER: [u8; 16] = *b"the known user's";
pub(crate) const VISION_USER: [u8; 16] = *b"the vision user!";

pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    tls_handshake: Duration::from_secs(10),
    first_byte: Duration::from_secs(60),
    request: Duration::from_secs(10),
    idle: Duration::from_secs(300),
    half_close: Duration::from_secs(30),
    write_stall: Duration::from_secs(120),
};

const ACTS: [Act; 10] = [
    Act::Event(Leg::Client),
    Act::Event(Leg::Target),
    Act::Arrive(Leg::Client),
    Act::Arrive(Leg::Target),
    Act::Read(Leg::Client),
    Act::Read(Leg::Target),
    Act::Script(Leg::Client),
    Act::Script(Leg::Target),
    Act::Outlet,
    Act::Turn,
];

/// The most turns that may pass in work that moves nothing: a Mux connection opens 16 sessions in each.
const IDLE_TURNS_MAX: usize = 8;

/// How often those who wait for memory look for some that others gave back.
pub(crate) const STARVED_RETRY: Duration = Duration::from_millis(20);

/// No simulation needs nearly as many.
const STEPS_MAX: usize = 3_000_000;

/// What one session is put through.
pub(crate) struct Plan {
    /// `None` inside: the server speaks no TLS and neither does the client.
    pub(crate) client_tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) client: Vec<Op>,
    pub(crate) client_manners: Manners,
    pub(crate) client_read_max: usize,
    pub(crate) dial: Result<(), DialFailure>,
    pub(crate) dial_time: Duration,
    pub(crate) target: Vec<Op>,
    pub(crate) target_manners: Manners,
    pub(crate) target_read_max: usize,
    /// What the targets inside Mux do, by their ports.
    pub(crate) inner_targets: Vec<(u16, Vec<Op>)>,
    /// The session may end with any of these.
    pub(crate) reasons: Vec<CloseReason>,
}

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) settings: SessionSettings,
    mux_sockets: Arc<MuxSockets>,
    /// Its number among several.
    pub(crate) worker: usize,
    pub(crate) counters: Counters,
    pub(crate) pool: BufferPool,
    pub(crate) pipes: Option<PipePool>,
    pub(crate) scratch: Scratch,
    random: Random,
    timers: TimerWheel<Token>,
    pub(super) schedule: Schedule<SimSocket, SimDatagrams, Luggage>,
    pub(crate) runs: Vec<Run>,
    /// Sends events that nothing caused, too.
    pub(crate) spurious: bool,
    /// Loses wake-ups, to see whether that is noticed.
    pub(crate) plant: Option<Plant>,
    /// Bytes that went through all sockets in the longest turn.
    pub(crate) most_moved_in_a_turn: usize,
    /// Turns in a row that somebody used up without a byte moved.
    idle_turns: usize,
    /// Something happened since the last turn.
    woken: bool,
    /// Time has passed since those who wait for memory looked for some.
    looks: bool,
    pub(crate) steps: usize,
    /// The most memory that was ever held.
    pub(crate) held_bytes_peak: usize,
    /// Bytes that each direction of each session may receive per millisecond.
    pub(crate) bytes_per_ms: Rc<Cell<Option<usize>>>,
    /// Memory and descriptors that others have for a while.
    pub(crate) scarcity: Scarcity,
}

/// A wake-up that is lost on the way between the sockets and the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// An event that tells of both directions is taken for one of the reading side.
    WritableLost,
    /// The worker sleeps until the next event although somebody is to go on.
    TurnLost,
}

#[derive(Clone, Copy)]
enum Act {
    Event(Leg),
    Arrive(Leg),
    Read(Leg),
    Script(Leg),
    /// Of a target inside Mux, or of a UDP socket.
    Outlet,
    Turn,
}

impl World {
    pub(crate) fn new(seed: u64, tls: bool) -> Self {
        let user = |id, email: &str, flow| User { id, email: email.to_owned(), flow, ledger: Arc::new(Ledger::new(1)) };
        let users = Users::new([user(USER, "known", Flow::None), user(VISION_USER, "vision", Flow::Vision)]).unwrap();
        let start = Instant::now();
        Self {
            start,
            now: start,
            rng: Rng::new(seed),
            settings: SessionSettings {
                tls: tls.then(tls::acceptor),
                proxy_protocol_from: Arc::default(),
                users: Arc::new(users),
                fallbacks: Arc::default(),
                timeouts: TIMEOUTS,
                udp: UdpSettings::default(),
                vision_seed: SEED_DEFAULT,
                read_bytes_max: 128 << 10,
            },
            mux_sockets: Arc::new(MuxSockets::new(10_000)),
            worker: 0,
            counters: Counters::new(CloseReason::ALL.len()),
            pool: BufferPool::new(),
            pipes: None,
            scratch: Scratch::new(),
            random: Random::seeded(seed),
            timers: TimerWheel::new(start),
            schedule: Schedule::new(),
            runs: Vec::new(),
            spurious: false,
            plant: None,
            most_moved_in_a_turn: 0,
            idle_turns: 0,
            woken: true,
            looks: false,
            steps: 0,
            held_bytes_peak: 0,
            bytes_per_ms: Rc::default(),
            scarcity: Scarcity::default(),
        }
    }

    /// Admits a client; returns its number.
    pub(crate) fn admit(&mut self, plan: Plan) -> usize {
        let mut client_link = Link::new(plan.client_manners, self.rng.fork());
        client_link.register_writable();
        let client_link = Rc::new(RefCell::new(client_link));
        let target_link = Rc::new(RefCell::new(Link::new(plan.target_manners, self.rng.fork())));
        let number = self.runs.len();
        let address = SocketAddr::from(([127, 0, 0, 1 + number as u8 % 3], 1024 + number as u16));
        let client_tls = plan.client_tls.as_ref().map(TlsPeer::new);
        let mut client = Peer::new(Rc::clone(&client_link), client_tls, plan.client, self.rng.fork());
        client.read_max = plan.client_read_max;
        let mut target = Peer::new(target_link, None, plan.target, self.rng.fork());
        target.read_max = plan.target_read_max;
        let luggage = Luggage::new(number, Rc::clone(&self.bytes_per_ms), self.now);
        let (schedule, mut lent) = self.parts();
        let admitted = schedule.admit(SimSocket(client_link), address, luggage, |_, _| Ok::<_, ()>(()), &mut lent);
        let token = admitted.unwrap().unwrap();
        self.runs.push(Run {
            token,
            client,
            target,
            connected: false,
            wished: None,
            dial: plan.dial,
            dial_time: plan.dial_time,
            dial_due: None,
            inner_targets: plan.inner_targets,
            outlets: Vec::new(),
            was_short: false,
            fed_turns: 0,
            fed_turns_most: 0,
            again: false,
            agains: 0,
            longest_turn: 0,
            record: None,
            reasons: plan.reasons,
        });
        number
    }

    /// Runs until every session has ended.
    pub(crate) fn run(&mut self) {
        self.run_watching(|| {});
    }

    /// The same, with a look at everything that happens.
    pub(crate) fn run_watching(&mut self, mut watch: impl FnMut()) {
        while self.lives() {
            let goes_on = self.step() || self.jump(None) || !self.lives();
            assert!(goes_on, "nothing can ever happen again:\n{}", self.describe());
            watch();
        }
        self.scarcity = Scarcity::default();
    }

    pub(crate) fn lives(&self) -> bool {
        !self.schedule.is_empty()
    }

    /// Lets everything happen that needs no time to pass.
    pub(crate) fn settle(&mut self) {
        while self.step() {}
    }

    /// Lets `time` pass, and everything happen that happens meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        self.settle();
        while self.jump(Some(until)) {
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// Adds to the client's script and lets it happen.
    pub(crate) fn client(&mut self, number: usize, ops: impl IntoIterator<Item = Op>) {
        self.runs[number].client.script.extend(ops);
        self.settle();
    }

    /// Adds to the target's script and lets it happen.
    pub(crate) fn target(&mut self, number: usize, ops: impl IntoIterator<Item = Op>) {
        self.runs[number].target.script.extend(ops);
        self.settle();
    }

    /// The reason a session has ended with, if it has.
    pub(crate) fn ended(&self, number: usize) -> Option<CloseReason> {
        self.runs[number].record.as_ref().map(|record| record.reason)
    }

    /// What a session says of itself, while it lives.
    pub(crate) fn view(&self, number: usize) -> Option<View> {
        let token = self.runs[number].token;
        let mut page = self.schedule.page(token.index(), 1).filter(|(other, _)| *other == token);
        page.next().map(|(_, session)| session.view(self.now))
    }

    /// Lets everything happen around one session, and tells of it; true if the session is to go on.
    pub(crate) fn happens_for(&mut self, number: usize) -> bool {
        let acts = ACTS.iter().filter(|act| !matches!(act, Act::Turn));
        while acts.clone().any(|&act| self.act(number, act)) {}
        self.is_queued(number)
    }

    /// A session waits for its next turn.
    pub(crate) fn is_queued(&self, number: usize) -> bool {
        self.schedule.standing(self.runs[number].token).is_some_and(|standing| standing.queued)
    }

    /// One thing happens; false if nothing can without time.
    pub(crate) fn step(&mut self) -> bool {
        self.steps += 1;
        self.scarcity.come(&self.pool, self.now, &mut self.rng);
        assert!(self.steps < STEPS_MAX, "no end in sight:\n{}", self.describe());
        if self.spurious && self.rng.percent(5) {
            self.disturb();
        }
        for _ in 0..32 {
            let number = self.rng.below(self.runs.len());
            let act = self.rng.pick(&ACTS);
            if self.act(number, act) {
                return true;
            }
        }
        let (shift_runs, shift_acts) = (self.rng.below(self.runs.len()), self.rng.below(ACTS.len()));
        for number in 0..self.runs.len() {
            for act in 0..ACTS.len() {
                let number = (number + shift_runs) % self.runs.len();
                if self.act(number, ACTS[(act + shift_acts) % ACTS.len()]) {
                    return true;
                }
            }
        }
        false
    }

    fn act(&mut self, number: usize, act: Act) -> bool {
        let now = self.now;
        let run = &mut self.runs[number];
        let connected = run.connected;
        match act {
            Act::Turn => self.turn(),
            Act::Event(leg) => {
                let event = run.peer(leg).link.borrow_mut().take_event();
                let Some(event) = event.filter(|_| run.record.is_none()) else { return false };
                let token = run.token;
                self.deliver(token, leg, event);
                true
            }
            Act::Arrive(leg) => run.peer(leg).link.borrow_mut().arrive(),
            Act::Read(leg) => run.peer(leg).read(),
            Act::Script(leg) => (leg == Leg::Client || connected) && run.peer(leg).act(now),
            Act::Outlet => self.act_outlet(number),
        }
    }

    pub(super) fn deliver(&mut self, token: Token, leg: Leg, mut event: Readiness) {
        if self.plant == Some(Plant::WritableLost) && event.readable {
            event.writable = false;
        }
        let (schedule, mut lent) = self.parts();
        schedule.on_event(token, leg, event, &mut lent);
        self.woken = true;
    }

    /// The scheduler's turn, as a worker gives it; false if there is nobody to serve.
    pub(crate) fn turn(&mut self) -> bool {
        let looks = mem::take(&mut self.looks) && self.schedule.starved() > 0;
        let (schedule, lent) = self.parts();
        if !(schedule.is_busy(&lent) || looks) || (self.plant == Some(Plant::TurnLost) && !self.woken) {
            return false;
        }
        self.woken = false;
        let (_, lent) = self.parts();
        let cut_before = lent.counters.turns_cut_by_budget.value();
        let moved_before: Vec<_> = self.runs.iter().map(Run::moved).collect();
        self.note_fed();
        let (schedule, mut lent) = self.parts();
        schedule.serve_urgent(&mut lent);
        self.obey();
        let (schedule, mut lent) = self.parts();
        schedule.serve_bulk(&mut lent);
        self.obey();
        let mut moved = 0;
        for (run, before) in self.runs.iter_mut().zip(moved_before) {
            run.again = self.schedule.standing(run.token).is_some_and(|standing| standing.queued);
            run.agains += usize::from(run.again);
            run.longest_turn = run.longest_turn.max(run.moved() - before);
            moved += run.moved() - before;
            if run.moved() > before {
                run.fed_turns = 0;
            }
        }
        self.most_moved_in_a_turn = self.most_moved_in_a_turn.max(moved);
        let was_cut = self.counters.turns_cut_by_budget.value() > cut_before;
        self.idle_turns = if was_cut && moved == 0 { self.idle_turns + 1 } else { 0 };
        // Frames that open sessions, and datagrams for which there is no memory, are work that moves nothing.
        let idle_turns_max = if self.scarcity.is_known { IDLE_TURNS_MAX } else { 0 };
        assert!(self.idle_turns <= idle_turns_max, "sessions want turns and use none:\n{}", self.describe());
        true
    }

    /// An event, an alarm or a turn that nothing caused.
    fn disturb(&mut self) {
        let number = self.rng.below(self.runs.len());
        let leg = if self.rng.percent(50) { Leg::Client } else { Leg::Target };
        let event =
            Readiness { readable: self.rng.percent(50), writable: self.rng.percent(50), ..Readiness::default() };
        let (token, kind) = (self.runs[number].token, self.rng.below(3));
        let (schedule, mut lent) = self.parts();
        match kind {
            0 => schedule.call(token, &mut lent, Session::on_timeout),
            1 => schedule.call(token, &mut lent, Session::advance),
            _ => schedule.on_event(token, leg, event, &mut lent),
        }
        self.obey();
    }

    /// When the next thing happens that needs time.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let times = self.runs.iter().flat_map(|run| {
            let target = run.target.wakes_at().filter(|_| run.connected);
            [run.dial_due, run.client.wakes_at(), target]
        });
        let alarm = self.timers.next_expiry().filter(|_| self.lives());
        let may_find = self.schedule.starved() > 0 && self.pool.has_room(STEP_BYTES);
        let look = may_find.then(|| self.now + STARVED_RETRY);
        times.chain([self.scarcity.ends_at(), alarm, look]).flatten().min()
    }

    /// Moves time to this instant, as one of several workers.
    pub(crate) fn pass_to(&mut self, now: Instant) {
        self.jump(Some(now));
        self.now = self.now.max(now);
        self.looks = true;
    }

    /// A session waits for memory.
    pub(crate) fn is_starved(&self, number: usize) -> bool {
        self.schedule.standing(self.runs[number].token).is_some_and(|standing| standing.starved)
    }

    /// Moves time to the next thing that needs it, if that is not after `until`; false if there is none.
    pub(crate) fn jump(&mut self, until: Option<Instant>) -> bool {
        let next = self.next_at().filter(|&next| until.is_none_or(|until| next <= until));
        let Some(next) = next else { return false };
        // A worker is late by up to a tick.
        self.now = self.now.max(next) + Duration::from_micros(self.rng.below(1000) as u64);
        if let Some(until) = until {
            self.now = self.now.min(until);
        }
        (self.woken, self.looks) = (true, true);
        self.scarcity.pass(self.now);
        let mut due = Vec::new();
        self.timers.expire(self.now, &mut due);
        for token in due {
            self.schedule.on_timer(token, self.now);
        }
        for number in 0..self.runs.len() {
            if self.runs[number].dial_due.is_some_and(|due| due <= self.now) {
                self.runs[number].dial_due = None;
                self.finish_dial(number);
            }
        }
        true
    }

    fn finish_dial(&mut self, number: usize) {
        let run = &mut self.runs[number];
        if run.record.is_some() {
            return;
        }
        let is_short = self.scarcity.has_no_descriptor();
        run.was_short |= is_short;
        let (token, dial) = (run.token, if is_short { Err(DialFailure::NoResources) } else { run.dial });
        run.connected = dial.is_ok();
        let link = Rc::clone(&run.target.link);
        let (schedule, mut lent) = self.parts();
        match dial {
            Ok(()) => {
                let socket = SimSocket(link);
                schedule.call(token, &mut lent, |session, cx| session.on_connected(Leg::Target, socket, cx));
            }
            Err(failure) => {
                schedule.call(token, &mut lent, |session, cx| session.on_dial_failed(Leg::Target, failure, cx));
            }
        }
        self.obey();
    }

    /// Ends a session from outside, as a shutdown does.
    pub(crate) fn cut(&mut self, number: usize, reason: CloseReason) {
        let token = self.runs[number].token;
        let (schedule, mut lent) = self.parts();
        schedule.cut(token, reason, &mut lent);
        self.obey();
    }

    /// Does what sessions wish for, and notes which have ended.
    pub(super) fn obey(&mut self) {
        self.held_bytes_peak = self.held_bytes_peak.max(self.pool.held_bytes());
        while let Some((token, wish)) = self.schedule.take_wish() {
            let number = self.schedule.baggage(token).unwrap().number;
            let target = match wish {
                Wish::Dial { leg: Leg::Target, target } => target,
                Wish::DialFallback { leg: Leg::Target, .. } => Target { host: Host::Name("fallback".into()), port: 80 },
                wish => {
                    self.grant(number, wish);
                    continue;
                }
            };
            let run = &mut self.runs[number];
            assert!(run.wished.is_none(), "wished twice");
            run.wished = Some(target);
            run.dial_due = Some(self.now + run.dial_time);
        }
        while let Some(closed) = self.schedule.take_closed() {
            let run = &mut self.runs[closed.baggage.number];
            run.record = Some(closed.record);
            run.dial_due = None;
            run.again = false;
        }
    }

    /// The scheduler, and what it is lent.
    pub(super) fn parts(&mut self) -> (&mut Schedule<SimSocket, SimDatagrams, Luggage>, Lent<'_>) {
        let lent = Lent {
            now: self.now,
            scratch: &mut self.scratch,
            pool: &self.pool,
            pipes: self.pipes.as_ref(),
            random: &mut self.random,
            timers: &mut self.timers,
            counters: &self.counters,
            settings: &self.settings,
            mux_sockets: &self.mux_sockets,
            worker: self.worker,
        };
        (&mut self.schedule, lent)
    }

    /// Where everybody stands, for a person.
    pub(crate) fn describe(&self) -> String {
        use std::fmt::Write;

        let mut text = String::new();
        let _ = writeln!(text, "  {:?} after the start, {} steps", self.now - self.start, self.steps);
        for (number, run) in self.runs.iter().enumerate() {
            let _ = writeln!(text, "  session {number}: {}", run.describe());
        }
        text
    }
}
