//! Nodes with the real journal, leases and decisions against the model of the engine, on a network and disks that fail.
//!
//! Requests and answers get lost, arrive twice and arrive late; nodes crash at every step, their disks tear the last
//! line or lose what was not synced; the engine falls back to what it was some time ago; clocks differ. After healing the
//! engine's totals are the sums of what the nodes' journals took in and kept, to the byte, and no quota was passed by more
//! than the leases that were out and what crashes lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use vless_rust::cluster::journal::{AccountKey, Bytes, Store};
use vless_rust::cluster::lease::WhenAway;
use vless_rust::cluster::node::Node;
use vless_rust::cluster::report::Report;

use crate::model::Engine;
use crate::rng::Rng;

const SLICE_BYTES: u64 = 8 << 20;
const LEASE_MS: u64 = 30_000;
const CHUNK_BYTES_MAX: u64 = 1 << 20;

/// A disk that keeps what a crash leaves of it.
#[derive(Clone, Default)]
struct Disk(Rc<RefCell<DiskState>>);

#[derive(Default)]
struct DiskState {
    stored: Vec<u8>,
    /// Of `stored`, what would survive a loss of power, and what journals took in since.
    synced_bytes: usize,
    unsynced: BTreeMap<AccountKey, Bytes>,
    /// The next append stores only so many bytes and fails.
    tears_at: Option<usize>,
}

impl Store for Disk {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.borrow().stored.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if let Some(at) = disk.tears_at.take() {
            let part = bytes[..at.min(bytes.len() - 1)].to_vec();
            disk.stored.extend(part);
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.stored.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.synced_bytes = disk.stored.len();
        disk.unsynced.clear();
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().stored = bytes.to_vec();
        self.sync()
    }
}

fn add(sums: &mut BTreeMap<AccountKey, Bytes>, more: &BTreeMap<AccountKey, Bytes>) {
    for (account, bytes) in more {
        let sum = sums.entry(account.clone()).or_default();
        sum.up += bytes.up;
        sum.down += bytes.down;
    }
}

fn subtract(sums: &mut BTreeMap<AccountKey, Bytes>, less: &BTreeMap<AccountKey, Bytes>) {
    for (account, bytes) in less {
        let sum = sums.get_mut(account).expect("it was added before");
        sum.up -= bytes.up;
        sum.down -= bytes.down;
    }
}

struct Machine {
    name: String,
    node: Node<Disk>,
    disk: Disk,
    boot: u64,
    /// Counted by the data path and not taken in by the journal yet.
    uncounted: BTreeMap<AccountKey, Bytes>,
    clock_skew_ms: u64,
    partitioned_until_ms: u64,
}

