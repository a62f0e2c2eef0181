//! The users file on disk: read whole, changed under a lock, replaced atomically.
//!
//! Two programs that change it never undo each other's work: the lock is held from reading to writing, and whoever has
//! seen an older revision is told. A file that cannot be read is never overwritten; a copy of it is set aside, and the
//! copy before the last change is kept.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::change::{self, Change, Changed, Refusal};
use crate::app::config::{Config, FILE_BYTES_MAX, UsersFile};
use crate::app::exit::{self, Failure};
use crate::app::files::replace_and_keep;

/// Who holds the lock writes one small file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It must not be.
    Refused(Refusal),
    /// The file could not be read, locked or written.
    Failed(Failure),
}

/// The contents of the users file of `config`, with the way back in the message if they cannot be read.
///
/// # Errors
/// As [`Config::read_users_file`].
pub fn read(config: &Config) -> Result<UsersFile, Failure> {
    config.read_users_file().map_err(|failure| match &config.users_file {
        Some(path) if failure.code == exit::CONFIG => Failure::new(failure.code, set_aside(path, &failure.message)),
        _ => failure,
    })
}

/// Whether the users file that `served` has accounts of is there.
///
/// # Errors
/// It is gone. Taken for an empty one, it would have all of them cut.
pub fn still_there(served: &Config) -> Result<(), Failure> {
    let count = served.of_users_file().users.len();
    let Some(path) = served.users_file.as_ref().filter(|path| count > 0 && matches!(path.try_exists(), Ok(false)))
    else {
        return Ok(());
    };
    let message = format!(
        "{} is gone, and {count} accounts that were in it are served: put it back{}; to serve without them, put \
         {{ \"users\": [] }} there",
        path.display(),
        way_back(path)
    );
    Err(Failure::new(exit::NO_INPUT, message))
}

/// Makes `change` in the users file of `config`; with `revision`, only if the file still has that one.
///
/// # Errors
/// Why not; then the file is as it was.
pub fn make(config: &Config, change: &Change, revision: Option<u64>, now: u64) -> Result<Changed, StoreError> {
    let mut draft = Draft::begin(config, None)?;
    let changed = draft.make(change, revision, now).map_err(StoreError::Refused)?;
    draft.save().map_err(StoreError::Failed)?;
    Ok(changed)
}

/// By what a file is known again: whoever replaces it makes another one, and whoever writes into it changes its times. The
/// kernel's clock for files ticks every few milliseconds, so only what is written into a file in the same tick in which it
/// was put there, and leaves its length as it is, would be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    bytes: u64,
    times: [(i64, i64); 2],
}

/// The users file under its lock, and changes of it that are not written yet. Several are written with one wait for the
/// disk.
pub struct Draft<'a> {
    config: &'a Config,
    path: &'a Path,
    file: UsersFile,
    is_new: bool,
    _lock: File,
}

/// What was written.
#[derive(Debug)]
pub struct Saved {
    pub file: UsersFile,
    /// For [`Draft::begin`], from whoever serves what is in the file.
    pub stamp: Option<Stamp>,
}

impl<'a> Draft<'a> {
    /// Takes the lock and reads the file, unless it is still the one that `known` is the stamp of, whose accounts `config`
    /// has.
    ///
    /// # Errors
    /// Why accounts cannot be changed now.
    pub fn begin(config: &'a Config, known: Option<Stamp>) -> Result<Self, StoreError> {
        let Some(path) = &config.users_file else {
            let message = "users_file is null: there is no file that accounts could be changed in".to_owned();
            return Err(StoreError::Refused(Refusal::Invalid(message)));
        };
        let lock = lock(path).map_err(|error| StoreError::Failed(Failure::writing(path, &error)))?;
        let is_known = known.is_some() && known == Stamp::of(path);
        let file = if is_known {
            config.of_users_file()
        } else {
            still_there(config).and_then(|()| read(config)).map_err(StoreError::Failed)?
        };
        Ok(Self { config, path, file, is_new: false, _lock: lock })
    }

