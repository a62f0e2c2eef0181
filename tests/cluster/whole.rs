//! What concerns the whole cluster, asked of any node: who is online, reload, what commands say; and a server that is
//! alone.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::security::{guarded, node_url};
use crate::support::origin::Origin;
use crate::support::wait_until;

/// The state of a socket that listens, as `/proc/net/tcp` has it.
const LISTENING: &str = "0A";

fn two(engine: &EngineServer) -> [Node; 2] {
    let nodes = ["n1", "n2"].map(|name| Node::start(name, &engine.url(), &json!({})));
    nodes.iter().for_each(Node::wait_until_connected);
    nodes
}

/// The program with this configuration.
fn command(node: &Node, words: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
    let Output { status, stdout, stderr } =
        command.args(words).arg("-c").arg(node.file("config.json")).stdin(Stdio::null()).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn who_is_online_on_all_nodes_is_known_on_each() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let nodes = two(&engine);
    let id = nodes[0].add("anna", &json!({}));
    nodes[0].add("idle", &json!({}));
    nodes[1].wait_for_user("idle", true);
    let _sessions = [&nodes[0], &nodes[1], &nodes[1]].map(|node| node.open(&id, origin.address).unwrap());
    for node in &nodes {
        wait_until("all sessions are seen", || {
            let answer = node.ask("GET", "/api/online?user=anna", None, None).body;
            let parts = answer["users"][0]["nodes"].as_array().cloned().unwrap_or_default();
            let on = |name: &str| parts.iter().find(|part| part["node"] == name).map(|part| part["sessions"].clone());
            let is_known =
                answer["users"][0]["sessions"] == 3 && (on("n1"), on("n2")) == (Some(json!(1)), Some(json!(2)));
            is_known && parts.iter().all(|part| part["addresses"] == json!(["127.0.0.1"]))
        });
        let everybody = node.ask("GET", "/api/online", None, None).body;
        assert_eq!((&everybody["complete"], &everybody["total"]), (&json!(true), &json!(1)), "{everybody}");
        let (_, said, _) = command(node, &["online", "--user", "anna"]);
        assert!(said.contains("n1") && said.contains("n2") && said.contains("127.0.0.1"), "{said}");
    }
    let facts: String = engine.ask(&["HGET", "vless:node:n2", "online"]);
    assert!(!facts.contains(&origin.address.to_string()), "nobody is told where anybody goes: {facts}");
}

