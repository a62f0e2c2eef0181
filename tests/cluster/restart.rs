//! Another version on a node: it is stopped in order and started again, which loses nothing; other nodes serve meanwhile.

use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::support::origin::Origin;
use crate::support::wait_until;

/// Bytes of one round in each direction.
const CHUNK: usize = 40_000;

#[test]
fn a_node_that_is_stopped_and_started_again_loses_not_a_byte() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let mut node = Node::start("n1", &engine.url(), &json!({}));
    let other = Node::start("n2", &engine.url(), &json!({}));
    for node in [&node, &other] {
        node.wait_until_connected();
    }
    let id = node.add("anna", &json!({}));
    other.wait_for_user("anna", true);
    let mut upgrade = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
    let refused = upgrade.args(["upgrade", "-c"]).arg(node.file("config.json")).output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && words.contains("restart it") && words.contains("loses nothing but its sessions"),
        "{words}"
    );
    let mut moved = 0;
    for _ in 0..5 {
        let mut session = node.open(&id, origin.address).expect("let in at once");
        session.write_all(&vec![7; CHUNK]).unwrap();
        session.read_exact(&mut vec![0; CHUNK]).unwrap();
        // At once: some of it is counted by a worker only.
        node.stop();
        moved += 8 + 2 * CHUNK as u64;
        drop(other.open(&id, origin.address).expect("another node serves"));
        moved += 8;
        node.start_again();
        node.wait_until_connected();
    }
    let told = || engine.used("anna").0 + engine.used("anna").1;
    wait_until("all is told", || told() >= moved);
    // Whatever is told twice would come within the next reports.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(told(), moved);
}
