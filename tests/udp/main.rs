//! Datagrams through the real reactor: command 2, XUDP and Mux.cool, on loopback.

mod harness;
mod mux;
mod packets;
mod xudp;
