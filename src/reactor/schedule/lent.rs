//! What a worker lends its sessions in every call, and with it the schedule.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::io::buffer_pool::BufferPool;
use crate::io::random::Random;
use crate::io::splice::PipePool;
use crate::io::timer::TimerWheel;
use crate::io::token::Token;
use crate::session::allowance::Allowance;
use crate::session::permits::MuxSockets;
use crate::session::transfer::{Means, Scratch};
use crate::session::{Context, SessionSettings, Wish};
use crate::stats::Counters;

/// The means of one worker, for the length of a call.
pub struct Lent<'a> {
    /// Read once per turn.
    pub now: Instant,
    pub scratch: &'a mut Scratch,
    pub pool: &'a BufferPool,
    /// `None`: splicing is switched off.
    pub pipes: Option<&'a PipePool>,
    pub random: &'a mut Random,
    pub timers: &'a mut TimerWheel<Token>,
    pub counters: &'a Counters,
    pub settings: &'a SessionSettings,
    pub mux_sockets: &'a Arc<MuxSockets>,
    /// The worker's number.
    pub worker: usize,
}

impl Lent<'_> {
    /// The same for a session. `wishes` is empty.
    pub(super) fn context(&mut self, allowance: Allowance, wishes: Vec<Wish>) -> Context<'_> {
        Context {
            means: Means {
                now: self.now,
                scratch: self.scratch,
                pool: self.pool,
                pipes: self.pipes,
                random: self.random,
            },
            counters: self.counters,
            settings: self.settings,
            mux_sockets: self.mux_sockets,
            worker: self.worker,
            unix_seconds,
            allowance,
            wishes,
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
