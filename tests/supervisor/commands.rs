//! The `user` command: with a running server and without one it does the same.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::Process;
use crate::support::origin::Origin;
use crate::support::ports::free_port;
use crate::support::wait_until;

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT }, "outbound": { "allow": [ "127.0.0.0/8" ] },
    "users": [ { "uuid": "example", "email": "locked" } ], "monitoring": { "port": MONITOR } }"#;

fn user(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
    command.arg("user").args(arguments).arg("-c").arg(config).output().unwrap()
}

#[track_caller]
fn said(config: &Path, arguments: &[&str]) -> String {
    let output = user(config, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(config: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = user(config, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The line of an account in the list.
fn line(config: &Path, name: &str) -> String {
    let list = said(config, &["list"]);
    let found = list.lines().find(|line| line.split("  ").next() == Some(name));
    found.unwrap_or_default().to_owned()
}

/// What holds with and without a server; it leaves the user `b`.
fn check(config: &Path) {
    let added = said(config, &["add", "a", "--quota", "10GB", "--quota-period", "month", "--note", "x y"]);
    assert!(added.contains("quota       10.00 GB\n") && added.contains("note        x y\n"), "{added}");
    assert_eq!(refused(config, &["add", "a"]).0, Some(64));
    let id = || {
        let shown: Value = serde_json::from_str(&said(config, &["show", "a", "--json"])).unwrap();
        shown["uuid"].as_str().unwrap().to_owned()
    };
    let first = id();
    said(config, &["rotate", "a"]);
    wait_until("the new id is shown", || id() != first);
    for _ in 0..2 {
        said(config, &["disable", "a"]);
    }
    wait_until("it is disabled", || line(config, "a").contains(" disabled "));
    said(config, &["enable", "a"]);
    said(config, &["set", "a", "--name", "b", "--quota", "none", "--expires", "2099-12-31"]);
    wait_until("it has its new name", || !line(config, "b").is_empty());
    assert!(line(config, "b").contains("2099-12-31T00:00:00Z"), "{}", line(config, "b"));
    let (code, why) = refused(config, &["set", "b", "--quota-day", "29"]);
    assert!(code == Some(64) && why.contains("limits.quota_day: must be between 1 and 28, not 29"), "{why}");
    let (code, why) = refused(config, &["remove", "locked"]);
    assert!(code == Some(64) && why.contains("which only people change"), "{why}");
    let (code, why) = refused(config, &["remove", "nobody"]);
    assert!(code == Some(64) && why.contains("no user \"nobody\""), "{why}");
    said(config, &["add", "c", "--id", "my own id"]);
    assert_eq!(said(config, &["remove", "c"]), "user c removed\n");
}

#[test]
fn a_running_server_is_reached_although_its_file_has_become_wrong() {
    let free = free_port();
    let server = Process::start(&CONFIG.replace("MONITOR", &free.to_string()), |_| {});
    let config = server.file("config.json");
    let right = fs::read_to_string(&config).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
        command.args(arguments).arg("-c").arg(&config).output().unwrap()
    };
    wait_until("commands are answered", || run(&["status"]).status.success());
    for wrong in [format!("{right}{{"), right.replacen("\"server\"", "\"sevrer\"", 1)] {
        fs::write(&config, wrong).unwrap();
        for arguments in [&["status"][..], &["connections"], &["user", "list"]] {
            let output = run(arguments);
            assert!(output.status.success(), "{arguments:?}: {output:?}");
        }
        let reload = run(&["reload", "--json"]);
        let answer: Value = serde_json::from_slice(&reload.stdout).unwrap();
        assert_eq!((&answer["error"]["code"], &answer["error"]["exit_code"]), (&"config".into(), &78.into()));
        assert!(answer["error"]["message"].as_str().unwrap().contains("config.json:"), "{answer}");
        let why = String::from_utf8_lossy(&reload.stderr).into_owned();
        assert!(reload.status.code() == Some(78) && why.contains("config.json:"), "{why}");
    }
    fs::write(&config, right).unwrap();
    assert!(run(&["reload"]).status.success());
}

#[test]
fn whoever_asks_for_json_gets_failures_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let link = "vless://5783a3e7-e373-51cd-8642-c83782b807c5@127.0.0.1:1?encryption=none&security=none";
    let ask =
        [&["status"][..], &["connections"], &["online"], &["nodes"], &["cut", "1-2-3"], &["reload"], &["upgrade"]];
    let user = [&["user", "list"][..], &["user", "show", "nobody"], &["user", "remove", "nobody"]];
    let check = |arguments: &[&str], wanted: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
        let output = command.args(arguments).arg("--json").arg("-c").arg(&config).output().unwrap();
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"));
        let code = answer["error"]["code"].as_str().unwrap_or_default();
        assert!(wanted.contains(&code), "{arguments:?}: {answer}");
        assert_eq!(answer["error"]["exit_code"].as_i64(), output.status.code().map(i64::from), "{answer}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(answer["error"]["message"].as_str().unwrap()), "{said}");
    };
    // No configuration, then one that is wrong, then one without a server.
    for arguments in ask.iter().chain(&user) {
        check(arguments, &["no_input"]);
    }
    fs::write(&config, "{").unwrap();
    for arguments in ask.iter().chain(&user) {
        check(arguments, &["config"]);
    }
    fs::write(&config, CONFIG.replace("PORT", "1").replace("MONITOR", "2")).unwrap();
    for arguments in ask {
        check(arguments, &["unavailable"]);
    }
    check(&["user", "show", "nobody"], &["usage"]);
    check(&["status", "--banana"], &["usage"]);
    check(&["probe", &link.replace("vless://", "socks://")], &["usage"]);
}

#[test]
fn without_a_server_the_file_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    fs::write(&config, CONFIG.replace("PORT", "1").replace("MONITOR", "2")).unwrap();
    check(&config);
    let output = user(&config, &["enable", "b"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("the change is in "));
    said(&config, &["reset", "b"]);
    fs::write(folder.path().join("state.json"), "torn").unwrap();
    assert_eq!(refused(&config, &["reset", "b"]).0, Some(78), "a state that cannot be read is not written over");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"monitoring\": {", "\"monitoring\": { \"socket\": null,")).unwrap();
    let (code, why) = refused(&config, &["reset", "b"]);
    assert!(code == Some(69) && why.contains("monitoring.socket"), "{why}");
}

