//! The running program: signals, reloads and what they leave untouched.

mod harness;
mod signals;
#[path = "../support/mod.rs"]
mod support;
