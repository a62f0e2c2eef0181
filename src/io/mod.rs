//! Machinery: bytes, buffers, sockets and time, and no protocol.

pub mod alarm;
pub mod buf;
pub mod buffer_memory;
pub mod buffer_pool;
pub mod datagram;
pub mod outcome;
pub mod random;
pub mod socket;
pub mod sockopt;
pub mod splice;
pub mod tally;
pub mod tiers;
pub mod timer;
pub mod token;
