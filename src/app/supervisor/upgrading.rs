//! Having another process take over, and being the one that took over.

use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Supervisor;
use super::orders::Order;
use crate::app::accounts::store;
use crate::app::upgrade::{News, Owned, Successor};
use crate::control::backend::{Denied, Done};
use crate::control::events::{Event, Kind, Level};
use crate::reactor::request::{CutQuery, LedgerRef, Which};

/// How soon a full mailbox is tried again.
const MAILBOX_RETRY: Duration = Duration::from_millis(20);
const NODE: &str = "no other process can take over from a node of a cluster: restart it (systemctl restart \
    vless-rust), which loses nothing but its sessions: what it counted is on disk and with the engine";
/// Why nobody may take over where systemd does not hear us: when this process ends, it ends all others of the service.
const DEAF: &str = "systemd does not hear which process serves, and would end the new one, too: bring the unit up to \
    date (vless-rust service install), and restart the service once";

type Reply = SyncSender<Result<Done, Denied>>;

/// How far an upgrade has come.
#[derive(Default)]
pub(super) struct Upgrading {
    stage: Stage,
    by: String,
    /// The way back to the command that asked for it.
    reply: Option<Reply>,
    /// A signal to end has come since another process took over.
    is_told_to_end: bool,
}

#[derive(Default)]
enum Stage {
    #[default]
    Not,
    /// The new process is starting.
    UnderWay(Successor),
    /// It serves.
    Done(Successor),
}

impl Upgrading {
    /// After another process took over, the first signal to end only shortens what the last sessions have.
    pub(super) fn is_first_signal(&mut self) -> bool {
        matches!(self.stage, Stage::Done(_)) && !std::mem::replace(&mut self.is_told_to_end, true)
    }

    /// The workers have ended; what they counted last is told.
    pub(super) fn finish(&mut self) {
        if let Stage::Done(successor) = std::mem::take(&mut self.stage) {
            successor.finish();
        }
    }

    fn answer(&mut self, answer: Result<Done, Denied>) {
        if let Some(reply) = self.reply.take() {
            // Where nobody waits for it any more, the log has it.
            let _ = reply.try_send(answer);
        }
    }
}

impl Supervisor {
    /// Starts the program that is there now, to take over.
    pub(super) fn upgrade(&mut self, by: &str, reply: Option<Reply>) {
        if let Err(why) = self.try_upgrade(by) {
            log::error!("not upgraded ({by}): {why}");
            if let Some(reply) = reply {
                let _ = reply.try_send(Err(Denied::new(409, "not_upgraded", why)));
            }
        } else {
            self.upgrading.reply = reply;
        }
    }

    fn try_upgrade(&mut self, by: &str) -> Result<(), String> {
        match self.upgrading.stage {
            _ if self.is_draining => return Err("the server is stopping".to_owned()),
            Stage::UnderWay(_) => return Err("another upgrade is under way".to_owned()),
            // What the engine was not told yet has one owner.
            _ if self.parts.cluster.is_some() => return Err(NODE.to_owned()),
            _ if self.heart.notifier().is_deaf_service() => return Err(DEAF.to_owned()),
            _ => {}
        }
        let parts = &self.parts;
        let owned = Owned {
            launch: parts.launch.clone(),
            sockets: parts.listening.sockets().map_err(|error| error.to_string())?,
            control: parts.control.handle(),
            counting: parts.backend.clone(),
        };
        let mailbox = parts.orders.mailbox();
        let tell = move |news: News| {
            // The mailbox is full for a moment at the most, and this must not get lost.
            while !mailbox.leave(Order::Successor(news.clone())) {
                thread::sleep(MAILBOX_RETRY);
            }
        };
        log::info!("upgrading ({by}): {} is started", parts.launch.program.display());
        self.upgrading.stage = Stage::UnderWay(Successor::start(owned, tell)?);
        by.clone_into(&mut self.upgrading.by);
        Ok(())
    }

    /// What came of it.
    pub(super) fn hear_successor(&mut self, news: News) {
        match news {
            News::Serves(pid) => self.hand_over(pid),
            News::Failed(why) => {
                log::error!("not upgraded ({}), everything is as before: {why}", self.upgrading.by);
                let event = Event::new(Kind::Start, Level::Error, format!("not upgraded: {why}"));
                let data = json!({ "error": why });
                self.tell(event.by(self.upgrading.by.as_str()).coded("upgrade_failed", data));
                self.upgrading.stage = Stage::Not;
                let message = format!("everything is as before: {why}");
                self.upgrading.answer(Err(Denied::new(422, "not_upgraded", message)));
            }
            News::Cut(id, reason) => {
                if let Some(ledger) = self.parts.ledgers.find(&id) {
                    let query = CutQuery { which: Which::Ledger(LedgerRef(ledger)), reason };
                    let _ = self.parts.reactor.handle().cut(&query);
                }
                if let Some(teller) = &self.teller {
                    teller.cut(id, reason);
                }
            }
        }
    }

    /// The process `pid` is the server from now on; this one lets its sessions end.
    fn hand_over(&mut self, pid: u32) {
        let Stage::UnderWay(successor) = std::mem::take(&mut self.upgrading.stage) else { return };
        self.heart.hand_over(pid);
        successor.confirm();
        self.upgrading.stage = Stage::Done(successor);
        let (sessions, timeout) = (self.parts.reactor.sessions(), self.parts.config.timeouts.upgrade);
        log::info!("process {pid} has taken over; {sessions} sessions have {} s to end here", timeout.as_secs());
        self.is_draining = true;
        self.drain_deadline = Some(Instant::now() + timeout);
        self.parts.backend.drain();
        self.parts.listening.release();
        self.parts.reactor.drain(timeout);
        let body = json!({ "ok": true, "pid": pid, "sessions_left": sessions });
        self.upgrading.answer(Ok(Done::Json { status: 200, body, revision: None }));
        self.parts.control.handle().dismiss();
    }

    /// Accounts may have been changed while this process was taking over.
    pub(super) fn catch_up(&mut self) {
        let config = self.parts.config.clone();
        let read = store::still_there(&config).and_then(|()| config.read_users_file());
        if let Err(failure) = read.and_then(|users| self.adopt_accounts(config.with_users(users)?)) {
            log::error!("accounts: {failure}");
        }
    }

    /// What it still counts would be lost.
    pub(super) fn waits_for_predecessor(&self) -> bool {
        let is_there = self.parts.backend.old_counts().is_there.load(std::sync::atomic::Ordering::Relaxed);
        is_there && self.is_draining && self.drain_deadline.is_some_and(|deadline| Instant::now() < deadline)
    }
}
