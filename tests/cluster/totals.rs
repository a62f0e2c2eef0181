//! Traffic totals and quotas of the cluster on real nodes, a real engine, and clients that count for themselves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::on_disk::{untold, untold_of};
use crate::support::client::request;
use crate::support::origin::Origin;
use crate::support::{bounded, wait_until};

/// What one round of a client moves in each direction.
pub(crate) const CHUNK: usize = 40_000;
/// What clients have moved, by what they saw.
#[derive(Default)]
pub(crate) struct Tally {
    bytes: AtomicU64,
    is_paused: AtomicBool,
    is_over: AtomicBool,
    /// Clients that are in the middle of a round.
    busy: AtomicU64,
}

impl Tally {
    /// Waits until no client has anything on the way.
    fn pause(&self) {
        self.is_paused.store(true, Ordering::SeqCst);
        wait_until("all clients pause", || self.busy.load(Ordering::SeqCst) == 0);
    }

    fn go_on(&self) {
        self.is_paused.store(false, Ordering::SeqCst);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Sends chunks to an echo and takes them back, on one session after the other, until it is over. What a session that
    /// breaks has moved is not known to the client, so the tests break sessions only while everybody pauses.
    pub(crate) fn work(&self, dial: impl Fn() -> Option<Dialled>) {
        let chunk = vec![7; CHUNK];
        while !self.is_over.load(Ordering::SeqCst) {
            let Some(Dialled { mut socket, mut head, mut answer_head }) = dial() else {
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            while !self.is_over.load(Ordering::SeqCst) {
                self.busy.fetch_add(1, Ordering::SeqCst);
                if self.is_paused.load(Ordering::SeqCst) {
                    self.busy.fetch_sub(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let moved = round(&mut socket, &head, answer_head, &chunk);
                self.bytes.fetch_add(if moved { 2 * CHUNK as u64 } else { 0 }, Ordering::SeqCst);
                self.busy.fetch_sub(1, Ordering::SeqCst);
                if !moved {
                    break;
                }
                (head, answer_head) = (Vec::new(), 0);
            }
        }
    }

    /// Ends the work.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// A session to an echo that is to be begun: what its first chunk follows, and how many bytes its first answer follows.
pub(crate) struct Dialled {
    pub(crate) socket: TcpStream,
    pub(crate) head: Vec<u8>,
    pub(crate) answer_head: usize,
}

/// A session of our own client.
fn dial(address: SocketAddr, id: &[u8; 16], origin: SocketAddr) -> Option<Dialled> {
    let socket = bounded(TcpStream::connect(address).ok()?);
    Some(Dialled { socket, head: request(id, origin), answer_head: 2 })
}

fn client(address: SocketAddr, id: [u8; 16], origin: SocketAddr, tally: &Tally) {
    tally.work(|| dial(address, &id, origin));
}

fn round(socket: &mut TcpStream, head: &[u8], answer_head: usize, chunk: &[u8]) -> bool {
    let mut answer = vec![0; chunk.len() + answer_head];
    socket.write_all(head).is_ok() && socket.write_all(chunk).is_ok() && socket.read_exact(&mut answer).is_ok()
}

/// How often each part is killed, unless `VLESS_RUST_CLUSTER_ROUNDS` says otherwise.
pub(crate) fn rounds() -> u32 {
    std::env::var("VLESS_RUST_CLUSTER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// An engine, three nodes, and the id of an account that all of them know.
pub(crate) fn three_nodes(email: &str) -> (EngineServer, [Node; 3], [u8; 16]) {
    let engine = EngineServer::start();
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(name, &engine.url(), &json!({})));
    nodes.iter().for_each(Node::wait_until_connected);
    let id = nodes[0].add(email, &json!({}));
    for node in &nodes {
        node.wait_for_user(email, true);
    }
    (engine, nodes, id)
}

/// Kills each node, the engine and all connections to it in turn, and goes on, `rounds` times.
pub(crate) fn kill_in_turn(engine: &mut EngineServer, nodes: &mut [Node; 3], tally: &Tally, rounds: u32) {
    for round in 0..rounds {
        for place in 0..nodes.len() {
            thread::sleep(Duration::from_millis(1500));
            // What a process has counted and not written down dies with it; the load stops for as long as that takes.
            tally.pause();
            wait_until_written(engine, &nodes.each_ref(), "anna", tally.bytes());
            let victim = &mut nodes[place];
            victim.kill();
            tally.go_on();
            thread::sleep(Duration::from_millis(500));
            victim.start_again();
        }
        // Under full load: between a batch that was applied and its answer, or anywhere else.
        thread::sleep(Duration::from_millis(1500));
        engine.kill();
        thread::sleep(Duration::from_millis(700));
        engine.start_again();
        thread::sleep(Duration::from_millis(1500));
        engine.ask::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        println!("round {round}: {} bytes", tally.bytes());
    }
    tally.pause();
}

/// Waits until the engine and the nodes' disks together have all that clients have moved: a process that is killed now
/// takes nothing with it.
#[track_caller]
fn wait_until_written(engine: &EngineServer, nodes: &[&Node], email: &str, bytes: u64) {
    let key = engine.key(email);
    wait_until("all is written down", || {
        let (up, down) = engine.used(email);
        up + down + nodes.iter().map(|node| untold(node, engine, &key)).sum::<u64>() == bytes
    });
}

/// Waits until the engine has all that clients have moved, and not a byte more.
#[track_caller]
pub(crate) fn assert_exact(engine: &EngineServer, email: &str, tally: &Tally) {
    let total = || {
        let (up, down) = engine.used(email);
        up + down
    };
    wait_until("the engine has all", || total() >= tally.bytes());
    // Whatever is sent twice would come within the next reports.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(total(), tally.bytes());
}

#[test]
fn totals_are_exact_when_each_part_is_killed_in_turn_under_load() {
    let (mut engine, mut nodes, id) = three_nodes("anna");
    let origin = Origin::echo();
    let tally = Arc::new(Tally::default());
    let clients: Vec<_> = nodes
        .iter()
        .flat_map(|node| [node.address; 2])
        .map(|address| {
            let tally = Arc::clone(&tally);
            thread::spawn(move || client(address, id, origin.address, &tally))
        })
        .collect();
    let origin_lives = origin;
    kill_in_turn(&mut engine, &mut nodes, &tally, rounds());
    assert_exact(&engine, "anna", &tally);
    assert!(tally.bytes() > 100 * CHUNK as u64, "only {} bytes", tally.bytes());
    for node in &nodes {
        assert_eq!(node.cluster()["lost_batches"], 0);
    }
    tally.end();
    for client in clients {
        client.join().unwrap();
    }
    drop(origin_lives);
}

#[test]
fn what_was_counted_while_the_engine_was_away_and_the_node_was_killed_comes_later() {
    let (mut engine, origin) = (EngineServer::start(), Origin::echo());
    let mut node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    wait_until("the list is on disk", || {
        std::fs::read_to_string(node.file("cluster/accounts.json")).is_ok_and(|text| text.contains("anna"))
    });
    let key = engine.key("anna");
    engine.kill();
    wait_until("the node knows", || node.cluster()["connected"] == false);
    let mut session = node.open(&id, origin.address).unwrap();
    let chunk = vec![7; CHUNK];
    for _ in 0..10 {
        assert!(round(&mut session, &[], 0, &chunk));
    }
    let moved = 8 + 20 * CHUNK as u64;
    wait_until("all is on disk", || untold_of(&node, &[], &key) == moved);
    node.kill();
    node.start_again();
    engine.start_again();
    wait_until("the engine has it", || {
        let (up, down) = engine.used("anna");
        up + down == moved
    });
}

#[test]
fn an_engine_that_forgets_what_it_confirmed_is_found_out_and_told_again() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    let mut session = node.open(&id, origin.address).unwrap();
    wait_until("the first bytes are told", || engine.used("anna") == (4, 4));
    let (key, before): (String, u64) = (engine.ask(&["HGET", "vless:emails", "anna"]), 4);
    let applied: Vec<String> = engine.ask(&["HGETALL", "vless:applied:n1"]);
    assert!(round(&mut session, &[], 0, &vec![7; CHUNK]));
    wait_until("the second bytes are told", || engine.used("anna").0 == before + CHUNK as u64);
    // A fail-over to a copy that lacks the last second.
    engine.ask::<u64>(&["HSET", "vless:applied:n1", &applied[0], &applied[1]]);
    engine.ask::<u64>(&["HSET", &format!("vless:use:{key}"), "up", "4", "down", "4"]);
    wait_until("the node says so", || {
        node.said().iter().any(|line| line.contains("batches of traffic that it had confirmed; they are sent again"))
    });
    wait_until("they are told again", || engine.used("anna") == (4 + CHUNK as u64, 4 + CHUNK as u64));
}

/// A target that sends without end.
fn source() -> Origin {
    Origin::source(1 << 40)
}

/// Downloads on one session after the other until none is to be had for a while; returns the bytes.
fn download(address: SocketAddr, id: [u8; 16], target: SocketAddr, until: Instant) -> u64 {
    let (mut got, mut chunk) = (0, vec![0; 64 << 10]);
    while Instant::now() < until {
        let Ok(socket) = TcpStream::connect(address) else { continue };
        let mut socket = bounded(socket);
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        if socket.write_all(&request(&id, target)).is_err() {
            continue;
        }
        let mut of_session = 0;
        while let Ok(count @ 1..) = socket.read(&mut chunk) {
            of_session += count as u64;
            if Instant::now() > until {
                break;
            }
        }
        got += of_session.saturating_sub(2);
        if of_session == 0 {
            thread::sleep(Duration::from_millis(100));
        }
    }
    got
}

#[test]
fn a_quota_over_three_nodes_is_passed_by_no_more_than_the_leases() {
    let quota: u64 =
        std::env::var("VLESS_RUST_CLUSTER_QUOTA").ok().and_then(|text| text.parse().ok()).unwrap_or(50 << 20);
    let lease: u64 =
        std::env::var("VLESS_RUST_CLUSTER_LEASE").ok().and_then(|text| text.parse().ok()).unwrap_or(4 << 20);
    let (engine, origin) = (EngineServer::start(), source());
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(name, &engine.url(), &json!({ "lease_bytes": lease })));
    nodes.iter().for_each(Node::wait_until_connected);
    let id = nodes[0].add("anna", &json!({ "quota_bytes": quota }));
    for node in &nodes {
        node.wait_for_user("anna", true);
    }
    let start = Instant::now();
    let until = start + Duration::from_secs(12) + Duration::from_secs(quota >> 25);
    let target = origin.address;
    let clients: Vec<_> = nodes
        .iter()
        .flat_map(|node| [node.address; 2])
        .map(|address| thread::spawn(move || download(address, id, target, until)))
        .collect();
    // A large quota takes longer than anything else here.
    let is_spent = || nodes.iter().all(|node| node.users()["users"][0]["state"] == "quota_used");
    while !is_spent() {
        assert!(Instant::now() < until + Duration::from_secs(20), "the quota is never used up");
        thread::sleep(Duration::from_millis(50));
    }
    println!("{quota} bytes were used up after {:?}", start.elapsed());
    let got: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let over = got.cast_signed() - quota.cast_signed();
    println!("clients got {got} bytes, {over} beyond the quota");
    assert!(got + (1 << 20) >= quota, "something of the quota was never given: {over}");
    assert!(over <= 3 * lease.cast_signed(), "{over} bytes beyond the quota");
    // A reset lets in again, wherever it is asked for.
    nodes[1].change("POST", "/api/users/anna/reset", None);
    for node in &nodes {
        wait_until("everybody is let in again", || node.users()["users"][0]["state"] == "active");
    }
}

#[test]
fn away_serve_goes_on_and_away_refuse_does_not() {
    let (mut engine, origin) = (EngineServer::start(), Origin::echo());
    let serving = Node::start("n1", &engine.url(), &json!({}));
    let refusing = Node::start("n2", &engine.url(), &json!({ "away": "refuse" }));
    for node in [&serving, &refusing] {
        node.wait_until_connected();
    }
    let id = serving.add("anna", &json!({ "quota_bytes": 100 << 20 }));
    refusing.wait_for_user("anna", true);
    assert!(serving.open(&id, origin.address).is_some() && refusing.open(&id, origin.address).is_some());
    engine.kill();
    // What was lent holds for six intervals of a second.
    wait_until("the one refuses", || refusing.users()["users"][0]["state"] == "quota_used");
    assert!(serving.open(&id, origin.address).is_some());
    assert!(refusing.open(&id, origin.address).is_none());
    engine.start_again();
    wait_until("the engine lends again", || refusing.users()["users"][0]["state"] == "active");
    assert!(refusing.open(&id, origin.address).is_some());
}

#[test]
fn a_node_that_is_killed_under_load_keeps_what_it_has_written_down_to_the_byte() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let mut node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    let key = engine.key("anna");
    let tally = Arc::new(Tally::default());
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (tally, address, target) = (Arc::clone(&tally), node.address, origin.address);
            thread::spawn(move || client(address, id, target, &tally))
        })
        .collect();
    let (mut lost, mut at) = (Vec::new(), Instant::now());
    let mut known = 0;
    for _ in 0..rounds() {
        let before = tally.bytes();
        thread::sleep(Duration::from_millis(2300));
        node.kill();
        let speed = (tally.bytes() - before) as f64 / at.elapsed().as_secs_f64();
        tally.pause();
        let kept = {
            let (up, down) = engine.used("anna");
            up + down + untold(&node, &engine, &key)
        };
        // Rounds that were cut short are in what was kept and not in what clients have counted.
        lost.push((tally.bytes() - before).cast_signed() - (kept - known).cast_signed());
        println!(
            "lost {} bytes: {:.0} ms at {speed:.0} bytes a second",
            lost[lost.len() - 1],
            lost[lost.len() - 1] as f64 / speed * 1000.0
        );
        node.start_again();
        wait_until("the engine has what was written down", || {
            let (up, down) = engine.used("anna");
            up + down == kept
        });
        // Whatever is sent twice would come within the next reports.
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(engine.used("anna").0 + engine.used("anna").1, kept);
        (known, at) = (kept, Instant::now());
        tally.go_on();
    }
    assert!(known > 0);
    tally.end();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn while_the_engine_stalls_nothing_that_was_counted_is_lost() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let mut node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    let key = engine.key("anna");
    let mut session = node.open(&id, origin.address).unwrap();
    let mut moved = 8;
    // Once the node is killed, once it is stopped in order.
    for is_killed in [true, false] {
        wait_until("all is told", || engine.used("anna").0 + engine.used("anna").1 == moved);
        let applied: Vec<String> = engine.ask(&["HGETALL", "vless:applied:n1"]);
        let told = engine.used("anna");
        engine.stall(true);
        let chunk = vec![7; CHUNK];
        assert!(round(&mut session, &[], 0, &chunk));
        moved += 2 * CHUNK as u64;
        if is_killed {
            wait_until("it is on disk, although the engine does not answer", || {
                untold_of(&node, &applied, &key) + told.0 + told.1 >= moved
            });
            node.kill();
        } else {
            node.stop();
        }
        engine.stall(false);
        node.start_again();
        node.wait_until_connected();
        session = node.open(&id, origin.address).unwrap();
        moved += 8;
        wait_until("the engine has it", || {
            let (up, down) = engine.used("anna");
            up + down == moved
        });
    }
}
