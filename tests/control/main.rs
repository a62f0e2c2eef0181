//! The control plane on real sockets, with a backend that says what the test wants.
//!
//! Nothing here uses a reader or writer of ours: requests and frames are bytes, answers are read by the test itself.

#![allow(unreachable_pub, reason = "modules of one test binary")]

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod alerts;
mod answers;
mod documents;
mod feed;
mod harmful;
mod harness;
mod limits;
mod rights;
mod sockets;
mod state;
