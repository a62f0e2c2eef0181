//! Users come and go, fifty changes a second, beside sessions of somebody else.

use std::time::{Duration, Instant};
use std::{io, thread};

use serde_json::json;

use crate::Options;
use crate::bystanders::Bystanders;
use crate::ground::{BYSTANDER, Ground, Server};
use crate::measure::memory;
use crate::numbers::{head, id, row, thread_cpu_seconds};

/// All of them over TLS, one echo after the other.
const LIVE: usize = 2000;
const CHANGES_PER_SECOND: u32 = 50;
const PASSES: usize = 2;
/// Users are as many times the rounds.
const USERS_PER_ROUND: usize = 10;
const MIB: f64 = 1_048_576.0;

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    let users = options.rounds * USERS_PER_ROUND;
    let mut server = ground.start(true, &json!({}))?;
    let mut api = server.api()?;
    let bystanders = Bystanders::start(ground, &server, LIVE)?;
    thread::sleep(Duration::from_secs(3));
    bystanders.take();
    thread::sleep(Duration::from_secs(10));
    bystanders.take().say("alone");
    println!("{users} users added, then removed, beside {LIVE} sessions");
    head(&[
        "pass",
        "changes",
        "changes per second",
        "CPU-ms per change",
        "echoes",
        "p50, ms",
        "p99.9, ms",
        "worst, ms",
        "RSS, MiB",
    ]);
    let rss = |pid| Ok::<_, io::Error>(format!("{:.1}", memory(pid)?.resident / MIB));
    row(["before".to_owned()].into_iter().chain(vec![String::new(); 7]).chain([rss(server.pid())?]));
    for pass in 1..=PASSES {
        for is_adding in [true, false] {
            // Workers serve the bystanders; the rest is there for accounts and for who watches.
            let cpu = |server: &Server| {
                let pid = server.pid();
                Ok::<_, io::Error>(thread_cpu_seconds(pid, "")? - thread_cpu_seconds(pid, "worker")?)
            };
            let (begin, cpu_before) = (Instant::now(), cpu(&server)?);
            for number in 0..users {
                let due = begin + Duration::from_secs(1) / CHANGES_PER_SECOND * number as u32;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let email = format!("user-{number}");
                if is_adding {
                    api.add(&email, id((pass * users + number) as u64), "", &json!({}))?;
                } else {
                    api.remove(&email)?;
                }
            }
            let rate = users as f64 / begin.elapsed().as_secs_f64();
            let stalls = bystanders.take();
            row([
                pass.to_string(),
                format!("{users} {}", if is_adding { "added" } else { "removed" }),
                format!("{rate:.1}"),
                format!("{:.1}", (cpu(&server)? - cpu_before) * 1000.0 / users as f64),
                stalls.count.to_string(),
                format!("{:.2}", stalls.p50),
                format!("{:.1}", stalls.p999),
                format!("{:.1}", stalls.worst),
                rss(server.pid())?,
            ]);
        }
    }
    thread::sleep(Duration::from_secs(2));
    let active = api.user(BYSTANDER)?["active_connections"].as_u64();
    if active != Some(LIVE as u64) {
        return Err(io::Error::other(format!("of {LIVE} sessions {active:?} are left")));
    }
    server.check_alive()?;
    bystanders.finish()
}