#[test]
fn one_order_reloads_all_nodes_and_cuts_an_address_on_all() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let nodes = two(&engine);
    let id = nodes[0].add("anna", &json!({}));
    nodes[1].wait_for_user("anna", true);
    // Somebody has changed the list behind the nodes' backs, and a file on the other node.
    let mut record: Value =
        serde_json::from_str(&engine.ask::<String>(&["HGET", "vless:accounts", &engine.key("anna")])).unwrap();
    record["note"] = "seen".into();
    engine.ask::<u64>(&["HSET", "vless:accounts", &engine.key("anna"), &record.to_string()]);
    let text = fs::read_to_string(nodes[1].file("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["users"] = json!([{ "uuid": "local", "email": "local" }]);
    fs::write(nodes[1].file("config.json"), config.to_string()).unwrap();
    let (is_done, said, errors) = command(&nodes[0], &["reload", "--all-nodes"]);
    assert!(is_done, "{said}{errors}");
    nodes[1].wait_for_user("local", true);
    wait_until("the list was read anew", || {
        nodes[1].users()["users"].as_array().unwrap().iter().any(|user| user["note"] == "seen")
    });
    let mut sessions = [&nodes[0], &nodes[1]].map(|node| node.open(&id, origin.address).unwrap());
    let cut = nodes[0].ask("DELETE", "/api/connections?source=127.0.0.1", None, None);
    assert_eq!((cut.status, &cut.body["cut"]), (200, &json!(1)));
    for session in &mut sessions {
        let _ = session.write_all(b"x");
        while matches!(session.read(&mut [0; 64]), Ok(1..)) {}
    }
}

#[test]
fn status_shows_the_cluster_and_commands_without_a_server_use_the_list_on_disk() {
    let engine = EngineServer::start();
    let mut node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = uuid::Uuid::from_bytes(node.add("anna", &json!({})));
    let (_, said, errors) = command(&node, &["status"]);
    for words in ["this is n1; the engine answers", "traffic of ", env!("CARGO_PKG_VERSION"), "online"] {
        assert!(said.contains(words), "{words}: {said}{errors}");
    }
    node.stop();
    for words in [&["link", "anna"][..], &["check"], &["user", "list"], &["user", "show", "anna"]] {
        let (is_done, said, notes) = command(&node, words);
        assert!(is_done && said.contains("anna"), "{words:?}: {said}{notes}");
        assert!(notes.contains("of version 1 of its list") && notes.contains("was not asked"), "{words:?}: {notes}");
    }
    assert!(command(&node, &["link"]).1.contains(&id.to_string()));
    let (is_done, _, why) = command(&node, &["user", "disable", "anna"]);
    assert!(!is_done && why.contains("an account of the cluster, which only a running node changes"), "{why}");
    let (is_done, _, notes) = command(&node, &["user", "add", "own"]);
    assert!(is_done && notes.contains("this node's own, and not the cluster's"), "{notes}");
}

#[test]
fn a_node_that_is_gone_for_good_is_forgotten_and_one_that_comes_back_is_counted_once() {
    let (engine, origin) = (guarded(), Origin::echo());
    let [first, mut gone] = ["n1", "n2"].map(|name| Node::start(name, &node_url(&engine), &json!({})));
    for node in [&first, &gone] {
        node.wait_until_connected();
    }
    let id = first.add("anna", &json!({ "quota_bytes": 50 << 20 }));
    gone.wait_for_user("anna", true);
    drop(gone.open(&id, origin.address).unwrap());
    wait_until("the bytes are told", || engine.used("anna") == (4, 4));
    let (is_done, said, _) = command(&first, &["nodes"]);
    assert!(is_done && said.starts_with("cluster ") && said.contains("n1") && said.contains("n2"), "{said}");
    let (is_done, _, why) = command(&first, &["nodes", "forget", "n2"]);
    assert!(!is_done && why.contains("the node n2 was there"), "{why}");
    let (is_done, _, why) = command(&first, &["nodes", "forget", "n3"]);
    assert!(!is_done && why.contains("there is no node called n3"), "{why}");
    gone.kill();
    wait_until("it counts as gone", || {
        first.cluster()["nodes"].as_array().unwrap().iter().any(|node| node["online"] == false)
    });
    let (applied, used): (Vec<String>, Vec<String>) =
        (engine.ask(&["HGETALL", "vless:applied:n2"]), engine.ask(&["HGETALL", &use_key(&engine, "anna")]));
    let (is_done, said, why) = command(&first, &["nodes", "forget", "n2"]);
    assert!(is_done && said == "n2 is not listed any more\n", "{said}{why}");
    let names = |node: &Node| -> Vec<String> {
        let nodes = node.cluster()["nodes"].clone();
        nodes.as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    };
    wait_until("it is not listed", || names(&first) == ["n1"]);
    assert_eq!(engine.ask::<u64>(&["EXISTS", "vless:node:n2"]), 0);
    let now: (Vec<String>, Vec<String>) =
        (engine.ask(&["HGETALL", "vless:applied:n2"]), engine.ask(&["HGETALL", &use_key(&engine, "anna")]));
    assert_eq!(now, (applied, used), "totals are as they were");
    let events = first.ask("GET", "/api/events?kind=cluster", None, None).body.to_string();
    assert!(events.contains("node_forgotten") && events.contains("the node n2 is not listed any more"), "{events}");
    gone.start_again();
    wait_until("it is listed again", || names(&first) == ["n1", "n2"]);
    drop(gone.open(&id, origin.address).unwrap());
    wait_until("its bytes are told", || engine.used("anna") == (8, 8));
    let refused: Vec<redis::Value> = engine.ask(&["ACL", "LOG"]);
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn those_that_are_gone_hide_nobody_who_is_there() {
    let engine = EngineServer::start();
    // As machines leave them that have another name with every start.
    let gone: Vec<String> = (1..=1200).flat_map(|number| [number.to_string(), format!("gone-{number}")]).collect();
    let words = ["ZADD", "vless:nodes"].into_iter().chain(gone.iter().map(String::as_str));
    engine.ask::<u64>(&words.collect::<Vec<_>>());
    let node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    wait_until("it sees itself", || {
        let nodes = node.cluster()["nodes"].clone();
        nodes.as_array().unwrap().iter().any(|one| one["name"] == "n1" && one["online"] == true)
    });
    let (_, said, _) = command(&node, &["doctor"]);
    assert!(said.contains("cluster: 1000 nodes: ") && said.contains(", n1\n"), "{said}");
}

#[test]
fn no_node_is_forgotten_while_the_engine_is_away_or_without_a_cluster() {
    let mut engine = EngineServer::start();
    let node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    engine.kill();
    wait_until("the node knows", || node.cluster()["connected"] == false);
    let (_, said, _) = command(&node, &["cut", "--user", "anna"]);
    assert!(said.starts_with("no session was open on this node alone"), "{said}");
    let away = node.ask("DELETE", "/api/nodes/n2", None, None);
    assert_eq!((away.status, &away.body["error"]["code"]), (503, &json!("cluster_away")));
    let alone = Node::start_with("alone", "", &json!({}), &json!([{ "uuid": "a", "email": "a" }]));
    assert_eq!(alone.ask("DELETE", "/api/nodes/n2", None, None).status, 404);
}

fn use_key(engine: &EngineServer, email: &str) -> String {
    format!("vless:use:{}", engine.key(email))
}

#[test]
fn what_was_used_elsewhere_is_shown_where_nobody_uses_it() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let nodes = two(&engine);
    for (email, limits) in [("anna", json!({ "quota_bytes": 50 << 20 })), ("free", json!({}))] {
        let id = nodes[0].add(email, &limits);
        drop(nodes[0].open(&id, origin.address).unwrap());
        let used = |node: &Node| {
            let users = node.users();
            let found = users["users"].as_array().unwrap().iter().find(|user| user["email"] == email).cloned();
            found.map_or(Value::Null, |user| user["quota_used_bytes"].clone())
        };
        for node in &nodes {
            wait_until("the bytes of all nodes are shown", || used(node) == 8);
        }
    }
}

#[test]
fn a_server_that_is_alone_has_no_thread_folder_or_connection_for_a_cluster() {
    let node = Node::start_with("alone", "", &json!({}), &json!([{ "uuid": "a", "email": "a" }]));
    assert_eq!(node.ask("GET", "/api/nodes", None, None).status, 404);
    assert_eq!(node.ask("GET", "/api/online", None, None).status, 404);
    let process = format!("/proc/{}", node.pid());
    let threads: Vec<_> = fs::read_dir(format!("{process}/task"))
        .unwrap()
        .map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim().to_owned())
        .collect();
    assert!(!threads.iter().any(|name| name == "cluster" || name == "journal"), "{threads:?}");
    assert!(threads.iter().any(|name| name == "control"), "threads have names: {threads:?}");
    assert!(!node.file("cluster").exists());
    // A connection that this test has made may take a moment to be gone.
    wait_until("no TCP socket but those that listen is left", || {
        let states = tcp_states(&process);
        !states.is_empty() && states.iter().all(|state| state == LISTENING)
    });
}

/// The states of the TCP sockets of a process.
fn tcp_states(process: &str) -> Vec<String> {
    let links =
        fs::read_dir(format!("{process}/fd")).unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let own: HashSet<_> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let table = fs::read_to_string(format!("{process}/net/tcp")).unwrap();
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets.filter(|columns| own.contains(columns[9])).map(|columns| columns[3].to_owned()).collect()
}
