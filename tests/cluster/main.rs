//! The cluster: its decisions in simulation, its scripts on a real engine, and whole nodes on one.

mod accounts;
mod engine;
mod engine_server;
mod model;
mod node;
mod rng;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod totals;
