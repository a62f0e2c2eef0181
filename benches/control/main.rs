//! Accounts and the control plane of a running server under load: how fast sessions end, how exactly limits hold, what
//! watching costs, and that nobody else notices.
//!
//! ```text
//! cargo bench --bench control -- cuts           # mode by reason: from the command to the client's end of stream
//! cargo bench --bench control -- quota speed churn changes feeds idle abuse
//! cargo bench --bench control -- cuts --rounds 20 --ours target/release/vless-rust
//! ```
//!
//! Each name makes one table. The release binary runs as a process of its own with a configuration of its own; targets
//! run in a second process, clients in this one, all on loopback. CPU time and memory of the server are from `/proc`.
//!
//! Times depend on the machine, which the clients share. A slow server is a result; a session that does not end, a
//! wrong byte or a server that dies is an error.

mod abuse;
mod api;
mod bystanders;
mod changes;
mod churn;
mod crowd;
mod cuts;
mod feeds;
mod ground;
#[allow(unreachable_pub, reason = "shared with a test")]
#[path = "../../tests/control/harmful.rs"]
mod harmful;
mod idle;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
#[path = "../compare/inner.rs"]
mod inner;
#[path = "../compare/launch.rs"]
mod launch;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
#[path = "../compare/leg.rs"]
mod leg;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
#[path = "../compare/measure.rs"]
mod measure;
mod modes;
mod numbers;
#[path = "../compare/origin.rs"]
mod origin;
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
#[path = "../../tests/support/ports.rs"]
mod ports;
mod quota;
mod speed;
mod targets;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
#[path = "../compare/tls.rs"]
mod tls;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
#[path = "../compare/udp.rs"]
mod udp;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
#[path = "../compare/vision.rs"]
mod vision;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
#[path = "../compare/vless.rs"]
mod vless;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ground::Ground;

const TABLES: [(&str, Table); 8] = [
    ("cuts", cuts::run),
    ("quota", quota::run),
    ("speed", speed::run),
    ("churn", churn::run),
    ("changes", changes::run),
    ("feeds", feeds::run),
    ("idle", idle::run),
    ("abuse", abuse::run),
];
const USAGE: &str = "cargo bench --bench control -- [cuts] [quota] [speed] [churn] [changes] [feeds] [idle] [abuse]
    [--rounds 100] [--seconds 10] [--sessions 10000] [--only NAME] [--ours BINARY]";

type Table = fn(&Ground, &Options) -> io::Result<()>;

/// How large the tables are made.
struct Options {
    tables: Vec<String>,
    /// Sessions that are cut for each cell; users that come and go are ten times as many.
    rounds: usize,
    /// How long one measurement lasts.
    seconds: u64,
    /// Idle sessions beside the control plane. Each needs two descriptors of the server: a hard limit of 20,000 is
    /// enough for 8,700.
    sessions: usize,
    /// Only the rows with this name.
    only: Option<String>,
    program: PathBuf,
}

fn main() -> ExitCode {
    let result = match env::args().nth(1).as_deref() {
        Some(targets::ARGUMENT) => targets::run(),
        _ => match Options::parse(env::args().skip(1)) {
            Ok(options) => run(&options),
            Err(error) => {
                eprintln!("control: {error}\n{USAGE}");
                return ExitCode::from(64);
            }
        },
    };
    if let Err(error) = result {
        eprintln!("control: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(options: &Options) -> io::Result<()> {
    if options.tables.is_empty() {
        // `cargo test --all-targets` comes here; it has no use for minutes of measuring.
        println!("{USAGE}");
        return Ok(());
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let ground = Ground::new(options.program.clone())?;
    for (name, table) in TABLES.iter().filter(|(name, _)| options.tables.iter().any(|wanted| wanted == name)) {
        table(&ground, options).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    }
    Ok(())
}

impl Options {
    /// Reads the arguments behind the program's name. `cargo bench` adds `--bench`, which means all tables unless some
    /// are named.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            tables: Vec::new(),
            rounds: 100,
            seconds: 10,
            sessions: 10_000,
            only: None,
            program: env!("CARGO_BIN_EXE_vless-rust").into(),
        };
        let mut is_bench = false;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is not a number"));
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--rounds" => options.rounds = number(value()?)?,
                "--seconds" => options.seconds = number(value()?)? as u64,
                "--sessions" => options.sessions = number(value()?)?,
                "--only" => options.only = Some(value()?),
                "--ours" => options.program = std::fs::canonicalize(value()?).map_err(|error| error.to_string())?,
                name if TABLES.iter().any(|(known, _)| *known == name) => options.tables.push(argument),
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        if is_bench && options.tables.is_empty() {
            options.tables = TABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        }
        Ok(options)
    }

    /// Whether a row is wanted.
    fn wants(&self, row: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == row)
    }
}
