//! An engine whose past is not what nodes remember: emptied, restored, filled anew; and two servers of one name.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::support::origin::Origin;
use crate::support::wait_until;

/// Two signs of life and more: whatever a node is about to do, it has done by then.
const A_WHILE: Duration = Duration::from_millis(2500);

fn node(name: &str, engine: &EngineServer) -> Node {
    let node = Node::start(name, &engine.url(), &json!({}));
    node.wait_until_connected();
    node
}

/// A node that has told four bytes in each direction of the account whose id is returned.
fn node_that_has_told(engine: &EngineServer, origin: &Origin) -> (Node, [u8; 16]) {
    let node = node("n1", engine);
    let id = node.add("anna", &json!({}));
    drop(node.open(&id, origin.address).unwrap());
    wait_until("its bytes are told", || engine.used("anna") == (4, 4));
    (node, id)
}

fn error_has(node: &Node, words: &str) -> bool {
    node.cluster()["error"].as_str().is_some_and(|error| error.contains(words))
}

#[test]
fn a_server_that_comes_back_after_another_of_its_name_tells_nothing_twice() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let (first, id) = node_that_has_told(&engine, &origin);
    let mut second = node("n1", &engine);
    wait_until("the first is refused", || error_has(&first, "another server calls itself n1"));
    second.wait_for_user("anna", true);
    drop(second.open(&id, origin.address).unwrap());
    wait_until("the second tells its bytes", || engine.used("anna") == (8, 8));
    thread::sleep(A_WHILE);
    second.stop();
    first.wait_until_connected();
    thread::sleep(A_WHILE);
    assert_eq!(engine.used("anna"), (8, 8));
    drop(first.open(&id, origin.address).unwrap());
    wait_until("it goes on", || engine.used("anna") == (12, 12));
}

#[test]
fn an_engine_that_comes_back_empty_cuts_nobody_and_takes_changes_again_once_it_is_restored() {
    let (mut engine, origin) = (EngineServer::start(), Origin::echo());
    let node = node("n1", &engine);
    let id = node.add("anna", &json!({ "quota_bytes": 50 << 20 }));
    engine.kill();
    let backup = engine.backup();
    engine.empty();
    engine.start_again();
    wait_until("the node says so", || error_has(&node, "no accounts any more"));
    // Nobody has asked for this quota on this node before.
    drop(node.open(&id, origin.address).expect("served on, although the engine has no quota for the account"));
    thread::sleep(A_WHILE);
    assert!(error_has(&node, "no accounts any more"), "it is said for as long as it is so: {}", node.cluster());
    let refused = node.ask("POST", "/api/users", Some(1), Some(&json!({ "email": "b" })));
    assert_eq!(refused.status, 422, "{refused:?}");
    engine.kill();
    engine.restore(&backup);
    engine.start_again();
    wait_until("all is well again", || node.cluster()["connected"] == true && node.cluster()["error"].is_null());
    node.add("b", &json!({}));
}

#[test]
fn an_engine_that_was_emptied_and_filled_anew_replaces_no_list() {
    let (mut engine, origin) = (EngineServer::start(), Origin::echo());
    // Its next sign of life is later than all of this.
    let old = Node::start("n1", &engine.url(), &json!({ "interval": 5 }));
    old.wait_until_connected();
    let id = old.add("anna", &json!({}));
    engine.kill();
    engine.empty();
    engine.start_again();
    // A new server knows of no list that is gone.
    let new = node("n2", &engine);
    for email in ["b", "c", "d"] {
        new.add(email, &json!({}));
    }
    wait_until("the node says so", || error_has(&old, "other accounts than"));
    thread::sleep(A_WHILE);
    assert!(error_has(&old, "other accounts than"), "{}", old.cluster());
    let session = old.open(&id, origin.address).expect("the account is served on");
    // The orders of one cluster are not for the nodes of another.
    new.ask("DELETE", "/api/connections?user=anna", None, None);
    let orders: u64 = engine.ask(&["XLEN", "vless:log"]);
    let cut = old.ask("DELETE", "/api/connections?user=b", None, None);
    assert_eq!((cut.status, &cut.body["other_nodes_told"]), (200, &json!(false)));
    thread::sleep(A_WHILE);
    assert_eq!(engine.ask::<u64>(&["XLEN", "vless:log"]), orders);
    let listed = old.ask("GET", "/api/connections?user=anna", None, None).body;
    assert_eq!(listed["total"], 1, "{listed}");
    drop(session);
    let refused = old.ask("POST", "/api/users", Some(1), Some(&json!({ "email": "e" })));
    assert_eq!(refused.status, 422, "{refused:?}");
}

