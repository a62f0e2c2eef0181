//! The cluster: its decisions in simulation, its scripts on a real engine, and whole nodes on one.

mod accounts;
#[path = "../support/api.rs"]
mod api;
mod cost;
mod engine;
mod engine_server;
mod history;
mod limits;
mod lying;
mod model;
mod node;
mod on_disk;
mod real_clients;
mod restart;
mod rng;
mod security;
mod sentinels;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod totals;
mod whole;
