//! A small local file that is read again when it has changed.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A file and what it looked like when it was looked at last.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    bytes_max: u64,
    seen: Option<Stamp>,
}

/// A file that is longer than may be read. A part of it could say the opposite of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLong {
    pub path: PathBuf,
    pub bytes_max: u64,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is longer than {} MiB and not read", self.path.display(), self.bytes_max >> 20)
    }
}

/// Device, inode, length, and time of change in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl WatchedFile {
    pub(super) fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, bytes_max, seen: None }
    }

    /// The whole text, if it was not read yet or has changed. A file that is gone keeps what it said last, because it
    /// is being replaced, or its volume is missing for a while.
    ///
    /// # Errors
    /// It has become too long. This is said once for each change.
    pub(super) fn changed(&mut self) -> Result<Option<String>, TooLong> {
        let Some(bytes) = self.changed_bytes() else { return Ok(None) };
        if bytes.len() as u64 > self.bytes_max {
            return Err(TooLong { path: self.path.clone(), bytes_max: self.bytes_max });
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// At most one byte more than may be.
    fn changed_bytes(&mut self) -> Option<Vec<u8>> {
        // Only an ordinary file is opened: a pipe or a device could block.
        let stamp = stamp(&fs::metadata(&self.path).ok().filter(Metadata::is_file)?);
        if self.seen == Some(stamp) {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(&self.path).ok()?.take(self.bytes_max + 1).read_to_end(&mut bytes).ok()?;
        self.seen = Some(stamp);
        Some(bytes)
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_for_each_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let mut file = WatchedFile::new(path.clone(), 100);
        let mut changed = || file.changed().unwrap();
        assert_eq!(changed(), None);
        fs::write(&path, "one").unwrap();
        assert_eq!(changed().as_deref(), Some("one"));
        assert_eq!(changed(), None);
        fs::write(&path, "three").unwrap();
        assert_eq!(changed().as_deref(), Some("three"));
        fs::remove_file(&path).unwrap();
        assert_eq!(changed(), None);
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let mut file = WatchedFile::new(path.clone(), 4);
        fs::write(&path, "four").unwrap();
        assert_eq!(file.changed().unwrap().as_deref(), Some("four"));
        fs::write(&path, "fives").unwrap();
        assert_eq!(file.changed().unwrap_err().path, path);
        assert_eq!(file.changed(), Ok(None), "once is enough");
        fs::write(&path, "six").unwrap();
        assert_eq!(file.changed().unwrap().as_deref(), Some("six"));
    }

    #[test]
    fn only_ordinary_files_are_read() {
        assert_eq!(WatchedFile::new("/dev/zero".into(), 100).changed(), Ok(None));
        assert_eq!(WatchedFile::new("/proc".into(), 100).changed(), Ok(None));
    }
}
