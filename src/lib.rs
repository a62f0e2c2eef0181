//! VLESS-Rust: a VLESS proxy server on a hand-written mio reactor.
//!
//! The crate has seven layers. A layer imports only from those above it in this list; `tests/tidy/` checks that.
//!
//! 1. [`stats`], [`protocol`], [`io`]: counters, wire formats, machinery. Protocol sees neither socket nor clock.
//!    Machinery sees no protocol.
//! 2. [`inbound`]: the client-facing protocol stack. It turns wire bytes into payload bytes and back, without a socket.
//! 3. [`session`]: one accepted client from first byte to last, generic over its sockets.
//! 4. [`outbound`]: the target-facing side: dialling, resolving, spare connections, the destination policy, UDP
//!    sockets.
//! 5. [`reactor`]: the only owner of a poll: dispatch, timers, accepting.
//! 6. [`control`]: monitoring, on a thread of its own: API, live feed, metrics, history, alerts. Beside it [`cluster`]:
//!    what several nodes agree on, and [`site`]: a plain web site for strangers.
//! 7. [`app`]: command line, configuration, certificates, logging, wiring.
//!
//! The words that names and comments use are listed in `src/README.md`. The most frequent ones:
//!
//! | word | meaning |
//! |---|---|
//! | inbound, outbound | the client-facing leg, the target-facing leg |
//! | uplink, downlink | client to target, target to client |
//! | session | one accepted client's whole life |
//! | target | the destination that a request asks for |
//! | peer | the address at the other end of one socket |
//! | wire, payload | bytes as on the client's socket, bytes after decoding |
//! | timeout, deadline | a duration from the configuration, an instant computed from it |
#![forbid(unsafe_code)]

pub mod protocol;
pub mod stats;

pub mod io;

pub mod inbound;

pub mod session;

pub mod outbound;

pub mod reactor;

pub mod site;

pub mod cluster;

pub mod control;

pub mod app;
