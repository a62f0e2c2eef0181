//! A small local file that is read again when it has changed.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Longer files are cut here; reading this much from the page cache takes well under a millisecond.
const BYTES_MAX: u64 = 1 << 20;

/// A file and what it looked like when it was read last.
pub(super) struct WatchedFile {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// Device, inode, length, and time of change in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl WatchedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// The text, if it was not read yet or has changed. A file that is gone keeps what it said last: it is being
    /// replaced, or its volume is missing for a while.
    pub(super) fn changed(&mut self) -> Option<String> {
        // Only an ordinary file is opened: a pipe or a device could block.
        let stamp = stamp(&fs::metadata(&self.path).ok().filter(Metadata::is_file)?);
        if self.seen == Some(stamp) {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(&self.path).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        self.seen = Some(stamp);
        Some(String::from_utf8_lossy(&bytes).into_owned())
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
        let mut file = WatchedFile::new(path.clone());
        assert_eq!(file.changed(), None);
        fs::write(&path, "one").unwrap();
        assert_eq!(file.changed().as_deref(), Some("one"));
        assert_eq!(file.changed(), None);
        fs::write(&path, "three").unwrap();
        assert_eq!(file.changed().as_deref(), Some("three"));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.changed(), None);
    }

    #[test]
    fn only_ordinary_files_are_read() {
        assert_eq!(WatchedFile::new("/dev/zero".into()).changed(), None);
        assert_eq!(WatchedFile::new("/proc".into()).changed(), None);
    }
}
