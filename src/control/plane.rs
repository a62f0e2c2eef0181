//! The loop of the control thread: listeners, clients, deadlines, ticks.
//!
//! One thread serves everybody and never waits for anybody: sockets do not block, orders and deliveries and the state file
//! have threads of their own. The number of clients is bounded, in all and for each source; a new one takes the place of
//! the one that has been silent the longest.

mod leaving;
mod readers;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use std::{io, iter};

use mio::event::Event as Readiness;
use mio::{Events, Poll, Token, Waker};
use serde_json::json;

use super::api::orders;
use super::clients::{Client, Clients, Limit, Room};
use super::desk::{Desk, Verdict};
use super::errands::Errands;
use super::events::{Event, Kind, Level};
use super::feed::Reader;
use super::http::connection::{Connection, Progress, Request};
use super::http::response::Reply;
use super::http::stream::{Peer, Stream};
use super::listeners::{self, Listeners};
use super::settings::Settings;

/// Long answers and messages that wait for clients to take them, all together, in bytes. Beyond that whoever takes the
/// longest is closed. The list of 10,000 accounts is 7 MB, and every second has a new one.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Clients accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
const TICK: Duration = Duration::from_secs(1);
/// Deadlines are looked at so often at the most.
const SWEEP: Duration = Duration::from_millis(20);
/// Pings go out with the ticks: whoever answers each of them must not seem silent in between.
const HEARTBEAT_MIN: Duration = Duration::from_millis(2500);
/// A place that could not be listened at is tried again after this.
const LISTEN_RETRY: Duration = Duration::from_secs(5);

pub const WAKER: Token = Token(2);
const FIRST_CLIENT: usize = 3;

/// What the rest of the server tells the loop.
pub enum Message {
    Adopt(Box<Settings>),
    /// Writes the state a last time and gives up the places that clients connect to; whoever is connected is served.
    Rest(SyncSender<Result<(), String>>),
    /// Goes on after a rest.
    Resume,
    /// Another process serves: clients are sent there, once the last answers are out.
    Dismiss,
    Stop,
}

pub struct Plane {
    pub poll: Poll,
    pub listeners: Listeners,
    pub desk: Desk,
    pub errands: Errands,
    pub messages: Receiver<Message>,
    clients: Clients,
    times: Times,
    is_resting: bool,
    /// When clients are sent away.
    dismissal: Option<Instant>,
    is_stopped: bool,
}

/// When what is due.
struct Times {
    tick: Instant,
    broadcast: Instant,
    ping: Instant,
    sweep: Instant,
    listen: Instant,
    /// Some clients wait to be accepted.
    accept: [bool; 2],
    listen_failed: bool,
}

impl Plane {
    pub fn new(poll: Poll, listeners: Listeners, desk: Desk, errands: Errands, messages: Receiver<Message>) -> Self {
        let now = Instant::now();
        let times = Times {
            tick: now,
            broadcast: now,
            ping: now,
            sweep: now,
            listen: now + LISTEN_RETRY,
            accept: [true; 2],
            listen_failed: false,
        };
        let clients = Clients::new(FIRST_CLIENT);
        Self {
            poll,
            listeners,
            desk,
            errands,
            messages,
            clients,
            times,
            is_resting: false,
            dismissal: None,
            is_stopped: false,
        }
    }

