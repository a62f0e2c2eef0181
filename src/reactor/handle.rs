//! What the rest of the process may do with the workers while they run, from any thread, without waiting for them.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::inbox::Inbox;
use super::pulse::Pulse;
use super::request::{Busy, CutQuery, End, ListPage, ListQuery, ListenerId, Request, Which};
use super::rules::Rules;
use super::shared::Shared;
use crate::stats::Counters;

/// The way to all workers. It is cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    inboxes: Arc<[Inbox]>,
    counters: Vec<Arc<Counters>>,
    shared: Arc<Shared>,
    /// Listening addresses so far.
    listeners: AtomicUsize,
}

impl Handle {
    pub(super) fn new(
        inboxes: Arc<[Inbox]>,
        counters: Vec<Arc<Counters>>,
        shared: Arc<Shared>,
        listeners: usize,
    ) -> Self {
        let listeners = AtomicUsize::new(listeners);
        Self { inner: Arc::new(Inner { inboxes, counters, shared, listeners }) }
    }

    /// Replaces the rules. They hold for what begins from each worker's next turn on, and for the next deadline of what
    /// is under way. No session is cut.
    pub fn adopt(&self, rules: &Arc<Rules>) {
        for inbox in &*self.inner.inboxes {
            inbox.leave_rules(Arc::clone(rules));
        }
    }

    /// Asks every worker for live sessions. Each answers once, over a few turns. The channel ends with the last answer.
    /// A session that is alive all the while is in its worker's page exactly once, unless the page has reached its
    /// limit.
    pub fn list(&self, query: &ListQuery) -> Receiver<Result<ListPage, Busy>> {
        self.ask_each(|reply| Request::List { query: query.clone(), reply })
    }

    /// Cuts live sessions. Each worker answers how many it has cut, within its next turn. The channel ends with the
    /// last answer.
    pub fn cut(&self, query: &CutQuery) -> Receiver<Result<usize, Busy>> {
        match query.which {
            Which::Session(id) => {
                let (reply, answers) = mpsc::channel();
                if let Some(inbox) = self.inner.inboxes.get(id.worker) {
                    ask(inbox, Request::Cut { query: query.clone(), reply });
                }
                answers
            }
            Which::Ledger(_) | Which::Source(_) | Which::LedgerFrom(..) => {
                self.ask_each(|reply| Request::Cut { query: query.clone(), reply })
            }
        }
    }

    /// Makes every worker accept from one more listener. `sockets` holds one for each worker, as
    /// [`super::accept::listen`] makes them for one address.
    ///
    /// # Errors
    /// When a worker cannot be told. The others are told to close theirs again.
    pub fn add_listener(&self, sockets: Vec<StdListener>) -> Result<ListenerId, Busy> {
        let id = ListenerId(self.inner.listeners.fetch_add(1, Ordering::Relaxed));
        for (inbox, socket) in self.inner.inboxes.iter().zip(sockets) {
            if inbox.ask(Request::AddListener { id, socket }).is_err() {
                let _ = self.remove_listener(id);
                return Err(Busy);
            }
        }
        Ok(id)
    }

    /// Makes every worker accept what the kernel has queued at this listener, and then close it.
    ///
    /// # Errors
    /// When some worker could not be told. It goes on accepting, and the call may be repeated.
    pub fn remove_listener(&self, id: ListenerId) -> Result<(), Busy> {
        let told = self.inner.inboxes.iter().map(|inbox| inbox.ask(Request::RemoveListener(id)).map_err(|_| Busy));
        told.fold(Ok(()), Result::and)
    }

    /// Stops accepting, once what the kernel has queued was accepted. Sessions have `timeout` to end by themselves.
    pub fn drain(&self, timeout: Duration) {
        self.end(End::Drain(timeout));
    }

    pub(super) fn end(&self, end: End) {
        for inbox in &*self.inner.inboxes {
            inbox.end(end);
        }
    }

    /// Has every worker take a turn, whether it has something to do or not: who waits for one can see that it turns.
    pub fn wake(&self) {
        for inbox in &*self.inner.inboxes {
            inbox.wake();
        }
    }

    /// Each worker's counters.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.inner.counters
    }

    /// What each worker is doing.
    pub fn pulses(&self) -> &[Arc<Pulse>] {
        &self.inner.shared.pulses
    }

    /// Sessions alive now.
    pub fn sessions(&self) -> usize {
        self.inner.shared.sessions()
    }

    /// Every worker has stopped.
    pub fn is_stopped(&self) -> bool {
        self.inner.shared.running() == 0
    }

    /// What could not be left for a worker so far, because too much waited for it.
    pub fn refused(&self) -> u64 {
        self.inner.inboxes.iter().map(Inbox::refused).sum()
    }

    fn ask_each<T>(&self, request: impl Fn(Sender<Result<T, Busy>>) -> Request) -> Receiver<Result<T, Busy>> {
        let (reply, answers) = mpsc::channel();
        for inbox in &*self.inner.inboxes {
            ask(inbox, request(reply.clone()));
        }
        answers
    }
}

/// Leaves a request. Where there is no room for it, that is its answer.
fn ask(inbox: &Inbox, request: Request) {
    match inbox.ask(request) {
        // Nobody listening any more is nobody's loss.
        Err(Request::List { reply, .. }) => drop(reply.send(Err(Busy))),
        Err(Request::Cut { reply, .. }) => drop(reply.send(Err(Busy))),
        Ok(()) | Err(Request::AddListener { .. } | Request::RemoveListener(_)) => {}
    }
}
