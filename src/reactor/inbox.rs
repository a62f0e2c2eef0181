//! What other threads may leave for a worker: new rules, requests, and words of other workers, with a waker.
//!
//! Every queue has a limit. Only the newest rules count, so they have one place and are never refused. An order to end
//! always fits, too. What finds no place is counted, and whoever wanted to leave it is told.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::{Poll, Waker};

use super::request::{End, Request};
use super::rules::Rules;
use crate::io::token::Token;
use crate::session::GlobalId;

/// Requests waiting at the most. They are rare, and a worker takes some of them in every turn.
pub(super) const REQUESTS_MAX: usize = 256;

/// Words of other workers waiting at the most.
const WORDS_MAX: usize = 1024;

/// What workers tell each other.
#[derive(Debug)]
pub(super) enum Word {
    /// The session with this token loses the UDP socket on the token's leg, because another connection named its Global
    /// ID.
    LoseUdp(Token, GlobalId),
    /// Another worker needs descriptors. This one closes some spare connections.
    GiveUpSpares,
}

/// What an inbox had for its worker.
pub(super) enum Mail {
    Rules(Arc<Rules>),
    Word(Word),
    Request(Request),
    End(End),
}

/// The way to one worker. It is cheap to clone.
#[derive(Clone)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    letters: Mutex<Letters>,
    waker: Waker,
    refused: AtomicU64,
}

#[derive(Default)]
struct Letters {
    rules: Option<Arc<Rules>>,
    words: VecDeque<Word>,
    requests: VecDeque<Request>,
    drain: Option<Duration>,
    stops: bool,
    /// The worker has ended.
    is_closed: bool,
}

impl Inbox {
    /// An inbox that wakes `poll` with `token`.
    pub(super) fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        let waker = Waker::new(poll.registry(), token.into())?;
        let (letters, refused) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { shared: Arc::new(Shared { letters, waker, refused }) })
    }

    /// Leaves rules that replace all earlier ones.
    pub(super) fn leave_rules(&self, rules: Arc<Rules>) {
        self.leave(|letters| letters.rules = Some(rules));
    }

    /// Leaves a request.
    ///
    /// # Errors
    /// With the request, when the inbox is full or its worker has ended.
    pub(super) fn ask(&self, request: Request) -> Result<(), Request> {
        let mut letters = self.lock();
        if letters.is_closed || letters.requests.len() >= REQUESTS_MAX {
            drop(letters);
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(request);
        }
        letters.requests.push_back(request);
        drop(letters);
        self.wake();
        Ok(())
    }

    /// Leaves a word of another worker. False when there is no room for it.
    pub(super) fn tell(&self, word: Word) -> bool {
        let mut letters = self.lock();
        if letters.is_closed || letters.words.len() >= WORDS_MAX {
            drop(letters);
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        letters.words.push_back(word);
        drop(letters);
        self.wake();
        true
    }

    /// Tells the worker to end, however full the inbox is. Of two drains the later one counts.
    pub(super) fn end(&self, end: End) {
        self.leave(|letters| match end {
            End::Drain(timeout) => letters.drain = Some(timeout),
            End::Stop => letters.stops = true,
        });
    }

    /// What could not be left so far, because the inbox was full or its worker had ended.
    pub(super) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// What comes first, for the worker: an end, rules, what other workers say, requests in their order.
    pub(super) fn take(&self) -> Option<Mail> {
        let mut letters = self.lock();
        if mem::take(&mut letters.stops) {
            return Some(Mail::End(End::Stop));
        }
        if let Some(timeout) = letters.drain.take() {
            return Some(Mail::End(End::Drain(timeout)));
        }
        if let Some(rules) = letters.rules.take() {
            return Some(Mail::Rules(rules));
        }
        if let Some(word) = letters.words.pop_front() {
            return Some(Mail::Word(word));
        }
        letters.requests.pop_front().map(Mail::Request)
    }

    /// The worker has ended. Nothing is taken in any more, and whoever waits for an answer hears that there is none.
    pub(super) fn close(&self) {
        let left = mem::replace(&mut *self.lock(), Letters { is_closed: true, ..Letters::default() });
        drop(left);
    }

    fn leave(&self, put: impl FnOnce(&mut Letters)) {
        let mut letters = self.lock();
        if !letters.is_closed {
            put(&mut letters);
        }
        drop(letters);
        self.wake();
    }

    /// Wakes the worker, with or without a letter.
    pub(super) fn wake(&self) {
        // Fails only when the worker is gone, and then nobody needs to be woken.
        let _ = self.shared.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.shared.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::mpsc;

    use super::*;
    use crate::io::token::Kind;
    use crate::reactor::request::{CutQuery, Which};
    use crate::session::close::CloseReason;

    fn inbox() -> (Poll, Inbox) {
        let poll = Poll::new().unwrap();
        let inbox = Inbox::new(&poll, Token::new(Kind::Worker, 0, 0, 0)).unwrap();
        (poll, inbox)
    }

    fn cut() -> (Request, mpsc::Receiver<Result<usize, super::super::request::Busy>>) {
        let (reply, answers) = mpsc::channel();
        let query = CutQuery { which: Which::Source(Ipv4Addr::LOCALHOST.into()), reason: CloseReason::Shutdown };
        (Request::Cut { query, reply }, answers)
    }

    #[test]
    fn a_full_inbox_refuses_and_counts_and_still_takes_the_end() {
        let (_poll, inbox) = inbox();
        let mut accepted = 0;
        while inbox.ask(cut().0).is_ok() {
            accepted += 1;
        }
        assert_eq!((accepted, inbox.refused()), (REQUESTS_MAX, 1));
        for seconds in 0..10 {
            inbox.end(End::Drain(Duration::from_secs(seconds)));
            inbox.end(End::Stop);
        }
        assert!(matches!(inbox.take(), Some(Mail::End(End::Stop))), "the end does not wait for its turn");
        assert!(matches!(inbox.take(), Some(Mail::End(End::Drain(timeout))) if timeout == Duration::from_secs(9)));
        assert_eq!(std::iter::from_fn(|| inbox.take()).count(), REQUESTS_MAX);
    }

    #[test]
    fn words_of_workers_and_requests_do_not_take_each_others_place() {
        let (_poll, inbox) = inbox();
        while inbox.tell(Word::GiveUpSpares) {}
        assert!(inbox.ask(cut().0).is_ok());
        assert!(matches!(inbox.take(), Some(Mail::Word(Word::GiveUpSpares))));
    }

    #[test]
    fn nobody_waits_for_a_worker_that_has_ended() {
        let (_poll, inbox) = inbox();
        let (request, answers) = cut();
        assert!(inbox.ask(request).is_ok());
        inbox.close();
        assert!(answers.recv().is_err(), "the request was dropped, and the sender with it");
        assert!(inbox.ask(cut().0).is_err() && !inbox.tell(Word::GiveUpSpares));
    }
}
