//! The new process's side: it takes over listeners and state from the old one, and hears what that still counts.

use std::collections::HashMap;
use std::env;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::VARIABLE;
use super::channel::{Channel, Message};
use crate::app::certs::hex;
use crate::app::exit::{self, Failure};
use crate::app::tally::{OldCounts, unhex};
use crate::session::close::CloseReason;
use crate::stats::Ledgers;

/// How long the old process may take for each step. Writing its state is the longest.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a word may wait for the old process to read.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
}

impl Predecessor {
    /// Whoever started this process, if it was another server, to be taken over from.
    pub fn find() -> Option<Self> {
        env::var_os(VARIABLE)?;
        Channel::from_stdin().map(|channel| Self { channel })
    }

    /// The old process's listeners, by the address that its configuration gave them.
    ///
    /// # Errors
    /// 69 when it has gone.
    pub fn sockets(&self) -> Result<Vec<(SocketAddr, Vec<TcpListener>)>, Failure> {
        let mut all = Vec::<(SocketAddr, Vec<TcpListener>)>::new();
        loop {
            let (message, descriptors) = self.next()?;
            match message {
                Message::Sockets { address } => {
                    let sockets = descriptors.into_iter().map(TcpListener::from);
                    match all.iter_mut().find(|(known, _)| *known == address) {
                        Some((_, known)) => known.extend(sockets),
                        None => all.push((address, sockets.collect())),
                    }
                }
                Message::AllSockets => return Ok(all),
                _ => {}
            }
        }
    }

    /// Says that nothing is wrong so far, and waits for the state file.
    ///
    /// # Errors
    /// 69 when the old process has gone.
    pub fn take_state(&self) -> Result<(), Failure> {
        self.say(&Message::Prepared)?;
        self.wait_for(&Message::StateIsYours)
    }

    /// Says that this process serves, and waits until the service manager knows.
    ///
    /// # Errors
    /// 69 when the old process has gone. It has not let go then, so this one must not go on.
    pub fn take_service(&self) -> Result<(), Failure> {
        self.say(&Message::Serving)?;
        self.wait_for(&Message::ServiceIsYours)
    }

    /// Says why this process ends.
    pub fn failed(&self, failure: &Failure) {
        let _ = self.say(&Message::Failed { why: failure.message.clone() });
    }

    /// Takes over what the old process still counts, on a thread of its own, until that process has ended. `lane` is
    /// the lane of the ledgers that nobody else writes.
    pub fn listen(self, ledgers: Arc<Ledgers>, lane: usize, counts: Arc<OldCounts>) -> Teller {
        let channel = Arc::new(self.channel);
        let theirs = Arc::clone(&channel);
        counts.is_there.store(true, Ordering::Relaxed);
        let listening = thread::Builder::new().name("predecessor".to_owned()).spawn(move || {
            take_counts(&theirs, &ledgers, lane, &counts);
            counts.is_there.store(false, Ordering::Relaxed);
            log::info!("the process before this one has ended");
        });
        if let Err(error) = listening {
            log::error!("what the process before this one still counts is lost: {error}");
        }
        Teller(channel)
    }

    fn next(&self) -> Result<(Message, Vec<std::os::fd::OwnedFd>), Failure> {
        let gone =
            |why: String| Failure::new(exit::UNAVAILABLE, format!("the server to take over from has gone: {why}"));
        match self.channel.receive(Some(Instant::now() + PATIENCE)) {
            Ok(Some(received)) => Ok(received),
            Ok(None) => Err(gone("it has ended".to_owned())),
            Err(error) => Err(gone(error.to_string())),
        }
    }

    fn wait_for(&self, wanted: &Message) -> Result<(), Failure> {
        while self.next()?.0 != *wanted {}
        Ok(())
    }

    fn say(&self, message: &Message) -> Result<(), Failure> {
        self.channel
            .send(message, &[], SEND_TIMEOUT)
            .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("the server to take over from has gone: {error}")))
    }
}

/// The way to the old process for orders.
pub struct Teller(Arc<Channel>);

impl Teller {
    /// Has the old process cut its sessions of this ledger.
    pub fn cut(&self, ledger: [u8; 16], reason: CloseReason) {
        let message = Message::Cut { ledger: hex(&ledger), reason: reason.name().to_owned() };
        // It has gone, and its sessions with it.
        let _ = self.0.send(&message, &[], SEND_TIMEOUT);
    }
}

fn take_counts(channel: &Channel, ledgers: &Ledgers, lane: usize, counts: &OldCounts) {
    let mut known = HashMap::<String, (u64, u64)>::new();
    while let Ok(Some((message, _))) = channel.receive(None) {
        match message {
            Message::Counted { ledger, uplink_bytes, downlink_bytes } => {
                let Some(id) = unhex(&ledger) else { continue };
                let before = known.insert(ledger, (uplink_bytes, downlink_bytes)).unwrap_or_default();
                let ledger = ledgers.of(id);
                ledger.lane(lane).uplink_bytes.add(uplink_bytes.saturating_sub(before.0));
                ledger.lane(lane).downlink_bytes.add(downlink_bytes.saturating_sub(before.1));
            }
            Message::Moved { uplink_bytes, downlink_bytes, sessions } => {
                counts.uplink_bytes.fetch_max(uplink_bytes, Ordering::Relaxed);
                counts.downlink_bytes.fetch_max(downlink_bytes, Ordering::Relaxed);
                counts.sessions.store(sessions as u64, Ordering::Relaxed);
            }
            _ => {}
        }
    }
    counts.sessions.store(0, Ordering::Relaxed);
}
