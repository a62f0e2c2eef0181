//! The target-facing side: from a destination to a socket that carries bytes or datagrams.
//!
//! It dials, resolves names, keeps spare connections, judges destinations and owns UDP sockets. It knows no session,
//! only the token of whom to answer. It is the mirror of [`crate::inbound`], which knows clients and no target.
//!
//! Each worker has its own instance of everything here. Workers share only the policy and the table of Global IDs.

pub mod bound_socket;
pub mod connection_pool;
pub mod context;
pub mod dial;
pub mod global_ids;
pub mod local_stream;
pub mod policy;
pub mod resolve;
pub mod routes;
mod segmentation;
pub mod udp;
