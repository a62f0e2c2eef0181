//! The thread that serves a site: a poll, the visitors, and their time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::content::Content;
use super::conversation::{Answer, Conversation};

/// Visitors at the same time. One more takes the place of the one who has waited for the longest.
const VISITORS_MAX: usize = 1024;
/// Visitors who wait to be let in: a worker may pass on all of them before this thread gets a processor.
const QUEUE_MAX: usize = VISITORS_MAX;
/// A request that was begun must be whole within so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// No request and no byte of an answer for so long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a visitor is still listened to behind the last answer. Closing with bytes unread would break the connection
/// and destroy what is on its way.
const LINGER: Duration = Duration::from_secs(5);
/// How long visitors may stay whose site is replaced by another: as long as they do, its files and its thread do, too.
const REPLACED_TIMEOUT: Duration = Duration::from_mins(10);
/// Read from a visitor at a time.
const READ_BYTES: usize = 4 << 10;
/// Reads and writes for one visitor per turn.
const STEPS_PER_TURN: usize = 16;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

const WAKER: Token = Token(usize::MAX);

/// The way in.
#[derive(Debug)]
pub(super) struct Door {
    /// `None` only while it is being dropped.
    queue: Option<SyncSender<StdUnixStream>>,
    waker: Arc<Waker>,
}

impl Door {
    /// Lets a visitor in.
    ///
    /// # Errors
    /// When too many wait already.
    pub(super) fn send_in(&self, visitor: StdUnixStream) -> io::Result<()> {
        let queue = self.queue.as_ref().ok_or(ErrorKind::NotConnected)?;
        queue.try_send(visitor).map_err(|error| match error {
            TrySendError::Full(_) => io::Error::from(ErrorKind::WouldBlock),
            TrySendError::Disconnected(_) => ErrorKind::NotConnected.into(),
        })?;
        self.waker.wake()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.queue = None;
        // Without it the thread notices at its next visitor's deadline.
        let _ = self.waker.wake();
    }
}

/// The thread's own.
pub(super) struct Service {
    content: Arc<Content>,
    poll: Poll,
    queue: Receiver<StdUnixStream>,
    visitors: Slab<Visitor>,
    /// Since when nobody comes any more.
    closed_at: Option<Instant>,
}

struct Visitor {
    socket: UnixStream,
    conversation: Conversation,
    saying: Option<Saying>,
    stage: Stage,
    since: Instant,
    readable: bool,
}

/// An answer, and how much of it is sent.
struct Saying {
    answer: Answer,
    sent: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No request is begun, or an answer is under way.
    Idle,
    Request,
    /// The last answer was given.
    Lingering,
}

/// What becomes of a visitor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// There is more to do at once.
    GoesOn,
    Leaves,
}

impl Service {
    /// Starts the thread.
    pub(super) fn start(content: Arc<Content>) -> io::Result<Door> {
        let (door, service) = Self::new(content)?;
        let of_thread = Arc::clone(&door.waker);
        thread::Builder::new().name("site".to_owned()).spawn(move || {
            service.run();
            // A waker that is closed takes its last word with it, so it stays as long as whoever is to hear that.
            drop(of_thread);
        })?;
        Ok(door)
    }

