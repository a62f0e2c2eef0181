//! What a session waits for between its request and its relay.

use super::datagrams::Datagrams;

/// What has been wished for and did not come yet.
pub(super) enum Dialling<D> {
    /// A connection.
    Stream,
    /// An address to send datagrams to.
    Address,
    /// A socket for the datagrams that are going to that address.
    Socket(Box<Datagrams<D>>),
}
