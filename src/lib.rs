//! VLESS-Rust: a VLESS proxy server on a hand-rolled mio reactor.
//!
//! Seven layers; a layer imports only from those above it in this list, and `tests/tidy/` checks that.
//!
//! 1. [`stats`], [`protocol`], [`io`]: counters, wire formats, machinery. Protocol sees neither socket nor clock;
//!    machinery sees no protocol.
//! 2. [`inbound`]: the client-facing protocol stack, wire bytes to payload bytes and back, still without a socket.
//! 3. [`session`]: one accepted client from first byte to last, generic over its sockets.
//! 4. [`outbound`]: the target-facing side: dialling, resolving, spare connections, the destination policy, UDP sockets.
//! 5. [`reactor`]: the only owner of a poll: dispatch, timers, accepting.
//! 6. [`control`]: monitoring, on a thread of its own: API, live feed, metrics, history, alerts.
//! 7. [`app`]: command line, configuration, certificates, logging, wiring.
//!
//! Words: *inbound* is the client-facing leg and *outbound* the target-facing one; *uplink* runs from client to target,
//! *downlink* back; a *session* is one accepted client's whole life; the *target* is the destination asked for in the
//! request header, a *peer* the address at the other end of one socket; *wire* bytes are as on the client socket,
//! *payload* bytes what remains after decoding; a *timeout* is a duration from the configuration, a *deadline* an
//! instant computed from it.
#![forbid(unsafe_code)]

pub mod protocol;
pub mod stats;

pub mod io;

pub mod inbound;

pub mod session;

pub mod outbound;

pub mod reactor;

pub mod cluster;

pub mod control;

pub mod app;
