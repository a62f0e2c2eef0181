//! The file of a backup: a tar archive with a list of contents in front.
//!
//! Owns the form and its check. The form is tar because every system can open it: should this program be gone, `tar
//! -xf` gets the files back. The list (`vless-rust-backup.json`) says which form it is, what each file is for, and its
//! length and SHA-256. Files of the configuration's folder are under `folder/`, all others under `outside/` with their
//! whole path.
//!
//! Whatever the bytes are, reading them ends in a backup that is whole or in words: lengths are limited, nothing is
//! written, and a path that leads out of its place is refused. Version 1 stays readable for good; `tests/backup` has
//! one.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use crate::app::certs::hex;

const FORMAT: &str = "vless-rust backup";
const VERSION: u32 = 1;
const LIST: &str = "vless-rust-backup.json";
/// More than a state file may have, and all else beside it.
pub const BYTES_MAX: usize = 320 << 20;
/// A configuration may name many certificates.
const FILES_MAX: usize = 4096;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// When it was made, as in RFC 3339.
    pub created_at: String,
    /// The version of the program that made it.
    pub program: String,
    /// The configuration is the first.
    pub files: Vec<Stored>,
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub role: Role,
    /// From the configuration's folder on, or whole if it begins with a slash.
    pub path: String,
    pub contents: Vec<u8>,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Config,
    Users,
    State,
    Certificate,
    Key,
}

#[derive(Serialize, Deserialize)]
struct List {
    format: String,
    version: u32,
    created_at: String,
    program: String,
    files: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    role: Role,
    path: String,
    bytes: usize,
    sha256: String,
}

impl Backup {
    /// The bytes of the file.
    ///
    /// # Errors
    /// A path that tar cannot hold.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let files = self.files.iter().map(|file| Listed {
            role: file.role,
            path: file.path.clone(),
            bytes: file.contents.len(),
            sha256: sha256(&file.contents),
        });
        let list = List {
            format: FORMAT.to_owned(),
            version: VERSION,
            created_at: self.created_at.clone(),
            program: self.program.clone(),
            files: files.collect(),
        };
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, LIST, format!("{:#}\n", serde_json::to_value(list)?).as_bytes())?;
        for file in &self.files {
            append(&mut archive, &name_of(&file.path), &file.contents)?;
        }
        archive.into_inner()
    }

    /// The backup that `bytes` are.
    ///
    /// # Errors
    /// Why they are none that this program can use.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut found =
            entries(bytes).map_err(|error| format!("it is no backup, or a damaged one: {}", plain(&error)))?;
        let list = found.remove(LIST).ok_or("it is no backup of vless-rust: the list of contents is missing")?;
        let broken = |error: serde_json::Error| format!("the list of contents cannot be read: {error}");
        // The version before the rest: what a later one looks like is not known.
        let head: serde_json::Value = serde_json::from_slice(&list).map_err(broken)?;
        if head["format"] != FORMAT {
            return Err("it is no backup of vless-rust".to_owned());
        }
        if head["version"].as_u64().is_none_or(|version| version > VERSION.into() || version == 0) {
            let version = &head["version"];
            return Err(format!(
                "its form is version {version}, and this program knows {VERSION}: use a later program"
            ));
        }
        let list: List = serde_json::from_value(head).map_err(broken)?;
        let mut files = Vec::new();
        for listed in list.files {
            if !is_safe(&listed.path) {
                return Err(format!("it has a file with the path \"{}\", which leads elsewhere", listed.path));
            }
            let name = name_of(&listed.path);
            let contents = found.remove(&name).ok_or_else(|| format!("{name} is missing in it"))?;
            if contents.len() != listed.bytes || sha256(&contents) != listed.sha256 {
                return Err(format!("{name} in it is damaged: its checksum is another"));
            }
            files.push(Stored { role: listed.role, path: listed.path, contents });
        }
        if let Some(name) = found.keys().next() {
            return Err(format!("{name} in it is not in its list of contents"));
        }
        if files.iter().position(|file| file.role == Role::Config) != Some(0) {
            return Err("it has no configuration at its beginning".to_owned());
        }
        Ok(Self { created_at: list.created_at, program: list.program, files })
    }
}

/// What is wrong, without what is quoted from the file, which may be anything.
fn plain(error: &io::Error) -> String {
    error.to_string().chars().take_while(|char| !char.is_control() && *char != ':').collect()
}

