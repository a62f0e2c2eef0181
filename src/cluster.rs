//! The cluster: many nodes, one list of accounts, shared totals and quotas on an engine (Redis or Valkey).
//!
//! A node is complete alone: what it counted but could not tell the engine is in its journal, and what it knows of
//! accounts and quotas stays known while the engine is away. The engine holds what nodes share and applies each change in
//! one script, so that a change happens once however often it is sent.
//!
//! `journal` keeps what was counted until the engine has it, `lease` the parts of quotas that this node may use up,
//! `node` decides what to send next and what an answer means (`report`), `script` is what runs inside the engine. None of these has
//! a socket or a clock, and the simulation drives them against a model of the engine.

pub mod journal;
pub mod lease;
pub mod node;
pub mod report;
pub mod script;
