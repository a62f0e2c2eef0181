//! The state file: a line that says what it is, with length and checksum, and the content as JSON.
//!
//! A new file replaces the old one in one step, and the old one stays as `NAME.previous`. A file that is torn, foreign or
//! of a later version is renamed and told about, never overwritten.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Saved;
use crate::control::format::hex;

const FORMAT: &str = "vless-rust state";
const VERSION: u32 = 1;
/// No state is larger; what is was not written by us.
const BYTES_MAX: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    bytes: usize,
    sha256: String,
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Loaded {
    pub saved: Saved,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// The state in `path`, or in the copy before it, or an empty one. Never fails: without a state the server starts at
/// zero and says so.
pub fn load(path: &Path, unix_time: u64) -> Loaded {
    let mut warnings = Vec::new();
    match read(path) {
        Ok(saved) => return Loaded { saved, warnings },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warnings.push(set_aside(path, &error, unix_time)),
    }
    let previous = beside(path, ".previous");
    match read(&previous) {
        Ok(saved) => {
            warnings.push(format!("state: going on with the copy before, {}", previous.display()));
            Loaded { saved, warnings }
        }
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warnings.push(format!("state: {} cannot be used either: {error}", previous.display()));
            }
            if !warnings.is_empty() {
                warnings.push("state: totals begin at zero".to_owned());
            }
            Loaded { saved: Saved::default(), warnings }
        }
    }
}

fn set_aside(path: &Path, error: &io::Error, unix_time: u64) -> String {
    let aside = beside(path, &format!(".unreadable-{unix_time}"));
    let outcome = match fs::rename(path, &aside) {
        Ok(()) => format!("it was set aside as {}", aside.display()),
        Err(failure) => format!("and it could not be set aside: {failure}"),
    };
    format!("state: {} cannot be used: {error}; {outcome}", path.display())
}

fn read(path: &Path) -> io::Result<Saved> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    decode(&bytes)
}

/// The state that the bytes of a file hold.
///
/// # Errors
/// A sentence about the file: torn, foreign, of a later version.
pub fn decode(bytes: &[u8]) -> io::Result<Saved> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(|| wrong("it is not a state file"))?;
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let header: Header = serde_json::from_slice(line).map_err(|_| wrong("it is not a state file"))?;
    if header.format != FORMAT {
        return Err(wrong("it is not a state file of this program"));
    }
    if header.version > VERSION {
        return Err(wrong("a later version of this program wrote it"));
    }
    if body.len() != header.bytes || sha256(body) != header.sha256 {
        return Err(wrong("it is damaged"));
    }
    serde_json::from_slice(body).map_err(|error| wrong(&format!("it is damaged: {error}")))
}

/// The bytes of a file that holds this state.
///
/// # Errors
/// Never, but for a bug of ours.
pub fn encode(saved: &Saved) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(saved)?;
    let header = Header { format: FORMAT.to_owned(), version: VERSION, bytes: body.len(), sha256: sha256(&body) };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend(body);
    Ok(bytes)
}

/// Replaces the file at `path`; after a crash in between, the old or the new content is there.
///
/// # Errors
/// What the system says; the old file is untouched then.
pub fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let bytes = encode(saved)?;
    let temporary = beside(path, ".new");
    let result = write_synced(&temporary, &bytes).and_then(|()| {
        keep_previous(path);
        fs::rename(&temporary, path)
    });
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
        return result;
    }
    // The new name must survive a loss of power, too. Some file systems cannot sync a folder.
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The present file gets a second name, so that there is one at every moment. Where links are not to be had, the copy is
/// left out: the present file matters more.
fn keep_previous(path: &Path) {
    let previous = beside(path, ".previous");
    let _ = fs::remove_file(&previous);
    let _ = fs::hard_link(path, &previous);
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(ending);
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(upload_bytes: u64) -> Saved {
        Saved { upload_bytes, ..Saved::default() }
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read_and_the_copy_before_is_kept() {
        let (_folder, path) = folder();
        write(&path, &saved(1)).unwrap();
        write(&path, &saved(2)).unwrap();
        let loaded = load(&path, 0);
        assert_eq!((loaded.saved.upload_bytes, loaded.warnings.len()), (2, 0));
        assert_eq!(read(&beside(&path, ".previous")).unwrap().upload_bytes, 1);
        assert!(!beside(&path, ".new").exists());
    }

    #[test]
    fn without_a_file_everything_begins_at_zero_and_nobody_is_alarmed() {
        let (_folder, path) = folder();
        let loaded = load(&path, 0);
        assert_eq!((loaded.saved.upload_bytes, loaded.warnings.len()), (0, 0));
    }

    #[test]
    fn a_torn_file_is_set_aside_and_the_copy_before_serves() {
        let (_folder, path) = folder();
        write(&path, &saved(1)).unwrap();
        write(&path, &saved(2)).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..length]).unwrap();
            let loaded = load(&path, 5);
            assert_eq!(loaded.saved.upload_bytes, 1, "{length} of {} bytes", whole.len());
            assert_eq!(fs::read(beside(&path, ".unreadable-5")).unwrap(), &whole[..length]);
            assert!(loaded.warnings[0].contains("set aside"), "{:?}", loaded.warnings);
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let (_folder, path) = folder();
        write(&path, &saved(12345)).unwrap();
        let text = fs::read_to_string(&path).unwrap().replace("12345", "12346");
        fs::write(&path, text).unwrap();
        let loaded = load(&path, 0);
        assert_eq!(loaded.saved.upload_bytes, 0);
        assert!(loaded.warnings[0].contains("damaged") && loaded.warnings.len() == 2, "{:?}", loaded.warnings);
    }

    #[test]
    fn foreign_and_later_files_are_not_touched() {
        for (text, says) in [
            ("{\"users\": []}\n", "not a state file"),
            ("hello", "not a state file"),
            ("{\"format\":\"vless-rust state\",\"version\":2,\"bytes\":0,\"sha256\":\"\"}\n", "later version"),
        ] {
            let (_folder, path) = folder();
            fs::write(&path, text).unwrap();
            let loaded = load(&path, 9);
            assert!(loaded.warnings[0].contains(says), "{:?}", loaded.warnings);
            assert_eq!(fs::read_to_string(beside(&path, ".unreadable-9")).unwrap(), text);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_nothing_else() {
        let (_folder, path) = folder();
        assert!(write(&path.join("x"), &saved(1)).is_err());
        assert!(load(&path.join("x"), 0).warnings.is_empty());
    }
}
