//! Backup and restore: everything that makes a server this server, in one file.
//!
//! Owns which files these are: the configuration, and what it names of accounts, totals, certificates and keys. The
//! log is none of them, and neither is what a node of a cluster keeps: the engine has the accounts, and old batches of
//! traffic could be counted again. `archive.rs` is the form of the file, `restore.rs` the way back.

pub mod archive;
mod restore;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::archive::{BYTES_MAX, Backup, Role, Stored};
pub use self::restore::{Over, restore};
use crate::app::clock::{rfc3339_seconds, unix_time};
use crate::app::config::Config;
use crate::app::exit::{self, Failure};
use crate::app::files::{create_new, folder_of, read_limited};

/// Writes a backup of the server with this configuration to `file`, which must not be there yet. What is in it, a line
/// each.
///
/// # Errors
/// 78 for a configuration that does not load; 73 if `file` exists or cannot be written; 66 and 77 for a file of the
/// server that cannot be read.
pub fn backup(config: &Path, file: &Path) -> Result<String, Failure> {
    let loaded = Config::load(config)?;
    let mut files = Vec::new();
    let mut told = String::new();
    for (role, path) in parts(&loaded) {
        let contents = match read_limited(&path, BYTES_MAX) {
            // A server that has not run yet has no state, and perhaps no certificate: a self-signed one is made anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound && role != Role::Config => {
                if role != Role::State {
                    told.extend(["left out: ", &path.display().to_string(), ", which is not there\n"]);
                }
                continue;
            }
            other => other.map_err(|error| Failure::reading(&path, &error))?,
        };
        told.extend([path.display().to_string().as_str(), "\n"]);
        files.push(Stored { role, path: stored_path(&loaded.file, &path)?, contents });
    }
    if loaded.cluster.url.is_some() {
        let folder = loaded.cluster.folder.display().to_string();
        told.extend(["left out: ", &folder, ", which this node gets anew from the engine of its cluster\n"]);
    }
    let backup =
        Backup { created_at: rfc3339_seconds(unix_time()), program: env!("CARGO_PKG_VERSION").to_owned(), files };
    let bytes = backup.encode().map_err(|error| Failure::writing(file, &error))?;
    create_new(file, &bytes, 0o600).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(exit::CANNOT_CREATE, format!("{} exists and is not overwritten", file.display()))
        }
        _ => Failure::writing(file, &error),
    })?;
    Ok(told)
}

/// The files of a server, the configuration first, each once.
fn parts(config: &Config) -> Vec<(Role, PathBuf)> {
    let mut parts = vec![(Role::Config, config.file.clone())];
    parts.extend(config.users_file.clone().map(|file| (Role::Users, file)));
    parts.push((Role::State, config.monitoring.state_file.clone()));
    for pair in config.tls.iter().flat_map(|tls| std::iter::once(&tls.main).chain(&tls.more)) {
        parts.push((Role::Certificate, pair.cert_file.clone()));
        parts.push((Role::Key, pair.key_file.clone()));
    }
    let mut known = Vec::new();
    parts.retain(|(_, path)| {
        let is_new = !known.contains(path);
        known.push(path.clone());
        is_new
    });
    parts
}

/// From the configuration's folder on where the file is in it, else the whole path.
fn stored_path(config: &Path, path: &Path) -> Result<String, Failure> {
    let inside = if path == config { path.file_name().map(PathBuf::from) } else { inside_of(folder_of(config), path) };
    let stored = match inside {
        Some(inside) if !path_leads_up(&inside) => inside,
        // The folder is resolved, the file is not: a link such as certbot's must stay one path.
        _ => fs::canonicalize(folder_of(path))
            .map_err(|error| Failure::reading(path, &error))?
            .join(path.file_name().unwrap_or_default()),
    };
    let text = stored.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::new(exit::CONFIG, format!("{}: the path is no UTF-8 text", path.display())))
}

fn inside_of(folder: &Path, path: &Path) -> Option<PathBuf> {
    path.strip_prefix(folder).ok().map(Path::to_owned)
}

fn path_leads_up(path: &Path) -> bool {
    path.is_absolute() || path.components().any(|part| matches!(part, std::path::Component::ParentDir))
}

#[cfg(test)]
mod tests;
