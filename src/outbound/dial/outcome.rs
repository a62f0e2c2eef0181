//! How dials and look-ups end, and the queue in which their owners find that.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;

use super::DialError;
use crate::io::token::Token;
use crate::session::Target;

/// Names one dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialId(pub(super) Token);

/// The end of a dial that was not cancelled.
#[derive(Debug)]
pub struct Finished {
    /// As given to [`super::Dialer::dial`].
    pub owner: Token,
    pub dial: DialId,
    pub result: Result<Dialed, DialError>,
}

/// The end of a look-up asked for by [`super::Dialer::resolve`] that was not cancelled.
#[derive(Debug)]
pub struct Resolved {
    /// As given to [`super::Dialer::resolve`].
    pub owner: Token,
    pub dial: DialId,
    pub target: Target,
    /// The address to use first, which the policy permits.
    pub result: Result<SocketAddr, DialError>,
}

/// A connected socket.
#[derive(Debug)]
pub struct Dialed {
    /// Non-blocking, and still registered for both directions under the dial's token. The new owner registers it again.
    pub socket: TcpStream,
    pub peer: SocketAddr,
    /// From the call of [`super::Dialer::dial`], look-up included.
    pub connect_time: Duration,
    /// It was connected before anybody asked for it. Nothing went through it since.
    pub is_spare: bool,
}

/// Outcomes that nobody took yet, oldest first. Dropping one costs the same however many wait.
#[derive(Debug)]
pub(super) struct Outcomes<T> {
    order: VecDeque<DialId>,
    waiting: HashMap<DialId, T>,
}

impl<T> Default for Outcomes<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> Outcomes<T> {
    pub(super) fn push(&mut self, dial: DialId, outcome: T) {
        self.order.push_back(dial);
        self.waiting.insert(dial, outcome);
    }

    /// The oldest one that was not dropped.
    pub(super) fn pop(&mut self) -> Option<T> {
        while let Some(dial) = self.order.pop_front() {
            if let Some(outcome) = self.waiting.remove(&dial) {
                return Some(outcome);
            }
        }
        None
    }

    pub(super) fn drop_one(&mut self, dial: DialId) {
        self.waiting.remove(&dial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::token::Kind;

    #[test]
    fn outcomes_come_in_order_without_those_that_were_dropped() {
        let ids = [1, 2, 3].map(|index| DialId(Token::new(Kind::Dial, 0, index, 0)));
        let mut outcomes = Outcomes::default();
        for (number, id) in ids.into_iter().enumerate() {
            outcomes.push(id, number);
        }
        outcomes.drop_one(ids[1]);
        assert_eq!([outcomes.pop(), outcomes.pop(), outcomes.pop()], [Some(0), Some(2), None]);
    }
}
