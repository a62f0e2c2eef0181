//! One accepted client from first byte to last.

pub use crate::protocol::address::{Host, Target};