#[test]
fn a_node_that_was_away_while_a_backup_was_restored_has_the_list_of_the_engine() {
    let mut engine = EngineServer::start();
    let [away, here] = ["n1", "n2"].map(|name| node(name, &engine));
    here.add("anna", &json!({}));
    let killed = |engine: &mut EngineServer| {
        engine.kill();
        wait_until("the node knows", || here.cluster()["connected"] == false);
    };
    killed(&mut engine);
    let backup = engine.backup();
    engine.start_again();
    here.wait_until_connected();
    for email in ["bob", "carl"] {
        here.add(email, &json!({}));
        away.wait_for_user(email, true);
    }
    away.pause(true);
    killed(&mut engine);
    engine.restore(&backup);
    engine.start_again();
    here.wait_until_connected();
    here.wait_for_user("carl", false);
    let said = || here.said().iter().any(|line| line.contains("changes are lost there"));
    wait_until("it is said that changes are lost", said);
    // As many changes as were lost: the version is the same, and the list another.
    here.add("dora", &json!({}));
    here.change("DELETE", "/api/users/anna", None);
    away.pause(false);
    let emails = |node: &Node| {
        let users = node.users()["users"].as_array().unwrap().clone();
        users.iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_until("both have the same list", || emails(&away) == ["dora"] && emails(&here) == ["dora"]);
    here.add("emil", &json!({}));
    away.wait_for_user("emil", true);
}

#[test]
fn numbers_that_nobody_has_counted_end_nothing_but_the_connection() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let (node, id) = node_that_has_told(&engine, &origin);
    let applied: Vec<String> = engine.ask(&["HGETALL", "vless:applied:n1"]);
    let most = u64::MAX.to_string();
    for [key, field] in [["vless:applied:n1", applied[0].as_str()], ["vless:version", ""]] {
        let before: String = match field {
            "" => engine.ask(&["GET", key]),
            field => engine.ask(&["HGET", key, field]),
        };
        let write = |value: &str| match field {
            "" => engine.ask::<redis::Value>(&["SET", key, value]),
            field => engine.ask::<redis::Value>(&["HSET", key, field, value]),
        };
        write(&most);
        wait_until("the node believes no such number", || error_has(&node, "not asked"));
        drop(node.open(&id, origin.address).expect("it serves"));
        write(&before);
        node.wait_until_connected();
    }
    wait_until("it goes on", || engine.used("anna") == (12, 12));
}

#[test]
fn an_engine_that_has_dropped_the_accounts_and_nothing_else_cuts_nobody() {
    let (engine, origin) = (EngineServer::start(), Origin::echo());
    let node = node("n1", &engine);
    let id = node.add("anna", &json!({}));
    let session = node.open(&id, origin.address).unwrap();
    let records: Vec<String> = engine.ask(&["HGETALL", "vless:accounts"]);
    // As with `maxmemory-policy allkeys-lru`: the list is what nodes read least of all. Once no account is made since then,
    // and once one is.
    engine.ask::<u64>(&["DEL", "vless:accounts"]);
    for is_newer in [false, true] {
        if is_newer {
            engine.ask::<u64>(&["INCR", "vless:version"]);
        }
        node.ask("POST", "/api/reload?nodes=all", None, None);
        wait_until("the node says so", || error_has(&node, "no accounts any more"));
        thread::sleep(A_WHILE);
        assert!(node.open(&id, origin.address).is_some() && error_has(&node, "no accounts any more"));
    }
    engine.ask::<u64>(&["HSET", "vless:accounts", &records[0], &records[1]]);
    wait_until("all is well again", || node.cluster()["connected"] == true && node.cluster()["error"].is_null());
    node.change("DELETE", "/api/users/anna", None);
    node.wait_for_user("anna", false);
    // The last account may be removed.
    node.ask("POST", "/api/reload?nodes=all", None, None);
    thread::sleep(A_WHILE);
    assert_eq!(node.cluster()["connected"], true, "{}", node.cluster());
    drop(session);
}
