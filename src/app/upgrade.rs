//! Another program takes over from this one while clients come and go: an upgrade without loss.
//!
//! The running server (the old one) starts its successor (the new one) as a child with a socket between them, and
//! nothing of the old one changes before the new one has shown that it serves:
//!
//! | from | says | and means |
//! |---|---|---|
//! | old | `Sockets`, ..., `AllSockets` | here are my listeners; both accept from the same queues from now on |
//! | new | `Prepared` | configuration, certificates and all else that can be wrong are right |
//! | old | `StateIsYours` | my totals are in the state file, I write it no more, and where the API listens is free |
//! | new | `Serving` | my workers accept, my API answers |
//! | old | `ServiceIsYours` | the service manager knows you; I accept nobody any more, and let my sessions end |
//! | old | `Counted`, `Moved` | what my last sessions have used since then |
//! | new | `Cut` | an account's sessions must end, yours, too |
//!
//! Whatever goes wrong before `Serving` ends the new one, and the old one goes on as if nothing had been. The two may
//! be different versions: words that one of them does not know are passed over.
//!
//! `channel.rs` is the socket, `successor.rs` the old one's side, `predecessor.rs` the new one's.

mod channel;
mod predecessor;
mod successor;

pub use self::predecessor::{Predecessor, Teller};
pub use self::successor::{Launch, News, Owned, Successor};

/// Tells a new process that its standard input is the socket.
const VARIABLE: &str = "VLESS_RUST_TAKE_OVER";