#[test]
fn with_a_server_the_change_holds_before_the_command_returns() {
    let free = free_port();
    let server = Process::start(&CONFIG.replace("MONITOR", &free.to_string()), |_| {});
    let config = server.file("config.json");
    wait_until("the socket is there", || server.file("vless-rust.sock").exists());
    let origin = Origin::echo();
    said(&config, &["add", "new", "--id", "11111111-2222-3333-4444-555555555555"]);
    let id = *uuid::uuid!("11111111-2222-3333-4444-555555555555").as_bytes();
    assert!(server.open(&id, origin.address).is_some());
    said(&config, &["reset", "new"]);
    said(&config, &["remove", "new"]);
    assert!(server.open(&id, origin.address).is_none());
    check(&config);
}

#[test]
fn commands_at_the_same_time_all_do_what_they_are_to_do() {
    const COMMANDS: usize = 12;
    let free = free_port();
    let server = Process::start(&CONFIG.replace("MONITOR", &free.to_string()), |_| {});
    let config = server.file("config.json");
    wait_until("the socket is there", || server.file("vless-rust.sock").exists());
    std::thread::scope(|scope| {
        for number in 0..COMMANDS {
            let config = &config;
            scope.spawn(move || said(config, &["add", &format!("user-{number}")]));
        }
    });
    assert_eq!(said(&config, &["list"]).lines().filter(|line| line.starts_with("user-")).count(), COMMANDS);
}

