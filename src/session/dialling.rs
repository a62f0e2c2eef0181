//! What a session waits for between its request and its relay.

use super::datagrams::Datagrams;

/// What has been wished for and did not come yet.
pub(super) enum Dialling<D> {
    /// A connection.
    Stream,
    /// A connection to a fallback.
    Fallback {
        /// How it is said that there is nobody.
        apology: Apology,
    },
    /// An address to send datagrams to.
    Address,
    /// A socket for the datagrams that are going to that address.
    Socket(Box<Datagrams<D>>),
}

/// What a client can be told in its own words when its fallback is not to be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Apology {
    /// It began a request of HTTP/1.
    Page,
    /// It asked for a head alone.
    Head,
    /// It speaks something else.
    Silence,
}
