//! The dialer's side of the connection pool: spares for dials, demand for the pool, and warming up.
//!
//! A dial asks for a spare where it would connect, behind the policy's check, so that names and addresses are treated
//! alike and a target that the policy refuses by now is refused although a spare is there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::race::Begin;
use super::socket::{self, Progress};
use super::{Dial, DialContext, DialError, Dialed, Dialer, Prefer, Purpose};
use crate::io::alarm::Alarm;
use crate::io::sockopt::SocketOptions;
use crate::io::token::{Kind, Token};
use crate::outbound::connection_pool::target::Standing;
use crate::outbound::connection_pool::{
    ConnectState, ConnectionPool, Connector, PoolContext, PoolSettings, TICK_LEG, Waiting,
};
use crate::outbound::policy::{DestinationPolicy, Refusal};
use crate::session::Target;
use crate::stats::Counters;

impl Dialer {
    /// Keeps spares from now on.
    pub fn enable_pool(&mut self, settings: PoolSettings) {
        self.pool = ConnectionPool::new(Some(settings));
    }

    /// Connects to targets that the operator named and keeps spares for them.
    pub fn warm_up(&mut self, targets: &[Target], cx: &mut DialContext<'_>) {
        for target in targets {
            self.start(pool_token(), target, Purpose::Connect, cx);
        }
    }

    /// Changes how many spares there may be; those beyond are closed.
    pub fn set_spare_room(&mut self, spares_max: usize, counters: &Counters) {
        self.pool.set_room(spares_max, counters);
    }

    /// Takes one from `room`, the descriptors that were left for look-ups of late; more give way where it is used up.
    pub(super) fn has_room(&mut self, room: &mut usize, cx: &DialContext<'_>) -> bool {
        if *room == 0 && self.make_room(cx.counters) {
            *room = SPARES_PER_SHORTAGE;
        }
        let has_room = *room > 0;
        *room = room.saturating_sub(1);
        has_room
    }

    /// Closes some spares because somebody needs descriptors; true if there were any.
    pub fn give_up_spares(&mut self, counters: &Counters) -> bool {
        self.pool.give_up(SPARES_PER_SHORTAGE, counters)
    }

    /// Closes all spares in order and keeps none from now on.
    pub fn close_pool(&mut self, counters: &Counters) {
        self.pool.close_all(counters);
    }

    /// Spares ready and being connected.
    pub fn spares(&self) -> usize {
        self.pool.len()
    }

    /// Lets a dial to a name begin with the family that is not preferred where that is known to be better: where the
    /// preferred one's best address failed of late, and, if the operator prefers none, where only the other has a spare.
    pub(super) fn choose_family(&mut self, token: Token, now: Instant) {
        let prefer = self.settings.prefer;
        let dial = self.dials.get_mut(token.index()).filter(|dial| dial.generation == token.generation());
        let Some(dial) = dial.filter(|dial| dial.purpose == Purpose::Connect) else { return };
        let Some((preferred, other)) = dial.race.choice() else { return };
        let standing = |ip| self.pool.standing(SocketAddr::new(ip, dial.target.port), now);
        let is_better = match (standing(preferred), standing(other)) {
            (Standing::Ready, _) | (_, Standing::Resting) => false,
            (Standing::Resting, _) => true,
            (_, other) => prefer == Prefer::Auto && other == Standing::Ready,
        };
        dial.race.begin(if is_better { Begin::Other } else { Begin::Preferred });
    }

    /// A spare for a dial of a client that began at `started`, counted as a hit.
    pub(super) fn take_spare(
        &mut self,
        owner: Token,
        address: SocketAddr,
        started: Instant,
        cx: &mut DialContext<'_>,
    ) -> Option<Dialed> {
        if self.pool.is_empty() || is_warm_up(owner) {
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
        owner: Token,
        address: SocketAddr,
        connect_time: Duration,
        cx: &mut DialContext<'_>,
    ) {
        if !is_warm_up(owner) {
            cx.counters.dials_connected_directly.add(1);
            self.with_pool(cx, |pool, cx| pool.on_dialled(address, Some(connect_time), cx));
        }
    }

    /// A dial of a client ended without a spare. One that reached no address was no matter for the pool.
    pub(super) fn count_miss(&self, dial: &Dial, cx: &DialContext<'_>) {
        if dial.reached_address && self.pool.is_enabled() && !is_warm_up(dial.owner) {
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

    /// A dial of ours ended: its connection becomes the first spare of the target.
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

    fn with_pool<R>(
        &mut self,
        cx: &mut DialContext<'_>,
        call: impl FnOnce(&mut ConnectionPool<TcpStream>, &mut PoolContext<'_, TcpConnector<'_>>) -> R,
    ) -> R {
        let mut connector = TcpConnector {
            registry: cx.registry,
            bind: self.settings.bind,
            options: self.settings.options,
            policy: &self.settings.policy,
        };
        let mut pool_cx = PoolContext { connector: &mut connector, now: cx.now, counters: cx.counters };
        let result = call(&mut self.pool, &mut pool_cx);
        if let Some(at) = self.pool.next_tick(cx.now) {
            Alarm::arm(&mut self.pool_alarm, at, pool_token(), cx.timers, cx.now);
        }
        result
    }
}

/// Spares closed at a time when descriptors have run out.
const SPARES_PER_SHORTAGE: usize = 16;

/// The pool's wake-up, and the owner of its own dials.
fn pool_token() -> Token {
    Token::new(Kind::Dial, 0, 0, TICK_LEG)
}

/// The dial is the pool's own, for a target that the operator named.
pub(super) fn is_warm_up(owner: Token) -> bool {
    owner == pool_token()
}

/// The policy is for targets that clients ask for; only the server's own listeners are refused to the operator too.
/// Clients are judged when they ask for a spare.
pub(super) fn pardon(owner: Token, refusal: Refusal) -> Result<(), Refusal> {
    if is_warm_up(owner) && refusal != Refusal::OwnListener { Ok(()) } else { Err(refusal) }
}

/// Real sockets, registered for both directions like those of dials.
struct TcpConnector<'a> {
    registry: &'a Registry,
    bind: Option<IpAddr>,
    options: SocketOptions,
    policy: &'a DestinationPolicy,
}

const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

impl Connector for TcpConnector<'_> {
    type Socket = TcpStream;

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let mut socket = socket::connect(address, self.bind, self.options)?;
        self.registry.register(&mut socket, token.into(), INTEREST)?;
        Ok(socket)
    }

    fn watch(&mut self, socket: &mut TcpStream, token: Token) -> io::Result<()> {
        self.registry.reregister(socket, token.into(), INTEREST)
    }

    fn state(&mut self, socket: &TcpStream) -> ConnectState {
        match socket::progress(socket) {
            Progress::Connected(_) => ConnectState::Connected,
            Progress::Pending => ConnectState::Pending,
            Progress::Failed(_) => ConnectState::Failed,
        }
    }

    fn look(&mut self, socket: &TcpStream) -> Waiting {
        // Not a peek: bytes in front would hide that the target has ended or broken the connection behind them.
        let mut asked = [PollFd::new(socket, PollFlags::IN | PollFlags::RDHUP)];
        let answered = poll(&mut asked, Some(&Timespec::default()));
        let [asked] = asked;
        if answered.is_err() || asked.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            Waiting::Ended
        } else if asked.revents().contains(PollFlags::IN) {
            Waiting::Bytes
        } else {
            Waiting::Nothing
        }
    }

    fn permits(&self, address: SocketAddr) -> bool {
        self.policy.may_have_spares(address)
    }
}
