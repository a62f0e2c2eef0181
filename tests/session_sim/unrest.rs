//! Several workers with common users, wave after wave of sessions, while rules are replaced and sessions are cut by
//! their number, by user and by source.
//!
//! Each worker is a world of its own, with the scheduler of the server, and takes over rules in its own time. Sessions
//! of a user who was removed are cut. Whatever happens: nobody hears a byte that was not said, every byte is counted
//! once for the worker and once for the user, and in the end nothing is held.
//!
//! `SIM_SESSIONS=100000` runs that many sessions of one seed, `SIM_SEED=17` takes another seed.

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use vless_rust::inbound::users::Barred;
use vless_rust::io::buffer_memory::BufferMemory;
use vless_rust::io::buffer_pool::BufferPool;
use vless_rust::io::splice::PipePool;
use vless_rust::session::close::CloseReason;
use vless_rust::session::{Flow, User, Users};
use vless_rust::stats::Ledger;

use super::sim::peer::Op;
use super::sim::rng::Rng;
use super::sim::run::Run;
use super::sim::tls::ClientTls;
use super::sim::verify::verify;
use super::sim::world::{Plan, Plant, TIMEOUTS, World};

const WORKERS: usize = 3;
/// Sessions of one worker in a wave, at the most.
const SESSIONS_MAX: usize = 6;
/// Of an everyday run.
const SESSIONS: usize = 300;
const IDS: [[u8; 16]; 3] = [*b"the first user's", *b"the other user's", *b"the third user's"];

/// One of so many steps is followed by something from outside.
const STEPS_PER_UNREST: usize = 1500;

/// Workers, and what they have in common.
struct Fleet {
    worlds: Vec<World>,
    rng: Rng,
    ledgers: Vec<Arc<Ledger>>,
    /// Which users there are by the newest rules, and whether each worker has taken those over.
    present: [bool; 3],
    is_behind: [bool; WORKERS],
    done: Done,
}

