//! The control plane: API, live feed, metrics, history, state that survives, alerts.
//!
//! One thread of its own serves all of it; it sees the counters of [`crate::stats`] and what a [`backend::Backend`] lets
//! it see, and the data plane never waits for it. From the outside in: `listeners` and `http` are the front, `plane` the
//! loop, `desk` what is done with a request, `guard` who may ask, `api` what is answered, `feed` the live messages,
//! `report` and `metrics` the bodies, `view` all that is shown, `history`, `events`, `alerts` and `state` what is
//! remembered, `errands` the thread for what takes time.

pub mod alerts;
pub mod api;
pub mod assets;
pub mod backend;
pub mod clients;
pub mod desk;
pub mod errands;
pub mod events;
pub mod feed;
pub mod format;
pub mod guard;
pub mod handshake;
pub mod history;
pub mod http;
pub mod listeners;
pub mod metrics;
pub mod plane;
pub mod process;
pub mod report;
pub mod roll;
pub mod sample;
pub mod settings;
pub mod snapshots;
pub mod state;
pub mod view;
pub mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use self::alerts::deliver::Deliverer;
use self::backend::Backend;
use self::desk::{Desk, Parts, unix_time};
use self::errands::Errands;
use self::events::{Event, EventSink};
use self::listeners::Listeners;
use self::plane::{Message, Plane};
use self::settings::Settings;
use self::state::Saved;
use self::state::writer::Writer;
use self::view::{Clock, View};
use self::webhook::system_roots;

const REST_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
const STOP_POLL: Duration = Duration::from_millis(5);

/// The running control plane. Dropping it writes the state a last time and ends the thread.
pub struct Control {
    handle: ControlHandle,
    thread: Option<JoinHandle<()>>,
    address: Option<SocketAddr>,
}

/// For other threads; cheap to clone.
#[derive(Clone)]
pub struct ControlHandle {
    messages: Sender<Message>,
    events: EventSink,
    waker: Arc<Waker>,
}

impl Control {
    /// Starts the thread. `saved` is what the state file held; the process started at `started`.
    ///
    /// # Errors
    /// When the kernel refuses a poll or a thread. A port that is taken is no error: it is tried again.
    pub fn start(settings: Settings, saved: Saved, backend: Arc<dyn Backend>, started: Instant) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = plane::waker(&poll)?;
        let (messages, receiver) = mpsc::channel();
        let (events, reported) = events::channel();
        let now = Instant::now();
        let started_at = unix_time().saturating_sub(now.saturating_duration_since(started).as_secs());
        let clock = Clock { started, now, started_at, unix_time: unix_time() };
        let desk = Desk::new(Parts {
            backend: Arc::clone(&backend),
            deliverer: Deliverer::start(system_roots(), &events, started_at)?,
            writer: settings.state_file.clone().map(Writer::start).transpose()?,
            reported,
            view: View::new(settings.clone(), saved, clock),
        });
        let errands = Errands::start(backend, Arc::clone(&waker))?;
        let listeners = Listeners::new(settings.places);
        let mut plane = Plane::new(poll, listeners, desk, errands, receiver);
        plane.open_listeners();
        let address = plane.listeners.tcp_address();
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || plane.run())?;
        let handle = ControlHandle { messages, events, waker };
        handle.report(plane::started());
        Ok(Self { handle, thread: Some(thread), address })
    }

    pub fn handle(&self) -> ControlHandle {
        self.handle.clone()
    }

    /// Where the API listens: what port 0 became. `None` where nothing listens on TCP (yet).
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Control {
    /// Takes a last sample, writes the state and ends the thread.
    pub fn stop(&mut self) {
        self.handle.send(Message::Stop);
        // A thread that is stuck, on a disk or elsewhere, must not keep the process.
        let deadline = Instant::now() + STOP_TIMEOUT;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(STOP_POLL);
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop();
    }
}

impl ControlHandle {
    /// Has an event kept and told. Never blocks.
    pub fn report(&self, event: Event) {
        self.events.report(event);
        let _ = self.waker.wake();
    }

    /// Takes over other settings; places and state file stay those of the start.
    pub fn adopt(&self, settings: Settings) {
        self.send(Message::Adopt(Box::new(settings)));
    }

    /// Writes the state a last time, and closes the places that clients connect to: another process may have both. Whoever
    /// is connected is still answered. Waits until that is done.
    ///
    /// # Errors
    /// In words; then nothing has changed.
    pub fn rest(&self) -> Result<(), String> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.send(Message::Rest(reply));
        answer.recv_timeout(REST_TIMEOUT).unwrap_or_else(|_| Err("the control plane does not answer".to_owned()))
    }

    /// Takes state and places back after [`ControlHandle::rest`].
    pub fn resume(&self) {
        self.send(Message::Resume);
    }

    /// Sends all clients away to the process that serves now.
    pub fn dismiss(&self) {
        self.send(Message::Dismiss);
    }

    /// For a process that cannot go on: has the thread write the state and end, and waits for that, at most `timeout`.
    pub fn end(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        // Nobody takes messages any more when the thread has ended.
        while self.messages.send(Message::Stop).is_ok() && Instant::now() < deadline {
            let _ = self.waker.wake();
            thread::sleep(STOP_POLL);
        }
    }

    fn send(&self, message: Message) {
        // Fails only when the thread is gone, and then nobody needs to be told.
        let _ = self.messages.send(message);
        let _ = self.waker.wake();
    }
}
