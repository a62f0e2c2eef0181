//! Sentinels that say where the engine is: a fail-over, TLS, a login, and what the doctor thinks of them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::engine_server::{EngineServer, program};
use crate::node::Node;
use crate::security::documented_user;
use crate::support::origin::Origin;
use crate::support::ports::{free_address, free_port};
use crate::support::wait_until;

/// A process that ends with the test.
struct Sentinel {
    process: Child,
    _folder: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sentinel {
    /// One that watches over the engine at `port`, which it calls `main`; `lines` are more of its configuration.
    fn start(port: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let config = format!(
            "bind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n{lines}",
            folder.path().display()
        );
        fs::write(&file, config).unwrap();
        let process = Command::new(program()).arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        Self { process, _folder: folder }
    }
}

#[test]
fn a_node_follows_the_sentinels_to_another_engine() {
    let (mut engine, origin) = (EngineServer::start(), Origin::echo());
    let port = engine.address.port().to_string();
    let copy = EngineServer::start_with(&["--replicaof", "127.0.0.1", &port], "");
    wait_until("the copy is one", || copy.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up"));
    let address = free_address();
    let _sentinel = Sentinel::start(engine.address.port(), &format!("port {}\n", address.port()));
    // A dead sentinel in front is passed over.
    let url = format!("redis+sentinel://{},{address}/main/0", free_address());
    let node = Node::start("n1", &url, &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    drop(node.open(&id, origin.address).unwrap());
    wait_until("the copy has all", || copy.used("anna") == (4, 4));
    // The sentinel has to know of the copy before it can choose it.
    wait_until("the sentinel knows the copy", || {
        let mut connection = redis::Client::open(format!("redis://{address}")).unwrap().get_connection().unwrap();
        let copies = redis::cmd("SENTINEL").arg("REPLICAS").arg("main").query::<Vec<redis::Value>>(&mut connection);
        copies.is_ok_and(|copies| copies.len() == 1)
    });
    engine.kill();
    // On the way it closes the connections of all clients.
    wait_until("the copy has become the engine", || {
        copy.try_to_ask::<String>(&["INFO", "replication"]).is_ok_and(|said| said.contains("role:master"))
    });
    wait_until("the node has found it", || {
        node.cluster()["connected"] == true
            && node.ask("POST", "/api/users", Some(1), Some(&json!({ "email": "b" }))).status == 201
    });
    drop(node.open(&id, origin.address).unwrap());
    wait_until("totals go on there", || copy.used("anna") == (8, 8));
}

/// A certificate for loopback: its file, that of its key, and the lines that have an engine or a sentinel use them.
fn certificate(folder: &TempDir) -> (PathBuf, Vec<String>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("engine.crt"), folder.path().join("engine.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let lines = [
        "tls-auth-clients no".to_owned(),
        "tls-replication yes".to_owned(),
        format!("tls-cert-file {}", certificate.display()),
        format!("tls-key-file {}", key.display()),
        format!("tls-ca-cert-file {}", certificate.display()),
    ];
    (certificate, lines.to_vec())
}

fn start_at(sentinel: SocketAddr, password: &str, authority: &Path) -> Node {
    let url = format!("rediss+sentinel://node:{password}@{sentinel}/main/0");
    Node::start("n1", &url, &json!({ "ca_file": authority }))
}

#[test]
fn sentinels_with_tls_and_a_login_lead_to_an_engine_with_both() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::echo());
    let (authority, lines) = certificate(&folder);
    let (secure, sentinel) = (free_address(), free_address());
    let options: Vec<String> = lines.iter().map(|line| format!("--{line}")).collect();
    let (port, user_option) =
        (format!("--tls-port {}", secure.port()), format!("--user {}", documented_user("~vless:*")));
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.extend([port.as_str(), "--user default off", "--user admin on >admin ~* &* +@all", &user_option]);
    let engine = EngineServer::start_with(&options, "admin:admin@");
    // Of the sentinel's users, one may do what conf/cluster.md says and no more.
    let more = format!(
        "port 0\ntls-port {}\n{}\nrequirepass other\nuser {}\nsentinel auth-user main admin\n\
         sentinel auth-pass main admin\n",
        sentinel.port(),
        lines.join("\n"),
        documented_user("sentinel")
    );
    let _sentinel = Sentinel::start(secure.port(), &more);
    let node = start_at(sentinel, "not-to-be-seen", &authority);
    node.wait_until_connected();
    let id = node.add("anna", &json!({}));
    drop(node.open(&id, origin.address).unwrap());
    wait_until("totals are told", || engine.used("anna") == (4, 4));
    let other = start_at(sentinel, "wrong-word", &authority);
    let error = || other.cluster()["error"].as_str().unwrap_or_default().to_owned();
    wait_until("the sentinel's answer is told", || error().contains("WRONGPASS"));
    assert!(!other.said().join("\n").contains("wrong-word") && !error().contains("wrong-word"));
    let stranger = tempfile::tempdir().unwrap();
    let unknown = start_at(sentinel, "not-to-be-seen", &certificate(&stranger).0);
    wait_until("nobody vouches for the sentinel", || {
        unknown.cluster()["error"].as_str().is_some_and(|error| error.contains("certificate"))
    });
}

#[test]
fn the_doctor_says_that_sentinels_without_tls_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let hint = |url: &str| {
        let file = folder.path().join("config.json");
        let config = json!({ "users": [{ "uuid": "a", "email": "a" }], "cluster": { "url": url, "node": "n1" } });
        fs::write(&file, config.to_string()).unwrap();
        let doctor = Command::new(env!("CARGO_BIN_EXE_vless-rust")).args(["doctor", "-c"]).arg(&file).output();
        String::from_utf8(doctor.unwrap().stdout)
            .unwrap()
            .contains("has no TLS, so its password and all ids are readable")
    };
    // The second is loopback, too; the doctor knows addresses and one name only.
    let port = free_port();
    assert!(hint(&format!("redis+sentinel://node:not-to-be-seen@127.0.0.1:{port},ip6-localhost:{port}/main/0")));
    assert!(!hint(&format!("redis+sentinel://node:not-to-be-seen@127.0.0.1:{port}/main/0")));
    assert!(!hint(&format!("rediss+sentinel://node:not-to-be-seen@ip6-localhost:{port}/main/0")));
}
