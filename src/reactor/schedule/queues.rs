//! The queues of sessions that go on: by what they did in their last turn, and for want of memory.

use std::collections::VecDeque;
use std::time::Instant;

use crate::io::moment::Moment;
use crate::io::token::Token;

/// A session that does more than this in a turn moves much.
const LIGHT_WORK_BYTES: usize = 32 << 10;

/// So many turns with less work make it one that moves little again: much comes with small events in between.
const CALM_TURNS: u8 = 8;

/// How a session has gone on so far, which decides when it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Its client is not admitted: a handshake costs much time for few bytes.
    Opening,
    /// It moves little.
    Light,
    /// It moves much, or did until a few turns ago.
    Bulk { calm_turns: u8 },
}

impl Pace {
    /// That of an admitted session after a turn of so much work.
    pub(super) fn after(self, work_bytes: usize) -> Self {
        match self {
            _ if work_bytes > LIGHT_WORK_BYTES => Self::Bulk { calm_turns: 0 },
            Self::Bulk { calm_turns } if calm_turns < CALM_TURNS => Self::Bulk { calm_turns: calm_turns + 1 },
            _ => Self::Light,
        }
    }
}

/// Sessions that are ready, each once.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) light: VecDeque<Token>,
    pub(super) openings: VecDeque<Token>,
    pub(super) bulk: VecDeque<Token>,
}

impl Ready {
    /// Queues a session unless its mark says that it is queued.
    pub(super) fn enter(&mut self, token: Token, pace: Pace, queued: &mut bool) {
        if !std::mem::replace(queued, true) {
            let queue = match pace {
                Pace::Light => &mut self.light,
                Pace::Opening => &mut self.openings,
                Pace::Bulk { .. } => &mut self.bulk,
            };
            queue.push_back(token.with_leg(0));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.openings.is_empty() && self.bulk.is_empty()
    }
}

/// Sessions that wait for buffer memory, the first in front.
#[derive(Debug, Default)]
pub(super) struct Starved {
    /// With the instant since which each waits. Among them some that have ended since.
    queue: VecDeque<(Token, Moment)>,
    /// Those that are alive.
    alive: usize,
}

impl Starved {
    /// Queues a session unless its mark says that it is queued. True if it was not.
    pub(super) fn enter(&mut self, token: Token, starved: &mut bool, now: Instant) -> bool {
        let is_new = !std::mem::replace(starved, true);
        if is_new {
            self.queue.push_back((token.with_leg(0), now.into()));
            self.alive += 1;
        }
        is_new
    }

    /// One of those in the queue has ended, or is not in the queue any more.
    pub(super) fn leave(&mut self) {
        self.alive -= 1;
    }

    /// The one who has waited for the longest time, maybe ended since.
    pub(super) fn take(&mut self) -> Option<Token> {
        self.queue.pop_front().map(|(token, _)| token)
    }

    /// Since when the first of them waits.
    pub(super) fn since(&self) -> Option<Moment> {
        self.queue.front().filter(|_| self.alive > 0).map(|&(_, since)| since)
    }

    /// Forgets those who have ended: who came first, and all of them when they are more than the others.
    pub(super) fn tidy(&mut self, is_alive: impl Fn(Token) -> bool) {
        while self.queue.front().is_some_and(|&(token, _)| !is_alive(token)) {
            self.queue.pop_front();
        }
        if self.queue.len() > 2 * self.alive {
            self.queue.retain(|&(token, _)| is_alive(token));
        }
    }

    /// Places in the queue.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn alive(&self) -> usize {
        self.alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_turn_makes_a_session_bulk_and_some_short_ones_light_again() {
        let mut pace = Pace::Opening.after(100);
        assert_eq!(pace, Pace::Light);
        pace = pace.after(LIGHT_WORK_BYTES + 1);
        for _ in 0..CALM_TURNS {
            pace = pace.after(0);
            assert!(matches!(pace, Pace::Bulk { .. }));
        }
        assert_eq!(pace.after(LIGHT_WORK_BYTES), Pace::Light);
        assert_eq!(pace.after(1 << 20), Pace::Bulk { calm_turns: 0 });
    }
}
