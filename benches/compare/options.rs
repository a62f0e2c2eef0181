//! The command line.

use std::fmt::Write;
use std::path::PathBuf;

use crate::scenario;
use crate::servers::{Peer, Programs};

/// What to run, and how large.
pub(crate) struct Options {
    /// Names of scenarios, in the order of the list; empty means that none was asked for.
    pub(crate) scenarios: Vec<String>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rounds: usize,
    /// Bulk: connections at once, and MiB on each.
    pub(crate) streams: usize,
    pub(crate) mib: u64,
    /// New connections in all, and sessions or clients that stay.
    pub(crate) connections: usize,
    /// Milliseconds from one newcomer beside bulk to the next.
    pub(crate) newcomer_ms: u64,
    pub(crate) idle: usize,
    pub(crate) silent: usize,
    pub(crate) datagrams: u64,
    /// Threads that open connections.
    pub(crate) threads: usize,
    pub(crate) programs: Programs,
}

impl Options {
    /// Reads the arguments behind the program's name. `cargo bench` adds `--bench`, which means all scenarios unless
    /// some are named.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut is_bench = false;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--mib" => options.mib = number(&value()?)? as u64,
                "--streams" => options.streams = number(&value()?)?,
                "--rounds" => options.rounds = number(&value()?)?,
                "--connections" => options.connections = number(&value()?)?,
                "--newcomer-ms" => options.newcomer_ms = number(&value()?)? as u64,
                "--idle" => options.idle = number(&value()?)?,
                "--datagrams" => options.datagrams = number(&value()?)? as u64,
                "--silent" => options.silent = number(&value()?)?,
                "--threads" => options.threads = number(&value()?)?,
                "--ours" => options.programs.ours = existing_path(&value()?)?,
                "--before" => options.measure_before(existing_path(&value()?)?),
                "--venv" => options.programs.venv = existing_path(&value()?)?,
                "--peers" => options.peers = value()?.split(',').map(peer).collect::<Result<_, _>>()?,
                name if scenario::ALL.iter().any(|scenario| scenario.name == name) => {
                    options.scenarios.push(argument);
                }
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        if is_bench && options.scenarios.is_empty() {
            options.scenarios = scenario::ALL.iter().map(|scenario| scenario.name.to_owned()).collect();
        }
        Ok(options)
    }

    /// Adds the peer `before` to those that are measured.
    fn measure_before(&mut self, binary: PathBuf) {
        self.programs.before = Some(binary);
        if !self.peers.contains(&Peer::Before) {
            self.peers.push(Peer::Before);
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scenarios: Vec::new(),
            peers: Peer::ALL.into_iter().filter(|&peer| peer != Peer::Before).collect(),
            rounds: 3,
            streams: 4,
            mib: 768,
            connections: 2000,
            newcomer_ms: 0,
            idle: 2000,
            silent: 1000,
            datagrams: 200_000,
            threads: 8,
            programs: Programs {
                ours: env!("CARGO_BIN_EXE_vless-rust").into(),
                before: None,
                venv: concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv").into(),
            },
        }
    }
}

/// The text that answers a wrong command line.
pub(crate) fn usage() -> String {
    let mut text =
        "cargo bench --bench compare -- [SCENARIO ...] [--peers ours,ours-no-pool,before,xray,sing-box,relay]\n    \
        [--rounds 3] [--streams 4] [--mib 768] [--connections 2000] [--newcomer-ms 0] [--idle 2000] [--silent 1000]\n    \
        [--datagrams 200000] [--threads 8] [--ours BINARY] [--before BINARY] [--venv FOLDER]\n"
            .to_owned();
    for scenario in &scenario::ALL {
        let _ = writeln!(text, "  {:<16} {}", scenario.name, scenario.about);
    }
    text
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&value| value > 0).ok_or_else(|| format!("{text} is not a positive number"))
}

/// The servers are started in a folder of their own, where a relative path would mean something else.
fn existing_path(text: &str) -> Result<PathBuf, String> {
    std::fs::canonicalize(text).map_err(|error| format!("{text}: {error}"))
}

fn peer(name: &str) -> Result<Peer, String> {
    Peer::ALL.into_iter().find(|peer| peer.name() == name).ok_or_else(|| format!("unknown peer {name}"))
}
