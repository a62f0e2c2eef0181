//! Wire formats: slices in, values out. No sockets, no clock, no log, no thread, no random source of its own.
//!
//! The contract of every decoder here:
//!
//! - Bytes from the network never make it panic, and it allocates at most what one domain name needs.
//! - "Need more bytes" is an outcome, not an error. It is the answer for every prefix of a valid input, and nothing
//!   is consumed by it: the caller keeps the bytes, adds what arrives and asks again.
//! - Errors are small `Copy` enums, one variant per fault, and are final: more bytes cannot repair them.
//! - The module doc is the specification of the format. Its sections carry tags (`VLESS-1` is the request,
//!   `VLESS-2` the response, `VLESS-3` a packet of command 2, `VLESS-4` a Mux.cool frame) that the code cites where it checks.

pub mod addons;
pub mod address;
pub mod cursor;
pub mod mux;
pub mod packet;
pub mod proxy_header;
pub mod record;
pub mod request;
pub mod share_link;
pub mod user_id;
pub mod vision;

#[cfg(test)]
mod testing;
