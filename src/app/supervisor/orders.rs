//! What others ask of the supervisor, and the mailbox they leave it in.
//!
//! Invariant: whoever leaves an order never waits; a full mailbox refuses.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::app::cluster::news::News;
use crate::app::exit::{self, Failure};
use crate::app::upgrade;
use crate::control::backend::{self, Denied, Done};

/// Orders waiting at the most. People and scripts give them, one at a time.
const ORDERS_MAX: usize = 256;

/// Something to be done.
#[derive(Debug)]
pub enum Order {
    /// The number of a signal that came.
    Signal(i32),
    /// News of a process that takes over.
    Successor(upgrade::News),
    /// Orders of the API that wait at the same time, as they came.
    Control(Vec<Asked>),
    /// News of the cluster's thread.
    Cluster(News),
}

/// An order of the API.
#[derive(Debug)]
pub struct Asked {
    pub order: backend::Order,
    pub reply: Reply,
}

/// The way back for the answer. Somebody waits there, or has given up: it is never waited for.
pub type Reply = SyncSender<Result<Done, Denied>>;

/// The sending side; cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    sender: SyncSender<Order>,
}

impl Mailbox {
    /// Leaves an order; false when the mailbox is full or nobody reads it any more.
    pub fn leave(&self, order: Order) -> bool {
        self.sender.try_send(order).is_ok()
    }

    /// As [`Mailbox::leave`], but gives an order back that was not taken.
    ///
    /// # Errors
    /// The order, where the mailbox is full or nobody reads it any more.
    pub fn offer(&self, order: Order) -> Result<(), Order> {
        self.sender.try_send(order).map_err(|error| match error {
            TrySendError::Full(order) | TrySendError::Disconnected(order) => order,
        })
    }
}

/// The supervisor's side.
pub struct Orders {
    receiver: Receiver<Order>,
    mailbox: Mailbox,
}

impl Orders {
    /// An empty mailbox, into which signals are put from now on.
    ///
    /// # Errors
    /// 69 when signals cannot be watched.
    pub fn with_signals() -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::sync_channel(ORDERS_MAX);
        let mailbox = Mailbox { sender };
        watch_signals(mailbox.clone())
            .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot watch signals: {error}")))?;
        Ok(Self { receiver, mailbox })
    }

    /// Where orders are left.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// The oldest order, or the first to come within `timeout`.
    pub(super) fn next(&self, timeout: Duration) -> Result<Order, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }
}

/// The signals as orders; a thread of their own waits for them.
fn watch_signals(mailbox: Mailbox) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            // A flood of signals is not worth more than the first of them: each is remembered only while there is room.
            mailbox.leave(Order::Signal(signal));
        }
    })?;
    Ok(())
}
