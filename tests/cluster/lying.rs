//! An engine that knows the words and lies with them: endless lists, answers at once where it should wait, words for the
//! screen of whoever reads the log.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use vless_rust::app::cluster::engine::Access;
use vless_rust::app::cluster::joining;
use vless_rust::app::cluster::settings::Settings;
use vless_rust::app::config::{Config, EngineUrl};

use crate::engine_server::EngineServer;
use crate::node::Node;
use crate::support::{PATIENCE, wait_until};

/// What is answered to a command, by its name.
type Answers = Arc<dyn Fn(&[String]) -> Vec<u8> + Send + Sync>;

fn liar(answers: Answers) -> Access {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            thread::spawn(move || lie(socket, &answers));
        }
    });
    Access { url: EngineUrl::parse(&format!("redis://127.0.0.1:{port}")).unwrap(), ca_file: None }
}

/// Until the other side goes.
fn lie(mut socket: TcpStream, answers: &Answers) {
    let mut asked = BufReader::new(socket.try_clone().unwrap());
    while let Some(words) = words(&mut asked) {
        if socket.write_all(&answers(&words)).is_err() {
            return;
        }
    }
}

/// The next command.
fn words(asked: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(asked, '*')?;
    let words = (0..count).map(|_| {
        let mut word = vec![0; number(asked, '$')? + 2];
        asked.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        String::from_utf8(word).ok()
    });
    words.collect()
}

/// A line that is `mark` and a number.
fn number(asked: &mut BufReader<TcpStream>, mark: char) -> Option<usize> {
    let mut line = String::new();
    asked.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(mark)?.parse().ok()
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn list(texts: &[&str]) -> String {
    format!("*{}\r\n{}", texts.len(), texts.iter().map(|text| bulk(text)).collect::<String>())
}

/// What a sane and empty engine would say.
fn sane(words: &[String]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    match words[0].as_str() {
        "PING" => "+PONG\r\n".to_owned(),
        "HSCAN" => format!("*2\r\n{}*0\r\n", bulk("0")),
        "TIME" => list(&[&now.as_secs().to_string(), "0"]),
        "ZSCORE" | "HGET" | "GET" => "$-1\r\n".to_owned(),
        // The name of a script is what it begins with, for EVALSHA.
        "SCRIPT" => bulk(words[2].lines().next().unwrap()),
        "EVALSHA" if words[1].contains("Registers a node") => list(&["ok", "0", &now.as_millis().to_string(), "1", ""]),
        _ => "*0\r\n".to_owned(),
    }
}

/// The settings of a node at `access`.
fn settings(access: &Access) -> Settings {
    let text = json!({ "users": [{ "uuid": "a" }], "cluster": { "url": access.url.to_string(), "node": "n1" } });
    let config = Config::parse(&text.to_string(), "/nowhere/config.json".as_ref()).unwrap();
    Settings::of(&config).unwrap().unwrap()
}

#[test]
fn a_list_of_accounts_without_end_is_given_up() {
    let long = "x".repeat(12 << 20);
    let pages: [Box<dyn Fn(u64) -> String + Send + Sync>; 2] = [
        Box::new(|_| format!("*2\r\n{}*0\r\n", bulk("7"))),
        Box::new(move |page| format!("*2\r\n{}{}", bulk("7"), list(&[&page.to_string(), &long]))),
    ];
    for page in pages {
        let asked = AtomicU64::new(0);
        let access = liar(Arc::new(move |words: &[String]| {
            let page = || page(asked.fetch_add(1, Ordering::Relaxed));
            let text = if words[0] == "HSCAN" { page() } else { sane(words) };
            text.into_bytes()
        }));
        let (told, outcome) = mpsc::channel();
        thread::spawn(move || told.send(joining::look(&settings(&access)).err().unwrap().message));
        let words = outcome.recv_timeout(PATIENCE * 10).expect("the reading ends");
        assert!(words.contains("has no end"), "{words}");
    }
}

#[test]
fn an_engine_that_does_not_wait_keeps_no_core_busy() {
    let waits = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&waits);
    let access = liar(Arc::new(move |words: &[String]| {
        if words[0] == "XREAD" {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        sane(words).into_bytes()
    }));
    let node = Node::start("n1", &access.url.to_string(), &json!({}));
    node.wait_until_connected();
    let (start, before) = (Instant::now(), waits.load(Ordering::Relaxed));
    thread::sleep(Duration::from_secs(2));
    let (count, most) = (waits.load(Ordering::Relaxed) - before, start.elapsed().as_millis() as u64 / 5 + 10);
    assert!((1..=most).contains(&count), "{count} of {most}");
}

#[test]
fn a_time_or_version_beyond_all_measure_ends_the_connection_only() {
    let most = u64::MAX.to_string();
    for [version, time] in [[most.as_str(), "1000"], ["0", most.as_str()], ["0", "9223372036854775808"]] {
        let (beat, beats) = (list(&["ok", version, time, "1", ""]), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&beats);
        let access = liar(Arc::new(move |words: &[String]| {
            let is_beat = words[0] == "EVALSHA" && words[1].contains("Registers a node");
            counted.fetch_add(u64::from(is_beat), Ordering::Relaxed);
            let text = if is_beat { beat.clone() } else { sane(words) };
            text.into_bytes()
        }));
        let node = Node::start("n1", &access.url.to_string(), &json!({}));
        wait_until("it tries again", || beats.load(Ordering::Relaxed) >= 2);
        wait_until("it says why", || node.cluster()["error"].as_str().is_some_and(|words| words.contains("not asked")));
    }
}

#[test]
fn words_from_the_engine_are_one_line_of_the_log() {
    let engine = EngineServer::start();
    let node = Node::start("n1", &engine.url(), &json!({}));
    node.wait_until_connected();
    node.add("anna", &json!({}));
    let entry = ["XADD", "vless:log", "*", "version", "0", "operation", "cut", "account", "anna", "record", "n2", "by"];
    engine.ask::<String>(&[&entry[..], &["cut\nroot: all is lost \u{1b}[2J"]].concat());
    wait_until("it is told", || node.said().iter().any(|line| line.contains("cut?root: all is lost ?[2J")));
    let facts = json!({ "version": "1\u{1b}[2J", "reach": { "host": "h\nx", "port": 1 } }).to_string();
    engine.ask::<u64>(&["HSET", "vless:node:evil\u{1b}[2J", "facts", &facts]);
    engine.ask::<u64>(&["ZADD", "vless:nodes", "99999999999999", "evil\u{1b}[2J"]);
    wait_until("the node is shown", || node.cluster()["nodes"].as_array().unwrap().len() == 2);
    let nodes: HashMap<String, String> =
        serde_json::from_value::<Vec<serde_json::Value>>(node.cluster()["nodes"].clone())
            .unwrap()
            .iter()
            .map(|node| (node["name"].as_str().unwrap().to_owned(), node["version"].as_str().unwrap().to_owned()))
            .collect();
    assert_eq!(nodes.get("evil?[2J").map(String::as_str), Some("1?[2J"), "{nodes:?}");
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_vless-rust"))
        .args(["doctor", "-c"])
        .arg(node.file("config.json"))
        .output();
    let said = String::from_utf8(doctor.unwrap().stdout).unwrap();
    assert!(said.contains("evil?[2J") && !said.contains("evil\u{1b}"), "{said}");
}
