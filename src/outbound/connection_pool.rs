//! Connected, never-used spare connections to targets in steady demand, of one worker.
//!
//! A socket that carried one byte belongs to the session that used it. This pool holds only sockets on which nothing
//! was sent and from which nothing was read. It looks at each once more before it hands it over. It keeps as many as
//! the demand for each address justifies ([`demand`]) within its limits. It closes those that demand, age or a shortage
//! do not leave room for.
//!
//! It knows no session. It reaches sockets only through a [`Connector`], so the same code runs on simulated ones.
//!
//! Invariants:
//!
//! - A spare is in the roster once. It is also in its target's list of ready ones, or else in its target's count of
//!   those being connected. Handing over takes it out of both.
//! - Spares, ready and connecting, never exceed the room given by [`ConnectionPool::set_room`].

mod closing;
mod connector;
pub mod demand;
mod settings;
pub mod target;
pub mod targets;

pub use self::connector::{ConnectState, Connector, Waiting};
pub use self::settings::PoolSettings;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::target::Standing;
use self::targets::Targets;
use crate::io::roster::Roster;
use crate::io::sockopt::is_shortage;
use crate::io::token::{Kind, Token};
use crate::stats::Counters;

/// The leg that marks a dial's token as a spare's. Connection attempts of dials have much lower ones.
pub const SPARE_LEG: usize = 4095;
/// The leg of the wake-up that [`ConnectionPool::next_tick`] asks for.
pub const TICK_LEG: usize = 4094;

/// How often ages, demand and health are looked at while there are spares.
const TICK: Duration = Duration::from_secs(1);

/// What the pool needs in every call.
pub struct PoolContext<'a, C> {
    pub connector: &'a mut C,
    pub now: Instant,
    pub counters: &'a Counters,
}

/// The spares of one worker.
pub struct ConnectionPool<S> {
    /// `None`: no spares are kept. What is known of targets still orders the addresses of names.
    settings: Option<PoolSettings>,
    targets: Targets,
    spares: Roster<Spare<S>>,
    connecting: usize,
    /// Spares that may be there now, at most `settings.spares_max`.
    room: usize,
    /// No spare is opened any more, whatever the settings become.
    is_closed: bool,
}

struct Spare<S> {
    address: SocketAddr,
    socket: S,
    /// When connecting began, or ended.
    since: Instant,
    is_connected: bool,
    checked: Instant,
}

impl<S> ConnectionPool<S> {
    /// An empty pool. Without settings it stays empty.
    pub fn new(settings: Option<PoolSettings>) -> Self {
        let room = settings.as_ref().map_or(0, |settings| settings.spares_max);
        let (targets, spares) = (Targets::default(), Roster::new(Kind::Dial));
        Self { settings, targets, spares, connecting: 0, room, is_closed: false }
    }

    /// Obeys other settings from now on. `None`: keeps no spares. Spares beyond the new limits and those that are not
    /// permitted any more are closed. What is known of targets stays.
    pub fn adopt<C: Connector<Socket = S>>(&mut self, settings: Option<PoolSettings>, cx: &mut PoolContext<'_, C>) {
        if self.is_closed {
            return;
        }
        let was_enabled = self.settings.is_some();
        let Some(figures) = &settings else {
            self.close_unneeded(cx.counters);
            self.settings = None;
            return;
        };
        // What others leave free is known already, unless there was no pool to tell.
        let room = if was_enabled { self.room } else { figures.spares_max };
        self.settings = settings;
        self.set_room(room, cx.counters);
        for token in self.spares.tokens() {
            let Some(address) = self.spares.get(token).map(|spare| spare.address) else { continue };
            let is_named = self.targets.find(address).is_some_and(|target| target.named_spares(cx.now) > 0);
            if !is_named && !cx.connector.permits(address) {
                self.close(token, &cx.counters.spares_closed_unneeded, cx.counters);
            }
        }
        self.publish(cx.counters);
    }

    /// Spares are kept, as far as demand goes.
    pub fn is_enabled(&self) -> bool {
        self.settings.is_some()
    }

    /// Spares ready and being connected.
    pub fn len(&self) -> usize {
        self.spares.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spares.is_empty()
    }

    /// Puts the addresses of a name, all of one family, into the order in which they should be tried.
    pub fn order(&self, addresses: &mut [IpAddr], port: u16, now: Instant) {
        self.targets.order(addresses, port, now);
    }

    /// What a dial to `address` may expect.
    pub fn standing(&self, address: SocketAddr, now: Instant) -> Standing {
        self.targets.standing(address, now)
    }

