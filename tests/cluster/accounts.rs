//! Accounts of the cluster on real nodes and a real engine.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::support::origin::Origin;
use crate::support::wait_until;

/// From a change on one node to its effect on the others.
const SOON: Duration = Duration::from_secs(2);

fn three(engine: &EngineServer) -> [Node; 3] {
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(name, &engine.url(), &json!({})));
    nodes.iter().for_each(Node::wait_until_connected);
    nodes
}

/// Reads to the end of the session.
fn ended(mut session: &TcpStream) -> Instant {
    while matches!(session.read(&mut [0; 4096]), Ok(1..)) {}
    Instant::now()
}

#[test]
fn a_user_of_one_node_is_served_by_all_and_cut_by_all_when_removed() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let nodes = three(&engine);
    let id = nodes[0].add("anna", &json!({}));
    for node in &nodes {
        node.wait_for_user("anna", true);
    }
    let sessions: Vec<_> = nodes.iter().map(|node| node.open(&id, origin.address).unwrap()).collect();
    let since = Instant::now();
    nodes[2].change("DELETE", "/api/users/anna", None);
    for (session, node) in sessions.iter().zip(&nodes) {
        let took = ended(session) - since;
        println!("{}: cut after {took:?}", node.name);
        assert!(took < SOON, "{}: {took:?}", node.name);
        assert!(node.open(&id, origin.address).is_none());
    }
}

#[test]
fn changes_from_all_nodes_at_once_lose_nothing() {
    let engine = EngineServer::start();
    let nodes = three(&engine);
    std::thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(move || {
                for number in 0..10 {
                    node.add(&format!("{}-{number}", node.name), &json!({}));
                }
            });
        }
    });
    for node in &nodes {
        wait_until("all accounts are there", || node.users()["users"].as_array().unwrap().len() == 30);
        assert_eq!(node.users()["revision"], 30);
    }
}

#[test]
fn a_change_of_an_older_list_is_refused_with_the_new_revision() {
    let engine = EngineServer::start();
    let nodes = three(&engine);
    nodes[0].add("anna", &json!({}));
    nodes[1].wait_for_user("anna", true);
    let patch = json!({ "note": "n" });
    let stale = nodes[1].ask("PATCH", "/api/users/anna", Some(0), Some(&patch));
    assert_eq!((stale.status, &stale.body["revision"]), (412, &json!(1)));
    let exists = nodes[1].ask("POST", "/api/users", Some(1), Some(&json!({ "email": "anna" })));
    assert_eq!((exists.status, &exists.body["error"]["code"]), (409, &json!("exists")));
    assert_eq!(nodes[1].ask("PATCH", "/api/users/anna", Some(1), Some(&patch)).status, 200);
    let rotated = nodes[1].change("POST", "/api/users/anna/rotate", None);
    wait_until("the other node has the new id", || {
        nodes[2].users()["users"].as_array().unwrap().iter().any(|user| user["uuid"] == rotated["uuid"])
    });
}

#[test]
fn without_the_engine_a_node_serves_the_last_list_and_takes_no_changes() {
    let (mut engine, origin) = (EngineServer::start(), Origin::echo());
    let mut node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    wait_until("the list is on disk", || {
        fs::read_to_string(node.file("cluster/accounts.json")).is_ok_and(|text| text.contains("anna"))
    });
    engine.kill();
    wait_until("the node knows", || node.cluster()["connected"] == false);
    let denied = node.ask("POST", "/api/users", Some(1), Some(&json!({ "email": "b" })));
    assert_eq!((denied.status, &denied.body["error"]["code"]), (503, &json!("cluster_away")));
    node.kill();
    node.start_again();
    assert!(node.open(&id, origin.address).is_some(), "from disk");
    engine.start_again();
    node.wait_until_connected();
    node.add("b", &json!({}));
}

#[test]
fn an_account_that_a_file_has_already_is_told_in_words_and_not_served() {
    let engine = EngineServer::start();
    let plain = Node::start("n1", &engine.url(), &json!({}));
    let users = json!([{ "uuid": "local", "email": "anna" }]);
    let other = Node::start_with("n2", &engine.url(), &json!({}), &users);
    plain.wait_until_connected();
    other.wait_until_connected();
    plain.add("anna", &json!({}));
    plain.add("b", &json!({}));
    other.wait_for_user("b", true);
    let clashes = other.cluster()["clashes"].clone();
    let words = clashes[0].as_str().unwrap();
    assert!(words.starts_with("anna of the cluster has the same email as users[0] (anna) of "), "{words}");
    let list = other.users();
    let annas: Vec<&Value> = list["users"].as_array().unwrap().iter().filter(|user| user["email"] == "anna").collect();
    assert_eq!((annas.len(), &annas[0]["locked"]), (1, &json!(true)));
}

#[test]
fn an_engine_that_lost_everything_takes_nobody_s_account_away() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    let session = node.open(&id, origin.address).unwrap();
    engine.ask::<String>(&["FLUSHALL"]);
    wait_until("the node says so", || node.said().iter().any(|line| line.contains("no accounts any more")));
    assert!(node.open(&id, origin.address).is_some());
    drop(session);
    let refused = node.ask("POST", "/api/users", Some(1), Some(&json!({ "email": "b" })));
    assert_eq!(refused.status, 422, "{refused:?}");
}

#[test]
fn nodes_see_each_other_and_a_cut_reaches_all() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let nodes = three(&engine);
    let id = nodes[0].add("anna", &json!({}));
    let sessions: Vec<_> = nodes
        .iter()
        .map(|node| {
            node.wait_for_user("anna", true);
            node.open(&id, origin.address).unwrap()
        })
        .collect();
    wait_until("all nodes and their sessions are seen everywhere", || {
        nodes.iter().all(|node| {
            let seen = node.cluster()["nodes"].clone();
            let is_seen = |seen: &Value| seen["online"] == true && seen["sessions"] == 1;
            seen.as_array().is_some_and(|seen| seen.len() == 3 && seen.iter().all(is_seen))
        })
    });
    let cut = nodes[1].ask("DELETE", "/api/connections?user=anna", None, None);
    assert_eq!((cut.status, &cut.body["cut"], &cut.body["other_nodes_told"]), (200, &json!(1), &json!(true)));
    let since = Instant::now();
    for session in &sessions {
        assert!(ended(session) - since < SOON);
    }
    let [_, mut gone, last] = nodes;
    gone.stop();
    wait_until("who left in order is not listed", || last.cluster()["nodes"].as_array().unwrap().len() == 2);
}
