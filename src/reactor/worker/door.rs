//! A worker's listeners: which of them has clients waiting, and which is to go.
//!
//! A listener that is taken away is closed once its queue was found empty. So nobody is reset whom the kernel has
//! accepted already. A listener keeps its token while it lives, whatever becomes of the others.

use std::io;
use std::net::TcpListener as StdListener;

use mio::net::TcpListener;
use mio::{Interest, Registry};

use crate::io::roster::Roster;
use crate::io::token::{Kind, Token};
use crate::reactor::accept::{self, Accepted};
use crate::reactor::request::ListenerId;

/// The leg of a listener's token.
const LISTENER_LEG: usize = 1;

pub(super) struct Door {
    listeners: Roster<Listener>,
    /// Clients stay in the kernel's queue.
    paused: bool,
}

struct Listener {
    id: ListenerId,
    socket: TcpListener,
    /// An event came and the queue was not found empty since.
    ready: bool,
    /// It is closed when its queue is empty.
    leaving: bool,
}

impl Door {
    /// The listeners of the start. Their ids are their places.
    pub(super) fn new(listeners: Vec<StdListener>, registry: &Registry) -> io::Result<Self> {
        let mut door = Self { listeners: Roster::new(Kind::Worker), paused: false };
        for (place, socket) in listeners.into_iter().enumerate() {
            door.add(ListenerId(place), socket, registry)?;
        }
        Ok(door)
    }

    pub(super) fn add(&mut self, id: ListenerId, socket: StdListener, registry: &Registry) -> io::Result<()> {
        let Some(vacancy) = self.listeners.vacancy() else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, vacancy.token().with_leg(LISTENER_LEG).into(), Interest::READABLE)?;
        vacancy.insert(Listener { id, socket, ready: false, leaving: false });
        Ok(())
    }

    /// Closes this listener once its queue is empty.
    pub(super) fn remove(&mut self, id: ListenerId) {
        self.leave(|listener| listener.id == id);
    }

    /// Closes all listeners once their queues are empty.
    pub(super) fn remove_all(&mut self) {
        self.leave(|_| true);
    }

    fn leave(&mut self, goes: impl Fn(&Listener) -> bool) {
        for token in self.listeners.tokens() {
            if let Some(listener) = self.listeners.get_mut(token).filter(|listener| goes(listener)) {
                listener.leaving = true;
                // Its queue may hold clients of which an event told long ago.
                listener.ready = true;
            }
        }
    }

    /// Closes those that are to go and whose queue was found empty.
    pub(super) fn close_empty(&mut self, registry: &Registry) {
        if self.listeners.iter().any(|(_, listener)| listener.leaving && !listener.ready) {
            for token in self.listeners.tokens() {
                if self.listeners.get(token).is_some_and(|listener| listener.leaving && !listener.ready)
                    && let Some(mut listener) = self.listeners.remove(token)
                {
                    // Another process may have the same socket, and then closing ours does not end its events.
                    let _ = registry.deregister(&mut listener.socket);
                }
            }
        }
    }

    pub(super) fn on_event(&mut self, token: Token) {
        if let Some(listener) = self.listeners.get_mut(token) {
            listener.ready = true;
        }
    }

    /// Clients may be waiting that may come in.
    pub(super) fn has_work(&self) -> bool {
        !self.paused && self.listeners.iter().any(|(_, listener)| listener.ready)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Leaves clients in the kernel's queues. The listeners stay marked as ready.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// A reason to pause may have gone.
    pub(super) fn end_pause(&mut self) {
        self.paused = false;
    }

    /// The pause is over. A listener that was set aside reports no event again, so all of them are looked at.
    pub(super) fn resume(&mut self) {
        self.paused = false;
        for token in self.listeners.tokens() {
            if let Some(listener) = self.listeners.get_mut(token) {
                listener.ready = true;
            }
        }
    }

    /// Leaves one listener alone until its next event or the end of a pause.
    pub(super) fn set_aside(&mut self, token: Token) {
        if let Some(listener) = self.listeners.get_mut(token) {
            listener.ready = false;
        }
    }

    /// Those at which clients may be waiting.
    pub(super) fn ready(&self) -> Vec<Token> {
        if !self.has_work() {
            return Vec::new();
        }
        self.listeners.iter().filter(|(_, listener)| listener.ready).map(|(token, _)| token).collect()
    }

    /// Accepts one client. A listener that has none is not ready any more.
    pub(super) fn accept(&mut self, token: Token) -> Accepted {
        let Some(listener) = self.listeners.get_mut(token) else { return Accepted::Blocked };
        let accepted = accept::accept(&listener.socket);
        if matches!(accepted, Accepted::Blocked) {
            listener.ready = false;
        }
        accepted
    }

    /// Whether somebody waits at a listener. One at which nobody does is not ready any more.
    pub(super) fn is_awaited(&mut self, token: Token) -> bool {
        let Some(listener) = self.listeners.get_mut(token) else { return false };
        listener.ready = accept::is_awaited(&listener.socket);
        listener.ready
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }
}
