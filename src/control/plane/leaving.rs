//! How the control plane makes way: for another process, and at the end.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use mio::Events;
use tungstenite::protocol::frame::coding::CloseCode;

use super::{FIRST_CLIENT, Plane};
use crate::control::clients::Clients;

/// At the end, for readers to get their close frame.
const GOODBYE: Duration = Duration::from_millis(200);
/// What answers may take that were under way when another process took over.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

impl Plane {
    /// Writes the state a last time and closes the places that clients connect to.
    pub(super) fn rest(&mut self, reply: &SyncSender<Result<(), String>>) {
        let result = self.desk.rest(Instant::now());
        if result.is_ok() {
            self.is_resting = true;
            self.listeners.close();
        }
        // Whoever does not wait any more resumes.
        let _ = reply.try_send(result);
    }

    /// Goes on after a rest.
    pub(super) fn resume(&mut self) {
        self.is_resting = false;
        self.desk.resume();
        self.open_listeners();
    }

    /// Another process serves: clients are sent there once their answers are out.
    pub(super) fn dismiss_soon(&mut self) {
        self.dismissal = Some(Instant::now() + LAST_ANSWERS);
    }

    /// Sends clients away, if that is due.
    pub(super) fn dismiss(&mut self, now: Instant) {
        if self.dismissal.is_some_and(|at| now >= at) {
            self.dismissal = None;
            self.tell_readers(now, |reader| reader.close(CloseCode::Away, "another process serves", now));
            self.clients = Clients::new(FIRST_CLIENT);
        }
    }

    /// Tells readers that the server stops.
    pub(super) fn say_goodbye(&mut self, events: &mut Events) {
        let now = Instant::now();
        self.desk.finish(now);
        self.tell_readers(now, |reader| reader.close(CloseCode::Away, "the server stops", now));
        let deadline = now + GOODBYE;
        while self.clients.readers() > 0 && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.poll.poll(events, Some(left)).is_err() {
                return;
            }
            for event in &*events {
                if event.token().0 >= FIRST_CLIENT {
                    self.dispatch(event, Instant::now());
                }
            }
        }
    }
}
