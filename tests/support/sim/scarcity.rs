//! What sessions of other workers take away for a while: buffer memory, and descriptors. And what sessions with packets
//! wish for, which there is only while there are descriptors.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use vless_rust::io::buffer_pool::{BufferPool, Loan, PooledBuf};
use vless_rust::session::{BindFailure, DialFailure, Leg, Wish};

use super::datagrams::{ANSWERER, Net, SimDatagrams};
use super::outlet::{End, Outlet};
use super::peer::Peer;
use super::rng::Rng;
use super::socket::{Link, SimSocket};
use super::world::World;

/// The longest that anything is taken away, in milliseconds.
const TAKEN_MS_MAX: usize = 5000;

#[derive(Default)]
pub(crate) struct Scarcity {
    /// How often something may still be taken away.
    pub(crate) times_left: usize,
    /// Sessions are short of something in this world.
    pub(crate) is_known: bool,
    memory: Vec<PooledBuf>,
    memory_until: Option<Instant>,
    descriptors_until: Option<Instant>,
}

impl Scarcity {
    /// Perhaps something is taken away now.
    pub(super) fn come(&mut self, pool: &BufferPool, now: Instant, rng: &mut Rng) {
        if self.times_left == 0 || rng.below(100) > 0 {
            return;
        }
        self.times_left -= 1;
        let until = Some(now + Duration::from_millis(rng.up_to(TAKEN_MS_MAX) as u64));
        if rng.percent(30) {
            self.descriptors_until = self.descriptors_until.max(until);
            return;
        }
        self.memory_until = self.memory_until.max(until);
        let left = rng.pick(&[1, 1, 40_000, 60_000, 100_000]);
        while pool.has_room(left + 4096) {
            self.memory.push(pool.take(1, Loan::Waiting));
        }
    }

    /// When something comes back.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        [self.memory_until, self.descriptors_until].into_iter().flatten().min()
    }

    /// Gives back what was taken until now.
    pub(super) fn pass(&mut self, now: Instant) {
        if self.memory_until.take_if(|until| *until <= now).is_some() {
            self.memory.clear();
        }
        self.descriptors_until.take_if(|until| *until <= now);
    }

    pub(super) fn has_no_descriptor(&self) -> bool {
        self.descriptors_until.is_some()
    }
}

impl World {
    /// Before a turn: who waits for memory that there is.
    pub(super) fn note_fed(&mut self) {
        let there_is_some = self.pool.may_serve_waiting(self.now);
        for run in &mut self.runs {
            let is_fed = there_is_some && self.schedule.standing(run.token).is_some_and(|standing| standing.starved);
            run.fed_turns = if is_fed { run.fed_turns + 1 } else { 0 };
            run.fed_turns_most = run.fed_turns_most.max(run.fed_turns);
        }
    }

    /// Does what a session with packets wishes for.
    pub(super) fn grant(&mut self, number: usize, wish: Wish) {
        let (token, is_short) = (self.runs[number].token, self.scarcity.has_no_descriptor());
        match wish {
            Wish::Dial { leg, target } if is_short => {
                self.runs[number].was_short = true;
                let _ = target;
                let (schedule, mut lent) = self.parts();
                let failure = DialFailure::NoResources;
                schedule.call(token, &mut lent, |session, cx| session.on_dial_failed(leg, failure, cx));
            }
            Wish::Dial { leg, target } => self.connect(number, leg, target.port),
            Wish::Resolve { leg, target } => {
                let (schedule, mut lent) = self.parts();
                schedule.call(token, &mut lent, |session, cx| session.on_resolved(leg, &target, Ok(ANSWERER), cx));
            }
            Wish::BindUdp { leg, .. } if is_short => {
                self.runs[number].was_short = true;
                let (schedule, mut lent) = self.parts();
                let failure = BindFailure::NoResources;
                schedule.call(token, &mut lent, |session, cx| session.on_bound(leg, Err(failure), cx));
            }
            Wish::BindUdp { leg, global_id, .. } => {
                let net = Rc::new(RefCell::new(Net::default()));
                let socket = SimDatagrams(Rc::clone(&net));
                self.runs[number].outlets.push(Outlet { leg, end: End::Udp(global_id, net) });
                let (schedule, mut lent) = self.parts();
                schedule.call(token, &mut lent, |session, cx| session.on_bound(leg, Ok(socket), cx));
            }
            Wish::DialFallback { .. } => panic!("inside there are no fallbacks"),
            Wish::Enter { .. } => panic!("nobody is announced"),
            // What was wished for came at once.
            Wish::Cancel { .. } => {}
        }
    }

    /// A target inside Mux, which is there at once.
    fn connect(&mut self, number: usize, leg: Leg, port: u16) {
        let rng = self.rng.fork();
        let run = &mut self.runs[number];
        let script = run.inner_targets.iter().find(|(of, _)| *of == port).map(|(_, script)| script.clone());
        let manners = run.target.link.borrow().manners.clone();
        let link = Rc::new(RefCell::new(Link::new(manners, self.rng.fork())));
        let mut peer = Peer::new(Rc::clone(&link), None, script.expect("a target nobody asked for"), rng);
        peer.read_max = run.target.read_max;
        run.outlets.push(Outlet { leg, end: End::Tcp(port, Box::new(peer)) });
        let token = run.token;
        let (schedule, mut lent) = self.parts();
        schedule.call(token, &mut lent, |session, cx| session.on_connected(leg, SimSocket(link), cx));
    }

    /// Something happens to a target inside Mux or to a UDP socket; false if nothing can.
    pub(super) fn act_outlet(&mut self, number: usize) -> bool {
        let (now, count) = (self.now, self.runs[number].outlets.len());
        if count == 0 {
            return false;
        }
        let (first, events_first) = (self.rng.below(count), self.rng.percent(50));
        for place in 0..count {
            let run = &mut self.runs[number];
            let (token, is_over, outlet) = (run.token, run.record.is_some(), &mut run.outlets[(first + place) % count]);
            if !events_first && outlet.happens(now) {
                return true;
            }
            let event = if is_over { None } else { outlet.take_event() };
            let leg = outlet.leg;
            if let Some(event) = event {
                self.deliver(token, leg, event);
                return true;
            }
            if events_first && self.runs[number].outlets[(first + place) % count].happens(now) {
                return true;
            }
        }
        false
    }
}
