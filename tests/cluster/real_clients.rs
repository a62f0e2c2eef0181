//! Totals with a client that is not ours: sing-box, while nodes, engine and connections are killed in turn.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use crate::support::origin::Origin;
use crate::support::ports::free_address;
use crate::support::{bounded, wait_until};
use crate::totals::{CHUNK, Dialled, Tally, assert_exact, kill_in_turn, rounds, three_nodes};

/// The program; `tests/README.md` says where to get it.
const PROGRAM: &str = "VLESS_RUST_SING_BOX";
/// Sessions at once through each node.
const CLIENTS: usize = 2;

/// A client's program, with a SOCKS proxy for each node.
struct SingBox {
    process: Child,
    proxies: Vec<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl SingBox {
    fn start(program: &Path, id: [u8; 16], nodes: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let proxies: Vec<_> = nodes.iter().map(|_| free_address()).collect();
        let numbered = || nodes.iter().zip(&proxies).enumerate();
        let inbounds: Vec<Value> = numbered()
            .map(|(number, (_, proxy))| {
                json!({ "type": "socks", "tag": format!("in-{number}"), "listen": "127.0.0.1", "listen_port": proxy.port() })
            })
            .collect();
        let outbounds: Vec<Value> = numbered()
            .map(|(number, (node, _))| {
                json!({ "type": "vless", "tag": format!("out-{number}"), "server": "127.0.0.1", "server_port": node.port(),
                    "uuid": uuid::Uuid::from_bytes(id).to_string() })
            })
            .collect();
        let rules: Vec<Value> = numbered()
            .map(|(number, _)| json!({ "inbound": [format!("in-{number}")], "outbound": format!("out-{number}") }))
            .collect();
        let config = json!({ "log": { "level": "error" }, "inbounds": inbounds, "outbounds": outbounds,
            "route": { "rules": rules } });
        let file = folder.path().join("client.json");
        fs::write(&file, config.to_string()).unwrap();
        let process = Command::new(program).arg("run").arg("-c").arg(&file).stdin(Stdio::null()).spawn().unwrap();
        wait_until("the client's proxies listen", || proxies.iter().all(|proxy| TcpStream::connect(proxy).is_ok()));
        Self { process, proxies, _folder: folder }
    }
}

impl Drop for SingBox {
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
    let program = std::env::var_os(PROGRAM).unwrap_or_else(|| panic!("{PROGRAM} is the path of sing-box"));
    let (mut engine, mut nodes, id) = three_nodes("anna");
    let origin = Origin::echo();
    let client = SingBox::start(program.as_ref(), id, &nodes.each_ref().map(|node| node.address));
    let (tally, target) = (Arc::new(Tally::default()), origin.address);
    let sessions: Vec<_> = client
        .proxies
        .iter()
        .flat_map(|proxy| [*proxy; CLIENTS])
        .map(|proxy| {
            let tally = Arc::clone(&tally);
            thread::spawn(move || tally.work(|| dial(proxy, target)))
        })
        .collect();
    kill_in_turn(&mut engine, &mut nodes, &tally, rounds());
    assert_exact(&engine, "anna", &tally);
    assert!(tally.bytes() > 100 * CHUNK as u64, "only {} bytes", tally.bytes());
    tally.end();
    for session in sessions {
        session.join().unwrap();
    }
}
