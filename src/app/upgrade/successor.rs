//! The old process's side: it starts its successor, hands over what it has, and tells what it still counts.
//!
//! All of it happens on a thread of its own, so the supervisor goes on meanwhile. What came of it is left in the
//! mailbox.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::VARIABLE;
use super::channel::{Channel, DESCRIPTORS_MAX, Message};
use crate::app::activation;
use crate::app::certs::hex;
use crate::app::notify::WATCHDOG_PID_VARIABLE;
use crate::app::tally::{Counting, Counts, unhex};
use crate::control::ControlHandle;
use crate::session::close::CloseReason;

/// How long the new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a word may wait for the new process to read.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Why there is no successor, where it did not say so itself.
const ENDED: &str = "the new program ended before it served";
/// How often the new process is told what was counted.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// The program and its arguments, as they were at the start: what is at that path now is the new program.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl Launch {
    /// This process again, with the configuration `config`. Called at the start, before anything is replaced.
    pub fn again(config: PathBuf) -> Self {
        // The name it was called by may be a link to whichever version is the present one; so that comes first.
        let called = env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        let program = called.and_then(|name| std::path::absolute(name).ok()).or_else(|| env::current_exe().ok());
        Self { program: program.unwrap_or_default(), arguments: vec!["run".into(), config.into()] }
    }

    fn start(&self, socket: Channel) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env(VARIABLE, "1").env_remove(WATCHDOG_PID_VARIABLE);
        for name in activation::VARIABLES {
            command.env_remove(name);
        }
        command.stdin(Stdio::from(socket.into_fd())).spawn()
    }
}

/// What is handed over, and who has to know.
pub struct Owned {
    pub launch: Launch,
    pub sockets: Vec<(SocketAddr, Vec<TcpListener>)>,
    pub control: ControlHandle,
    pub counting: Arc<dyn Counting>,
}

/// What came of it, for the mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The process with this id serves. It waits for [`Successor::confirm`].
    Serves(u32),
    /// There is no successor, and why.
    Failed(String),
    /// The successor wants the sessions of this ledger to end.
    Cut([u8; 16], CloseReason),
}

/// A process that takes over.
pub struct Successor {
    channel: Arc<Channel>,
    thread: Option<JoinHandle<()>>,
    confirmed: mpsc::Sender<()>,
    /// Nothing more will be counted.
    is_over: Arc<AtomicBool>,
}

impl Successor {
    /// Starts it; `tell` is called from its thread.
    ///
    /// # Errors
    /// In words: the program cannot be started.
    pub fn start(owned: Owned, tell: impl Fn(News) + Send + 'static) -> Result<Self, String> {
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        let program = owned.launch.program.display().to_string();
        let child = owned.launch.start(theirs).map_err(|error| format!("{program} cannot be started: {error}"))?;
        let channel = Arc::new(ours);
        let (confirmed, confirmation) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let mut talk = Talk { channel: Arc::clone(&channel), child, owned, tell };
        let thread = thread::Builder::new().name("successor".to_owned()).spawn(move || {
            if let Some(baseline) = talk.conduct()
                && confirmation.recv().is_ok()
            {
                talk.go_on_telling(&baseline, &over);
            }
        });
        let thread = Some(thread.map_err(|error| error.to_string())?);
        Ok(Self { channel, thread, confirmed, is_over })
    }

    /// The service manager knows the new process: it is the server from now on.
    pub fn confirm(&self) {
        let _ = self.channel.send(&Message::ServiceIsYours, &[], SEND_TIMEOUT);
        let _ = self.confirmed.send(());
    }

    /// Waits until the new process has heard the last count; called once nothing is counted any more.
    pub fn finish(mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been told by the hook.
            let _ = thread.join();
        }
    }
}

struct Talk<F> {
    channel: Arc<Channel>,
    child: Child,
    owned: Owned,
    tell: F,
}

impl<F: Fn(News)> Talk<F> {
    /// From the start of the new process until it serves. What counts from then on; `None` when there is no successor.
    fn conduct(&mut self) -> Option<Counts> {
        let deadline = Instant::now() + PATIENCE;
        let mut resting = false;
        match self.try_conduct(deadline, &mut resting) {
            Ok(baseline) => {
                (self.tell)(News::Serves(self.child.id()));
                Some(baseline)
            }
            Err(why) => {
                let why = self.end_child(why);
                if resting {
                    self.owned.control.resume();
                }
                (self.tell)(News::Failed(why));
                None
            }
        }
    }