    /// Makes `change` as [`make`] does, for [`Draft::save`] to write.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub fn make(&mut self, change: &Change, revision: Option<u64>, now: u64) -> Result<Changed, Refusal> {
        if revision.is_some_and(|seen| seen != self.file.revision) {
            return Err(Refusal::Stale(self.file.revision));
        }
        let changed = change::apply(self.config, &mut self.file, change, now, uuid::Uuid::new_v4())?;
        self.is_new |= changed.is_new;
        Ok(changed)
    }

    /// Of the list with the changes.
    pub fn revision(&self) -> u64 {
        self.file.revision
    }

    /// Writes the file, and keeps what was there before. `None`: there was nothing to write.
    ///
    /// # Errors
    /// Why not; then the file is as it was, without any of the changes.
    pub fn save(self) -> Result<Option<Saved>, Failure> {
        if !self.is_new {
            return Ok(None);
        }
        let text = self.file.text();
        if text.len() > FILE_BYTES_MAX {
            let message =
                format!("{}: these are more accounts than fit into {FILE_BYTES_MAX} bytes", self.path.display());
            return Err(Failure::new(exit::CANNOT_CREATE, message));
        }
        replace_and_keep(self.path, &beside(self.path, ".previous"), text.as_bytes(), 0o600)
            .map_err(|error| Failure::writing(self.path, &error))?;
        Ok(Some(Saved { file: self.file, stamp: Stamp::of(self.path) }))
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let known = fs::metadata(path).ok()?;
        let times = [(known.mtime(), known.mtime_nsec()), (known.ctime(), known.ctime_nsec())];
        Some(Self { file: (known.dev(), known.ino()), bytes: known.len(), times })
    }
}

/// Holds the lock until it is dropped. The users file itself is replaced, so the lock is on a file of its own.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(beside(path, ".lock"))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another program is changing it"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Keeps a copy of what cannot be read, and says what to do.
fn set_aside(path: &Path, message: &str) -> String {
    let aside = beside(path, ".unreadable");
    let kept = fs::copy(path, &aside).is_ok();
    let kept = if kept { format!("; a copy of it was set aside as {}", aside.display()) } else { String::new() };
    format!("{message}\nthe accounts cannot be read and are not touched{kept}{}", way_back(path))
}

