//! Creating or replacing a file whole or not at all, and reading one within bounds.
//!
//! Owns the one way this program makes a new file that must never replace an existing one (configuration, key,
//! certificate), and the one way it replaces its own. A reader sees either no file or all of it, also after a crash in
//! between.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, RenameFlags, access, renameat_with};

/// Creates `path` with `contents` and the permission bits `mode`, reduced by the process's umask.
///
/// # Errors
/// `AlreadyExists` if there is something at `path`, which is then untouched; otherwise what the system said. In every
/// case of failure no temporary file is left behind.
pub fn create_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_beside(path);
    // A leftover of a crashed run with our process id is nobody else's.
    let _ = fs::remove_file(&temporary);
    let result = write_synced(&temporary, contents, mode).and_then(|()| move_without_replacing(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
        return result;
    }
    // The new name must survive a crash too. Some file systems cannot sync a folder; the file is there all the same.
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Puts `contents` in the place of what is at `path`, if anything: a reader sees the old or the new, also after a
/// crash.
///
/// # Errors
/// What the system said; then `path` is as it was, and no temporary file is left behind.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let _ = fs::remove_file(&temporary);
    let result = write_synced(&temporary, contents, mode).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
        return result;
    }
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

/// As [`replace`], and what was at `path` is at `previous` afterwards, with the same permissions. After a crash, too, `path`
/// is the old or the new; `previous` may then be older by one change.
///
/// Files of which copies are kept are written often, so this waits for the disk only as often as [`replace`]: the old file
/// itself goes to `previous`. No two names are ever of the same file, so whoever writes into one leaves the other alone.
///
/// # Errors
/// What the system said; then `path` is as it was, and no temporary file is left behind.
pub fn replace_and_keep(path: &Path, previous: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let _ = fs::remove_file(&temporary);
    let result =
        write_synced(&temporary, contents, mode).and_then(|()| move_and_keep(&temporary, path, previous, mode));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
        return result;
    }
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The contents of `path`. The limit also holds for what has no size of its own, such as a pipe or a device.
///
/// # Errors
/// `FileTooLarge` above `bytes_max`; otherwise what the system said.
pub fn read_limited(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    // A vector that grows leaves copies behind, which nobody wipes.
    bytes.try_reserve_exact(file.metadata()?.len().min(bytes_max as u64) as usize + 1)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Whether this process may write to `path`, or create it in a folder that is there. Nothing is opened: a pipe would
/// block.
///
/// # Errors
/// What opening it would say.
pub fn may_write(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if path.try_exists()? { Ok(access(path, Access::WRITE_OK)?) } else { may_create_in(folder_of(path)) }
}

/// Whether `folder` is there, or can be made with the folders above it, and files can be created in it.
///
/// # Errors
/// `NotADirectory`, naming what is in the way; otherwise what the system says.
pub fn may_make_folder(folder: &Path) -> io::Result<()> {
    let mut nearest = folder;
    while nearest.symlink_metadata().is_err() && nearest != folder_of(nearest) {
        nearest = folder_of(nearest);
    }
    may_create_in(nearest)
}

fn may_create_in(folder: &Path) -> io::Result<()> {
    if !folder.metadata()?.is_dir() {
        let what = format!("{} is not a folder", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The folder `path` is in; `.` for a bare file name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `path` with `ending` behind its name: where copies and locks of a file are.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    folder_of(path).join(name)
}

fn write_synced(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Puts `new` in the place of `path`, and what was there in the place of `previous`. There is a file at `path` at every
/// moment.
fn move_and_keep(new: &Path, path: &Path, previous: &Path, mode: u32) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => keep(new, previous, mode).inspect_err(|_| {
            // Back to how it was: the new one is removed by whoever made it.
            let _ = renameat_with(CWD, new, CWD, path, RenameFlags::EXCHANGE);
        }),
        // There is nothing to keep.
        Err(rustix::io::Errno::NOENT) => fs::rename(new, path),
        // The flag needs support of the file system.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            copy_to(path, previous, mode)?;
            fs::rename(new, path)
        }
        Err(error) => Err(error.into()),
    }
}

fn keep(old: &Path, previous: &Path, mode: u32) -> io::Result<()> {
    let known = fs::symlink_metadata(old)?;
    // Somebody else may have made it, for everybody to read.
    if known.is_file() && known.permissions().mode() & 0o777 != mode {
        fs::set_permissions(old, Permissions::from_mode(mode))?;
    }
    fs::rename(old, previous)
}

/// Where files cannot change places, a copy is kept.
fn copy_to(path: &Path, previous: &Path, mode: u32) -> io::Result<()> {
    match fs::read(path) {
        Ok(before) => replace(previous, &before, mode),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// `rename` alone would replace a file that appeared since the caller looked.
fn move_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // The flag needs support of the file system; a hard link has the same "only if absent" meaning.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_has_its_contents_and_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create_new(&path, b"text", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_existing_file_is_kept_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        fs::write(&path, "first").unwrap();
        let error = create_new(&path, b"second", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for contents in ["first", "second, longer"] {
            replace(&path, contents.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_there_is_kept_as_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("list"), folder.path().join("list.previous"));
        let write = |contents: &str| replace_and_keep(&path, &previous, contents.as_bytes(), 0o600).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        write("first");
        assert!(!previous.exists());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        for (contents, before) in [("second, longer", "first"), ("third", "second, longer")] {
            write(contents);
            assert_eq!((read(&path).as_str(), read(&previous).as_str()), (contents, before));
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(&previous)), (0o600, 0o600));
        }
        // Somebody who writes into the file itself leaves the copy alone.
        fs::write(&path, "by hand").unwrap();
        assert_eq!(read(&previous), "second, longer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn where_the_old_one_cannot_be_kept_nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("list"), folder.path().join("list.previous"));
        fs::write(&path, "first").unwrap();
        fs::create_dir(&previous).unwrap();
        replace_and_keep(&path, &previous, b"second", 0o600).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn where_files_cannot_change_places_a_copy_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("list"), folder.path().join("list.previous"));
        copy_to(&path, &previous, 0o600).unwrap();
        assert!(!previous.exists());
        fs::write(&path, "first").unwrap();
        copy_to(&path, &previous, 0o600).unwrap();
        assert_eq!(fs::read_to_string(&previous).unwrap(), "first");
        assert_ne!(inode(&path), inode(&previous));
    }

    fn inode(path: &Path) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = create_new(&folder.path().join("no/such/file"), b"", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("five");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        assert_eq!(read_limited(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_limited(Path::new("/dev/zero"), 4096).is_err());
    }

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        assert_eq!(folder_of(Path::new("config.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("/etc/vless/config.json")), Path::new("/etc/vless"));
    }
}
