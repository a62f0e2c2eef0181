//! What the target-facing side is lent by its worker in every call: the poll, the timers, the clock and the counters.

use std::time::Instant;

use mio::Registry;

use crate::io::timer::TimerWheel;
use crate::io::token::Token;
use crate::stats::Counters;

/// What the dialer and its parts need from their worker in every call.
pub struct DialContext<'a> {
    pub registry: &'a Registry,
    pub timers: &'a mut TimerWheel<Token>,
    /// Read once per turn of the worker.
    pub now: Instant,
    pub counters: &'a Counters,
}
