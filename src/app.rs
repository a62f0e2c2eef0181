//! Wiring: the command line, the configuration, certificates, logging, and the commands that end by themselves.
//!
//! The only layer that knows all others. Everything that talks to the operator is here.

pub mod access;
pub mod accounts;
pub mod activation;
pub mod ask;
pub mod backend;
pub mod backup;
pub mod capacity;
pub mod certs;
pub mod cli;
pub mod client_configs;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod completions;
pub mod config;
pub mod console;
pub mod doctor;
pub mod exit;
mod fallback_probe;
pub mod files;
pub mod firewall;
pub mod first_run;
pub mod init;
mod last_words;
pub mod link;
pub mod logging;
mod memory;
pub mod monitoring;
pub mod net;
pub mod notify;
pub mod port_holder;
pub mod preflight;
pub mod probe;
pub mod qr;
pub mod report;
pub mod rules;
pub mod run;
pub mod service;
pub mod sites;
pub mod socket_client;
pub mod supervisor;
pub mod tally;
pub mod upgrade;
pub mod user;
pub mod wizard;
