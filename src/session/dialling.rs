//! What a session waits for between its request and its relay.

use super::datagrams::Datagrams;

/// What has been wished for and did not come yet.
pub(super) enum Dialling<D> {
    /// A connection.
    Stream,
    /// A connection to a fallback.
    Fallback {
        /// The client began a request of HTTP/1: it can be told in its own words that there is nobody.
        is_http1: bool,
    },
    /// An address to send datagrams to.
    Address,
    /// A socket for the datagrams that are going to that address.
    Socket(Box<Datagrams<D>>),
}
