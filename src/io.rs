//! Machinery: bytes, buffers, sockets and time, and no protocol.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(not(test), deny(clippy::string_slice))]

pub mod alarm;
pub mod buf;
pub mod buffer_memory;
#[expect(clippy::indexing_slicing, reason = "a tier is a number of our own, below TIERS")]
pub mod buffer_pool;
pub mod datagram;
pub mod endpoint;
pub mod moment;
pub mod outcome;
pub mod random;
pub mod roster;
mod sock_diag;
pub mod socket;
pub mod sockopt;
pub mod splice;
pub mod taker;
pub mod tally;
pub mod tiers;
#[expect(clippy::indexing_slicing, reason = "a slot is a number of our own, below SLOTS")]
pub mod timer;
pub mod token;
