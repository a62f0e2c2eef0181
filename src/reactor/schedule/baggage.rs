//! What a driver keeps for each session, as far as the schedule must know it.

use std::sync::Arc;
use std::time::Instant;

use crate::session::allowance::Allowance;
use crate::session::{Undelivered, User};

/// Kept beside a session. It may know of limits beyond the share of a turn.
pub trait Baggage {
    /// A call of the session is about to come: sets what the limits of its user let it receive in each direction.
    /// `user` is `None` before a request was accepted.
    fn limit(&mut self, _allowance: &mut Allowance, _user: Option<&Arc<User>>, _now: Instant) {}

    /// The session is no client any more that is not admitted.
    fn admit(&mut self) {}

    /// What that call has left of it. `undelivered` says what the session has received and not delivered.
    fn settle(&mut self, _left: &Allowance, _undelivered: impl FnOnce() -> Undelivered, _now: Instant) {}
}
