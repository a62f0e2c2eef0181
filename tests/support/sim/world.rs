//! A worker without a poll: sessions that share one scratch, one pool and one clock, and the peers around them.
//!
//! It obeys sessions as the reactor does (wish, dial, again, lazy alarms). Which of all possible things happens next is
//! chance; time moves only when nothing else can happen, so a wake-up that is lost shows as a timeout.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::io::random::Random;
use vless_rust::io::socket::Readiness;
use vless_rust::io::splice::PipePool;
use vless_rust::protocol::vision::SEED_DEFAULT;
use vless_rust::session::allowance::{Allowance, Limit};
use vless_rust::session::close::CloseReason;
use vless_rust::session::permits::MuxSockets;
use vless_rust::session::transfer::{Means, Scratch};
use vless_rust::session::{
    Context, DialFailure, Flow, Leg, Next, Session, SessionRecord, SessionSettings, Target, Timeouts, UdpSettings,
    User, Users, View, Wish,
};
use vless_rust::stats::{Counters, Ledger};

use super::peer::{Op, Peer};
use super::rng::Rng;
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

/// As far ahead as the reactor arms a session's alarm.
const ALARM_AHEAD_MAX: Duration = Duration::from_secs(60);

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
    /// The session may end with any of these.
    pub(crate) reasons: Vec<CloseReason>,
}

/// One session and its peers.
pub(crate) struct Run {
    session: Option<Session<SimSocket>>,
    pub(crate) client: Peer,
    pub(crate) target: Peer,
    pub(crate) connected: bool,
    pub(crate) wished: Option<Target>,
    dial: Result<(), DialFailure>,
    dial_time: Duration,
    dial_due: Option<Instant>,
    pub(crate) again: bool,
    /// It waits for buffer memory.
    starved: bool,
    /// Times the session answered [`Next::Again`].
    pub(crate) agains: usize,
    /// Bytes moved by the longest single call.
    pub(crate) longest_turn: usize,
    alarm: Option<Instant>,
    /// It goes on at this instant, when its user's limit lets something through again.
    later: Option<Instant>,
    /// What the limits of its user leave, uplink and downlink, and since when.
    limits: [Limit; 2],
    pub(crate) record: Option<SessionRecord>,
    pub(crate) reasons: Vec<CloseReason>,
}

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) settings: SessionSettings,
    mux_sockets: Arc<MuxSockets>,
    pub(crate) counters: Counters,
    pub(crate) pool: BufferPool,
    pub(crate) pipes: Option<PipePool>,
    pub(crate) scratch: Scratch,
    random: Random,
    pub(crate) runs: Vec<Run>,
    /// Sends events that nothing caused, too.
    pub(crate) spurious: bool,
    pub(crate) steps: usize,
    /// Times a session answered [`Next::Starved`].
    pub(crate) starvations: usize,
    /// Bytes that each direction of each session may receive per millisecond.
    pub(crate) bytes_per_ms: Option<usize>,
}

#[derive(Clone, Copy)]
enum Act {
    Event(Leg),
    Arrive(Leg),
    Read(Leg),
    Script(Leg),
    Again,
}

const ACTS: [Act; 9] = [
    Act::Event(Leg::Client),
    Act::Event(Leg::Target),
    Act::Arrive(Leg::Client),
    Act::Arrive(Leg::Target),
    Act::Read(Leg::Client),
    Act::Read(Leg::Target),
    Act::Script(Leg::Client),
    Act::Script(Leg::Target),
    Act::Again,
];

