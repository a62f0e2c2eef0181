//! Orders that take time, obeyed on a thread of their own: those that wait at the same time together, then those that came
//! meanwhile.
//!
//! The control thread leaves an order and goes on; the answer comes back with a wake-up. At most [`ORDERS_MAX`] wait.

use std::io;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use mio::Waker;

use super::backend::{Backend, Denied, Done, Order};

/// Orders that wait at the most; the next one is answered with 503.
pub const ORDERS_MAX: usize = 64;

/// An answer, and whose it is.
pub struct Finished {
    pub client: usize,
    pub order: Order,
    pub result: Result<Done, Denied>,
}

pub struct Errands {
    orders: Option<SyncSender<(usize, Order)>>,
    /// Orders without an answer. Those that are obeyed together left the channel together.
    open: Arc<AtomicUsize>,
    finished: Receiver<Finished>,
    thread: Option<JoinHandle<()>>,
}

impl Errands {
    pub fn start(backend: Arc<dyn Backend>, waker: Arc<Waker>) -> io::Result<Self> {
        let (orders, waiting) = mpsc::sync_channel::<(usize, Order)>(ORDERS_MAX + 1);
        let (done, finished) = mpsc::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let answered = Arc::clone(&open);
        let thread = thread::Builder::new().name("errands".to_owned()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                let others = waiting.try_iter().take(ORDERS_MAX);
                let (clients, orders): (Vec<_>, Vec<_>) = iter::once(first).chain(others).unzip();
                // In a debug build a bug in one order must not leave all later ones without an answer.
                let failed = |_| Err(Denied::new(500, "internal", "the order failed; the log says more"));
                let results = catch_unwind(AssertUnwindSafe(|| backend.execute_all(orders.clone())))
                    .unwrap_or_else(|_| orders.iter().map(failed).collect());
                for ((client, order), result) in clients.into_iter().zip(orders).zip(results) {
                    answered.fetch_sub(1, Ordering::Relaxed);
                    if done.send(Finished { client, order, result }).is_err() {
                        return;
                    }
                }
                let _ = waker.wake();
            }
        })?;
        Ok(Self { orders: Some(orders), open, finished, thread: Some(thread) })
    }

    /// Leaves an order of the client with this number; false when too many wait.
    pub fn leave(&self, client: usize, order: Order) -> bool {
        let Some(orders) = &self.orders else { return false };
        // Beside those that wait, one is being obeyed.
        if self.open.load(Ordering::Relaxed) > ORDERS_MAX {
            return false;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let is_left = orders.try_send((client, order)).is_ok();
        if !is_left {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        is_left
    }

    /// The next answer, if there is one.
    pub fn take(&self) -> Option<Finished> {
        self.finished.try_recv().ok()
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        self.orders = None;
        // The order under way may wait for somebody who waits for us; its thread ends with it.
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}
