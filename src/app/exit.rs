//! Exit codes and the error that carries one from anywhere in this layer to `main`.
//!
//! The codes are those of sysexits.h, so that a service manager and a script can tell a typing error from a busy port.

use std::fmt;
use std::io;
use std::path::Path;

/// Everything went well.
pub const OK: u8 = 0;
/// Wrong command line.
pub const USAGE: u8 = 64;
/// A file that was named does not exist or cannot be read.
pub const NO_INPUT: u8 = 66;
/// Something outside is not available; here: the port is taken.
pub const UNAVAILABLE: u8 = 69;
/// A file cannot be created, or exists and must not be overwritten.
pub const CANNOT_CREATE: u8 = 73;
/// The system does not permit it.
pub const NO_PERMISSION: u8 = 77;
/// The configuration, or a certificate it names, is wrong.
pub const CONFIG: u8 = 78;

/// Why the program ends: what to say on stderr and the code to exit with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of the constants of this module.
    pub code: u8,
    /// For the operator; one or more whole lines without a final newline.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code and message.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Why `path` could not be read: 77 when permission is missing, 66 for everything else.
    pub fn reading(path: &Path, error: &io::Error) -> Self {
        Self::of_file(NO_INPUT, "cannot read", path, error)
    }

    /// Why `path` could not be created or written: 77 when permission is missing, 73 for everything else.
    pub fn writing(path: &Path, error: &io::Error) -> Self {
        Self::of_file(CANNOT_CREATE, "cannot write", path, error)
    }

    /// The failure for scripts, in the form in which the API says errors, with its final line break.
    pub fn json(&self) -> String {
        let code = match self.code {
            USAGE => "usage",
            NO_INPUT => "no_input",
            UNAVAILABLE => "unavailable",
            CANNOT_CREATE => "cannot_create",
            NO_PERMISSION => "no_permission",
            CONFIG => "config",
            _ => "failed",
        };
        let error = serde_json::json!({ "code": code, "message": self.message, "exit_code": self.code });
        serde_json::json!({ "error": error }).to_string() + "\n"
    }

    fn of_file(otherwise: u8, action: &str, path: &Path, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::PermissionDenied { NO_PERMISSION } else { otherwise };
        Self::new(code, format!("{action} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
