//! Notices that certificate files have changed.
//!
//! It looks at what the names lead to, so files that are written anew, renamed into place or reached by another
//! symbolic link (as certbot makes them) are all seen, whatever the file system. A change counts once the files have
//! been the same for one look: certificate and key are written one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::app::config::Config;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A pair that could not be used is tried again after so long, although nothing has changed since.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// What tells one state of a file from another.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The files that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    /// As they were when they were last used, or tried.
    used: BTreeMap<PathBuf, Stamp>,
    /// As they were at the last look.
    seen: BTreeMap<PathBuf, Stamp>,
    looked_at: Option<Instant>,
    /// They could not be used as they are.
    retry_at: Option<Instant>,
}

impl Watch {
    /// Watches the certificates and keys of `config`. Begun before they are read, it misses no change.
    pub fn certificates(config: &Config) -> Self {
        let pairs = config.tls.iter().flat_map(|tls| std::iter::once(&tls.main).chain(&tls.more));
        Self::new(pairs.flat_map(|pair| [pair.cert_file.clone(), pair.key_file.clone()]))
    }

    /// Watches `files`, which are in use as they are now.
    fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let used: BTreeMap<_, _> = files.into_iter().map(stamped).collect();
        Self { seen: used.clone(), used, looked_at: None, retry_at: None }
    }

    /// Whether the files should be read (again) at `now`. Costs nothing more than once in [`LOOK_INTERVAL`].
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.looked_at.is_some_and(|at| now < at + LOOK_INTERVAL) {
            return false;
        }
        self.looked_at = Some(now);
        let present: BTreeMap<_, _> = self.used.keys().cloned().map(stamped).collect();
        let is_settled = present == self.seen;
        let is_new = present != self.used;
        self.seen = present;
        is_settled && (is_new || self.retry_at.is_some_and(|at| at <= now))
    }

    /// They were read at `now`, and could be used or not.
    pub(super) fn tried(&mut self, is_used: bool, now: Instant) {
        self.used.clone_from(&self.seen);
        self.retry_at = (!is_used).then_some(now + RETRY_INTERVAL);
    }
}

fn stamped(path: PathBuf) -> (PathBuf, Stamp) {
    let stamp = fs::metadata(&path).ok();
    let stamp = stamp.map(|file| (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()));
    (path, stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::symlink;

    #[test]
    fn new_contents_renames_and_other_links_are_seen_once_they_have_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), "1").unwrap();
        fs::write(path("two"), "2").unwrap();
        symlink("one", path("live")).unwrap();
        let mut watch = Watch::new([path("live")]);
        let mut now = Instant::now();
        let mut look = |watch: &mut Watch| {
            now += LOOK_INTERVAL;
            let due = watch.is_due(now);
            if due {
                watch.tried(true, now);
            }
            due
        };
        assert!(!look(&mut watch) && !look(&mut watch));
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(path("one"), "longer").unwrap(),
            &|| fs::rename(path("two"), path("one")).unwrap(),
            &|| {
                fs::write(path("three"), "3").unwrap();
                symlink("three", path("next")).unwrap();
                fs::rename(path("next"), path("live")).unwrap();
            },
            &|| fs::remove_file(path("live")).unwrap(),
        ];
        for change in changes {
            change();
            assert_eq!([look(&mut watch), look(&mut watch), look(&mut watch)], [false, true, false]);
        }
    }

    #[test]
    fn what_could_not_be_used_is_tried_again_without_a_change() {
        let mut watch = Watch::new([]);
        let start = Instant::now();
        watch.tried(false, start);
        assert!(!watch.is_due(start + LOOK_INTERVAL));
        assert!(watch.is_due(start + RETRY_INTERVAL));
        watch.tried(true, start + RETRY_INTERVAL);
        assert!(!watch.is_due(start + 3 * RETRY_INTERVAL));
    }
}
