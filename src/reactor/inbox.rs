//! What other threads may ask of a worker: a bounded queue with a waker.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::{Poll, Waker};

use crate::io::token::Token;
use crate::session::GlobalId;

/// Requests waiting at the most. They are rare, and a worker empties its inbox at every turn.
const REQUESTS_MAX: usize = 1024;

/// A request to a worker.
#[derive(Debug)]
pub enum Request {
    /// Accept what the kernel has queued, close the listeners, let the sessions finish, cut the rest after this time.
    Drain(Duration),
    /// The session with this token loses the UDP socket on the token's leg: another connection named its Global ID.
    LoseUdp(Token, GlobalId),
    /// Another worker needs descriptors: close some spare connections.
    GiveUpSpares,
    /// Cut every session and stop.
    Stop,
}

/// The sending side; cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    requests: Mutex<VecDeque<Request>>,
    waker: Waker,
}

impl Inbox {
    /// An inbox that wakes `poll` with `token`.
    pub fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        let waker = Waker::new(poll.registry(), token.into())?;
        Ok(Self { shared: Arc::new(Shared { requests: Mutex::new(VecDeque::new()), waker }) })
    }

    /// Leaves a request and wakes the worker; false when the inbox is full.
    pub fn ask(&self, request: Request) -> bool {
        self.leave(request, REQUESTS_MAX)
    }

    /// Leaves a request however full the inbox is. Only for the end of the process, which comes once.
    pub fn insist(&self, request: Request) {
        self.leave(request, usize::MAX);
    }

    fn leave(&self, request: Request, requests_max: usize) -> bool {
        let mut requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= requests_max {
            return false;
        }
        requests.push_back(request);
        drop(requests);
        // Fails only when the worker is gone, and then nobody needs to be woken.
        let _ = self.shared.waker.wake();
        true
    }

    /// The oldest request, for the worker.
    pub fn take(&self) -> Option<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::token::Kind;

    #[test]
    fn a_full_inbox_still_takes_the_end() {
        let poll = Poll::new().unwrap();
        let inbox = Inbox::new(&poll, Token::new(Kind::Worker, 0, 0, 0)).unwrap();
        while inbox.ask(Request::Drain(Duration::ZERO)) {}
        inbox.insist(Request::Stop);
        let requests: Vec<_> = std::iter::from_fn(|| inbox.take()).collect();
        assert_eq!(requests.len(), REQUESTS_MAX + 1);
        assert!(matches!(requests.last(), Some(Request::Stop)));
    }
}
