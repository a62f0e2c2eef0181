//! The way back from a backup: all of it or nothing.
//!
//! Everything is checked before the first file is touched: the backup, the configuration in it, what is there already,
//! and whether a server runs. Then all files are written under other names, and take their places one after the other,
//! the configuration last. What had to make way is kept beside it; a failure puts it back.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};

use super::archive::{BYTES_MAX, Backup, Role, Stored};
use crate::app::config::{Config, UsersFile};
use crate::app::exit::{self, Failure};
use crate::app::files::{folder_of, may_make_folder, read_limited, replace};
use crate::app::service::Mode;
use crate::app::socket_client;

/// What becomes of files that are there already and differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing is restored.
    Refuse,
    /// They make way, and are kept under another name.
    Replace,
}

/// Puts what `file` holds in its place: the configuration at `config`, its folder's files in the folder of `config`,
/// all others where they were. A line for each file.
///
/// # Errors
/// 66 and 77 for a backup that cannot be read; 78 for one that cannot be used; 69 while a server runs with what would
/// be replaced; 73 for files that differ or cannot be written. Then everything is as it was.
pub fn restore(file: &Path, config: &Path, over: Over, mode: Mode) -> Result<String, Failure> {
    let bytes = read_limited(file, BYTES_MAX).map_err(|error| Failure::reading(file, &error))?;
    let wrong = |why: String| Failure::new(exit::CONFIG, format!("{}: {why}", file.display()));
    let backup = Backup::decode(&bytes).map_err(wrong)?;
    let steps = plan(&backup, config)?;
    loads(&backup, config).map_err(wrong)?;
    may_begin(config, &steps, over)?;
    let mut told = format!("backup of {}, made by vless-rust {}\n", backup.created_at, backup.program);
    for step in &steps {
        told.extend([step.target.display().to_string().as_str(), ": ", &step.words(), "\n"]);
    }
    if mode == Mode::Do {
        carry_out(&steps)?;
    }
    Ok(told)
}

/// One file and its place.
struct Step<'a> {
    stored: &'a Stored,
    target: PathBuf,
    found: Found,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Same,
    Other,
}

impl Step<'_> {
    fn words(&self) -> String {
        match self.found {
            Found::Nothing => "new".to_owned(),
            Found::Same => "as it is".to_owned(),
            Found::Other => format!("replaced; the old one is kept as {}", kept(&self.target).display()),
        }
    }
}

fn plan<'a>(backup: &'a Backup, config: &Path) -> Result<Vec<Step<'a>>, Failure> {
    let mut steps = Vec::new();
    for stored in &backup.files {
        // `join` of a whole path is that path.
        let target = match stored.role {
            Role::Config => config.to_owned(),
            _ => folder_of(config).join(&stored.path),
        };
        let found = match read_limited(&target, BYTES_MAX) {
            Ok(contents) if contents == stored.contents => Found::Same,
            Ok(_) => Found::Other,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => return Err(Failure::writing(&target, &error)),
        };
        may_make_folder(folder_of(&target)).map_err(|error| Failure::writing(&target, &error))?;
        steps.push(Step { stored, target, found });
    }
    Ok(steps)
}

/// A server could serve this.
fn loads(backup: &Backup, config: &Path) -> Result<(), String> {
    let text = |stored: &Stored| {
        String::from_utf8(stored.contents.clone()).map_err(|_| format!("{} in it is no text", stored.path))
    };
    let mut parsed = None;
    if let Some(stored) = backup.files.first() {
        // The accounts are looked for beside it, where they are not yet.
        let without = Config::parse_without_accounts(&text(stored)?, config);
        parsed = Some(without.map_err(|errors| errors.to_string())?);
    }
    for stored in backup.files.iter().filter(|stored| stored.role == Role::Users) {
        let flow = parsed.as_ref().and_then(|config| config.flow_with_tls);
        let users =
            UsersFile::parse(&text(stored)?, Path::new(&stored.path), flow).map_err(|errors| errors.to_string())?;
        if let Some(config) = parsed.take() {
            config.with_users(users).map_err(|failure| failure.message)?;
        }
    }
    Ok(())
}

/// Nothing that is in use or in the way is touched without a word.
fn may_begin(config: &Path, steps: &[Step<'_>], over: Over) -> Result<(), Failure> {
    let other: Vec<_> = steps.iter().filter(|step| step.found == Found::Other).collect();
    if let Ok(present) = Config::load(config)
        && socket_client::ask(&present, "GET", "/healthz").is_ok()
    {
        let message = format!(
            "a server runs with {}: stop it first, such as by `systemctl stop vless-rust`, or name another place with \
             -c",
            config.display()
        );
        return Err(Failure::new(exit::UNAVAILABLE, message));
    }
    if over == Over::Refuse && !other.is_empty() {
        let names = other.iter().map(|step| step.target.display().to_string()).collect::<Vec<_>>().join(", ");
        let message = format!(
            "not overwritten, because they differ: {names}; --force replaces them and keeps the old ones, -c names \
             another place"
        );
        return Err(Failure::new(exit::CANNOT_CREATE, message));
    }
    Ok(())
}

/// The configuration is the last to take its place: until then whoever starts finds the old one.
fn carry_out(steps: &[Step<'_>]) -> Result<(), Failure> {
    let mut done = Undo(Vec::new());
    let fails = |step: &Step<'_>, error: &io::Error| Failure::writing(&step.target, error);
    let changed = || steps.iter().rev().filter(|step| step.found != Found::Same);
    for step in changed() {
        let write = || {
            make_folder(folder_of(&step.target))?;
            replace(&fresh(&step.target), &step.stored.contents, 0o600)?;
            give_to_owner(&fresh(&step.target), folder_of(&step.target))
        };
        done.0.push(Undone::Remove(fresh(&step.target)));
        write().map_err(|error| fails(step, &error))?;
    }
    for step in changed() {
        if step.found == Found::Other {
            fs::rename(&step.target, kept(&step.target)).map_err(|error| fails(step, &error))?;
            done.0.push(Undone::PutBack(step.target.clone()));
        } else {
            done.0.push(Undone::Remove(step.target.clone()));
        }
        fs::rename(fresh(&step.target), &step.target).map_err(|error| fails(step, &error))?;
    }
    done.0.clear();
    Ok(())
}

/// What is taken back, the last first, unless all has gone well.
struct Undo(Vec<Undone>);

enum Undone {
    Remove(PathBuf),
    PutBack(PathBuf),
}

impl Drop for Undo {
    fn drop(&mut self) {
        for undone in self.0.drain(..).rev() {
            let _ = match undone {
                Undone::Remove(path) => fs::remove_file(path),
                Undone::PutBack(path) => fs::rename(kept(&path), &path),
            };
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make_folder(folder_of(folder))?;
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    give_to_owner(folder, folder_of(folder))
}

/// What root restores into the folder of a service must be readable by the service. A symbolic link that somebody put
/// there meanwhile is not followed.
fn give_to_owner(file: &Path, folder: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(folder)?;
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    Ok(chownat(CWD, file, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Where a file is until it takes its place.
fn fresh(path: &Path) -> PathBuf {
    with_ending(path, ".restoring")
}

/// Where a file is that had to make way.
fn kept(path: &Path) -> PathBuf {
    with_ending(path, ".before-restore")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