/// How to go back to the copy, if there is one.
fn way_back(path: &Path) -> String {
    let previous = beside(path, ".previous");
    if !previous.exists() {
        return String::new();
    }
    format!("; to go back to the accounts before the last change: cp {} {}", previous.display(), path.display())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use crate::app::files::replace;

    fn config(folder: &Path) -> Config {
        let text = r#"{ "users": [ { "uuid": "example", "email": "locked@x" } ] }"#;
        Config::parse(text, &folder.join("config.json")).unwrap()
    }

    fn add(email: &str) -> Change {
        Change::Add(json!({ "email": email }))
    }

    #[test]
    fn a_change_makes_a_private_file_and_keeps_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        make(&config, &add("a"), None, 0).unwrap();
        let path = folder.path().join("users.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let first = fs::read(&path).unwrap();
        make(&config, &add("b"), Some(1), 0).unwrap();
        assert_eq!(fs::read(folder.path().join("users.json.previous")).unwrap(), first);
        let emails: Vec<_> = read(&config).unwrap().users.into_iter().map(|user| user.email).collect();
        assert_eq!(emails, ["a", "b"]);
    }

    #[test]
    fn changes_that_wait_together_are_written_once_and_seen_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        make(&config, &add("first"), None, 0).unwrap();
        let mut draft = Draft::begin(&config, None).unwrap();
        let revision = |changed: Result<Changed, Refusal>| changed.map(|changed| changed.revision);
        assert_eq!(revision(draft.make(&add("a"), Some(1), 0)), Ok(2));
        assert_eq!(revision(draft.make(&add("b"), Some(1), 0)), Err(Refusal::Stale(2)));
        assert_eq!(revision(draft.make(&add("c"), None, 0)), Ok(3));
        assert_eq!(revision(draft.make(&add("a"), None, 0)), Err(Refusal::Exists("a".to_owned())));
        assert_eq!(read(&config).unwrap().revision, 1, "nothing is written yet");
        draft.save().unwrap().unwrap();
        let file = read(&config).unwrap();
        assert_eq!((file.users.len(), file.revision), (3, 3));
        let before = fs::read_to_string(folder.path().join("users.json.previous")).unwrap();
        assert!(before.contains("\"revision\": 1,"), "the copy is of what was there before all of them");
    }

    #[test]
    fn a_file_that_is_known_is_not_read_again_and_one_that_somebody_has_changed_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, config) = (folder.path().join("users.json"), config(folder.path()));
        let mut draft = Draft::begin(&config, None).unwrap();
        draft.make(&add("a"), None, 0).unwrap();
        let saved = draft.save().unwrap().unwrap();
        // Another revision than that of the file shows where the list came from.
        let served = config.clone().with_users(UsersFile { revision: 77, ..saved.file.clone() }).unwrap();
        let began = |known| Draft::begin(&served, known).map(|draft| draft.file).unwrap();
        assert_eq!((began(saved.stamp).revision, began(None).revision), (77, 1));
        assert_eq!(began(saved.stamp).users, saved.file.users);
        let text = fs::read_to_string(&path).unwrap();
        // The clock of files ticks every few milliseconds.
        thread::sleep(Duration::from_millis(50));
        fs::write(&path, text.replace("\"revision\": 1", "\"revision\": 2")).unwrap();
        assert_eq!(began(saved.stamp).revision, 2, "written into");
        replace(&path, text.replace("\"revision\": 1", "\"revision\": 3").as_bytes(), 0o600).unwrap();
        assert_eq!(began(saved.stamp).revision, 3, "replaced");
    }

    #[test]
    fn a_file_that_is_gone_while_its_accounts_are_served_is_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, config) = (folder.path().join("users.json"), config(folder.path()));
        for name in ["a", "b"] {
            make(&config, &add(name), None, 0).unwrap();
        }
        let served = config.clone().with_users(read(&config).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        let Err(StoreError::Failed(failure)) = make(&served, &add("c"), None, 0) else { panic!("was changed") };
        assert!(failure.message.contains("2 accounts") && failure.message.contains("cp "), "{failure}");
        assert!(!path.exists());
        fs::copy(folder.path().join("users.json.previous"), &path).unwrap();
        make(&served, &add("c"), None, 0).unwrap();
    }

    #[test]
    fn who_has_seen_an_older_revision_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        make(&config, &add("a"), Some(0), 0).unwrap();
        let stale = make(&config, &add("b"), Some(0), 0).unwrap_err();
        assert_eq!(stale, StoreError::Refused(Refusal::Stale(1)));
        assert_eq!(read(&config).unwrap().users.len(), 1);
    }

    #[test]
    fn fifty_writers_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        thread::scope(|scope| {
            for number in 0..50 {
                let config = &config;
                scope.spawn(move || {
                    let end = Instant::now() + Duration::from_mins(1);
                    // A writer that waited too long for its turn is told so, and nothing is written: he tries again.
                    while let Err(error) = make(config, &add(&format!("user {number}")), None, 0) {
                        assert!(matches!(error, StoreError::Failed(_)) && Instant::now() < end, "{error:?}");
                    }
                });
            }
        });
        let file = read(&config).unwrap();
        assert_eq!((file.users.len(), file.revision), (50, 50));
    }

    #[test]
    fn a_torn_file_is_set_aside_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        make(&config, &add("a"), None, 0).unwrap();
        make(&config, &add("b"), None, 0).unwrap();
        let path = folder.path().join("users.json");
        let torn = &fs::read(&path).unwrap()[..40];
        fs::write(&path, torn).unwrap();
        let Err(StoreError::Failed(failure)) = make(&config, &add("c"), None, 0) else { panic!("was changed") };
        assert_eq!(failure.code, exit::CONFIG);
        assert!(failure.message.contains("users.json:") && failure.message.contains("cp "), "{failure}");
        assert_eq!(fs::read(&path).unwrap(), torn);
        assert_eq!(fs::read(folder.path().join("users.json.unreadable")).unwrap(), torn);
        fs::copy(folder.path().join("users.json.previous"), &path).unwrap();
        assert_eq!(read(&config).unwrap().users.len(), 1, "the way back works");
    }
}
