//! What an account of this machine may read, by the modes of files and of the folders on the way to them.
//!
//! Owns the question for an account that is not ours, which the kernel answers to nobody. Where access lists (setfacl)
//! decide, the answer is unknown.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::getxattr;

const READ: u32 = 4;
const SEARCH: u32 = 1;
/// The access list of a file, where it has one.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// An account of the machine.
#[derive(Debug)]
pub struct Account {
    name: String,
    /// `None`: it is not there yet, so nothing is its own, and it is in no group.
    id: Option<u32>,
    groups: Vec<u32>,
}

impl Account {
    /// The account called `name`, by the files below `root`.
    pub fn named(name: &str, root: &Path) -> Self {
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
        let (accounts, groups) = (read("etc/passwd"), read("etc/group"));
        let of_name = |line: &&str| line.split(':').next() == Some(name);
        let number = |line: &str, place: usize| line.split(':').nth(place).and_then(|text| text.parse().ok());
        let account = accounts.lines().find(of_name);
        let member = |line: &&str| line.split(':').nth(3).is_some_and(|list| list.split(',').any(|one| one == name));
        let further = groups.lines().filter(member).filter_map(|line| number(line, 2));
        Self {
            name: name.to_owned(),
            id: account.and_then(|line| number(line, 2)),
            groups: account.and_then(|line| number(line, 3)).into_iter().chain(further).collect(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What keeps it from reading the file at `path`: the file, or a folder on the way. `None`: nothing does, or that
    /// cannot be told.
    pub fn stopped_at(&self, path: &Path) -> Option<PathBuf> {
        self.stopped_before(path).or_else(|| (!self.may(path, READ)).then(|| path.to_owned()))
    }

    /// The folder that keeps it from reaching `path`, which it may then read or not.
    pub fn stopped_before(&self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        // A link is reached through the folders that it is in, and then through those of what it names.
        let real = fs::canonicalize(&path).ok();
        let folders = [Some(path), real].into_iter().flatten().flat_map(|path| {
            let mut folders: Vec<_> = path.ancestors().skip(1).map(Path::to_owned).collect();
            folders.reverse();
            folders
        });
        folders.into_iter().find(|folder| !self.may(folder, SEARCH))
    }

    fn may(&self, path: &Path, what: u32) -> bool {
        let Ok(metadata) = fs::metadata(path) else { return true };
        if self.id == Some(0) || getxattr(path, ACCESS_LIST, &mut [0_u8; 0]).is_ok() {
            return true;
        }
        let shift = match () {
            () if self.id == Some(metadata.uid()) => 6,
            () if self.groups.contains(&metadata.gid()) => 3,
            () => 0,
        };
        metadata.mode() >> shift & what != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn an_account_is_its_own_its_groups_and_others() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let own = fs::metadata(root).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        let line = format!("other:x:70000:70000::/:/x\nproxy:x:{}:70001::/:/x\nguest:x:70002:70002::/:/x\n", own.uid());
        fs::write(root.join("etc/passwd"), line).unwrap();
        fs::write(root.join("etc/group"), format!("keys:x:{}:other,guest2\n", own.gid())).unwrap();
        let file = root.join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
        let readers = |mode: u32| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let may = |name: &&str| Account::named(name, root).may(&file, READ);
            ["proxy", "other", "guest", "nobody-yet"].into_iter().filter(may).collect::<Vec<_>>()
        };
        if own.uid() == 0 {
            // Root may read whatever the mode is.
            assert_eq!(readers(0o000), ["proxy"]);
        } else {
            assert_eq!(readers(0o400), ["proxy"]);
        }
        assert_eq!(readers(0o640), ["proxy", "other"]);
        assert_eq!(readers(0o604), ["proxy", "guest", "nobody-yet"], "a member of the group is not one of the others");
    }

    #[test]
    fn a_link_is_as_closed_as_the_folders_of_what_it_names() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("archive")).unwrap();
        fs::create_dir_all(root.join("live")).unwrap();
        fs::write(root.join("archive/key"), "").unwrap();
        symlink("../archive/key", root.join("live/key")).unwrap();
        for (path, mode) in [("", 0o755), ("live", 0o755), ("archive", 0o700), ("archive/key", 0o644)] {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let account = Account::named("nobody-yet", root);
        let archive = fs::canonicalize(root.join("archive")).unwrap();
        assert_eq!(account.stopped_at(&root.join("live/key")), Some(archive));
        fs::set_permissions(root.join("archive"), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(account.stopped_at(&root.join("live/key")), None);
    }
}
