//! The way to the engine: least rights, TLS, no secret in words, and an engine that lies.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vless_rust::app::cluster::engine::{Access, Engine};
use vless_rust::app::cluster::joining::may_do_all;
use vless_rust::app::cluster::settings::Settings;
use vless_rust::app::config::{Config, EngineUrl};

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::support::origin::Origin;
use crate::support::ports::free_port;
use crate::support::wait_until;

const PASSWORD: &str = "not to be seen";

/// The user as `conf/cluster.md` has it, in the line in which `word` is.
pub(crate) fn documented_user(word: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/cluster.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("user node ") && line.contains(word)).expect("a user");
    line.trim_start_matches("user ").replace("PASSWORD", &PASSWORD.replace(' ', "-"))
}

/// An engine as documented.
pub(crate) fn guarded() -> EngineServer {
    let options =
        ["--user", "default off", "--user", "admin on >admin ~* &* +@all", "--user", &documented_user("~vless:*")];
    EngineServer::start_with(&options, "admin:admin@")
}

pub(crate) fn node_url(engine: &EngineServer) -> String {
    format!("redis://node:{}@{}/0", PASSWORD.replace(' ', "-"), engine.address)
}

#[test]
fn the_documented_user_may_do_what_nodes_do_and_nothing_else() {
    let (engine, origin) = (guarded(), Origin::echo());
    let nodes = ["n1", "n2"].map(|name| Node::start(name, &node_url(&engine), &json!({})));
    nodes.iter().for_each(Node::wait_until_connected);
    let limits = json!({ "quota_bytes": 50 << 20, "addresses_max": 2, "sessions_max": 3 });
    let id = nodes[0].add("anna", &limits);
    nodes[1].wait_for_user("anna", true);
    let sessions: Vec<_> = nodes.iter().map(|node| node.open(&id, origin.address).unwrap()).collect();
    wait_until("totals, addresses and sessions are told", || {
        let keys: Vec<String> = engine.ask(&["KEYS", "vless:*"]);
        engine.used("anna") == (8, 8)
            && ["addresses", "sessions"].iter().all(|kind| keys.iter().any(|key| key.contains(kind)))
    });
    nodes[0].ask("DELETE", "/api/connections?user=anna", None, None);
    nodes[1].change("POST", "/api/users/anna/reset", None);
    nodes[1].change("DELETE", "/api/users/anna", None);
    nodes[0].wait_for_user("anna", false);
    drop(sessions);
    let [mut first, second] = nodes;
    first.stop();
    for node in [&first, &second] {
        let refused = node.said().into_iter().find(|line| line.contains("engine refuses") || line.contains("NOPERM"));
        assert_eq!(refused, None);
    }
    let log: Vec<redis::Value> = engine.ask(&["ACL", "LOG"]);
    assert!(log.is_empty(), "{log:?}");
    // What is not documented is not allowed.
    let mut connection = redis::Client::open(node_url(&engine)).unwrap().get_connection().unwrap();
    for words in [["CONFIG", "GET", "*"], ["SET", "vless:x", "1"], ["HSET", "other", "a"]] {
        let refused = redis::cmd(words[0]).arg(words[1]).arg(words[2]).arg("b").query::<redis::Value>(&mut connection);
        assert_eq!(refused.unwrap_err().code(), Some("NOPERM"), "{words:?}");
    }
}

#[test]
fn a_right_that_the_engines_user_lacks_is_named_before_there_is_a_node() {
    let engine = guarded();
    let (folder, url) = (tempfile::tempdir().unwrap(), node_url(&engine));
    let config = folder.path().join("config.json");
    let text = json!({ "users": [{ "uuid": "a" }], "cluster": { "url": url, "node": "n1" } }).to_string();
    fs::write(&config, &text).unwrap();
    let settings = Settings::of(&Config::load(&config).unwrap()).unwrap().unwrap();
    let asked = || may_do_all(&mut Engine::connect(&settings.access).unwrap(), &settings);
    asked().unwrap();
    // Without these nobody gets as far as to the question.
    let first = ["ping", "select", "script|load", "evalsha"];
    let user = documented_user("~vless:*");
    let commands: Vec<_> = user.split(" +").skip(1).filter(|command| !first.contains(command)).collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        engine.ask::<String>(&["ACL", "SETUSER", "node", &format!("-{command}")]);
        let words = asked().unwrap_err().to_string();
        assert!(words.ends_with(&format!("its user may not use {command} on keys that begin with vless:")), "{words}");
        engine.ask::<String>(&["ACL", "SETUSER", "node", &format!("+{command}")]);
    }
    engine.ask::<String>(&["ACL", "SETUSER", "node", "-hdel", "-xadd"]);
    let run = |words: &[&str], file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
        let output = command.args(words).arg("-c").arg(file).stdin(Stdio::null()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let lacking = "its user may not use hdel, xadd on keys that begin with vless:";
    assert!(run(&["doctor"], &config).contains(lacking));
    let other = folder.path().join("other.json");
    let said = run(&["init", "--join", &url, "--node", "n2"], &other);
    assert!(said.contains(lacking) && !other.exists(), "{said}");
}

