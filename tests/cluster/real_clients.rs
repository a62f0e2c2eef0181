//! Totals with clients that are not ours, sing-box and Xray-core, while nodes, engine and connections are killed in turn.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use crate::node::Node;
use crate::support::origin::Origin;
use crate::support::ports::free_address;
use crate::support::{bounded, wait_until};
use crate::totals::{CHUNK, Dialled, Tally, assert_exact, kill_in_turn, rounds, three_nodes};

/// Sessions at once through each node.
const CLIENTS: usize = 2;
const SING_BOX: Program = Program { variable: "VLESS_RUST_SING_BOX", config: sing_box };
const XRAY: Program = Program { variable: "VLESS_RUST_XRAY", config: xray };

/// A client that is not ours.
#[derive(Clone, Copy)]
struct Program {
    /// Names the variable with its command, behind which comes the configuration file; `tests/README.md` has both.
    variable: &'static str,
    config: fn(&[Way], &str) -> Value,
}

/// A port where the client takes SOCKS, and the node to which it leads.
struct Way {
    name: String,
    proxy: SocketAddr,
    node: SocketAddr,
}

fn sing_box(ways: &[Way], id: &str) -> Value {
    let inbounds = ways.iter().map(|Way { name, proxy, .. }| {
        json!({ "type": "socks", "tag": format!("in-{name}"), "listen": "127.0.0.1", "listen_port": proxy.port() })
    });
    let outbounds = ways.iter().map(|Way { name, node, .. }| {
        json!({ "type": "vless", "tag": format!("out-{name}"), "server": "127.0.0.1", "server_port": node.port(),
            "uuid": id })
    });
    let rules = ways
        .iter()
        .map(|Way { name, .. }| json!({ "inbound": [format!("in-{name}")], "outbound": format!("out-{name}") }));
    json!({ "log": { "level": "error" }, "inbounds": inbounds.collect::<Vec<_>>(),
        "outbounds": outbounds.collect::<Vec<_>>(), "route": { "rules": rules.collect::<Vec<_>>() } })
}

fn xray(ways: &[Way], id: &str) -> Value {
    let inbounds = ways.iter().map(|Way { name, proxy, .. }| {
        json!({ "protocol": "socks", "tag": format!("in-{name}"), "listen": "127.0.0.1", "port": proxy.port(),
            "settings": { "udp": false } })
    });
    let outbounds = ways.iter().map(|Way { name, node, .. }| {
        let users = json!([{ "id": id, "encryption": "none" }]);
        json!({ "protocol": "vless", "tag": format!("out-{name}"),
            "settings": { "vnext": [{ "address": "127.0.0.1", "port": node.port(), "users": users }] } })
    });
    let rules = ways.iter().map(|Way { name, .. }| {
        json!({ "type": "field", "inboundTag": [format!("in-{name}")], "outboundTag": format!("out-{name}") })
    });
    json!({ "log": { "loglevel": "error" }, "inbounds": inbounds.collect::<Vec<_>>(),
        "outbounds": outbounds.collect::<Vec<_>>(), "routing": { "rules": rules.collect::<Vec<_>>() } })
}

/// The client at work, with a SOCKS proxy for each node.
struct Running {
    process: Child,
    ways: Vec<Way>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(program: Program, id: [u8; 16], nodes: &[Node; 3]) -> Self {
        let variable = program.variable;
        let command = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is the command of the client"));
        let mut words = command.split_whitespace();
        let folder = tempfile::tempdir().unwrap();
        let way = |node: &Node| Way { name: node.name.clone(), proxy: free_address(), node: node.address };
        let ways: Vec<_> = nodes.iter().map(way).collect();
        let file = folder.path().join("client.json");
        let config = (program.config)(&ways, &uuid::Uuid::from_bytes(id).to_string());
        fs::write(&file, config.to_string()).unwrap();
        let mut process = Command::new(words.next().expect("a command"));
        let process = process.args(words).arg(&file).stdin(Stdio::null()).spawn().unwrap();
        let running = Self { process, ways, _folder: folder };
        wait_until("the client's proxies listen", || {
            running.ways.iter().all(|way| TcpStream::connect(way.proxy).is_ok())
        });
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection to `target` through a SOCKS proxy.
fn dial(proxy: SocketAddr, target: SocketAddr) -> Option<Dialled> {
    let SocketAddr::V4(target) = target else { return None };
    let mut socket = bounded(TcpStream::connect(proxy).ok()?);
    socket.write_all(&[5, 1, 0]).ok()?;
    socket.read_exact(&mut [0; 2]).ok()?;
    let request = [&[5, 1, 0, 1][..], &target.ip().octets(), &target.port().to_be_bytes()].concat();
    socket.write_all(&request).ok()?;
    let mut answer = [0; 10];
    socket.read_exact(&mut answer).ok()?;
    (answer[1] == 0).then(|| Dialled { socket, head: Vec::new(), answer_head: 0 })
}

#[test]
#[ignore = "needs sing-box, see tests/README.md"]
fn totals_of_sing_box_are_exact_when_each_part_is_killed_in_turn() {
    run(SING_BOX);
}

#[test]
#[ignore = "needs Xray-core, see tests/README.md"]
fn totals_of_xray_are_exact_when_each_part_is_killed_in_turn() {
    run(XRAY);
}

fn run(program: Program) {
    let (mut engine, mut nodes, id) = three_nodes("anna");
    let origin = Origin::echo();
    let client = Running::start(program, id, &nodes);
    let (tally, target) = (Arc::new(Tally::default()), origin.address);
    let sessions: Vec<_> = client
        .ways
        .iter()
        .flat_map(|way| [way.proxy; CLIENTS])
        .map(|proxy| {
            let tally = Arc::clone(&tally);
            thread::spawn(move || tally.work(|| dial(proxy, target)))
        })
        .collect();
    kill_in_turn(&mut engine, &mut nodes, &tally, rounds());
    assert_exact(&engine, "anna", &tally);
    println!("exact: {} bytes", tally.bytes());
    assert!(tally.bytes() > 100 * CHUNK as u64, "only {} bytes", tally.bytes());
    tally.end();
    for session in sessions {
        session.join().unwrap();
    }
}