    fn try_conduct(&mut self, deadline: Instant, resting: &mut bool) -> Result<Counts, String> {
        for (address, sockets) in std::mem::take(&mut self.owned.sockets) {
            for sockets in sockets.chunks(DESCRIPTORS_MAX) {
                let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                self.say(&Message::Sockets { address }, &descriptors)?;
            }
        }
        self.say(&Message::AllSockets, &[])?;
        self.wait_for(&Message::Prepared, deadline)?;
        *resting = true;
        self.owned.control.rest()?;
        let baseline = self.owned.counting.saved();
        self.say(&Message::StateIsYours, &[])?;
        self.wait_for(&Message::Serving, deadline)?;
        Ok(baseline)
    }

    fn say(&self, message: &Message, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), String> {
        self.channel.send(message, descriptors, SEND_TIMEOUT).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.last_words(),
            _ => format!("it does not listen: {error}"),
        })
    }

    /// Why the new process has ended.
    fn last_words(&self) -> String {
        let deadline = Instant::now() + SEND_TIMEOUT;
        while let Ok(Some((message, _))) = self.channel.receive(Some(deadline)) {
            if let Message::Failed { why } = message {
                return why;
            }
        }
        ENDED.to_owned()
    }

    fn wait_for(&self, wanted: &Message, deadline: Instant) -> Result<(), String> {
        loop {
            match self.channel.receive(Some(deadline)) {
                Ok(Some((message, _))) if message == *wanted => return Ok(()),
                Ok(Some((Message::Failed { why }, _))) => return Err(why),
                Ok(Some(_)) => {}
                Ok(None) => return Err(ENDED.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(format!("it did not serve within {} s", PATIENCE.as_secs()));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Ends what must not serve. What it exited with says why where it did not say so itself.
    fn end_child(&mut self, why: String) -> String {
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let status = ended.or_else(|| self.child.wait().ok());
        match status {
            Some(status) if why == ENDED => format!("{ENDED} ({status})"),
            _ => why,
        }
    }

    /// Tells what is counted until that is over, and passes on what the new process wants.
    fn go_on_telling(&self, baseline: &Counts, over: &AtomicBool) {
        let mut told = HashMap::new();
        loop {
            let is_over = over.load(Ordering::Acquire);
            if self.tell_counts(baseline, &mut told).is_err() || is_over {
                return;
            }
            match self.channel.receive(Some(Instant::now() + TELL_INTERVAL)) {
                Ok(Some((Message::Cut { ledger, reason }, _))) => {
                    let reason = CloseReason::ALL.iter().find(|known| known.name() == reason);
                    if let (Some(ledger), Some(reason)) = (unhex(&ledger), reason) {
                        (self.tell)(News::Cut(ledger, *reason));
                    }
                }
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                // It has ended, and whoever is started in its place knows nothing of this process.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn tell_counts(&self, baseline: &Counts, told: &mut HashMap<[u8; 16], (u64, u64)>) -> io::Result<()> {
        let now = self.owned.counting.counts();
        for (ledger, (uplink, downlink)) in &now.ledgers {
            let before = baseline.ledgers.get(ledger).copied().unwrap_or_default();
            let since = (uplink.saturating_sub(before.0), downlink.saturating_sub(before.1));
            if since != (0, 0) && told.get(ledger) != Some(&since) {
                let message = Message::Counted { ledger: hex(ledger), uplink_bytes: since.0, downlink_bytes: since.1 };
                self.channel.send(&message, &[], SEND_TIMEOUT)?;
                told.insert(*ledger, since);
            }
        }
        let moved = Message::Moved {
            uplink_bytes: now.all.0.saturating_sub(baseline.all.0),
            downlink_bytes: now.all.1.saturating_sub(baseline.all.1),
            sessions: now.sessions,
        };
        self.channel.send(&moved, &[], SEND_TIMEOUT)
    }
}
