//! The one owner of the running server: reactor, configuration, ledgers, log.
//!
//! Whoever wants something of the server (a signal, a command, the page, a watched file) leaves an [`Order`] in the
//! mailbox; one thread takes them one by one, so no two changes ever meet. It never waits for a worker.

pub mod orders;

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGUSR1};

use self::orders::{Mailbox, Order, Orders};
use crate::app::backend::AppBackend;
use crate::app::config::Config;
use crate::app::console::Reporter;
use crate::app::logging::LogHandle;
use crate::app::report::counters_line;
use crate::control::Control;
use crate::reactor::{Reactor, Rules};
use crate::stats::Ledgers;

/// How long the end waits for a stalled log or terminal.
pub const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the supervisor looks at its clock while it serves: what is due by the second is done within one.
const TICK: Duration = Duration::from_millis(500);
/// How often the end of a drain is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// See the module.
pub struct Supervisor {
    pub config: Config,
    pub rules: Arc<Rules>,
    pub reactor: Reactor,
    /// What is counted for users, whatever becomes of their accounts.
    pub ledgers: Arc<Ledgers>,
    pub log: LogHandle,
    pub reporter: Reporter,
    pub orders: Orders,
    /// What the control plane sees of all this.
    pub backend: Arc<AppBackend>,
    pub control: Control,
    pub started: Instant,
    pub is_draining: bool,
}

/// Whether the supervisor goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    EndAtOnce,
}

impl Supervisor {
    /// Where orders are left.
    pub fn mailbox(&self) -> Mailbox {
        self.orders.mailbox()
    }

    /// Serves orders until the reactor has stopped, and says the last words.
    pub fn run(mut self) {
        while !self.reactor.is_stopped() {
            match self.orders.next(if self.is_draining { DRAIN_POLL } else { TICK }) {
                Ok(order) => {
                    if self.obey(order) == Then::EndAtOnce {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Drained, the workers have ended; after a second signal they cut what is left, and that counts, too.
        self.reactor.stop();
        // After the workers, so that the state has the last byte.
        self.control.stop();
        self.reporter.write(self.report(), LAST_WORDS_TIMEOUT);
        log::info!("stopped");
    }

    fn obey(&mut self, order: Order) -> Then {
        match order {
            Order::Signal(SIGUSR1) => {
                if !self.reporter.offer(self.report()) {
                    log::warn!("SIGUSR1: stderr is still busy with the counters of an earlier one");
                }
                Then::GoOn
            }
            // A terminal that is closed sends it too; it must not end a server that has sessions.
            Order::Signal(SIGHUP) => {
                self.reopen_log();
                Then::GoOn
            }
            Order::Signal(_) => self.end(),
        }
    }

    /// The first signal lets sessions end, the second does not.
    fn end(&mut self) -> Then {
        let (sessions, drain) = (self.reactor.sessions(), self.config.timeouts.drain);
        if self.is_draining {
            log::warn!("second signal: ending at once with {sessions} sessions open");
            return Then::EndAtOnce;
        }
        self.is_draining = true;
        self.backend.drain();
        match sessions {
            0 => log::info!("stopping: no session is open"),
            sessions => log::info!("stopping: {sessions} sessions have {} s to end", drain.as_secs()),
        }
        self.reactor.drain(drain);
        Then::GoOn
    }

    /// The log file may have been renamed to make room for a new one.
    fn reopen_log(&self) {
        match self.log.change(&self.config.log) {
            Ok(()) => log::info!("HUP: the log was reopened; a changed configuration needs a restart"),
            Err(failure) => log::error!("HUP: {failure}; lines go where they went"),
        }
    }

    fn report(&self) -> String {
        let users = &self.rules.session.users;
        counters_line(&self.reactor, users, self.started.elapsed(), self.log.dropped_lines())
    }
}