    /// A connection to `address` that was never used, if there is one that is young enough and alive.
    pub fn take<C: Connector<Socket = S>>(&mut self, address: SocketAddr, cx: &mut PoolContext<'_, C>) -> Option<S> {
        let settings = self.settings.as_ref()?;
        let target = self.targets.find(address)?;
        let usable = settings.usable(target, cx.now);
        let mut taken = None;
        while let Some(spare) = target.idle.pop_front().and_then(|token| self.spares.remove(token)) {
            let age = cx.now.saturating_duration_since(spare.since);
            if age > usable {
                cx.counters.spares_closed_too_old.add(1);
            } else if cx.connector.look(&spare.socket) == Waiting::Ended {
                cx.counters.spares_closed_at_hand_over.add(1);
                target.on_spare_died(age, cx.now);
            } else {
                target.on_spare_used();
                taken = Some(spare.socket);
                break;
            }
        }
        self.publish(cx.counters);
        taken
    }

    /// A session was given a connection to `address`. `connect_time` is what it took, `None` for a spare. Demand may
    /// justify new spares now.
    pub fn on_dialled<C: Connector<Socket = S>>(
        &mut self,
        address: SocketAddr,
        connect_time: Option<Duration>,
        cx: &mut PoolContext<'_, C>,
    ) {
        let Some(target) = self.targets.entry(address, cx.now) else { return };
        if let Some(connect_time) = connect_time {
            target.on_connected(connect_time);
        }
        target.on_dialled(cx.now, self.settings.as_ref().map_or(Duration::ZERO, |settings| settings.idle_max));
        self.refill(address, cx);
        self.publish(cx.counters);
    }

    /// Connecting to `address` for a session failed.
    pub fn on_failed(&mut self, address: SocketAddr, now: Instant) {
        if let Some(target) = self.targets.entry(address, now) {
            target.on_failed(now);
        }
    }

    /// The operator named a target that has this address. `socket` was connected to it and becomes its first spare.
    pub fn keep_warm<C: Connector<Socket = S>>(
        &mut self,
        address: SocketAddr,
        mut socket: S,
        cx: &mut PoolContext<'_, C>,
    ) {
        let Some(settings) = &self.settings else { return };
        let (spares, until) = (settings.warm_up_spares, cx.now + settings.idle_max);
        if self.spares.len() >= self.room {
            return;
        }
        let Some(target) = self.targets.entry(address, cx.now) else { return };
        target.keep_warm(spares, until);
        let Some(vacancy) = self.spares.vacancy() else { return };
        if cx.connector.watch(&mut socket, vacancy.token().with_leg(SPARE_LEG)).is_err() {
            return;
        }
        cx.counters.spare_attempts.add(1);
        cx.counters.spares_connected.add(1);
        target.idle.push_back(vacancy.insert(Spare {
            address,
            socket,
            since: cx.now,
            is_connected: true,
            checked: cx.now,
        }));
        self.refill(address, cx);
        self.publish(cx.counters);
    }

    /// Something happened on the socket of a spare.
    pub fn on_event<C: Connector<Socket = S>>(&mut self, token: Token, cx: &mut PoolContext<'_, C>) {
        // Spares are known by their token without a leg.
        let token = token.with_leg(0);
        let Some(spare) = self.spares.get(token) else { return };
        if spare.is_connected {
            self.check(token, cx);
        } else {
            match cx.connector.state(&spare.socket) {
                ConnectState::Pending => {}
                ConnectState::Connected => {
                    self.on_spare_connected(token, cx);
                    // What came together with the connection has no event of its own.
                    self.check(token, cx);
                }
                ConnectState::Failed => self.on_spare_failed(token, cx),
            }
        }
        self.publish(cx.counters);
    }

    /// The wake-up that [`ConnectionPool::next_tick`] asked for has come. Closes spares that are too old or not needed,
    /// and opens others for those that are needed.
    pub fn on_tick<C: Connector<Socket = S>>(&mut self, cx: &mut PoolContext<'_, C>) {
        let Some(settings) = self.settings.clone() else { return };
        for token in self.spares.tokens() {
            let Some(spare) = self.spares.get(token) else { continue };
            let (address, age) = (spare.address, cx.now.saturating_duration_since(spare.since));
            if !spare.is_connected {
                if age >= settings.connect_timeout {
                    self.on_spare_failed(token, cx);
                }
                continue;
            }
            let is_due = cx.now.saturating_duration_since(spare.checked) >= settings.health_check_interval;
            let Some(target) = self.targets.find(address) else { continue };
            let usable = settings.usable(target, cx.now);
            let wanted = settings.wanted(target, address.port(), cx.now);
            let is_surplus = target.idle.len() + target.connecting > wanted;
            // The estimate goes up and down by one or two. A spare that it will want again soon is not closed for that.
            if is_surplus && (wanted == 0 || age >= usable / 2) {
                self.close(token, &cx.counters.spares_closed_unneeded, cx.counters);
            } else if age > usable {
                self.close(token, &cx.counters.spares_closed_too_old, cx.counters);
                self.refill(address, cx);
            } else if is_due {
                self.check(token, cx);
            }
        }
        self.publish(cx.counters);
    }

