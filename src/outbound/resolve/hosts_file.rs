//! The hosts file of the process: read once for all workers, and again when it has changed.
//!
//! The worker that finds a change reads the file. The others go on with what was known. No lock is held while the file
//! is read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::hosts::Hosts;
use super::watched_file::{TooLong, WatchedFile};

/// Block lists of half a million names fit. Longer files are refused, not cut.
pub const BYTES_MAX: u64 = 16 << 20;
/// How often the file is looked at, while names are asked for.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// A hosts file. Clones share what was read.
#[derive(Clone, Debug)]
pub struct HostsFile {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// `None` while somebody reads it.
    file: Option<WatchedFile>,
    checked: Option<Instant>,
    hosts: Arc<Hosts>,
}

impl HostsFile {
    /// Reads the file for the first time, before anybody asks for a name.
    ///
    /// # Errors
    /// It is too long. A file that is not there has no names.
    pub fn read(&self) -> Result<(), TooLong> {
        self.check(Instant::now())
    }

    /// What the file says. A change that makes it too long is passed over and logged.
    pub(super) fn current(&self, now: Instant) -> Arc<Hosts> {
        if let Err(error) = self.check(now) {
            log::warn!("{error}; the names that it had before go on to hold");
        }
        Arc::clone(&self.lock().hosts)
    }

    fn check(&self, now: Instant) -> Result<(), TooLong> {
        let mut state = self.lock();
        if state.checked.is_some_and(|checked| now.saturating_duration_since(checked) < CHECK_INTERVAL) {
            return Ok(());
        }
        let Some(mut file) = state.file.take() else { return Ok(()) };
        state.checked = Some(now);
        drop(state);
        let changed = file.changed();
        let hosts = changed.as_ref().ok().and_then(Option::as_ref).map(|text| Arc::new(Hosts::parse(text)));
        let mut state = self.lock();
        state.file = Some(file);
        if let Some(hosts) = hosts {
            state.hosts = hosts;
        }
        changed.map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<PathBuf> for HostsFile {
    fn from(path: PathBuf) -> Self {
        let file = Some(WatchedFile::new(path.clone(), BYTES_MAX));
        let state = State { file, checked: None, hosts: Arc::default() };
        Self { path, state: Arc::new(Mutex::new(state)) }
    }
}

impl From<&str> for HostsFile {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

/// The same file, whoever has read it.
impl PartialEq for HostsFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for HostsFile {}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;

    use super::*;
    use crate::outbound::resolve::Family;

    #[test]
    fn a_block_list_of_several_mebibytes_holds_to_its_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let mut text = String::new();
        for number in 0..100_000 {
            writeln!(text, "0.0.0.0 ad{number:06}.tracker.example").unwrap();
        }
        text.push_str("127.0.0.1 mine.example\n");
        fs::write(&path, &text).unwrap();
        let file = HostsFile::from(path.clone());
        file.read().unwrap();
        let hosts = file.current(Instant::now());
        for name in ["ad000000.tracker.example", "ad099999.tracker.example", "mine.example"] {
            assert!(hosts.find(name, Family::V4).is_some(), "{name}");
        }

        let later = Instant::now() + CHECK_INTERVAL;
        fs::write(&path, text.repeat(6)).unwrap();
        assert!(Arc::ptr_eq(&file.current(later), &hosts), "kept as before");
        assert!(HostsFile::from(path.clone()).read().is_err(), "refused at the start");

        fs::write(&path, "127.0.0.1 other.example\n").unwrap();
        assert!(file.current(later).find("other.example", Family::V4).is_none(), "not looked at again so soon");
        assert!(file.clone().current(later + CHECK_INTERVAL).find("other.example", Family::V4).is_some());
    }
}