/// What has happened so far.
#[derive(Default, Debug, PartialEq, Eq)]
struct Done {
    sessions: usize,
    accepted: u64,
    uplink_bytes: u64,
    downlink_bytes: u64,
    reloads: usize,
    cut: usize,
    finished: usize,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let memory = Arc::new(BufferMemory::new(1 << 30, WORKERS));
        let worlds = (0..WORKERS).map(|worker| {
            // Two of three speak TLS.
            let mut world = World::new(seed * 31 + worker as u64, worker > 0);
            world.worker = worker;
            world.pool = BufferPool::with_memory(Arc::clone(&memory));
            world.pipes = (worker != 1).then(PipePool::new);
            world
        });
        let mut fleet = Self {
            worlds: worlds.collect(),
            rng: Rng::new(seed),
            ledgers: IDS.iter().map(|_| Arc::new(Ledger::new(WORKERS))).collect(),
            present: [true; 3],
            is_behind: [true; WORKERS],
            done: Done::default(),
        };
        (0..WORKERS).for_each(|worker| fleet.adopt(worker));
        fleet
    }

    /// The users that there are; the others are known and barred.
    fn users(&self) -> Users {
        let all = || IDS.iter().zip(&self.ledgers).zip(self.present);
        let present = all().filter(|(_, is_present)| *is_present).map(|((id, ledger), _)| User {
            id: *id,
            email: format!("user {}", id[4]),
            flow: Flow::None,
            ledger: Arc::clone(ledger),
        });
        let users = Users::new(present.collect::<Vec<_>>()).unwrap();
        users.with_barred(all().filter(|(_, is_present)| !is_present).map(|((id, _), _)| (*id, Barred::Disabled)))
    }

    /// A worker takes over the newest rules, and cuts who is no user any more.
    fn adopt(&mut self, worker: usize) {
        let users = Arc::new(self.users());
        let longer = Duration::from_secs(self.rng.below(60) as u64);
        let world = &mut self.worlds[worker];
        let mut settings = world.settings.clone();
        settings.users = users;
        settings.read_bytes_max = self.rng.pick(&[4096, 16 << 10, 128 << 10]);
        settings.timeouts.idle = TIMEOUTS.idle + longer;
        settings.timeouts.write_stall = TIMEOUTS.write_stall + longer;
        world.adopt(settings);
        for run in world.runs.iter_mut().filter(|run| run.wished.is_none()) {
            run.reasons.push(CloseReason::UserDisabled);
        }
        self.is_behind[worker] = false;
        for (ledger, is_present) in self.ledgers.iter().zip(self.present) {
            let is_removed = |user: &Arc<User>| !is_present && Arc::ptr_eq(&user.ledger, ledger);
            self.done.cut += world.cut_where(CloseReason::UserRemoved, |_, user| user.is_some_and(is_removed));
        }
    }

    /// Something comes from outside.
    fn disturb(&mut self) {
        let which = self.rng.below(IDS.len());
        match self.rng.below(4) {
            0 => {
                let world = self.rng.below(WORKERS);
                let numbers: Vec<_> = (0..self.worlds[world].runs.len()).collect();
                if numbers.is_empty() {
                    return;
                }
                let number = self.rng.pick(&numbers);
                let world = &mut self.worlds[world];
                if world.ended(number).is_none() {
                    world.runs[number].reasons.push(CloseReason::Cut);
                    world.cut(number, CloseReason::Cut);
                    self.done.cut += 1;
                }
            }
            1 => {
                let ledger = Arc::clone(&self.ledgers[which]);
                let is_meant = |user: &Arc<User>| Arc::ptr_eq(&user.ledger, &ledger);
                for world in &mut self.worlds {
                    self.done.cut += world.cut_where(CloseReason::Cut, |_, user| user.is_some_and(is_meant));
                }
            }
            2 => {
                let source = std::net::IpAddr::from([127, 0, 0, 1 + which as u8]);
                for world in &mut self.worlds {
                    self.done.cut += world.cut_where(CloseReason::Cut, |client, _| client == source);
                }
            }
            _ => {
                self.present = [(); 3].map(|()| self.rng.percent(85));
                self.is_behind = [true; WORKERS];
                self.done.reloads += 1;
            }
        }
    }

    /// Some sessions on every worker, from their first packet to the end of the last.
    fn wave(&mut self) {
        for world in &mut self.worlds {
            world.begin_wave();
            let kind = ClientTls {
                tls13: self.rng.percent(70),
                fragment: self.rng.pick(&[None, None, Some(600)]),
                post_quantum: false,
            };
            let config = world.settings.tls.is_some().then(|| kind.config());
            for _ in 0..self.rng.up_to(SESSIONS_MAX) {
                let mut rng = self.rng.fork();
                let mut plan = Plan::random(&mut rng, config.clone(), world.now);
                speak_as(&mut plan, &IDS[rng.below(IDS.len())]);
                if self.present != [true; 3] || self.is_behind != [false; WORKERS] {
                    plan.reasons.extend([CloseReason::UnknownUser, CloseReason::UserDisabled]);
                }
                world.admit(plan);
            }
        }
        while self.worlds.iter().any(World::lives) {
            self.step();
        }
        self.verify();
    }

    fn step(&mut self) {
        if self.rng.below(STEPS_PER_UNREST) == 0 {
            self.disturb();
        }
        let worker = self.rng.below(WORKERS);
        if self.is_behind[worker] && self.rng.percent(2) {
            self.adopt(worker);
        }
        if self.worlds[worker].lives() && self.worlds[worker].step() {
            return;
        }
        if self.worlds.iter_mut().any(|world| world.lives() && world.step()) {
            return;
        }
        // Nobody can do anything now, so time goes on for whoever is behind.
        let mut worlds: Vec<_> = self.worlds.iter_mut().filter(|world| world.lives()).collect();
        worlds.sort_by_key(|world| world.now - world.start);
        let goes_on = worlds.iter_mut().any(|world| world.jump(None));
        let standings = || worlds.iter().map(|world| world.describe()).collect::<String>();
        assert!(goes_on || worlds.is_empty(), "nothing can ever happen again:\n{}", standings());
    }

    /// What must be true of the sessions of a wave.
    fn verify(&mut self) {
        for world in &mut self.worlds {
            for number in 0..world.runs.len() {
                let run = &mut world.runs[number];
                run.client.hear_rest();
                run.target.hear_rest();
                if let Err(fault) = check(run) {
                    panic!("session {number}: {fault}\n{}", world.describe());
                }
                let run = &world.runs[number];
                let record = run.record.as_ref().unwrap();
                self.done.sessions += 1;
                self.done.accepted += u64::from(run.wished.is_some());
                self.done.uplink_bytes += record.uplink.payload_bytes;
                self.done.downlink_bytes += record.downlink.payload_bytes;
                self.done.finished += usize::from(record.reason == CloseReason::Finished);
            }
            assert_eq!((world.pool.held(), world.pool.held_bytes()), (0, 0), "buffers were kept");
            assert_eq!(world.pipes.as_ref().map_or(0, PipePool::in_use), 0, "pipes were kept");
        }
        let sum = |counter: &dyn Fn(&World) -> u64| self.worlds.iter().map(counter).sum::<u64>();
        let workers = [
            sum(&|world| world.counters.requests_accepted.value()),
            sum(&|world| world.counters.uplink_bytes.value()),
            sum(&|world| world.counters.downlink_bytes.value()),
        ];
        let expected = [self.done.accepted, self.done.uplink_bytes, self.done.downlink_bytes];
        assert_eq!(workers, expected, "requests and bytes of the workers");
        let totals: Vec<_> = self.ledgers.iter().map(|ledger| ledger.totals()).collect();
        let users = [
            totals.iter().map(|user| user.sessions_total).sum::<u64>(),
            totals.iter().map(|user| user.uplink_bytes).sum(),
            totals.iter().map(|user| user.downlink_bytes).sum(),
        ];
        assert_eq!(users, expected, "requests and bytes of the users");
        assert_eq!(totals.iter().map(|user| user.sessions_active).sum::<u64>(), 0, "sessions of users");
    }
}

