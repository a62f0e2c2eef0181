//! Accounts that live: what may be done to them, the file they are kept in, and how they stand.
//!
//! One set of operations (`change.rs`), whoever asks for them: a command, the API, the page. Each is checked by the same
//! rules as the files, changes the users file as a whole (`store.rs`) and says in words what it did. `import.rs` reads those of other
//! panels, `used.rs` keeps what they have used where no server runs, `standing.rs` tells who may connect now. Nothing here
//! knows the reactor.

pub mod change;
pub mod import;
pub mod standing;
pub mod store;
pub mod used;
