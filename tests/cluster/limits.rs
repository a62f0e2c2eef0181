//! Limits of addresses and sessions over all nodes, links to all nodes, and what the doctor says.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::support::client::request;
use crate::support::origin::Origin;
use crate::support::ports::free_port;
use crate::support::{bounded, wait_until};

fn two(engine: &EngineServer) -> [Node; 2] {
    let nodes = ["n1", "n2"].map(|name| Node::start(name, &engine.url(), &json!({})));
    nodes.iter().for_each(Node::wait_until_connected);
    nodes
}

/// Two nodes that know an account with these limits, and its id.
fn two_with_anna(engine: &EngineServer, limits: &Value) -> ([Node; 2], [u8; 16]) {
    let nodes = two(engine);
    let id = nodes[0].add("anna", limits);
    nodes[1].wait_for_user("anna", true);
    (nodes, id)
}

/// A session from 127.0.0.`last`; `None` if it is refused.
fn open_from(last: u8, node: &Node, id: &[u8; 16], origin: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&node.address.into()).unwrap();
    let mut socket = bounded(socket.into());
    socket.write_all(&[&request(id, origin)[..], b"ping"].concat()).ok()?;
    let mut answer = [0; 6];
    socket.read_exact(&mut answer).ok()?;
    Some(socket)
}

fn is_over(mut session: &TcpStream) -> bool {
    session.set_nonblocking(true).unwrap();
    let over = match session.read(&mut [0; 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    session.set_nonblocking(false).unwrap();
    over
}

#[test]
fn a_limit_of_sessions_holds_over_all_nodes_and_the_newest_leaves() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let (nodes, id) = two_with_anna(&engine, &json!({ "sessions_max": 2 }));
    let first = open_from(1, &nodes[0], &id, origin.address).unwrap();
    wait_until("the first is told", || engine.ask::<Vec<String>>(&["KEYS", "vless:sessions:*"]).len() == 1);
    let second = open_from(1, &nodes[1], &id, origin.address).unwrap();
    let third = open_from(1, &nodes[1], &id, origin.address);
    wait_until("the third is over", || third.as_ref().is_none_or(is_over));
    assert!(!is_over(&first) && !is_over(&second));
    wait_until("there is no room on the other node either", || open_from(1, &nodes[0], &id, origin.address).is_none());
    drop(second);
    wait_until("there is room again", || open_from(1, &nodes[0], &id, origin.address).is_some());
    assert!(!is_over(&first));
}

#[test]
fn a_limit_of_addresses_holds_over_all_nodes_with_one_guest_for_a_while() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let (nodes, id) = two_with_anna(&engine, &json!({ "addresses_max": 1 }));
    let own = open_from(2, &nodes[0], &id, origin.address).unwrap();
    wait_until("the address is told", || engine.ask::<Vec<String>>(&["KEYS", "vless:addresses:*"]).len() == 1);
    let same = open_from(2, &nodes[1], &id, origin.address).unwrap();
    let guest = open_from(3, &nodes[0], &id, origin.address).unwrap();
    // The node itself lets in one guest; a further address comes to the other node, which knows of one only.
    let further: Vec<_> = (4..6).map(|last| open_from(last, &nodes[1], &id, origin.address)).collect();
    wait_until("one further address is refused", || further.iter().any(|one| one.as_ref().is_none_or(is_over)));
    assert!(!is_over(&own) && !is_over(&same) && !is_over(&guest));
}

#[test]
fn one_command_makes_a_node_and_prints_its_links() {
    let engine = EngineServer::start();
    let node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = uuid::Uuid::from_bytes(node.add("anna", &json!({})));
    let folder = tempfile::tempdir().unwrap();
    let join = |name: &str, file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
        let command = command.args(["init", "--join", "-", "--node", name]).arg(folder.path().join(file));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{}\n", engine.url()).as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let made = join("n2", "config.json");
    let (said, errors) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    assert!(said.starts_with(&format!("vless://{id}@")) && said.lines().count() == 1, "{said}{errors}");
    let taken = join("n1", "other.json");
    let words = String::from_utf8(taken.stderr).unwrap();
    assert!(words.contains("a node called n1 is in the cluster already") && !taken.status.success(), "{words}");
    assert!(!folder.path().join("other.json").exists() && !folder.path().join("other.users.json").exists());
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert!(
        config.contains(&format!("\"url\": \"{}\"", engine.url())) && config.contains("\"node\": \"n2\""),
        "{config}"
    );
    let checked =
        Command::new(env!("CARGO_BIN_EXE_vless-rust")).arg("check").arg(folder.path().join("config.json")).output();
    assert!(checked.unwrap().status.success());
}