/// All files by name.
fn entries(bytes: &[u8]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if entry.header().entry_type() != EntryType::Regular {
            return Err(invalid("something that is no file is in it"));
        }
        let name = entry.path()?.to_str().ok_or_else(|| invalid("a name is no text"))?.to_owned();
        let size = entry.size();
        // The bytes are there already, so a length beyond them is a lie.
        if size > bytes.len() as u64 || found.len() >= FILES_MAX {
            return Err(invalid("it is too large"));
        }
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents)?;
        if contents.len() as u64 != size {
            return Err(invalid("it ends too early"));
        }
        if found.insert(name, contents).is_some() {
            return Err(invalid("a name is in it twice"));
        }
    }
    Ok(found)
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, contents: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o600);
    header.set_entry_type(EntryType::Regular);
    archive.append_data(&mut header, name, contents)
}

fn name_of(path: &str) -> String {
    if path.starts_with('/') { format!("outside{path}") } else { format!("folder/{path}") }
}

/// Ordinary names only, so that nothing is restored outside of its place.
fn is_safe(path: &str) -> bool {
    let inside = path.strip_prefix('/').unwrap_or(path);
    !inside.is_empty() && Path::new(inside).components().all(|part| matches!(part, Component::Normal(_)))
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(paths: &[&str]) -> Backup {
        let stored = |(place, path): (usize, &&str)| Stored {
            role: if place == 0 { Role::Config } else { Role::Key },
            path: (*path).to_owned(),
            contents: format!("contents of {path}").into_bytes(),
        };
        let files = paths.iter().enumerate().map(stored).collect();
        Backup { created_at: "2030-01-01T00:00:00Z".into(), program: "0.1.0".into(), files }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = "certs/".to_owned() + &"x".repeat(150) + "/" + &"y".repeat(150);
        let written = backup(&["config.json", "users.json", &long, "/etc/letsencrypt/live/a/privkey.pem"]);
        assert_eq!(Backup::decode(&written.encode().unwrap()).unwrap(), written);
    }

    #[test]
    fn a_change_anywhere_is_noticed() {
        let bytes = backup(&["config.json", "users.json"]).encode().unwrap();
        let intact = Backup::decode(&bytes).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            // Bytes that mean nothing (padding, the owner's name) may change; nothing else may come out.
            if let Ok(read) = Backup::decode(&changed) {
                assert_eq!(read.files, intact.files, "byte {at}");
            }
        }
        for length in 0..bytes.len() - 1024 {
            assert!(Backup::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["../config.json", "a/../../b", "/", "", ".", "/etc/../root/x"] {
            // The archive's own writer refuses some of them already.
            if let Ok(bytes) = backup(&["config.json", path]).encode() {
                assert!(Backup::decode(&bytes).is_err(), "{path}");
            }
        }
        assert!(is_safe("a/b") && is_safe("/a/b") && !is_safe("a/../b") && !is_safe("/.."));
    }

    #[test]
    fn a_later_form_and_other_files_are_told_apart() {
        let with_list = |list: &str| {
            let mut archive = tar::Builder::new(Vec::new());
            append(&mut archive, LIST, list.as_bytes()).unwrap();
            Backup::decode(&archive.into_inner().unwrap()).unwrap_err()
        };
        let later = with_list(r#"{ "format": "vless-rust backup", "version": 2, "files": "in some other way" }"#);
        assert!(later.contains("version 2") && later.contains("later program"), "{later}");
        assert!(with_list(r#"{ "format": "other", "version": 1 }"#).contains("no backup of vless-rust"));
        assert!(with_list(r#"{ "format": "vless-rust backup", "version": 1 }"#).contains("cannot be read"));
        let passwords = "root:secret\n\u{1b}[2J".repeat(99);
        let told = Backup::decode(passwords.as_bytes()).unwrap_err();
        assert!(!told.contains("secret") && !told.contains(char::is_control), "{told:?}");
        assert!(Backup::decode(b"").unwrap_err().contains("no backup"));
        assert!(Backup::decode(&[7; 4096]).unwrap_err().contains("no backup"));
        let mut doubled = backup(&["config.json"]);
        doubled.files.push(doubled.files[0].clone());
        assert!(Backup::decode(&doubled.encode().unwrap()).is_err());
    }
}
