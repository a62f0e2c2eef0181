//! What is wrong with a journal that was stored.

use std::fmt;
use std::io;

/// Why a stored journal cannot be used.
#[derive(Debug)]
pub enum JournalError {
    Io(io::Error),
    /// A line that was stored for good cannot be read; lines are numbered from 1.
    BadLine(usize),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::BadLine(number) => write!(f, "line {number} is not a line of a journal"),
        }
    }
}
