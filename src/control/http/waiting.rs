//! Bytes that wait for clients to take them.

use tungstenite::Bytes;

/// Shorter pieces are no burden: there is a limit for their number.
const BYTES_MIN: usize = 64 << 10;

/// A long piece of memory that somebody holds until it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Where it ends, which is the same for all who hold it, however much of it they have still to get.
    pub end: usize,
    /// All of it.
    pub bytes: usize,
}

impl Waiting {
    /// What `rest` of a piece of so many bytes keeps in memory; `None`: nothing that matters.
    pub fn of(rest: &Bytes, bytes: usize) -> Option<Self> {
        let is_long = !rest.is_empty() && bytes >= BYTES_MIN;
        is_long.then(|| Self { end: rest.as_ptr_range().end.addr(), bytes })
    }
}
