//! The configuration as an operator meets it: the shipped examples load, and what is wrong is said so that a stranger
//! can mend it.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vless_rust::app::config::Config;

/// What is written where a healthy file has something else, and what must be said: the place, the key and the advice.
const BROKEN: &[(&str, &[&str])] = &[
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ]",
        &["config.json:1:30: ", "not valid JSON", "is a closing } or ] or \" missing?"],
    ),
    (
        "{\n  \"users\": [ { \"uuid\": \"a\" } ]\n  \"log\": {}\n}",
        &["config.json:3:3: ", "is a comma missing before this"],
    ),
    (
        "{\n  \"users\": [ { \"uuid\": \"a\" } ],\n  \"timeout\": {}\n}",
        &["config.json:3:3: timeout: ", "unknown key; did you mean \"timeouts\"?"],
    ),
    ("{ \"users\": [ { \"id\": \"a\" } ] }", &["config.json:1:16: users[0].id: ", "did you mean \"uuid\"?"]),
    ("{ \"users\": [ { \"email\": \"a\" } ] }", &["config.json:1:14: users[0]: ", "the key \"uuid\" is missing here"]),
    (
        "{ \"server\": { \"port\": 443 } }",
        &["config.json:1:1: users: ", "at least one user is needed: the file users.json", "{ \"uuid\": \"...\""],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"5783a3e7-e373-51cd-8642-c83782b807cX\" } ] }",
        &["config.json:1:24: users[0].uuid: ", "not one; use a UUID like 5783a3e7-", "or a text of 1 to 30 bytes"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"5783a3e7-e373-51cd-8642-c83782b807c5\", \"email\": \"anna\" },\n\
         { \"uuid\": \"5783a3e7-e373-0000-8642-c83782b807c5\", \"email\": \"ben\" } ] }",
        &["config.json:2:11: users[1].uuid: ", "ben has the same id as anna", "give one of them a new id"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\", \"email\": \"x\" }, { \"uuid\": \"b\", \"email\": \"x\" } ] }",
        &["config.json:1:69: users[1].email: ", "also the email of users[0]; each user needs its own"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\", \"flow\": \"xtls-rprx-vision\" } ] }",
        &["config.json:1:37: users[0].flow: ", "needs TLS: set tls.enabled to true, or this to \"\" for no flow"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\", \"flow\": \"xtls-rprx-visoin\" } ] }",
        &["users[0].flow: must be one of \"\", \"none\", \"xtls-rprx-vision\"", "did you mean \"xtls-rprx-vision\"?"],
    ),
    (
        "{ \"server\": { \"port\": 70000 }, \"users\": [ { \"uuid\": \"a\" } ] }",
        &["config.json:1:23: server.port: ", "must be between 1 and 65535, not 70000"],
    ),
    (
        "{ \"server\": { \"port\": \"443\" }, \"users\": [ { \"uuid\": \"a\" } ] }",
        &["config.json:1:23: server.port: ", "must be a whole number, not the string \"443\""],
    ),
    (
        "{ \"server\": { \"listen\": \"localhost\" }, \"users\": [ { \"uuid\": \"a\" } ] }",
        &["config.json:1:25: server.listen: ", "must be an IP address such as \"0.0.0.0\"", "not \"localhost\""],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ],\n  \"timeouts\": { \"idle\": 0 } }",
        &["config.json:2:25: timeouts.idle: ", "must be between 1 and 86400 seconds, not 0"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"tls\": { \"min_version\": \"1.1\" } }",
        &["config.json:1:57: tls.min_version: ", "must be one of \"1.2\", \"1.3\", not \"1.1\""],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"performance\": { \"vision_seed\": [900, 500, 900] } }",
        &[
            "config.json:1:65: performance.vision_seed: ",
            "must be exactly four numbers such as [900, 500, 900, 256], not 3",
        ],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"monitoring\": { \"listen\": \"0.0.0.0\" } }",
        &["config.json:1:59: monitoring.listen: ", "outside loopback monitoring.token is mandatory", "or listen on"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"outbound\": { \"allow\": [ \"10.0.0.1/8\" ] } }",
        &["config.json:1:58: outbound.allow[0]: ", "did you mean \"10.0.0.0/8\"?"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"outbound\": { \"dns\": { \"servers\": [ \"dns.example\" ] } } }",
        &["outbound.dns.servers[0]: must be the IP address of a name server", "\"9.9.9.9:53\"", "not this text"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"log\": { \"level\": \"warning\" } }",
        &["config.json:1:51: log.level: ", "not \"warning\"; did you mean \"warn\"?"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"log\": { \"access\": true, \"access\": false } }",
        &["config.json:1:58: log.access: ", "given twice here; keep one of them"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"fallbacks\": [ { \"dest\": \"localhost\" } ] }",
        &["config.json:1:58: fallbacks[0].dest: ", "must be a port such as 80, \"host:port\"", "not \"localhost\""],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"performance\": { \"buffer_size\": 1 } }",
        &["performance.buffer_size: must be between 4096 and 131072 bytes, not 1"],
    ),
    (
        "{ \"users\": [ { \"uuid\": \"a\" } ] /* my notes }",
        &["config.json:1:32: ", "this /* comment has no closing */"],
    ),
];

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // A dashboard for Grafana lies there, too.
    let is_configuration = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "json") && !path.ends_with("grafana.json")
    };
    files.filter(is_configuration).collect()
}

/// Paths of all keys of an object, list elements counting as one.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let path = format!("{path}.{key}");
                keys(member, &path, found);
                found.insert(path);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| keys(element, path, found)),
        _ => {}
    }
}

fn effective(path: &Path) -> Value {
    let config = Config::load(path).unwrap_or_else(|failure| panic!("{failure}"));
    serde_json::from_str(&config.effective_json()).unwrap()
}

#[test]
fn every_example_loads() {
    let examples = examples();
    assert!(examples.len() >= 4, "{examples:?}");
    for path in examples {
        Config::load(&path).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn the_reference_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/reference.json");
    // Without its comments the reference is plain JSON; none of its strings has two slashes.
    let text = fs::read_to_string(&path).unwrap();
    let plain = text.lines().map(|line| line.split("//").next().unwrap()).collect::<String>();
    let mut written = BTreeSet::new();
    keys(&serde_json::from_str(&plain).unwrap(), "", &mut written);
    let mut all = BTreeSet::new();
    keys(&effective(&path), "", &mut all);
    assert!(all.len() > 75, "{} keys", all.len());
    assert_eq!(written, all);
}

#[test]
fn the_reference_says_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let minimal = folder.path().join("config.json");
    fs::write(&minimal, r#"{ "users": [ { "uuid": "5783a3e7-e373-51cd-8642-c83782b807c5" } ] }"#).unwrap();
    let mut defaults = effective(&minimal);
    let mut reference = effective(&Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/reference.json"));
    for example in ["users", "fallbacks"] {
        defaults[example].take();
        reference[example].take();
    }
    for (section, example) in [("tls", "certificates"), ("monitoring", "alerts")] {
        defaults[section][example].take();
        reference[section][example].take();
    }
    assert_eq!(reference, defaults);
}

#[test]
fn broken_configurations_get_messages_that_a_stranger_can_act_on() {
    for (text, expected) in BROKEN {
        let errors = Config::parse(text, Path::new("config.json")).expect_err(text);
        let message = errors.to_string();
        for part in *expected {
            assert!(message.contains(part), "{text}\ngives:\n{message}\nwithout:\n{part}");
        }
        assert_eq!(message.lines().count(), 1, "{text}\ngives:\n{message}");
    }
}

#[test]
fn several_problems_come_in_one_answer() {
    let text =
        "{ \"server\": { \"port\": 0 },\n  \"users\": [ { \"uuid\": \"\" } ],\n  \"log\": { \"format\": \"xml\" } }";
    let message = Config::parse(text, Path::new("config.json")).unwrap_err().to_string();
    let places = message.lines().map(|line| line.split(": ").next().unwrap()).collect::<Vec<_>>();
    assert_eq!(places, ["config.json:1:23", "config.json:2:24", "config.json:3:22"], "{message}");
}

#[test]
fn a_result_that_cannot_be_written_is_not_a_success() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vless-rust")).arg("version").stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("vless-rust: cannot write /dev/stdout: "), "{said}");
    assert_eq!(output.status.code(), Some(73));
}
