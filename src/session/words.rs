//! The words between a session and whoever runs it: what it borrows, wishes for and answers, and what it leaves behind.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use super::close::CloseReason;
use super::permits::MuxSockets;
use super::settings::SessionSettings;
use super::transfer::{Means, Moved};
use super::{Fallback, Flow, GlobalId, Target, User};
use crate::stats::Counters;

/// What a session borrows from its worker for the length of a call.
pub struct Context<'a> {
    pub means: Means<'a>,
    pub counters: &'a Counters,
    pub settings: &'a SessionSettings,
    /// What sessions inside Mux connections have in the whole process.
    pub mux_sockets: &'a Arc<MuxSockets>,
    /// The lane of the users' counters that this worker writes.
    pub worker: usize,
    /// The seconds since 1970 by the clock on the wall, for answers that carry a date.
    pub unix_seconds: fn() -> u64,
    /// What is left of what this call may do. The caller sets it before.
    pub allowance: Allowance,
    /// What the session wants done for it, in this order. The list is empty before a call.
    pub wishes: Vec<Wish>,
}

/// Something that a session cannot do by itself. The answer comes in a later call.
#[derive(Debug)]
pub enum Wish {
    /// A balancer has said that this is the client: it is to count among the sessions of its source from here on.
    /// Answered by [`Session::on_entered`](super::Session::on_entered).
    Enter { client: IpAddr },
    /// Answered by [`Session::on_connected`](super::Session::on_connected) or
    /// [`Session::on_dial_failed`](super::Session::on_dial_failed).
    Dial { leg: Leg, target: Target },
    /// A connection to a fallback, which is the operator's own target. Answered like a dial.
    DialFallback { leg: Leg, fallback: Arc<Fallback> },
    /// Asks for an address of the target that may be sent to. Answered by
    /// [`Session::on_resolved`](super::Session::on_resolved).
    Resolve { leg: Leg, target: Target },
    /// Answered by [`Session::on_bound`](super::Session::on_bound).
    BindUdp { leg: Leg, user: Arc<User>, global_id: Option<GlobalId> },
    /// Nothing that was wished for on this leg is wanted any more.
    Cancel { leg: Leg },
}

/// What a session wants after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event or its deadline.
    Wait,
    /// Another turn: the session stopped because its share of the work was used up.
    Again,
    /// Another turn when buffer memory may be free again, or its deadline.
    Starved,
    /// Another turn at this instant, or an event or its deadline before: its user's limit lets nothing through until
    /// then.
    Later(Instant),
    /// To be dropped.
    Close,
}

/// Which of a session's sockets an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Client,
    Target,
    /// The target of one of a Mux connection's sessions.
    Sub(u16),
}

/// Why there is no connection to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    Policy,
    Unresolved,
    Unreachable,
    TimedOut,
    NoResources,
}

/// Why there is no UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindFailure {
    /// The user has as many as a user may have.
    Limit,
    NoResources,
}

/// What a closed session leaves behind for the access log.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    pub client: SocketAddr,
    pub user: Option<Arc<User>>,
    pub target: Option<Target>,
    pub flow: Flow,
    pub uplink: Moved,
    pub downlink: Moved,
    pub age: Duration,
    pub reason: CloseReason,
}