    /// Who comes in by the door waits until the service runs.
    pub(super) fn new(content: Arc<Content>) -> io::Result<(Door, Self)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, queue) = mpsc::sync_channel(QUEUE_MAX);
        let service = Self { content, poll, queue, visitors: Slab::new(), closed_at: None };
        Ok((Door { queue: Some(sender), waker }, service))
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut busy: Vec<usize> = Vec::new();
        while !(self.closed_at.is_some() && self.visitors.is_empty()) {
            let timeout = match (busy.is_empty(), self.visitors.is_empty()) {
                (false, _) => Some(Duration::ZERO),
                (true, true) => None,
                (true, false) => Some(TICK),
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != ErrorKind::Interrupted
            {
                log::error!("site: poll: {error}");
                return;
            }
            let now = Instant::now();
            for event in &events {
                if let Some(visitor) = self.visitors.get_mut(event.token().0) {
                    visitor.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                    busy.push(event.token().0);
                }
            }
            let was_open = self.closed_at.is_none();
            self.let_in(now);
            if was_open && self.closed_at.is_some() {
                busy.extend(self.visitors.iter().map(|(key, _)| key));
                self.visitors.iter_mut().for_each(|(_, visitor)| visitor.conversation.end_soon());
            }
            busy.sort_unstable();
            busy.dedup();
            busy = std::mem::take(&mut busy).into_iter().filter(|&key| self.serve(key, now)).collect();
            self.look_at_deadlines(now);
        }
    }

    fn let_in(&mut self, now: Instant) {
        loop {
            match self.queue.try_recv() {
                Ok(socket) => self.admit(UnixStream::from_std(socket), now),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.closed_at.get_or_insert(now);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut socket: UnixStream, now: Instant) {
        if self.visitors.len() >= VISITORS_MAX {
            let oldest = self.visitors.iter().min_by_key(|(_, visitor)| visitor.since).map(|(key, _)| key);
            oldest.map(|key| self.visitors.remove(key));
        }
        let vacant = self.visitors.vacant_entry();
        // Both directions report at once what they are, so that the first turn comes by itself.
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut socket, Token(vacant.key()), interest).is_ok() {
            vacant.insert(Visitor {
                socket,
                conversation: Conversation::default(),
                saying: None,
                stage: Stage::Idle,
                since: now,
                readable: false,
            });
        }
    }

    /// A turn for one visitor; true: there is more to do at once.
    fn serve(&mut self, key: usize, now: Instant) -> bool {
        let Some(visitor) = self.visitors.get_mut(key) else { return false };
        for _ in 0..STEPS_PER_TURN {
            match visitor.step(&self.content, now) {
                Fate::GoesOn => {}
                Fate::Stays => return false,
                Fate::Leaves => {
                    self.visitors.remove(key);
                    return false;
                }
            }
        }
        true
    }

    fn look_at_deadlines(&mut self, now: Instant) {
        if self.closed_at.is_some_and(|closed_at| closed_at + REPLACED_TIMEOUT <= now) {
            self.visitors.clear();
        }
        let late: Vec<usize> =
            self.visitors.iter().filter(|(_, visitor)| visitor.deadline() <= now).map(|(key, _)| key).collect();
        for key in late {
            let Some(visitor) = self.visitors.get_mut(key) else { continue };
            let last_words = match visitor.stage {
                Stage::Request => visitor.conversation.too_late(SystemTime::now()),
                Stage::Idle | Stage::Lingering => None,
            };
            let Some(answer) = last_words else {
                self.visitors.remove(key);
                continue;
            };
            visitor.say(answer, now);
            self.serve(key, now);
        }
    }
}

impl Visitor {
    fn deadline(&self) -> Instant {
        self.since
            + match self.stage {
                Stage::Idle => IDLE_TIMEOUT,
                Stage::Request => REQUEST_TIMEOUT,
                Stage::Lingering => LINGER,
            }
    }

    /// One read or one write.
    fn step(&mut self, content: &Content, now: Instant) -> Fate {
        if self.saying.is_some() {
            return self.go_on_saying(now);
        }
        if self.conversation.is_over() && self.stage != Stage::Lingering {
            let _ = self.socket.shutdown(Shutdown::Write);
            self.enter(Stage::Lingering, now);
        }
        if let Some(answer) = self.conversation.answer(content, SystemTime::now()) {
            self.say(answer, now);
            return Fate::GoesOn;
        }
        if !self.readable {
            return Fate::Stays;
        }
        let mut chunk = [0; READ_BYTES];
        match self.socket.read(&mut chunk) {
            Ok(0) => Fate::Leaves,
            Ok(count) => {
                self.conversation.hear(chunk.get(..count).unwrap_or_default());
                if self.stage == Stage::Idle && self.conversation.is_begun() {
                    self.enter(Stage::Request, now);
                }
                Fate::GoesOn
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Fate::Stays
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Fate::GoesOn,
            Err(_) => Fate::Leaves,
        }
    }

    fn say(&mut self, answer: Answer, now: Instant) {
        self.saying = Some(Saying { answer, sent: 0 });
        self.enter(Stage::Idle, now);
    }

    fn go_on_saying(&mut self, now: Instant) -> Fate {
        let Some(saying) = &mut self.saying else { return Fate::GoesOn };
        let rest = saying.rest();
        if rest.is_empty() {
            self.saying = None;
            // What was sent ahead is the next request, and its time begins now.
            let stage = if self.conversation.is_begun() { Stage::Request } else { Stage::Idle };
            self.enter(stage, now);
            return Fate::GoesOn;
        }
        match self.socket.write(rest) {
            Ok(count) => {
                saying.sent += count;
                self.since = now;
                Fate::GoesOn
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Fate::Stays,
            Err(error) if error.kind() == ErrorKind::Interrupted => Fate::GoesOn,
            Err(_) => Fate::Leaves,
        }
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
    }
}

impl Saying {
    /// What is to be sent next: the rest of the head, or of the body.
    fn rest(&self) -> &[u8] {
        let head = &self.answer.head;
        if let Some(rest) = head.get(self.sent..).filter(|rest| !rest.is_empty()) {
            return rest;
        }
        let body = self.answer.body.get(self.answer.part.clone()).unwrap_or_default();
        body.get(self.sent - head.len()..).unwrap_or_default()
    }
}