#[test]
fn a_join_without_a_url_is_none_and_an_authority_may_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("engine.crt"), folder.path().join("engine.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let tls = format!(
        "--tls-port {port} --tls-auth-clients no --tls-cert-file {} --tls-key-file {}",
        certificate.display(),
        key.display()
    );
    let engine = EngineServer::start_with(&[&tls], "");
    let join = |url: &str, more: &[&str], file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
        command.args(["init", "--join", url, "--node", "n1"]).args(more).arg(folder.path().join(file));
        let made = command.stdin(Stdio::null()).output().unwrap();
        (made.status.success(), String::from_utf8(made.stderr).unwrap())
    };
    let (is_made, words) = join("-", &[], "empty.json");
    assert!(!is_made && words.contains("there is no URL"), "{words}");
    assert!(!folder.path().join("empty.json").exists());
    let url = format!("rediss://127.0.0.1:{port}/0");
    let (is_made, words) = join(&url, &[], "unknown.json");
    assert!(!is_made && words.contains("certificate"), "{words}");
    assert!(!folder.path().join("unknown.json").exists());
    let (is_made, words) = join("http://engine", &[], "wrong.json");
    assert!(!is_made && words.contains("--join: the URL must be like") && !words.contains("wrong.json"), "{words}");
    let plain = format!("redis://{}/0", engine.address);
    let (is_made, words) = join(&plain, &["--engine-ca", certificate.to_str().unwrap()], "open.json");
    assert!(!is_made && words.contains("--engine-ca is for an engine with TLS"), "{words}");
    let (is_made, words) = join(&url, &["--engine-ca", certificate.to_str().unwrap()], "node.json");
    assert!(is_made, "{words}");
    let config = std::fs::read_to_string(folder.path().join("node.json")).unwrap();
    assert!(config.contains(&format!("\"ca_file\": \"{}\"", certificate.display())), "{config}");
    let (is_made, words) = join(&format!("rediss://{}/0", engine.address), &[], "plain.json");
    assert!(!is_made && words.contains("TLS with the engine"), "{words}");
}

#[test]
fn a_warning_of_a_quota_is_told_by_one_node() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let (nodes, id) = two_with_anna(&engine, &json!({ "quota_bytes": 100_000 }));
    let mut session = nodes[0].open(&id, origin.address).unwrap();
    session.write_all(&vec![7; 41_000]).unwrap();
    session.read_exact(&mut vec![0; 41_000]).unwrap();
    for node in &nodes {
        wait_until("both know what was used", || node.users()["users"][0]["quota_used_bytes"] == 82_008);
    }
    let told = || {
        let events = nodes.iter().map(|node| node.ask("GET", "/api/events?kind=limit", None, None).body);
        events.map(|body| body.to_string().matches("\"quota_low\"").count()).sum::<usize>()
    };
    wait_until("it is told", || told() > 0);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(told(), 1);
}

#[test]
fn links_lead_to_every_node_and_the_doctor_knows_all() {
    let engine = EngineServer::start();
    let nodes = two(&engine);
    nodes[0].add("anna", &json!({}));
    wait_until("the links of both are there", || {
        let link = nodes[0].ask("GET", "/api/users/anna/link", None, None).body;
        let links = link["nodes"].as_array().cloned().unwrap_or_default();
        let leads = |node: &Node| {
            let host = format!("@{}.example:{}", node.name, node.address.port());
            links.iter().any(|one| {
                let link = one["link"].as_str().unwrap_or_default();
                one["node"] == node.name && link.contains(&host) && link.ends_with(&format!("#anna%20{}", node.name))
            })
        };
        links.len() == 2 && nodes.iter().all(leads)
    });
    let doctor = Command::new(env!("CARGO_BIN_EXE_vless-rust"))
        .args(["doctor", "-c"])
        .arg(nodes[0].file("config.json"))
        .output();
    let said = String::from_utf8(doctor.unwrap().stdout).unwrap();
    assert!(said.contains("answers, and this node is n1") && said.contains("cluster: 2 nodes: n1, n2"), "{said}");
}
