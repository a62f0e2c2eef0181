//! The cluster: its decisions in simulation, its scripts on a real engine.

mod engine;
mod model;
mod rng;
mod simulation;
