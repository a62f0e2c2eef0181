//! One simulated session and its peers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vless_rust::io::token::Token;
use vless_rust::reactor::schedule::Baggage;
use vless_rust::session::allowance::{Allowance, Limit};
use vless_rust::session::close::CloseReason;
use vless_rust::session::{DialFailure, Leg, SessionRecord, Target, Undelivered, User};

use super::outlet::Outlet;
use super::peer::{Op, Peer};

pub(crate) struct Run {
    pub(super) token: Token,
    pub(crate) client: Peer,
    pub(crate) target: Peer,
    pub(crate) connected: bool,
    pub(crate) wished: Option<Target>,
    pub(super) dial: Result<(), DialFailure>,
    pub(super) dial_time: Duration,
    pub(super) dial_due: Option<Instant>,
    /// What the targets inside Mux do, by their ports.
    pub(super) inner_targets: Vec<(u16, Vec<Op>)>,
    pub(crate) outlets: Vec<Outlet>,
    /// Something that it wished for was not to be had for want of descriptors.
    pub(crate) was_short: bool,
    /// Turns in a row in which it waited for memory that there was, and the most there ever were.
    pub(super) fed_turns: usize,
    pub(crate) fed_turns_most: usize,
    /// It wants another turn although nothing has happened.
    pub(crate) again: bool,
    /// Turns after which it wanted another.
    pub(crate) agains: usize,
    /// Bytes that it moved in the longest turn.
    pub(crate) longest_turn: usize,
    /// Of its end.
    pub(crate) record: Option<SessionRecord>,
    /// The session may end with any of these.
    pub(crate) reasons: Vec<CloseReason>,
}

/// What the world keeps beside a session in the scheduler.
pub(crate) struct Luggage {
    /// Of the run.
    pub(super) number: usize,
    bytes_per_ms: Rc<Cell<Option<usize>>>,
    /// What is left of it, uplink and downlink.
    limits: [Limit; 2],
    /// Until when it was given out.
    paid: Instant,
}

impl Luggage {
    pub(super) fn new(number: usize, bytes_per_ms: Rc<Cell<Option<usize>>>, now: Instant) -> Self {
        Self { number, bytes_per_ms, limits: [Limit { bytes: 0, more_at: now }; 2], paid: now }
    }
}

impl Baggage for Luggage {
    fn limit(&mut self, allowance: &mut Allowance, _user: Option<&Arc<User>>, now: Instant) {
        let Some(bytes_per_ms) = self.bytes_per_ms.get() else { return };
        let passed = now.saturating_duration_since(self.paid);
        if passed >= Duration::from_millis(1) {
            self.paid = now;
            // Wake-ups come with the ticks of the wheel, so what has not come in between comes at once.
            let bytes = bytes_per_ms * passed.as_millis() as usize;
            self.limits = [Limit { bytes, more_at: now + Duration::from_millis(1) }; 2];
        }
        [allowance.uplink.limit, allowance.downlink.limit] = self.limits.map(Some);
    }

    fn settle(&mut self, left: &Allowance, _: impl FnOnce() -> Undelivered, _: Instant) {
        for (limit, share) in self.limits.iter_mut().zip([left.uplink, left.downlink]) {
            *limit = share.limit.unwrap_or(*limit);
        }
    }
}

impl Run {
    /// Bytes that went through its sockets.
    pub(super) fn moved(&self) -> usize {
        let inner: usize = self.outlets.iter().map(Outlet::moved).sum();
        self.client.link.borrow().moved() + self.target.link.borrow().moved() + inner
    }

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
