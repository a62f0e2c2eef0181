//! How many changes of accounts a second are made, by one client that waits for each answer and by eight, and what one
//! costs.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Options;
use crate::api::Api;
use crate::ground::{Ground, Server};
use crate::measure::memory;
use crate::numbers::{head, id, median, milliseconds, row, thread_cpu_seconds};

const ACCOUNTS: [u64; 2] = [1000, 10_000];
const FLOOR_ROUNDS: usize = 50;
const MIB: f64 = 1_048_576.0;
const LOADS: [Load; 3] = [
    Load { name: "one client", clients: 1, is_any: false },
    Load { name: "8 clients with revisions", clients: 8, is_any: false },
    Load { name: "8 clients", clients: 8, is_any: true },
];

/// Who changes accounts.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    clients: u64,
    /// Whatever the list is by then; else each has to be the first who has seen it.
    is_any: bool,
}

pub(crate) fn run(ground: &Ground, options: &Options) -> io::Result<()> {
    println!("accounts added and removed in turn for {} s; CPU of all threads but the workers", options.seconds);
    head(&["accounts", "", "changes per second", "CPU-ms per change", "workers, CPU-ms", "file, KiB", "RSS, MiB"]);
    for accounts in ACCOUNTS {
        let users = (0..accounts).map(|number| json!({ "uuid": text(number), "email": format!("u{number}") }));
        let users = json!({ "version": 1, "revision": 1, "users": users.collect::<Vec<_>>() }).to_string();
        let server = ground.start_with(false, &json!({}), Some(&users))?;
        for load in LOADS.into_iter().filter(|load| options.wants(load.name)) {
            measure(&server, accounts, load, options.seconds)?;
        }
        let bytes = fs::metadata(server.folder().join("users.json"))?.len();
        let floor = floor(server.folder(), bytes)?;
        println!("a file of {bytes} bytes is replaced, with two waits for the disk, in {floor:.2} ms (median)");
    }
    Ok(())
}

fn text(number: u64) -> String {
    uuid::Uuid::from_bytes(id(number)).to_string()
}

fn measure(server: &Server, accounts: u64, load: Load, seconds: u64) -> io::Result<()> {
    let stop = AtomicBool::new(false);
    let cpu = || {
        let (all, workers) = (thread_cpu_seconds(server.pid(), "")?, thread_cpu_seconds(server.pid(), "worker")?);
        Ok::<_, io::Error>((all - workers, workers))
    };
    let (begin, before) = (Instant::now(), cpu()?);
    let changes = thread::scope(|scope| {
        let clients: Vec<_> = (0..load.clients)
            .map(|client| {
                let stop = &stop;
                scope.spawn(move || {
                    let api = server.api()?;
                    let api = if load.is_any { api.whatever_the_list() } else { api };
                    change(api, accounts + client, stop)
                })
            })
            .collect();
        thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        let counts = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| io::Error::other("a client panicked")).and_then(|result| result));
        counts.sum::<io::Result<u64>>()
    })?;
    let (took, after) = (begin.elapsed().as_secs_f64(), cpu()?);
    let each = |seconds: f64| format!("{:.2}", seconds * 1000.0 / changes as f64);
    row([
        accounts.to_string(),
        load.name.to_owned(),
        format!("{:.1}", changes as f64 / took),
        each(after.0 - before.0),
        each(after.1 - before.1),
        (fs::metadata(server.folder().join("users.json"))?.len() >> 10).to_string(),
        format!("{:.1}", memory(server.pid())?.resident / MIB),
    ]);
    Ok(())
}

/// Adds an account and removes it, again and again; how often.
fn change(mut api: Api, number: u64, stop: &AtomicBool) -> io::Result<u64> {
    let (email, mut changes) = (format!("new-{number}"), 0);
    while !stop.load(Ordering::Relaxed) {
        api.add(&email, id(number), "", &json!({}))?;
        api.remove(&email)?;
        changes += 2;
    }
    Ok(changes)
}

/// How long it takes to replace a file of so many bytes for good, in milliseconds: no change can be faster.
fn floor(folder: &Path, bytes: u64) -> io::Result<f64> {
    let (temporary, path, contents) = (folder.join("floor.new"), folder.join("floor"), vec![b'x'; bytes as usize]);
    let replace = |_| {
        let begin = Instant::now();
        fs::write(&temporary, &contents)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()?;
        Ok(milliseconds(begin.elapsed()))
    };
    (0..FLOOR_ROUNDS).map(replace).collect::<io::Result<Vec<_>>>().map(median)
}