/// Has the client ask as this user; bytes 6 and 7 stay what they are.
fn speak_as(plan: &mut Plan, id: &[u8; 16]) {
    let mut offset = 0;
    for op in &mut plan.client {
        let Op::Header(bytes) = op else { continue };
        for byte in bytes {
            if (1..17).contains(&offset) && !(7..9).contains(&offset) {
                *byte = id[offset - 1];
            }
            offset += 1;
        }
    }
}

/// Says what is wrong with a session that has ended. One that was cut may have been so anywhere.
fn check(run: &Run) -> Result<(), String> {
    let record = run.record.as_ref().ok_or("never ended")?;
    if !matches!(record.reason, CloseReason::Cut | CloseReason::UserRemoved) {
        return verify(run, false);
    }
    let payload = run.client.heard.get(2..).unwrap_or_default();
    let holds = [
        run.reasons.contains(&record.reason),
        run.client.said.starts_with(&run.target.heard),
        run.target.said.starts_with(payload),
        [0, 0].starts_with(&run.client.heard[..run.client.heard.len().min(2)]),
        record.uplink.payload_bytes == run.target.heard.len() as u64,
        record.downlink.payload_bytes == payload.len() as u64,
    ];
    if holds.contains(&false) { Err(format!("cut, and not as it should be: {holds:?}")) } else { Ok(()) }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn reloads_and_cuts_on_several_workers_lose_nothing_and_leave_nothing() {
    let seed = number("SIM_SEED").unwrap_or(1);
    let sessions = number("SIM_SESSIONS").map_or(SESSIONS, |number| number as usize);
    let mut fleet = Fleet::new(seed);
    while fleet.done.sessions < sessions {
        fleet.wave();
    }
    let done = &fleet.done;
    println!("{done:?}");
    assert!(done.cut > 0 && done.reloads > 0 && done.finished > sessions / 6, "{done:?}");
}

#[test]
fn a_wake_up_that_is_lost_among_reloads_and_cuts_is_found() {
    let found = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut fleet = Fleet::new(1);
        fleet.worlds.iter_mut().for_each(|world| world.plant = Some(Plant::TurnLost));
        while fleet.done.sessions < SESSIONS {
            fleet.wave();
        }
    }));
    assert!(found.is_err(), "a turn that is lost does no harm");
}

#[test]
fn a_seed_of_the_fleet_gives_the_same_run_again() {
    let run = || {
        let mut fleet = Fleet::new(5);
        while fleet.done.sessions < SESSIONS / 4 {
            fleet.wave();
        }
        fleet.done
    };
    assert_eq!(run(), run());
}
