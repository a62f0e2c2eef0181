//! What a node keeps on disk: the journal of what was counted, and the last list of accounts.
//!
//! The list holds ids, so all files are private. One process uses a folder at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::app::exit::{self, Failure};
use crate::app::files::{read_limited, replace};
use crate::cluster::journal::{AccountKey, Store};

/// Both files together have some 600 bytes for each account.
const FILE_BYTES_MAX: usize = 256 << 20;

/// The folder of a node, which is this process's until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder at `path`, and makes it if there is none.
    ///
    /// # Errors
    /// 73 or 77 when that fails; 69 when another process has it.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::writing(path, error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed(&error))?;
        let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path.join("lock"));
        let lock = lock.map_err(|error| failed(&error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("cluster.folder: another server uses {}; each needs its own", path.display());
                Err(Failure::new(exit::UNAVAILABLE, message))
            }
            Err(error) => Err(failed(&error.into())),
        }
    }

    /// The journal.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn journal(&self) -> io::Result<JournalFile> {
        JournalFile::open(self.path.join("journal"))
    }

    /// The list of accounts that was written last.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn read_accounts(&self) -> io::Result<SavedAccounts> {
        read_accounts(&self.path)
    }

    /// Where the list is kept.
    pub fn accounts(&self) -> PathBuf {
        accounts_file(&self.path)
    }

    /// Keeps the list for a time without the engine.
    ///
    /// # Errors
    /// When it cannot be written; then the one before is still there.
    pub fn write_accounts(&self, saved: &SavedAccounts) -> io::Result<()> {
        let accounts: serde_json::Map<_, _> =
            saved.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
        let text = json!({ "format": 1, "version": saved.version, "history": saved.history, "accounts": accounts })
            .to_string();
        replace(&accounts_file(&self.path), text.as_bytes(), 0o600)
    }
}

/// The list of accounts as it was once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedAccounts {
    pub version: u64,
    /// What the engine calls the history of its list.
    pub history: Option<String>,
    pub records: Vec<(AccountKey, Value)>,
}

/// The list in `folder`, for whoever only looks.
///
/// # Errors
/// When there is one and it cannot be read.
pub fn read_accounts(folder: &Path) -> io::Result<SavedAccounts> {
    let bytes = match read_limited(&accounts_file(folder), FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SavedAccounts::default()),
        Err(error) => return Err(error),
    };
    let mut saved: Value = serde_json::from_slice(&bytes)?;
    let version = saved["version"].as_u64();
    let history = saved["history"].as_str().map(str::to_owned);
    let (Some(version), Value::Object(accounts)) = (version, saved["accounts"].take()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a list of accounts"));
    };
    Ok(SavedAccounts { version, history, records: accounts.into_iter().collect() })
}

/// Where the list in `folder` is kept.
pub(super) fn accounts_file(folder: &Path) -> PathBuf {
    folder.join("accounts.json")
}

/// The journal on disk.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
}

impl JournalFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Store for JournalFile {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        read_limited(&self.path, FILE_BYTES_MAX)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        replace(&self.path, bytes, 0o600)?;
        *self = Self::open(self.path.clone())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_list_comes_back_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let taken = Folder::take(&folder.path().join("cluster")).unwrap();
        assert_eq!(taken.read_accounts().unwrap(), SavedAccounts::default());
        let records = vec![("key".to_owned(), json!({ "email": "a" }))];
        let saved = SavedAccounts { version: 7, history: Some("h".to_owned()), records };
        taken.write_accounts(&saved).unwrap();
        assert_eq!(taken.read_accounts().unwrap(), saved);
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("cluster"), mode("cluster/accounts.json")), (0o700, 0o600));
    }

    #[test]
    fn a_folder_is_one_process_s() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::take(folder.path()).unwrap();
        assert_eq!(Folder::take(folder.path()).unwrap_err().code, exit::UNAVAILABLE);
        drop(first);
        Folder::take(folder.path()).unwrap();
    }

    #[test]
    fn a_journal_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let taken = Folder::take(folder.path()).unwrap();
        let mut journal = taken.journal().unwrap();
        journal.append(b"one\n").unwrap();
        journal.replace(b"two\n").unwrap();
        journal.append(b"three\n").unwrap();
        assert_eq!(taken.journal().unwrap().load().unwrap(), b"two\nthree\n");
    }
}