    /// Serves until told to stop.
    pub fn run(&mut self) {
        let mut events = Events::with_capacity(256);
        while !self.is_stopped {
            if let Err(error) = self.poll.poll(&mut events, Some(self.poll_timeout()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("monitoring: the poll failed, nothing is served any more: {error}");
                return;
            }
            let now = Instant::now();
            for event in &events {
                self.dispatch(event, now);
            }
            self.take_messages();
            self.take_finished(now);
            self.accept(now);
            if self.desk.take_rights_changed() {
                self.close_unwelcome(now);
            }
            self.on_time(now);
        }
        self.say_goodbye(&mut events);
    }

    fn poll_timeout(&self) -> Duration {
        let now = Instant::now();
        let mut due = self.times.tick;
        if self.times.accept.contains(&true) {
            due = now;
        }
        if let Some(next) = self.clients.next_deadline() {
            due = due.min(next.max(self.times.sweep));
        }
        due.saturating_duration_since(now)
    }

    fn dispatch(&mut self, event: &Readiness, now: Instant) {
        match event.token() {
            listeners::TCP => self.times.accept[0] = true,
            listeners::UNIX => self.times.accept[1] = true,
            WAKER => {}
            Token(client) => {
                let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                self.serve(client, readable, now);
            }
        }
    }

    fn serve(&mut self, number: usize, readable: bool, now: Instant) {
        match self.clients.get(number) {
            Some(Client::Http { connection, .. }) => {
                let progress = connection.on_ready(readable, now);
                self.proceed(number, progress, now);
            }
            Some(Client::Feed(reader, _)) => {
                let result = reader.on_ready(readable, now);
                self.keep_reader(number, result);
            }
            None => {}
        }
    }

    /// Does what an HTTP client's progress asks for, until it waits.
    fn proceed(&mut self, number: usize, mut progress: Progress, now: Instant) {
        loop {
            let request = match progress {
                Progress::Wait => return,
                Progress::Close => {
                    self.clients.remove(number);
                    self.listeners.refill_reserve();
                    return;
                }
                Progress::Request(request) => request,
            };
            let Some((reply, delay)) = self.answer(number, &request, now) else { return };
            let Some(Client::Http { connection, was_served }) = self.clients.get(number) else { return };
            *was_served = true;
            progress = connection.answer(reply, delay, now);
            if connection.waiting().is_some() {
                self.shed();
            }
        }
    }

    /// The answer, unless it comes later or the client becomes a reader of the feed.
    fn answer(&mut self, number: usize, request: &Request, now: Instant) -> Option<(Reply, Duration)> {
        match self.desk.answer(request, now) {
            Verdict::Reply(reply, delay) => Some((reply, delay)),
            Verdict::Order(order) => {
                let busy = || Reply::error(503, "busy", "too many orders wait; try again").with("Retry-After", "1");
                (!self.errands.leave(number, order)).then(|| (busy(), Duration::ZERO))
            }
            Verdict::Feed(newcomer) => {
                self.subscribe(number, &newcomer, now).err().map(|refused| (refused, Duration::ZERO))
            }
        }
    }

    fn take_messages(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Adopt(settings) => self.desk.adopt(*settings),
                Message::Rest(reply) => self.rest(&reply),
                Message::Resume => self.resume(),
                Message::Dismiss => self.dismiss_soon(),
                Message::Stop => self.is_stopped = true,
            }
        }
        self.desk.take_reported();
        self.tell_news(Instant::now());
    }

    fn take_finished(&mut self, now: Instant) {
        let finished: Vec<_> = iter::from_fn(|| self.errands.take()).collect();
        self.desk.note(&finished);
        for finished in finished {
            let reply = orders::finished(finished.result);
            if let Some(Client::Http { connection, was_served }) = self.clients.get(finished.client) {
                *was_served = true;
                let progress = connection.answer(reply, Duration::ZERO, now);
                self.proceed(finished.client, progress, now);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        for (index, token) in [listeners::TCP, listeners::UNIX].into_iter().enumerate() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.times.accept[index] {
                    break;
                }
                match self.listeners.accept(token) {
                    Some((stream, peer)) => self.admit(stream, peer, now),
                    None => self.times.accept[index] = false,
                }
            }
        }
    }

    fn admit(&mut self, mut stream: Stream, peer: Peer, now: Instant) {
        let room = self.clients.make_room(peer);
        let own = &mut self.desk.view.own;
        own.clients_evicted_total += u64::from(matches!(room, Room::Made(_)));
        own.clients_over_share_total +=
            u64::from(matches!(room, Room::Made(Limit::Share) | Room::Lacking(Limit::Share)));
        if matches!(room, Room::Lacking(_)) {
            return;
        }
        let number = self.clients.number();
        if stream.register(self.poll.registry(), Token(number)).is_err() {
            return;
        }
        let connection = Box::new(Connection::new(stream, peer, now));
        self.clients.insert(number, Client::Http { connection, was_served: false });
        self.serve(number, true, now);
    }

    fn on_time(&mut self, now: Instant) {
        if now >= self.times.sweep {
            self.times.sweep = now + SWEEP;
            self.sweep(now);
        }
        if now < self.times.tick {
            return;
        }
        // After a long pause the missed ticks are left out.
        self.times.tick = (self.times.tick + TICK).max(now + TICK / 2);
        let readers = self.clients.readers();
        self.desk.view.own.clients = self.clients.count() as u64;
        self.desk.view.own.feed_clients = readers as u64;
        self.desk.tick(now);
        self.tell_news(now);
        // Logins end by themselves, too.
        self.close_unwelcome(now);
        self.listeners.refill_reserve();
        // What a lack of descriptors left in the queue.
        self.times.accept = [true; 2];
        if now >= self.times.broadcast {
            let interval = self.desk.view.settings.broadcast_interval;
            self.times.broadcast = (self.times.broadcast + interval).max(now + interval / 2);
            self.tell_figures(interval, now);
        }
        if now >= self.times.ping {
            self.times.ping = now + self.desk.view.settings.heartbeat_timeout / 3;
            self.tell_readers(now, Reader::ping);
        }
        self.dismiss(now);
        if now >= self.times.listen && !self.is_resting {
            self.times.listen = now + LISTEN_RETRY;
            self.open_listeners();
        }
    }

    fn sweep(&mut self, now: Instant) {
        let heartbeat = self.desk.view.settings.heartbeat_timeout.max(HEARTBEAT_MIN);
        for number in self.clients.due(heartbeat, now) {
            match self.clients.get(number) {
                Some(Client::Http { connection, .. }) => {
                    let progress = connection.on_deadline(now);
                    self.proceed(number, progress, now);
                }
                Some(Client::Feed(reader, _)) => {
                    let result = reader.check(heartbeat, now);
                    self.keep_reader(number, result);
                }
                None => {}
            }
        }
        self.shed();
    }

    /// Closes whoever keeps too much in memory by not taking it.
    fn shed(&mut self) {
        self.desk.view.own.clients_evicted_total += self.clients.shed(WAITING_BYTES_MAX);
    }

    /// Opens the listeners that are not open, and tells about those that cannot be.
    pub fn open_listeners(&mut self) {
        let failed = self.listeners.open_missing(self.poll.registry());
        if !failed.is_empty() && !self.times.listen_failed {
            for (place, error) in &failed {
                log::warn!(
                    "monitoring: cannot listen on {place}: {error}; trying again every {} s",
                    LISTEN_RETRY.as_secs()
                );
            }
        }
        if failed.is_empty() && self.times.listen_failed {
            log::info!("monitoring: listening now");
        }
        self.times.listen_failed = !failed.is_empty();
    }
}

/// The event that a server has started.
pub fn started() -> Event {
    let version = env!("CARGO_PKG_VERSION");
    Event::new(Kind::Start, Level::Info, format!("vless-rust {version} started"))
        .coded("started", json!({ "version": version }))
}

/// Wakes the loop.
pub fn waker(poll: &Poll) -> io::Result<Arc<Waker>> {
    Waker::new(poll.registry(), WAKER).map(Arc::new)
}
