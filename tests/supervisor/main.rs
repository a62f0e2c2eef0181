//! The running program: signals, reloads, renewed certificates and changed accounts, and what they leave untouched.

mod accounts;
mod activation;
#[path = "../support/api.rs"]
mod api;
mod backup;
mod certificates;
mod commands;
mod full_disk;
mod harness;
mod notices;
mod reload;
mod secrets;
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
mod watchdog;
