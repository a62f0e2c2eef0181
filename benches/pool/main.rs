//! What the connection pool is worth over a path with a round trip of 20 ms, and what it costs.
//!
//! `cargo bench --bench pool [-- SECONDS]`, as root: the release binary and its clients in one network namespace,
//! the targets in another, a wire in user space between them. The wire sees when a request's first payload leaves for
//! the target, which is when the target is connected; the client sees when the first byte comes back. Nothing leaves
//! the two namespaces.

mod load;
mod targets;
#[path = "../../tests/support/wire.rs"]
mod wire;

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use self::load::Demand;
use self::wire::{Manners, Way, Wire, segment};

/// Half of the round trip.
const ONE_WAY: Duration = Duration::from_millis(10);
const SECONDS: u64 = 30;
/// The first seconds of each run, in which the pool learns the demand; they are shown with the others.
const PORT: u16 = 8443;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["targets"] => targets::serve(),
        ["load", demand, seconds, seed] => {
            load::run(Demand::named(demand)?, number(seconds)?, number(seed)?, PORT);
            Ok(())
        }
        [] => measure(SECONDS),
        [seconds] => measure(number(seconds)?),
        _ => Err(io::Error::other("usage: cargo bench --bench pool [-- SECONDS]")),
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::other(format!("not a number: {text}")))
}

/// What the wire saw.
#[derive(Default)]
struct Seen {
    opened: AtomicU64,
    connected_us: Mutex<Vec<u64>>,
}

fn measure(seconds: u64) -> io::Result<()> {
    let seen = Arc::new(Seen::default());
    let of_wire = Arc::clone(&seen);
    let wire = Wire::lay(Manners::delay(ONE_WAY), move |way, packet| {
        let Some(segment) = segment(packet).filter(|_| way == Way::NearToFar) else { return };
        if segment.is_opening {
            of_wire.opened.fetch_add(1, Ordering::Relaxed);
        } else if let Some(sent) = load::sent_at(segment.payload) {
            of_wire.connected_us.lock().unwrap().push(load::now_us().saturating_sub(sent));
        }
    })?;
    let me = env::current_exe()?;
    let me = me.to_str().ok_or_else(|| io::Error::other("a path that is no text"))?;
    let _targets = Process(Wire::command(&wire.far, me).arg("targets").spawn()?);
    println!("{seconds} s each, round trip {} ms, times in ms", ONE_WAY.as_millis() * 2);
    println!(
        "{:8} {:5} {:>6} {:>7} {:>7} | {:>9} {:>7} | {:>9} {:>7} | {:>6} {:>8}",
        "demand", "pool", "dials", "opened", "extra", "connected", "p95", "1st byte", "p95", "hits", "CPU us"
    );
    for demand in ["steady", "random"] {
        for pool in [false, true] {
            let row = run(&wire, me, demand, pool, seconds, &seen)?;
            println!("{row}");
        }
    }
    Ok(())
}

fn run(wire: &Wire, me: &str, demand: &str, pool: bool, seconds: u64, seen: &Seen) -> io::Result<String> {
    let server = Server::start(&wire.near, pool)?;
    seen.opened.store(0, Ordering::Relaxed);
    seen.connected_us.lock().unwrap().clear();
    let seconds = seconds.to_string();
    let load = Wire::command(&wire.near, me).args(["load", demand, &seconds, "1"]).output()?;
    let text = String::from_utf8_lossy(&load.stdout);
    let mut first_byte_us: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if !load.status.success() || first_byte_us.is_empty() {
        return Err(io::Error::other(format!("the load failed: {}", String::from_utf8_lossy(&load.stderr))));
    }
    let opened = seen.opened.load(Ordering::Relaxed);
    let dials = first_byte_us.len() as u64;
    let mut connected_us = std::mem::take(&mut *seen.connected_us.lock().unwrap());
    let counters = server.stop()?;
    let pool_stats = &counters["connection_pool"];
    Ok(format!(
        "{:8} {:5} {:6} {:7} {:6.1}% | {:9.2} {:7.2} | {:9.2} {:7.2} | {:5}% {:8.0}",
        demand,
        if pool { "on" } else { "off" },
        dials,
        opened,
        (opened as f64 / dials as f64 - 1.0) * 100.0,
        quantile_ms(&mut connected_us, 0.5),
        quantile_ms(&mut connected_us, 0.95),
        quantile_ms(&mut first_byte_us, 0.5),
        quantile_ms(&mut first_byte_us, 0.95),
        pool_stats["hit_rate"],
        counters["cpu_seconds"].as_f64().unwrap_or_default() * 1e6 / dials as f64
    ))
}

fn quantile_ms(values_us: &mut [u64], quantile: f64) -> f64 {
    values_us.sort_unstable();
    let place = (values_us.len() as f64 * quantile) as usize;
    values_us.get(place).map_or(f64::NAN, |us| *us as f64 / 1000.0)
}

/// Kills what it holds when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    process: Process,
    folder: std::path::PathBuf,
}

impl Server {
    fn start(namespace: &str, pool: bool) -> io::Result<Self> {
        let binary = concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/vless-rust");
        let folder = env::temp_dir().join(format!("pool-bench-{}-{pool}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("config.json");
        let text = serde_json::json!({
            "server": { "listen": "127.0.0.1", "port": PORT, "workers": 2 },
            "users": [{ "uuid": load::USER_TEXT, "email": "bench@localhost" }],
            "outbound": { "allow": [wire::FAR_NETWORK] },
            "connection_pool": { "enabled": pool },
            "log": { "level": "warn" }
        });
        fs::write(&config, text.to_string())?;
        let mut command: Command = Wire::command(namespace, binary);
        let child = command.arg("run").arg(&config).stderr(Stdio::piped()).spawn()?;
        let server = Self { process: Process(child), folder };
        let deadline = Instant::now() + Duration::from_secs(5);
        // The listener is in another namespace, so it shows only to a process there.
        while !Wire::command(namespace, "bash")
            .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{PORT}")])
            .stderr(Stdio::null())
            .status()?
            .success()
        {
            if Instant::now() > deadline {
                return Err(io::Error::other("the server does not listen"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Stops the server in order and returns the counters of its last line, with its CPU time.
    fn stop(mut self) -> io::Result<serde_json::Value> {
        let pid = self.process.0.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
        let stderr = self.process.0.stderr.take().ok_or_else(|| io::Error::other("no standard error"))?;
        let mut counters = None;
        for line in BufReader::new(stderr).lines() {
            counters = serde_json::from_str::<serde_json::Value>(&line?).ok().or(counters);
        }
        self.process.0.wait()?;
        let _ = fs::remove_dir_all(&self.folder);
        let mut counters = counters.ok_or_else(|| io::Error::other("the server left no counters"))?;
        // USER_HZ is 100 on every Linux.
        counters["cpu_seconds"] = (ticks / 100.0).into();
        Ok(counters)
    }
}