    /// When [`ConnectionPool::on_tick`] should be called next.
    pub fn next_tick(&self, now: Instant) -> Option<Instant> {
        (!self.spares.is_empty()).then_some(now + TICK)
    }

    fn on_spare_connected<C: Connector<Socket = S>>(&mut self, token: Token, cx: &mut PoolContext<'_, C>) {
        let Some(spare) = self.spares.get_mut(token) else { return };
        let connect_time = cx.now.saturating_duration_since(spare.since);
        spare.is_connected = true;
        spare.since = cx.now;
        spare.checked = cx.now;
        self.connecting -= 1;
        cx.counters.spares_connected.add(1);
        if let Some(target) = self.targets.find(spare.address) {
            target.connecting -= 1;
            target.idle.push_back(token);
            target.on_connected(connect_time);
        }
    }

    fn on_spare_failed<C: Connector<Socket = S>>(&mut self, token: Token, cx: &mut PoolContext<'_, C>) {
        let Some(address) = self.spares.get(token).map(|spare| spare.address) else { return };
        self.close(token, &cx.counters.spare_failures, cx.counters);
        if let Some(target) = self.targets.find(address) {
            target.on_failed(cx.now);
        }
    }

    /// Looks at a ready spare: closes a dead one, and learns what that says about its target.
    fn check<C: Connector<Socket = S>>(&mut self, token: Token, cx: &mut PoolContext<'_, C>) {
        let Some(spare) = self.spares.get_mut(token) else { return };
        spare.checked = cx.now;
        let (address, age) = (spare.address, cx.now.saturating_duration_since(spare.since));
        let Some(target) = self.targets.find(address) else { return };
        match cx.connector.look(&spare.socket) {
            Waiting::Nothing => {}
            Waiting::Bytes => target.on_spoke_first(cx.now),
            Waiting::Ended => {
                target.on_spare_died(age, cx.now);
                self.close(token, &cx.counters.spares_closed_by_target, cx.counters);
                self.refill(address, cx);
            }
        }
    }

    /// Opens what demand justifies and limits allow.
    fn refill<C: Connector<Socket = S>>(&mut self, address: SocketAddr, cx: &mut PoolContext<'_, C>) {
        let Some(settings) = &self.settings else { return };
        let Some(target) = self.targets.find(address) else { return };
        let wanted = settings.wanted(target, address.port(), cx.now);
        let mut missing = wanted.saturating_sub(target.idle.len() + target.connecting);
        if missing == 0 {
            return;
        }
        let is_named = target.named_spares(cx.now) > 0;
        let is_fit = is_named || (!self.targets.looks_scanned(address.ip()) && cx.connector.permits(address));
        if !is_fit {
            return;
        }
        while missing > 0 && self.spares.len() < self.room {
            missing -= 1;
            let Some(vacancy) = self.spares.vacancy() else { return };
            cx.counters.spare_attempts.add(1);
            match cx.connector.connect(address, vacancy.token().with_leg(SPARE_LEG)) {
                Ok(socket) => {
                    vacancy.insert(Spare { address, socket, since: cx.now, is_connected: false, checked: cx.now });
                    self.connecting += 1;
                    if let Some(target) = self.targets.find(address) {
                        target.connecting += 1;
                    }
                }
                Err(error) => {
                    cx.counters.spare_failures.add(1);
                    // A shortage of ours says nothing about the target.
                    if let Some(target) = self.targets.find(address).filter(|_| !is_shortage(&error)) {
                        target.on_failed(cx.now);
                    }
                    return;
                }
            }
        }
    }

    fn publish(&self, counters: &Counters) {
        counters.spares_idle.set((self.spares.len() - self.connecting) as u64);
        counters.spares_connecting.set(self.connecting as u64);
        counters.pool_targets.set(self.targets.len() as u64);
    }
}

#[cfg(test)]
mod tests;
