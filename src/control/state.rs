//! What survives the process: totals, history, events and what accounts want kept, in the state file.
//!
//! `file.rs` is the file: its format, reading it whatever it holds, writing it so that a crash leaves the old or the new
//! one. `writer.rs` is the thread that writes, so that a slow disk delays nobody.

pub mod file;
pub mod writer;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alerts::watch::SavedFiring;
use super::events::Event;
use super::history::book::SavedEntry;
use super::history::series::SavedSeries;

/// The content of the state file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// Unix time of writing.
    pub saved_at: u64,
    /// Payload of all time.
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub history: SavedSeries,
    pub users: Vec<SavedEntry>,
    pub events: Vec<Event>,
    /// Alerts that somebody was told of and that are not over.
    pub alerts: Vec<SavedFiring>,
    /// What the accounts keep here. The control plane does not read it; a start hands it back to them.
    pub accounts: Value,
}
