//! Machinery: bytes, buffers, sockets and time, and no protocol.

pub mod timer;