#[test]
fn accounts_of_another_panel_are_imported_once_and_only_when_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    fs::write(&config, CONFIG.replace("PORT", "1").replace("MONITOR", "2")).unwrap();
    let export = folder.path().join("users.export");
    fs::write(
        &export,
        r#"{ "users": [ { "username": "old", "status": "active", "used_traffic": 2048, "data_limit": 1073741824,
            "proxies": { "vless": { "id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "flow": "" } } } ] }"#,
    )
    .unwrap();
    let export = export.to_str().unwrap();
    assert_eq!(said(&config, &["import", export, "--dry-run"]), "old: would be added, 2.00 KB used\n");
    assert!(!said(&config, &["list"]).contains("old"));
    assert_eq!(said(&config, &["import", export]), "old: added, 2.00 KB used\n");
    assert_eq!(said(&config, &["import", export]), "old: is there already, left as it is\n");
    assert!(said(&config, &["show", "old"]).contains("quota       1.00 GB"));
}

#[test]
fn what_an_import_comes_to_is_told_for_each_entry_and_to_programs_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    fs::write(&config, CONFIG.replace("PORT", "1").replace("MONITOR", "2")).unwrap();
    let export = folder.path().join("inbounds.json");
    let id = |number: u8| format!("aaaaaaaa-bbbb-cccc-dddd-00000000000{number}");
    let clients = serde_json::json!([
        { "id": id(1), "email": "good" },
        { "email": "without an id" },
        { "id": id(1), "email": "second with this id" },
    ]);
    let stats = serde_json::json!([{ "email": "good", "up": 1, "down": 2 }]);
    let inbound = serde_json::json!({ "protocol": "vless", "settings": { "clients": clients }, "clientStats": stats });
    fs::write(&export, serde_json::json!([inbound]).to_string()).unwrap();
    let export = export.to_str().unwrap();
    let outcomes = |arguments: &[&str]| {
        let all: Value = serde_json::from_str(&said(&config, arguments)).unwrap();
        let all = all.as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap().to_owned());
        all.collect::<Vec<_>>()
    };
    let dry = said(&config, &["import", export, "--dry-run"]);
    assert!(dry.contains("good: would be added, 3 B used\nsecond with this id: would not be added: uuid: "), "{dry}");
    assert!(dry.contains("inbound 1, client 2: cannot be read: missing field `id`"), "{dry}");
    let wanted = ["would_be_added", "would_not_be_added", "unreadable"];
    assert_eq!(outcomes(&["import", export, "--dry-run", "--json"]), wanted);
    assert_eq!(line(&config, "good"), "", "nothing was done yet");
    assert_eq!(outcomes(&["import", export, "--json"]), ["added", "not_added", "unreadable"]);
    assert_eq!(outcomes(&["import", export, "--json"]), ["already_there", "not_added", "unreadable"]);
}

#[test]
fn what_was_used_elsewhere_counts_here_whether_a_server_runs_or_not() {
    let free = free_port();
    let config_text = CONFIG.replace("MONITOR", &free.to_string());
    let export = |number: u8, used: u64| {
        format!(
            r#"{{ "users": [ {{ "username": "old{number}", "status": "active", "used_traffic": {used},
            "data_limit": 1000000, "data_limit_reset_strategy": "month",
            "proxies": {{ "vless": {{ "id": "aaaaaaaa-bbbb-cccc-dddd-00000000000{number}", "flow": "" }} }} }} ] }}"#
        )
    };
    let server = Process::start(&config_text, |folder| {
        let config = folder.join("config.json");
        fs::write(&config, config_text.replace("PORT", "1")).unwrap();
        fs::write(folder.join("export"), export(1, 700_000)).unwrap();
        said(&config, &["import", folder.join("export").to_str().unwrap()]);
    });
    let config = server.file("config.json");
    wait_until("the socket is there", || server.file("vless-rust.sock").exists());
    fs::write(server.file("export"), export(2, 2_000_000)).unwrap();
    said(&config, &["import", server.file("export").to_str().unwrap()]);
    let used = |name: &str| {
        let shown = said(&config, &["show", name, "--json"]);
        serde_json::from_str::<Value>(&shown).unwrap()["quota_used_bytes"].as_u64()
    };
    wait_until("the list has both", || (used("old1"), used("old2")) == (Some(700_000), Some(2_000_000)));
    let origin = Origin::echo();
    let id = |number: u8| {
        uuid::Uuid::parse_str(&format!("aaaaaaaa-bbbb-cccc-dddd-00000000000{number}")).unwrap().into_bytes()
    };
    assert!(server.open(&id(1), origin.address).is_some());
    assert!(server.open(&id(2), origin.address).is_none(), "the quota was used up elsewhere");
    said(&config, &["reset", "old2"]);
    assert!(server.open(&id(2), origin.address).is_some());
}
