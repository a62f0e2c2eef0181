//! Wire formats: slices in, values out. This layer has no socket, no clock, no log, no thread and no random source.
//!
//! The contract of every decoder here:
//!
//! - Bytes from the network never make it panic. It allocates at most what one domain name needs.
//! - "Need more bytes" is an outcome, not an error. Every prefix of a valid input has it. Nothing is consumed then: the
//!   caller keeps the bytes, adds what arrives and asks again.
//! - Errors are small `Copy` enums with one variant per fault. They are final: more bytes cannot repair them.
//! - The module doc is the specification of the format. Its sections carry tags (`VLESS-1` is the request, `VLESS-2`
//!   the response, `VLESS-3` a packet of command 2, `VLESS-4` a Mux.cool frame) that the code cites where it checks.
// Network input must not be able to stop the process.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(not(test), deny(clippy::string_slice))]

pub mod addons;
pub mod address;
pub mod calendar;
pub mod cidr;
pub mod cursor;
pub mod http_date;
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
