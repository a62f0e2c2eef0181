//! Wire formats: slices in, values out. No sockets, no clock, no log, no thread, no random source of its own.

pub mod address;
