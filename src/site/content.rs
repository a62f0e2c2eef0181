//! The files of a site, in memory.
//!
//! All of it is read at once, within bounds, so that no visitor makes anybody wait for a disk and nothing outside of the
//! folder can ever be named. Symbolic links and hidden files are left out, but for `.well-known`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::protocol::http_date;

/// The most bytes of all files together.
pub const SITE_BYTES_MAX: u64 = 16 << 20;
/// The most files.
pub const SITE_FILES_MAX: usize = 4096;
/// The deepest folder inside the site's.
const DEPTH_MAX: usize = 16;

const INDEX: &str = "/index.html";

/// What a fresh Apache shows.
const PLAIN_PAGE: &[u8] = b"<html><body><h1>It works!</h1></body></html>\n";

/// When that page was written: 2007-06-11, as in the copies of it that are about.
const PLAIN_PAGE_AGE: std::time::Duration = std::time::Duration::from_secs(1_181_587_434);

/// What a visitor may get, by path.
#[derive(Debug)]
pub struct Content {
    files: HashMap<String, Arc<File>>,
    /// The page of the folder for what is not there.
    not_found: Option<Arc<File>>,
}

/// One file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) bytes: Arc<[u8]>,
    pub(super) kind: &'static str,
    pub(super) etag: String,
    pub(super) modified: String,
    /// The same in seconds since 1970.
    pub(super) modified_at: u64,
}

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Found {
    File(Arc<File>),
    /// It is a folder, whose path ends in a slash.
    Folder,
    Nothing,
}

/// Why a site cannot be served.
#[derive(Debug)]
pub enum ContentError {
    Unreadable(PathBuf, io::Error),
    /// More than [`SITE_BYTES_MAX`] bytes or [`SITE_FILES_MAX`] files, or deeper than 16 folders.
    TooLarge,
    /// There is no `index.html` to show to who asks for nothing in particular.
    NoIndex(PathBuf),
}

impl Content {
    /// One page that says nothing.
    pub fn plain() -> Self {
        let page = File::new(PLAIN_PAGE.to_vec(), "text/html", SystemTime::UNIX_EPOCH + PLAIN_PAGE_AGE);
        let page = Arc::new(page);
        Self { files: HashMap::from([("/".to_owned(), Arc::clone(&page)), (INDEX.to_owned(), page)]), not_found: None }
    }

    /// The folder `root`, or the one page `root`.
    ///
    /// # Errors
    /// When it cannot be read whole within its bounds.
    pub fn load(root: &Path) -> Result<Self, ContentError> {
        let mut content = Self { files: HashMap::new(), not_found: None };
        let mut left = Room { bytes: SITE_BYTES_MAX, files: SITE_FILES_MAX };
        let metadata = fs::metadata(root).map_err(|error| ContentError::Unreadable(root.to_owned(), error))?;
        if metadata.is_file() {
            content.add("/index.html", root, &mut left)?;
        } else {
            content.add_folder("/", root, 0, &mut left)?;
        }
        content.not_found = content.files.get("/404.html").cloned();
        if content.files.contains_key("/") { Ok(content) } else { Err(ContentError::NoIndex(root.to_owned())) }
    }

    /// What is at `path`, which begins with a slash and is decoded.
    pub(super) fn find(&self, path: &str) -> Found {
        match self.files.get(path) {
            Some(file) => Found::File(Arc::clone(file)),
            None if self.files.contains_key(&format!("{path}/")) => Found::Folder,
            None => Found::Nothing,
        }
    }

    pub(super) fn not_found(&self) -> Option<Arc<File>> {
        self.not_found.clone()
    }

    fn add_folder(&mut self, path: &str, folder: &Path, depth: usize, left: &mut Room) -> Result<(), ContentError> {
        let unreadable = |error| ContentError::Unreadable(folder.to_owned(), error);
        if depth > DEPTH_MAX {
            return Err(ContentError::TooLarge);
        }
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_shown(OsStr::new(&name)) {
                continue;
            }
            // A symbolic link is neither, so that the folder is all there is.
            if kind.is_dir() {
                self.add_folder(&format!("{path}{name}/"), &entry.path(), depth + 1, left)?;
            } else if kind.is_file() {
                self.add(&format!("{path}{name}"), &entry.path(), left)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, file: &Path, left: &mut Room) -> Result<(), ContentError> {
        let unreadable = |error| ContentError::Unreadable(file.to_owned(), error);
        let metadata = fs::metadata(file).map_err(unreadable)?;
        left.take(metadata.len())?;
        let bytes = fs::read(file).map_err(unreadable)?;
        // It may have grown meanwhile.
        left.bytes = left
            .bytes
            .checked_sub((bytes.len() as u64).saturating_sub(metadata.len()))
            .ok_or(ContentError::TooLarge)?;
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let file = Arc::new(File::new(bytes, kind_of(path), modified));
        if let Some(folder) = path.strip_suffix("index.html").filter(|folder| folder.ends_with('/')) {
            self.files.insert(folder.to_owned(), Arc::clone(&file));
        }
        self.files.insert(path.to_owned(), file);
        Ok(())
    }
}

/// What more may be read.
struct Room {
    bytes: u64,
    files: usize,
}

impl Room {
    fn take(&mut self, bytes: u64) -> Result<(), ContentError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(ContentError::TooLarge)?;
        self.files = self.files.checked_sub(1).ok_or(ContentError::TooLarge)?;
        Ok(())
    }
}

impl File {
    fn new(bytes: Vec<u8>, kind: &'static str, modified: SystemTime) -> Self {
        let modified_at = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let etag = format!("\"{modified_at:x}-{:x}\"", bytes.len());
        Self { bytes: bytes.into(), kind, etag, modified: http_date::text(modified_at), modified_at }
    }
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::TooLarge => write!(
                f,
                "the site is too large: at most {} MiB in {SITE_FILES_MAX} files and {DEPTH_MAX} levels of folders",
                SITE_BYTES_MAX >> 20
            ),
            Self::NoIndex(path) => write!(f, "{} holds no index.html", path.display()),
        }
    }
}

/// Whether a file or a folder of this name is not hidden.
pub fn is_shown(name: &OsStr) -> bool {
    name == ".well-known" || !name.as_encoded_bytes().starts_with(b".")
}

/// What a file is, by the end of its name.
fn kind_of(path: &str) -> &'static str {
    let end = path.rsplit_once('.').map_or(String::new(), |(_, end)| end.to_ascii_lowercase());
    match end.as_str() {
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "js" | "mjs" => "application/javascript",
        "json" => "application/json",
        "txt" => "text/plain",
        "xml" => "text/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