/// No simulation needs nearly as many.
const STEPS_MAX: usize = 3_000_000;

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
                users: Arc::new(users),
                timeouts: TIMEOUTS,
                udp: UdpSettings::default(),
                vision_seed: SEED_DEFAULT,
                read_bytes_max: 128 << 10,
            },
            mux_sockets: Arc::new(MuxSockets::new(10_000)),
            counters: Counters::new(CloseReason::ALL.len()),
            pool: BufferPool::new(),
            pipes: None,
            scratch: Scratch::new(),
            random: Random::seeded(seed),
            runs: Vec::new(),
            spurious: false,
            steps: 0,
            starvations: 0,
            bytes_per_ms: None,
        }
    }

    /// Admits a client; returns its number.
    pub(crate) fn admit(&mut self, plan: Plan) -> usize {
        let mut client_link = Link::new(plan.client_manners, self.rng.fork());
        client_link.register_writable();
        let client_link = Rc::new(RefCell::new(client_link));
        let target_link = Rc::new(RefCell::new(Link::new(plan.target_manners, self.rng.fork())));
        let address = SocketAddr::from(([127, 0, 0, 1], 1024 + self.runs.len() as u16));
        let session = Session::new(SimSocket(Rc::clone(&client_link)), address, &self.settings, self.now);
        let client_tls = plan.client_tls.as_ref().map(TlsPeer::new);
        let mut client = Peer::new(client_link, client_tls, plan.client, self.rng.fork());
        client.read_max = plan.client_read_max;
        let mut target = Peer::new(target_link, None, plan.target, self.rng.fork());
        target.read_max = plan.target_read_max;
        self.runs.push(Run {
            alarm: session.deadline(&self.settings).map(|deadline| deadline.min(self.now + ALARM_AHEAD_MAX)),
            session: Some(session),
            client,
            target,
            connected: false,
            wished: None,
            dial: plan.dial,
            dial_time: plan.dial_time,
            dial_due: None,
            again: false,
            starved: false,
            agains: 0,
            longest_turn: 0,
            later: None,
            limits: [Limit { bytes: 0, more_at: self.now }; 2],
            record: None,
            reasons: plan.reasons,
        });
        self.runs.len() - 1
    }

    /// Runs until every session has ended.
    pub(crate) fn run(&mut self) {
        while self.lives() {
            let goes_on = self.step() || self.jump(None) || !self.lives();
            assert!(goes_on, "nothing can ever happen again:\n{}", self.describe());
        }
    }

    fn lives(&self) -> bool {
        self.runs.iter().any(|run| run.session.is_some())
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
        self.runs[number].session.as_ref().map(|session| session.view(self.now))
    }

    /// One thing happens; false if nothing can without time.
    pub(crate) fn step(&mut self) -> bool {
        self.steps += 1;
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
            Act::Again => {
                let fed = run.starved && self.pool.may_begin();
                if !std::mem::take(&mut run.again) && !fed {
                    return false;
                }
                run.starved &= !fed;
                self.call(number, Session::advance);
                true
            }
            Act::Event(leg) => {
                if run.session.is_none() {
                    return false;
                }
                let event = run.peer(leg).link.borrow_mut().take_event();
                let Some(event) = event else { return false };
                self.call(number, |session, cx| session.on_ready(leg, event, cx));
                true
            }
            Act::Arrive(leg) => run.peer(leg).link.borrow_mut().arrive(),
            Act::Read(leg) => run.peer(leg).read(),
            Act::Script(leg) => (leg == Leg::Client || connected) && run.peer(leg).act(now),
        }
    }

    /// An event, an alarm or a turn that nothing caused.
    fn disturb(&mut self) {
        let number = self.rng.below(self.runs.len());
        let leg = if self.rng.percent(50) { Leg::Client } else { Leg::Target };
        let event =
            Readiness { readable: self.rng.percent(50), writable: self.rng.percent(50), ..Readiness::default() };
        match self.rng.below(3) {
            0 => self.call(number, Session::on_timeout),
            1 => self.call(number, Session::advance),
            _ => self.call(number, |session, cx| session.on_ready(leg, event, cx)),
        }
    }

    /// Moves time to the next thing that needs it, if that is not after `until`; false if there is none.
    fn jump(&mut self, until: Option<Instant>) -> bool {
        let times = self.runs.iter().flat_map(|run| {
            let alarm = run.alarm.into_iter().chain(run.later).min().filter(|_| run.session.is_some());
            let target = run.target.wakes_at().filter(|_| run.connected);
            [alarm, run.dial_due, run.client.wakes_at(), target]
        });
        let Some(next) = times.flatten().min().filter(|&next| until.is_none_or(|until| next <= until)) else {
            return false;
        };
        // A timer wheel is late by up to a tick.
        self.now = self.now.max(next) + Duration::from_micros(self.rng.below(1000) as u64);
        if let Some(until) = until {
            self.now = self.now.min(until);
        }
        for number in 0..self.runs.len() {
            if self.runs[number].alarm.is_some_and(|alarm| alarm <= self.now) {
                self.runs[number].alarm = None;
                self.call(number, Session::on_timeout);
            }
            if self.runs[number].later.take_if(|at| *at <= self.now).is_some() {
                self.call(number, Session::advance);
            }
            if self.runs[number].dial_due.is_some_and(|due| due <= self.now) {
                self.runs[number].dial_due = None;
                self.finish_dial(number);
            }
        }
        true
    }

    fn finish_dial(&mut self, number: usize) {
        let run = &mut self.runs[number];
        if run.session.is_none() {
            return;
        }
        match run.dial {
            Ok(()) => {
                run.connected = true;
                let socket = SimSocket(Rc::clone(&run.target.link));
                self.call(number, |session, cx| session.on_connected(Leg::Target, socket, cx));
            }
            Err(failure) => self.call(number, |session, cx| session.on_dial_failed(Leg::Target, failure, cx)),
        }
    }

    /// Ends a session from outside, as a shutdown does.
    pub(crate) fn cut(&mut self, number: usize, reason: CloseReason) {
        self.call(number, |session, cx| session.cut(reason, cx));
    }

    /// Calls a session and obeys it.
    fn call(&mut self, number: usize, call: impl FnOnce(&mut Session<SimSocket>, &mut Context<'_>) -> Next) {
        let run = &mut self.runs[number];
        let Some(session) = &mut run.session else { return };
        let mut allowance = Allowance::default();
        if let Some(bytes) = self.bytes_per_ms {
            for limit in run.limits.iter_mut().filter(|limit| limit.more_at <= self.now) {
                *limit = Limit { bytes, more_at: self.now + Duration::from_millis(1) };
            }
            allowance.uplink.limit = Some(run.limits[0]);
            allowance.downlink.limit = Some(run.limits[1]);
        }
        let mut cx = Context {
            means: Means {
                now: self.now,
                scratch: &mut self.scratch,
                pool: &self.pool,
                pipes: self.pipes.as_ref(),
                random: &mut self.random,
            },
            counters: &self.counters,
            settings: &self.settings,
            mux_sockets: &self.mux_sockets,
            worker: 0,
            allowance,
            wishes: Vec::new(),
        };
        let before = run.client.link.borrow().moved() + run.target.link.borrow().moved();
        let next = call(session, &mut cx);
        for (limit, share) in run.limits.iter_mut().zip([cx.allowance.uplink, cx.allowance.downlink]) {
            *limit = share.limit.unwrap_or(*limit);
        }
        let more_at = cx.allowance.more_at();
        let moved = run.client.link.borrow().moved() + run.target.link.borrow().moved() - before;
        run.longest_turn = run.longest_turn.max(moved);
        for wish in cx.wishes {
            let Wish::Dial { leg: Leg::Target, target } = wish else { panic!("a stream session wished for {wish:?}") };
            assert!(run.wished.is_none(), "wished twice");
            run.wished = Some(target);
            run.dial_due = Some(self.now + run.dial_time);
        }
        match next {
            Next::Close => return self.close(number),
            Next::Again => {
                assert!(moved > 0, "session {number} wants another turn and used none:\n{}", self.describe());
                run.again = true;
                run.agains += 1;
            }
            Next::Starved => {
                run.starved = true;
                self.starvations += 1;
                run.later = more_at.or(run.later);
            }
            Next::Later(at) => run.later = Some(at),
            Next::Wait => {}
        }
        if let Some(deadline) = session.deadline(&self.settings) {
            let at = deadline.min(self.now + ALARM_AHEAD_MAX);
            run.alarm = Some(run.alarm.map_or(at, |armed| armed.min(at)));
        }
    }

    fn close(&mut self, number: usize) {
        let run = &mut self.runs[number];
        let Some(session) = run.session.take() else { return };
        let record = session.record(self.now);
        run.record = Some(record);
        run.dial_due = None;
        run.again = false;
        run.starved = false;
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

impl Run {
    pub(crate) fn peer(&mut self, leg: Leg) -> &mut Peer {
        if leg == Leg::Client { &mut self.client } else { &mut self.target }
    }

    pub(crate) fn describe(&self) -> String {
        let record = self.record.as_ref();
        let side = |peer: &Peer| {
            let link = peer.link.borrow();
            format!(
                "said {} (end {}), sent {} arrived {} received {} (fin {} reset {}), took {} read {} (shut {}), \
                 closed {:?}, heard {}, saw {:?}, close_notify {}, script {:?}, tls error {:?}",
                peer.said.len(),
                peer.said_end,
                link.coming.len(),
                link.arrived,
                link.received,
                link.end_arrived,
                link.reset_arrived,
                link.going.len(),
                link.peer_read,
                link.shut,
                link.closed,
                peer.heard.len(),
                peer.seen_end,
                peer.seen_close_notify,
                peer.script.front().map(|op| format!("{op:?}").chars().take(40).collect::<String>()),
                peer.tls.as_ref().and_then(|tls| tls.error.clone()),
            )
        };
        format!(
            "{:?} after {:?}, counted {:?} up {:?} down, expected {:?}\n    client: {}\n    target: {}",
            record.map(|record| record.reason),
            record.map(|record| record.age),
            record.map(|record| record.uplink.payload_bytes),
            record.map(|record| record.downlink.payload_bytes),
            self.reasons,
            side(&self.client),
            side(&self.target),
        )
    }
}
