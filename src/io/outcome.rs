//! What comes of receiving and of sending, from whatever to whatever.

/// What came of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing is there now. An event follows when that changes.
    Blocked,
    /// The peer ended its direction in order.
    End,
    /// The connection is broken.
    Failed,
}

/// What came of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// There is no room now. An event follows when that changes.
    Blocked,
    /// The connection is broken. The end of what the peer sent may be missing.
    Failed,
    /// The peer takes no more. If it had ended its direction before, all that it sent is still to be had.
    Refused,
}