/// A whole cluster.
struct World {
    rng: Rng,
    now_ms: u64,
    engine: Engine,
    machines: Vec<Machine>,
    accounts: Vec<AccountKey>,
    /// Requests on their way that will arrive, whether or not anybody still waits.
    late: Vec<(usize, Report)>,
    earlier: Option<Engine>,
    /// What journals took in.
    taken_in: BTreeMap<AccountKey, Bytes>,
    /// What clients of accounts with a quota were let through.
    let_through: BTreeMap<AccountKey, u64>,
    /// What of all traffic no journal has, because its machine has crashed.
    lost: BTreeMap<AccountKey, Bytes>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = 3 + rng.below(if seed.is_multiple_of(50) { 48 } else { 5 });
        let accounts: Vec<AccountKey> = (0..2 + rng.below(6)).map(|number| format!("account-{number}")).collect();
        let mut engine = Engine { now_ms: 1_000_000, lease_ms: LEASE_MS, ..Engine::default() };
        for account in accounts.iter().step_by(2) {
            engine.quotas.insert(account.clone(), (50 + rng.below(200)) as u64 * (1 << 20));
        }
        let mut world = Self {
            rng,
            now_ms: 1_000_000,
            engine,
            machines: Vec::new(),
            accounts,
            late: Vec::new(),
            earlier: None,
            taken_in: BTreeMap::new(),
            let_through: BTreeMap::new(),
            lost: BTreeMap::new(),
        };
        for number in 0..nodes {
            let disk = Disk::default();
            let node = Node::open(disk.clone(), 1, SLICE_BYTES, WhenAway::Refuse).unwrap();
            world.machines.push(Machine {
                name: format!("node-{number}"),
                node,
                disk,
                boot: 1,
                uncounted: BTreeMap::new(),
                clock_skew_ms: world.rng.below(1_000_000) as u64,
                partitioned_until_ms: 0,
            });
        }
        world
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.now_ms += self.rng.below(400) as u64;
            self.engine.now_ms = self.now_ms;
            let at = self.rng.below(self.machines.len());
            match self.rng.below(100) {
                0..50 => self.traffic(at),
                50..70 => self.count(at),
                70..90 => self.exchange(at),
                90..93 => self.arrive_late(),
                93..95 => self.crash(at),
                95..97 => self.machines[at].partitioned_until_ms = self.now_ms + self.rng.below(120_000) as u64,
                97..98 => self.machines[at].disk.0.borrow_mut().tears_at = Some(self.rng.below(60)),
                98..99 => self.earlier = Some(self.engine.clone()),
                _ => self.fall_back(),
            }
        }
    }

    /// A client moves some bytes, as far as the account's lease allows.
    fn traffic(&mut self, at: usize) {
        let account = self.accounts[self.rng.below(self.accounts.len())].clone();
        let bytes = 1 + self.rng.below(CHUNK_BYTES_MAX as usize) as u64;
        let machine = &mut self.machines[at];
        if self.engine.quotas.contains_key(&account) {
            let unjournaled = machine.uncounted.get(&account).map_or(0, |bytes| bytes.total());
            let now_ms = self.now_ms + machine.clock_skew_ms;
            let usable = machine.node.usable(&account, now_ms).map_or(0, |usable| usable.bytes);
            if unjournaled >= usable {
                return;
            }
            *self.let_through.entry(account.clone()).or_default() += bytes;
        }
        let counted = machine.uncounted.entry(account).or_default();
        if self.rng.below(2) == 0 { counted.up += bytes } else { counted.down += bytes }
    }

    fn count(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if machine.node.count(&machine.uncounted).is_ok() {
            let counted = std::mem::take(&mut machine.uncounted);
            let mut disk = machine.disk.0.borrow_mut();
            // A journal that has grown too long was written anew, and synced, with these bytes in it.
            if disk.stored.len() > disk.synced_bytes {
                add(&mut disk.unsynced, &counted);
            }
            add(&mut self.taken_in, &counted);
        }
    }

    /// One report, and what the network makes of it.
    fn exchange(&mut self, at: usize) {
        let quotas: BTreeMap<_, _> = self.engine.quotas.keys().map(|account| (account.clone(), 0)).collect();
        let machine = &mut self.machines[at];
        if machine.partitioned_until_ms > self.now_ms {
            return;
        }
        if machine.node.must_compare() || self.rng.below(4) == 0 {
            machine.node.on_applied(&self.engine.applied(&machine.name));
        }
        let now_ms = self.now_ms + machine.clock_skew_ms;
        let Ok(Some(report)) = machine.node.next_report(&quotas, now_ms) else { return };
        match self.rng.below(10) {
            0 => {}
            1 => self.late.push((at, report)),
            2 => {
                self.engine.report(&machine.name, &report);
            }
            fate => {
                let answer = self.engine.report(&machine.name, &report);
                let _ = machine.node.on_answer(&report, &answer, now_ms);
                if fate == 3 {
                    self.late.push((at, report));
                }
            }
        }
    }

    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let (at, report) = self.late.swap_remove(self.rng.below(self.late.len()));
            self.engine.report(&self.machines[at].name, &report);
        }
    }

    /// Everything in memory is gone; a line that was being written is torn. Without power, what was not synced is damaged
    /// or gone, too.
    fn crash(&mut self, at: usize) {
        let is_power_lost = self.rng.below(2) == 0;
        let machine = &mut self.machines[at];
        if self.rng.below(2) == 0 && !machine.uncounted.is_empty() {
            machine.disk.0.borrow_mut().tears_at = Some(self.rng.below(60));
            assert!(machine.node.count(&machine.uncounted).is_err());
        }
        machine.disk.0.borrow_mut().tears_at = None;
        add(&mut self.lost, &std::mem::take(&mut machine.uncounted));
        if is_power_lost {
            let mut disk = machine.disk.0.borrow_mut();
            let (unsynced, synced_bytes) = (std::mem::take(&mut disk.unsynced), disk.synced_bytes);
            subtract(&mut self.taken_in, &unsynced);
            add(&mut self.lost, &unsynced);
            match self.rng.below(2) {
                0 => disk.stored.truncate(synced_bytes),
                // The file has its length and not all of its bytes: some file systems do that.
                _ => disk.stored.iter_mut().skip(synced_bytes).take(50).for_each(|byte| *byte = 0),
            }
        }
        machine.boot += 1;
        machine.node = Node::open(machine.disk.clone(), machine.boot, SLICE_BYTES, WhenAway::Refuse).unwrap();
    }

    /// The engine fails over to a copy that lacks its latest writes.
    fn fall_back(&mut self) {
        if let Some(earlier) = self.earlier.take() {
            self.engine = Engine { now_ms: self.now_ms, ..earlier };
        }
    }

    /// Everything works again, until nobody has anything to say.
    fn heal(&mut self) {
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            machine.disk.0.borrow_mut().tears_at = None;
            machine.partitioned_until_ms = 0;
            self.count(at);
            let machine = &mut self.machines[at];
            for round in 0.. {
                assert!(round < 1000, "{} never has nothing to say", machine.name);
                machine.node.on_applied(&self.engine.applied(&machine.name));
                let Some(report) = machine.node.next_report(&BTreeMap::new(), self.now_ms).unwrap() else { break };
                let answer = self.engine.report(&machine.name, &report);
                machine.node.on_answer(&report, &answer, self.now_ms).unwrap();
            }
        }
    }

    fn verify(&self, seed: u64) {
        let lost: u64 = self.machines.iter().map(|machine| machine.node.lost_batches()).sum();
        assert_eq!(lost, 0, "seed {seed}: a batch was lost although no failure was that long");
        for account in &self.accounts {
            let counted = self.taken_in.get(account).copied().unwrap_or_default();
            let total = self.engine.used.get(account).cloned().unwrap_or_default();
            assert_eq!((total.up, total.down), (counted.up, counted.down), "seed {seed}: {account}");
        }
    }

    /// What clients were let through beyond their quotas.
    fn overshoots(&self) -> impl Iterator<Item = (&AccountKey, u64)> {
        self.let_through.iter().map(|(account, bytes)| (account, bytes.saturating_sub(self.engine.quotas[account])))
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SIM_SEED"), number("SIM_SESSIONS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 1..count.unwrap_or(500) + 1,
    }
}

#[test]
fn totals_are_exact_after_every_kind_of_failure() {
    for seed in seeds() {
        let mut world = World::new(seed);
        world.run(1500);
        world.heal();
        world.verify(seed);
    }
}

#[test]
fn without_engine_failures_no_quota_is_passed_by_more_than_the_leases_and_what_crashes_lost() {
    for seed in seeds() {
        let mut world = World::new(seed);
        for _ in 0..1500 {
            world.now_ms += world.rng.below(400) as u64;
            world.engine.now_ms = world.now_ms;
            let at = world.rng.below(world.machines.len());
            match world.rng.below(100) {
                0..50 => world.traffic(at),
                50..70 => world.count(at),
                70..94 => world.exchange(at),
                94..96 => world.arrive_late(),
                96..98 => world.crash(at),
                _ => world.machines[at].partitioned_until_ms = world.now_ms + world.rng.below(120_000) as u64,
            }
        }
        let nodes = world.machines.len() as u64;
        for (account, over) in world.overshoots() {
            let lost = world.lost.get(account).map_or(0, |bytes| bytes.total());
            assert!(over <= nodes * (SLICE_BYTES + CHUNK_BYTES_MAX) + lost, "seed {seed}: {over} bytes over");
        }
    }
}