#[test]
fn what_the_engines_user_may_not_do_any_more_is_told_and_nothing_is_counted_twice() {
    let (engine, origin) = (guarded(), Origin::echo());
    let node = Node::start("n1", &node_url(&engine), &json!({}));
    node.wait_until_connected();
    let id = node.add("anna", &json!({ "quota_bytes": 50 << 20 }));
    let session = node.open(&id, origin.address).unwrap();
    wait_until("the first bytes are told", || engine.used("anna") == (4, 4));
    // The lease of a node that is gone is to be removed with the next report.
    let leased = format!("vless:use:{}", engine.key("anna"));
    engine.ask::<u64>(&["HSET", &leased, "lease:n2", "7", "ends:n2", "1"]);
    engine.ask::<String>(&["ACL", "SETUSER", "node", "-hdel"]);
    let more = node.open(&id, origin.address).unwrap();
    wait_until("it is told", || node.cluster()["error"].as_str().is_some_and(|words| words.contains("can't run")));
    // The report is tried again with each connection.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(engine.used("anna"), (8, 8));
    engine.ask::<String>(&["ACL", "SETUSER", "node", "+hdel"]);
    wait_until("the lease is gone", || engine.ask::<Option<String>>(&["HGET", &leased, "lease:n2"]).is_none());
    assert_eq!(engine.used("anna"), (8, 8));
    drop((session, more));
}

#[test]
fn a_wrong_password_is_told_and_not_repeated() {
    let engine = guarded();
    let url = format!("redis://node:wrong-secret@{}/0", engine.address);
    let node = Node::start("n1", &url, &json!({}));
    wait_until("it is told", || node.cluster()["error"].as_str().is_some_and(|words| words.contains("WRONGPASS")));
    let checked =
        Command::new(env!("CARGO_BIN_EXE_vless-rust")).args(["check", "-c"]).arg(node.file("config.json")).output();
    let checked = checked.unwrap();
    let doctor =
        Command::new(env!("CARGO_BIN_EXE_vless-rust")).args(["doctor", "-c"]).arg(node.file("config.json")).output();
    let doctor = String::from_utf8(doctor.unwrap().stdout).unwrap();
    assert!(doctor.contains("WRONGPASS"), "{doctor}");
    let said = [
        node.said().join("\n"),
        node.cluster().to_string(),
        node.ask("GET", "/api/events", None, None).body.to_string(),
        String::from_utf8(checked.stdout).unwrap(),
        String::from_utf8(checked.stderr).unwrap(),
        doctor,
    ];
    for text in said {
        assert!(!text.contains("wrong-secret"), "{text}");
    }
}

#[test]
fn tls_is_checked_against_the_authority_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("engine.crt"), folder.path().join("engine.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = free_port().to_string();
    let options = [
        "--tls-port",
        &port,
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
    ];
    let _engine = EngineServer::start_with(&options, "");
    let url = EngineUrl::parse(&format!("rediss://localhost:{port}")).unwrap();
    let mut engine = Engine::connect(&Access { url: url.clone(), ca_file: Some(certificate) }).unwrap();
    assert_eq!(engine.call(&["PING"]).unwrap().text().unwrap(), "PONG");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let wrong = folder.path().join("other.crt");
    fs::write(&wrong, other.cert.pem()).unwrap();
    let refused = Engine::connect(&Access { url, ca_file: Some(wrong) }).err().unwrap();
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[test]
fn a_certificate_that_calls_itself_an_authority_is_the_engines_own_if_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    // What `openssl req -x509` makes.
    let made = |name: &str, host: &str| {
        let mut parameters = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let file = folder.path().join(format!("{name}.crt"));
        fs::write(&file, certificate.pem()).unwrap();
        fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        file
    };
    let connect = |name: &str, host: &str, authority: &str| {
        let port = free_port();
        let [certificate, authority] = [name, authority].map(|name| folder.path().join(format!("{name}.crt")));
        let key = certificate.with_extension("key");
        let (certificate, key) = (certificate.display(), key.display());
        let options =
            format!("--tls-port {port} --tls-auth-clients no --tls-cert-file {certificate} --tls-key-file {key}");
        let _engine = EngineServer::start_with(&[&options], "");
        let url = EngineUrl::parse(&format!("rediss://{host}:{port}")).unwrap();
        Engine::connect(&Access { url, ca_file: Some(authority) }).err().map(|error| error.to_string())
    };
    made("one", "127.0.0.1");
    made("two", "127.0.0.1");
    made("elsewhere", "engine.example");
    assert_eq!(connect("one", "127.0.0.1", "one"), None);
    for refused in [connect("one", "127.0.0.1", "two"), connect("elsewhere", "127.0.0.1", "elsewhere")] {
        assert!(refused.as_ref().is_some_and(|words| words.contains("certificate")), "{refused:?}");
    }
}

/// An engine that says `answer` to everything, over and over.
fn liar(answer: &'static [u8]) -> Access {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut socket = socket;
                let _ = socket.read(&mut [0; 1024]);
                while socket.write_all(answer).is_ok() && answer.len() > 1000 {}
                let _ = socket.read(&mut [0; 1024]);
            });
        }
    });
    Access { url: EngineUrl::parse(&format!("redis://127.0.0.1:{port}")).unwrap(), ca_file: None }
}

fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn an_engine_that_stalls_or_lies_costs_seconds_and_some_memory() {
    let endless: &'static [u8] =
        Box::leak([b"$2000000000\r\n".as_slice(), &vec![b'x'; 65_536]].concat().into_boxed_slice());
    let before = resident_bytes();
    for answer in
        [b"*2000000000\r\n$3\r\nabc".as_slice(), b"$2000000000\r\nabc", b"-", b"*1\r\n*1\r\n*1\r\n", b"?", b"", endless]
    {
        let start = Instant::now();
        assert!(Engine::connect(&liar(answer)).is_err());
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes");
}

#[test]
fn a_node_serves_on_while_its_engine_stalls() {
    let origin = Origin::echo();
    let access = liar(b"");
    let users = json!([{ "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" }]);
    let node = Node::start_with("n1", &access.url.to_string(), &json!({}), &users);
    wait_until("the node says that the engine stalls", || {
        node.cluster()["error"].as_str().is_some_and(|words| words.contains("does not answer in time"))
    });
    let start = Instant::now();
    assert!(node.open(&crate::support::server::ALICE, origin.address).is_some());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
