//! The running program: signals, reloads, renewed certificates and changed accounts, and what they leave untouched.

mod accounts;
mod api;
mod certificates;
mod commands;
mod harness;
mod reload;
mod signals;
#[path = "../support/mod.rs"]
mod support;
