//! Our server beside Xray-core, sing-box and a bare splice(2) relay: CPU time and memory for the same work.
//!
//! ```text
//! python3 -m venv target/venv && target/venv/bin/pip install -r tests/interop/requirements.txt
//! cargo bench --bench compare                                    # everything, about a quarter of an hour
//! cargo bench --bench compare -- tls-download plain-upload --mib 256 --rounds 1 --peers ours,xray
//! ```
//!
//! Every scenario runs in rounds, and in every round the peers take their turn one after the other, each as a freshly
//! started process, so that a change of the machine's mood meets all of them. Reported are medians over the rounds.
//! Compare only within one run: the figures of two machines, or of two days, say nothing about each other.
//!
//! What is counted is the server's own: CPU time of the process from `/proc/PID/stat`, memory from
//! `/proc/PID/smaps_rollup`, both as differences to the same process before the load. The load and the origin run in
//! this process and are not counted, but share the machine: throughput is shown for orientation only. Bytes are counted
//! exactly at both ends and samples are compared with what they should be.
//!
//! The clients offer TLS 1.3 with X25519 and AES-128-GCM only, and no resumption. The Vision client really pads, unpads
//! and leaves the outer TLS in both directions; its inner TLS is only a likeness (see `inner.rs`).
//!
//! A slow server is a result; a wrong byte, a broken connection or a server that does not start is an error, printed
//! with the rest and turned into exit code 1.

mod inner;
mod launch;
mod leg;
mod load;
mod measure;
mod options;
mod origin;
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
#[path = "../../tests/support/ports.rs"]
mod ports;
mod relay;
mod report;
mod scenario;
mod servers;
mod tls;
mod udp;
mod vision;
#[allow(dead_code, reason = "shared with another program, which uses all of it")]
mod vless;

use std::process::ExitCode;
use std::sync::Arc;
use std::{env, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::inner::Pattern;
use crate::options::Options;
use crate::report::Report;
use crate::scenario::{Ground, Scenario};
use crate::servers::{Bed, CHILD_ARGUMENT, RELAY_ARGUMENT};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    let result = match arguments.peek().map(String::as_str) {
        Some(CHILD_ARGUMENT) => servers::become_child(arguments.skip(1)).map(|()| true),
        Some(RELAY_ARGUMENT) => run_relay(arguments.skip(1)).map(|()| true),
        _ => match Options::parse(arguments) {
            Ok(options) if !options.scenarios.is_empty() => run(&options),
            Ok(_) => {
                // `cargo test --all-targets` comes here; it has no use for a quarter of an hour of measuring.
                print!("{}", options::usage());
                Ok(true)
            }
            Err(error) => {
                eprint!("compare: {error}\n{}", options::usage());
                return ExitCode::from(64);
            }
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything that was asked for; false when a measurement broke.
fn run(options: &Options) -> io::Result<bool> {
    raise_descriptor_limit()?;
    let pattern = Arc::new(Pattern::new());
    let origin_port = origin::start(Arc::clone(&pattern))?;
    let bed = Bed::new(options.programs.clone(), origin_port)?;
    let tls = tls::client_config(bed.certificate());
    let echo_port = udp::start_echo()?;
    let ground = Ground { bed, tls, pattern, origin_port, echo_port };

    let mut json_lines = String::new();
    let mut errors = Vec::new();
    for scenario in scenario::ALL.iter().filter(|scenario| options.scenarios.iter().any(|name| name == scenario.name)) {
        let report = run_scenario(scenario, &ground, options, &mut errors);
        println!("{}", report.text());
        json_lines += &report.json_lines();
    }
    print!("{json_lines}");
    for error in &errors {
        eprintln!("compare: {error}");
    }
    Ok(errors.is_empty())
}

fn run_scenario<'a>(
    scenario: &'a Scenario,
    ground: &Ground,
    options: &Options,
    errors: &mut Vec<String>,
) -> Report<'a> {
    let mut report = Report::new(scenario);
    for round in 1..=options.rounds {
        for &peer in options.peers.iter().filter(|peer| scenario.fits(**peer)) {
            eprintln!("{} round {round} of {}: {}", scenario.name, options.rounds, peer.name());
            match scenario.measure(peer, ground, options) {
                Ok(figures) => report.add(peer, figures),
                Err(error) => errors.push(format!("{}, round {round}, {}: {error}", scenario.name, peer.name())),
            }
        }
    }
    report
}

fn run_relay(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let ports: Vec<u16> = arguments.filter_map(|argument| argument.parse().ok()).collect();
    match ports[..] {
        [port, target_port] => relay::run(port, target_port),
        _ => Err(io::Error::other("the relay wants two ports")),
    }
}

/// Thousands of idle sessions need two descriptors each here; the servers inherit the limit.
fn raise_descriptor_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
