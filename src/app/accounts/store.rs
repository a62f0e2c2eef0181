//! The users file on disk: read whole, changed under a lock, replaced atomically.
//!
//! Two programs that change it never undo each other's work: the lock is held from reading to writing, and whoever has
//! seen an older revision is told. A file that cannot be read is never overwritten; a copy of it is set aside, and the
//! copy before the last change is kept.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::change::{self, Change, Changed, Refusal};
use crate::app::config::{Config, UsersFile};
use crate::app::exit::{self, Failure};
use crate::app::files::replace;

/// Who holds the lock writes one small file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Why a change was not made.
#[derive(Debug, PartialEq, Eq)]
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

/// Makes `change` in the users file of `config`; with `revision`, only if the file still has that one.
///
/// # Errors
/// Why not; then the file is as it was.
pub fn make(config: &Config, change: &Change, revision: Option<u64>, now: u64) -> Result<Changed, StoreError> {
    let Some(path) = &config.users_file else {
        let message = "users_file is null: there is no file that accounts could be changed in".to_owned();
        return Err(StoreError::Refused(Refusal::Invalid(message)));
    };
    let _lock = lock(path).map_err(|error| StoreError::Failed(Failure::writing(path, &error)))?;
    let file = read(config).map_err(StoreError::Failed)?;
    if let Some(seen) = revision
        && seen != file.revision
    {
        return Err(StoreError::Refused(Refusal::Stale(file.revision)));
    }
    let changed = change::apply(config, &file, change, now, uuid::Uuid::new_v4()).map_err(StoreError::Refused)?;
    if let Some(next) = &changed.file {
        write(path, next).map_err(|error| StoreError::Failed(Failure::writing(path, &error)))?;
    }
    Ok(changed)
}

/// Writes the file, and keeps what was there before.
fn write(path: &Path, file: &UsersFile) -> io::Result<()> {
    match fs::read(path) {
        Ok(before) => replace(&beside(path, ".previous"), &before, 0o600)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    replace(path, file.text().as_bytes(), 0o600)
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
    let (aside, previous) = (beside(path, ".unreadable"), beside(path, ".previous"));
    let kept = fs::copy(path, &aside).is_ok();
    let kept = if kept { format!("; a copy of it was set aside as {}", aside.display()) } else { String::new() };
    let back = if previous.exists() {
        format!("; to go back to the accounts before the last change: cp {} {}", previous.display(), path.display())
    } else {
        String::new()
    };
    format!("{message}\nthe accounts cannot be read and are not touched{kept}{back}")
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
