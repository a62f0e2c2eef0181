//! The dialer's side of the connection pool: spares for dials, demand for the pool, and warming up.
//!
//! A dial asks for a spare where it would connect, behind the policy's check. So names and addresses are treated alike,
//! and a target that the policy refuses by now is refused although a spare is there.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::connector::TcpConnector;
use super::families::family_of;
use super::race::Begin;
use super::rules::Prefer;
use super::under_way::{Authority, Dial, Purpose};
use super::{DialError, Dialed, Dialer};
use crate::io::alarm::Alarm;
use crate::io::token::{Kind, Token};
use crate::outbound::connection_pool::target::Standing;
use crate::outbound::connection_pool::{ConnectionPool, PoolContext, TICK_LEG};
use crate::outbound::context::DialContext;
use crate::outbound::routes::Way;
use crate::session::Target;
use crate::stats::Counters;

impl Dialer {
    /// Connects to targets that the operator named and keeps spares for them.
    pub fn warm_up(&mut self, targets: &[Target], cx: &mut DialContext<'_>) {
        for target in targets {
            self.start(Authority::Operator, target, Purpose::Connect, cx);
        }
    }

    /// Changes how many spares there may be. Those beyond are closed.
    pub fn set_spare_room(&mut self, spares_max: usize, counters: &Counters) {
        self.pool.set_room(spares_max, counters);
    }

    /// Closes all spares in order and keeps none from now on.
    pub fn close_pool(&mut self, counters: &Counters) {
        self.pool.close_all(counters);
    }

    /// Spares ready and being connected.
    pub fn spares(&self) -> usize {
        self.pool.len()
    }

    /// Decides which family a dial to a name begins with. It is the preferred one, unless its best address failed of
    /// late or has no route. If the operator prefers none, it is also the other one where only that has a spare.
    pub(super) fn choose_family(&mut self, token: Token, now: Instant) {
        let prefer = self.rules.prefer;
        let Some(dial) = self.dials.get_mut(token) else { return };
        let Some((preferred, other)) = dial.race.choice() else { return };
        let standing = |ip| match self.judge.way(ip) {
            Way::Nowhere => Standing::Resting,
            _ => self.pool.standing(SocketAddr::new(ip, dial.target.port), now),
        };
        let is_better = match (standing(preferred), standing(other)) {
            (Standing::Ready, _) | (_, Standing::Resting) => false,
            (Standing::Resting, _) => true,
            // Datagrams have no use for a spare.
            (_, other) => dial.purpose == Purpose::Connect && prefer == Prefer::Auto && other == Standing::Ready,
        };
        dial.race.begin(if is_better { Begin::Other } else { Begin::Preferred });
    }

    /// A spare for a dial of a client that began at `started`, counted as a hit.
    pub(super) fn take_spare(
        &mut self,
        authority: Authority,
        address: SocketAddr,
        started: Instant,
        cx: &mut DialContext<'_>,
    ) -> Option<Dialed> {
        if self.pool.is_empty() || !authority.takes_spares() {
            return None;
        }
        let socket = self.with_pool(cx, |pool, cx| {
            let socket = pool.take(address, cx)?;
            pool.on_dialled(address, None, cx);
            Some(socket)
        })?;
        cx.counters.pool_hits.add(1);
        let connect_time = cx.now.saturating_duration_since(started);
        Some(Dialed { socket, peer: address, connect_time, is_spare: true })
    }

    /// A dial connected to `address` in `connect_time`.
    pub(super) fn on_connected(
        &mut self,
        authority: Authority,
        address: SocketAddr,
        connect_time: Duration,
        cx: &mut DialContext<'_>,
    ) {
        self.families.on_answered(family_of(address.ip()));
        if authority.takes_spares() {
            cx.counters.dials_connected_directly.add(1);
            self.with_pool(cx, |pool, cx| pool.on_dialled(address, Some(connect_time), cx));
        }
    }

    /// A dial of a client ended without a spare. One that reached no address was no matter for the pool.
    pub(super) fn count_miss(&self, dial: &Dial, cx: &DialContext<'_>) {
        if dial.reached_address && self.pool.is_enabled() && dial.authority.takes_spares() {
            cx.counters.pool_misses.add(1);
        }
    }

    pub(super) fn on_spare_event(&mut self, token: Token, cx: &mut DialContext<'_>) {
        self.with_pool(cx, |pool, cx| pool.on_event(token, cx));
    }

    pub(super) fn on_pool_tick(&mut self, cx: &mut DialContext<'_>) {
        if self.pool_alarm.fired(cx.now) {
            #[expect(clippy::redundant_closure_for_method_calls, reason = "the method itself is not general enough")]
            self.with_pool(cx, |pool, cx| pool.on_tick(cx));
        }
    }

    /// A dial for warming up ended. Its connection becomes the first spare of the target.
    pub(super) fn finish_warm_up(
        &mut self,
        target: &Target,
        result: Result<Dialed, DialError>,
        cx: &mut DialContext<'_>,
    ) {
        match result {
            Ok(dialed) => self.with_pool(cx, |pool, cx| pool.keep_warm(dialed.peer, dialed.socket, cx)),
            Err(error) => log::warn!("connection_pool.warmup_targets: {target}: {error}"),
        }
    }

    pub(super) fn with_pool<R>(
        &mut self,
        cx: &mut DialContext<'_>,
        call: impl FnOnce(&mut ConnectionPool<TcpStream>, &mut PoolContext<'_, TcpConnector<'_>>) -> R,
    ) -> R {
        let mut connector = TcpConnector {
            registry: cx.registry,
            bind: self.rules.bind,
            options: self.rules.options,
            judge: &self.judge,
        };
        let mut pool_cx = PoolContext { connector: &mut connector, now: cx.now, counters: cx.counters };
        let result = call(&mut self.pool, &mut pool_cx);
        if let Some(at) = self.pool.next_tick(cx.now) {
            Alarm::arm(&mut self.pool_alarm, at, pool_token(), cx.timers, cx.now);
        }
        result
    }
}

/// The pool's wake-up.
fn pool_token() -> Token {
    Token::new(Kind::Dial, 0, 0, TICK_LEG)
}
