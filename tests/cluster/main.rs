//! The cluster: its decisions in simulation, its scripts on a real engine, and whole nodes on one.

mod accounts;
#[path = "../support/api.rs"]
mod api;
mod cost;
mod engine;
mod engine_server;
mod limits;
mod model;
mod node;
mod on_disk;
mod rng;
mod security;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod totals;
mod whole;
