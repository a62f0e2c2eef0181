//! HTTP/1.1 as the control plane speaks it: one request at a time, everything bounded.
//!
//! `head.rs` reads request heads from bytes, `accept.rs` the lists of wishes in them; `connection.rs` is one client from
//! accept to close; `response.rs` turns answers into bytes, `gzip.rs` long ones into fewer; `stream.rs` is the socket, TCP or Unix. Nothing here knows what
//! is being asked for.

pub mod accept;
pub mod connection;
pub mod gzip;
pub mod head;
pub mod response;
pub mod stream;
pub mod waiting;
