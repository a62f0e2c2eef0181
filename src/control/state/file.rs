//! The state file: a line that says what it is, with length and checksum, and the content as JSON.
//!
//! A new file replaces the old one in one step, and the old one stays as `NAME.previous`. Whenever the process is killed,
//! a whole copy is left: what `STEPS` do is done in an order that sees to it. A file that is torn, foreign or of a later
//! version is renamed and told about, never overwritten.

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

/// Names that are tried for a file that is set aside.
const ASIDES_MAX: u32 = 100;

/// What a write does, in this order. A kill may come between any two steps, and within the first.
const STEPS: [Step; 5] = [write_new, link_present, keep_previous, replace, sync_folder];

/// One step of a write: what it works on, and the bytes to write.
type Step = fn(&Names, &[u8]) -> io::Result<()>;

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

/// The files of one state.
struct Names {
    present: PathBuf,
    /// What is being written.
    new: PathBuf,
    previous: PathBuf,
    /// A second name of the present file, on its way to be the previous one.
    second: PathBuf,
}

impl Names {
    fn of(path: &Path) -> Self {
        Self {
            present: path.to_owned(),
            new: beside(path, ".new"),
            previous: beside(path, ".previous"),
            second: beside(path, ".second"),
        }
    }
}

/// The state in `path`, else in a copy beside it, else an empty one. Never fails: without a state the server starts at
/// zero and says so.
pub fn load(path: &Path, unix_time: u64) -> Loaded {
    let names = Names::of(path);
    let mut warnings = Vec::new();
    match read(path) {
        Ok(saved) => return Loaded { saved, warnings },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warnings.push(set_aside(path, &error, unix_time)),
    }
    // A new file that is whole is later than the previous one. It is often torn, which is no news.
    if let Ok(saved) = read(&names.new) {
        warnings.push(format!("state: going on with the copy that was just written, {}", names.new.display()));
        // The next write begins by making that file empty.
        if let Err(error) = fs::rename(&names.new, path) {
            warnings.push(format!("state: it could not be renamed to {}: {error}", path.display()));
        }
        return Loaded { saved, warnings };
    }
    match read(&names.previous) {
        Ok(saved) => {
            warnings.push(format!("state: going on with the copy before, {}", names.previous.display()));
            Loaded { saved, warnings }
        }
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warnings.push(format!("state: {} cannot be used either: {error}", names.previous.display()));
            }
            if !warnings.is_empty() {
                warnings.push("state: totals begin at zero".to_owned());
            }
            Loaded { saved: Saved::default(), warnings }
        }
    }
}

fn set_aside(path: &Path, error: &io::Error, unix_time: u64) -> String {
    // What was set aside earlier in the same second stays.
    let aside = (0..ASIDES_MAX).map(|number| match number {
        0 => beside(path, &format!(".unreadable-{unix_time}")),
        _ => beside(path, &format!(".unreadable-{unix_time}-{number}")),
    });
    let outcome = match aside.into_iter().find(|aside| fs::symlink_metadata(aside).is_err()) {
        None => "and there are too many beside it to set it aside".to_owned(),
        Some(aside) => match fs::rename(path, &aside) {
            Ok(()) => format!("it was set aside as {}", aside.display()),
            Err(failure) => format!("and it could not be set aside: {failure}"),
        },
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
    let (names, bytes) = (Names::of(path), encode(saved)?);
    let result = STEPS.iter().try_for_each(|step| step(&names, &bytes));
    if result.is_err() {
        let _ = fs::remove_file(&names.new);
    }
    result
}

fn write_new(names: &Names, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&names.new)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the present file a second name, so that it has one at every moment. Where there is no file, or links are not to
/// be had, the previous file stays what it was: it may be the only copy.
#[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
fn link_present(names: &Names, _: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(&names.second);
    let _ = fs::hard_link(&names.present, &names.second);
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
fn keep_previous(names: &Names, _: &[u8]) -> io::Result<()> {
    let _ = fs::rename(&names.second, &names.previous);
    // Two names of the same file are left as they are by that.
    let _ = fs::remove_file(&names.second);
    Ok(())
}

fn replace(names: &Names, _: &[u8]) -> io::Result<()> {
    fs::rename(&names.new, &names.present)
}

/// The new name must survive a loss of power, too. Some file systems cannot sync a folder.
#[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
fn sync_folder(names: &Names, _: &[u8]) -> io::Result<()> {
    let _ = File::open(folder_of(&names.present)).and_then(|folder| folder.sync_all());
    Ok(())
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
mod tests;
