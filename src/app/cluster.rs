//! The cluster, as this node takes part in it: one thread that speaks to the engine, one that writes down what was counted,
//! and what others see of it.
//!
//! Nobody waits for the thread. Workers see what it lends to the gates of accounts; the supervisor hears of changed
//! accounts in its mailbox; whoever shows how the cluster stands reads [`status::Shared`]. Without the engine the thread
//! goes on counting, and the accounts are those that were written to disk last.
//!
//! `member.rs` has the loop; `connecting.rs`, `beating.rs`, `following.rs`, `reporting.rs`, `lending.rs`, `admitting.rs` and
//! `usage.rs` have what it does in each round; `warning.rs`, `asking.rs`, `call.rs` and `online.rs` what somebody asks of all
//! nodes, `forgetting.rs` what becomes of one that is gone. `engine.rs`, `stream.rs` and `named.rs` are the connection, and `retry.rs` says when it is tried again. `change.rs` prepares
//! changes of accounts, `list.rs` has the accounts, `counting.rs` what was counted, `books.rs` what of it is written down,
//! `files.rs` what is on disk. Which batch is sent next and what an answer means is decided in [`crate::cluster`], without
//! socket and clock.

mod admitting;
mod asking;
mod beating;
mod books;
mod borrowers;
pub mod call;
pub mod change;
mod connecting;
pub mod counting;
pub mod engine;
pub mod files;
mod following;
mod forgetting;
pub mod joining;
mod lending;
mod link;
pub mod links;
pub mod list;
mod member;
mod named;
pub mod news;
pub mod offline;
pub mod online;
mod presence;
pub mod reply;
mod reporting;
mod retry;
pub mod settings;
pub mod status;
mod stream;
mod usage;
mod warning;

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::books::SharedBooks;
pub use self::link::Link;
use self::member::Member;
pub use self::member::Surroundings;
use self::news::Request;
use self::settings::Settings;
use self::status::Shared;
use crate::app::exit::{self, Failure};

/// Requests that wait for the thread at the most.
const REQUESTS_MAX: usize = 64;
/// How long the end of the process waits for a last word to the engine.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const STOP_POLL: Duration = Duration::from_millis(5);

/// This node's part of the cluster. Dropping it ends the thread.
pub struct Cluster {
    requests: SyncSender<Request>,
    shared: Arc<Shared>,
    books: SharedBooks,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Starts the thread; `around` has what it reads and tells.
    ///
    /// # Errors
    /// When the journal cannot be read or the kernel refuses a thread.
    pub fn start(settings: Settings, around: Surroundings) -> Result<Self, Failure> {
        let shared = Arc::clone(&around.shared);
        let (requests, waiting) = mpsc::sync_channel(REQUESTS_MAX);
        let member = Member::new(settings, around, waiting)?;
        let books = member.books.clone();
        let thread = thread::Builder::new().name("cluster".to_owned()).spawn(move || member.run());
        let thread =
            thread.map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot start a thread: {error}")))?;
        Ok(Self { requests, shared, books, thread: Some(thread) })
    }

    /// What the thread tells.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// For whoever shows the cluster and cuts sessions in it.
    pub fn link(&self) -> Link {
        Link { requests: self.requests.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Leaves a request; false when too many wait.
    pub fn leave(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Has everything that was counted written down and told, as far as the engine answers, and ends the thread.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !self.leave(Request::Stop) && !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(STOP_POLL);
        }
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(STOP_POLL);
        }
        if thread.is_finished() {
            let _ = thread.join();
        } else if let Err(error) = self.books.lock().finish() {
            // It waits for the engine still. What it would have told is in the journal for the next start.
            log::error!("cluster: the journal cannot be written, the last bytes may be lost: {error}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use super::books::Books;
    use super::counting::Served;
    use super::files::Folder;
    use crate::app::config::UsersFile;
    use crate::cluster::journal::{Bytes, Journal};
    use crate::cluster::lease::WhenAway;
    use crate::cluster::node::Node;
    use crate::stats::Ledger;

    #[test]
    fn the_end_writes_down_the_last_bytes_although_the_thread_waits_for_the_engine() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        let node = Node::open(folder.journal().unwrap(), 1, 1 << 20, WhenAway::Serve).unwrap();
        let books = SharedBooks::new(Books::new(node));
        let (ledger, text) = (Arc::new(Ledger::new(1)), r#"{ "users": [ { "uuid": "a" } ] }"#);
        let limits = UsersFile::parse(text, Path::new("u"), None).unwrap().users[0].limits.clone();
        let since = Bytes::default();
        let served = Served { key: "anna".to_owned(), id: [1; 16], limits, ledger: Arc::clone(&ledger), since };
        books.lock().counting.adopt(&[served]);
        ledger.lane(0).uplink_bytes.add(5);
        let (requests, _waiting) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let _ = ended.recv();
        });
        Cluster { requests, shared: Arc::default(), books, thread: Some(thread) }.stop();
        drop(end);
        let journal = Journal::open(folder.journal().unwrap(), 2).unwrap();
        assert_eq!(journal.counted_after("anna", 2, 0), 5);
    }
}
