//! Datagrams through the real reactor: command 2, XUDP and Mux.cool, on loopback.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod fair;
mod harness;
mod mux;
mod packets;
mod vision;
mod xudp;
