//! A disk that is full under the users file and the state: commands say so, the server goes on, and nothing is lost.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::api::ask;
use crate::harness::{Process, program};
use crate::support::origin::Origin;
use crate::support::ports::free_port;
use crate::support::wait_until;

/// Set in the process that has the small disk, on which all its temporary folders are.
const MARK: &str = "VLESS_RUST_TEST_SMALL_DISK";
const DISK_BYTES: &str = "1m";

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT }, "outbound": { "allow": [ "127.0.0.0/8" ] },
    "users": [ { "uuid": "example", "email": "locked" } ], "monitoring": { "port": MONITOR, "state_interval": 1 } }"#;
const FIRST: &str = "11111111-2222-3333-4444-555555555555";
const SECOND: &str = "21111111-2222-3333-4444-555555555555";

/// What one conversation comes to: "ping", and 30,000 bytes, both ways.
const TALK_BYTES: u64 = 60_008;

/// Runs `body`, which is the test called `name`, in a process whose temporary folders are on a disk of [`DISK_BYTES`].
fn on_a_small_disk(name: &str, body: fn()) {
    const MOUNT: &str = r#"mount -t tmpfs -o "size=$0" none "$TMPDIR" && exec "$@""#;
    if env::var_os(MARK).is_some() {
        return body();
    }
    let (exe, folder) = (env::current_exe().unwrap(), tempfile::tempdir().unwrap());
    for way in [&["--map-root-user", "--mount"][..], &["--mount"]] {
        let in_shell = |rest: &[&str]| {
            let mut child = Command::new("unshare");
            child.args(way).args(["sh", "-c", MOUNT, DISK_BYTES]).args(rest);
            child.env("TMPDIR", folder.path()).env(MARK, "1").output()
        };
        if !in_shell(&["true"]).is_ok_and(|output| output.status.success()) {
            continue;
        }
        let output = in_shell(&[exe.to_str().unwrap(), "--exact", name, "--nocapture"]).unwrap();
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
        return;
    }
    assert!(env::var_os("CI").is_none(), "a disk of its own needs root or user namespaces");
    eprintln!("not run, for it needs root or user namespaces");
}

/// Takes all that is free on the disk.
fn fill(folder: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join("filler")).unwrap();
    for piece in [&[7; 4096][..], &[7]] {
        let error = loop {
            if let Err(error) = file.write_all(piece) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
}

fn make_room(folder: &Path) {
    fs::remove_file(folder.join("filler")).unwrap();
}

/// The names of what is in the folder, and the contents of the users file and the copy before it.
fn kept(folder: &Path) -> (Vec<String>, [Vec<u8>; 2]) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The state is written by the clock, so its files come and go.
    let mut names: Vec<_> = names.filter(|name| name != "filler" && !name.starts_with("state.json")).collect();
    names.sort();
    (names, ["users.json", "users.json.previous"].map(|name| fs::read(folder.join(name)).unwrap()))
}

fn id(text: &str) -> [u8; 16] {
    uuid::Uuid::parse_str(text).unwrap().into_bytes()
}

fn with_monitor() -> String {
    let free = free_port();
    CONFIG.replace("MONITOR", &free.to_string())
}

#[test]
fn a_full_disk_is_said_by_a_command_without_a_server_and_no_account_is_lost() {
    on_a_small_disk("full_disk::a_full_disk_is_said_by_a_command_without_a_server_and_no_account_is_lost", || {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        fs::write(&config, with_monitor().replace("PORT", "1")).unwrap();
        let user = |arguments: &[&str]| {
            let mut command = Command::new(program());
            let output = command.arg("user").args(arguments).arg("-c").arg(&config).output().unwrap();
            (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
        };
        for name in ["first", "other"] {
            assert_eq!(user(&["add", name]).0, Some(0));
        }
        let before = kept(folder.path());
        fill(folder.path());
        for arguments in [&["add", "second"][..], &["rotate", "first"], &["remove", "other"]] {
            let (code, said) = user(arguments);
            assert!(code == Some(73) && said.contains("cannot write") && said.contains("users.json"), "{said}");
            assert!(said.contains("No space left on device"), "{said}");
            assert_eq!(kept(folder.path()), before, "{arguments:?}");
        }
        make_room(folder.path());
        assert_eq!(user(&["add", "second"]).0, Some(0));
        let (_, list) = user(&["list"]);
        assert!(["first", "other", "second"].iter().all(|name| list.contains(name)), "{list}");
    });
}

#[test]
fn a_server_on_a_full_disk_goes_on_with_what_it_has_and_writes_again_when_there_is_room() {
    on_a_small_disk(
        "full_disk::a_server_on_a_full_disk_goes_on_with_what_it_has_and_writes_again_when_there_is_room",
        || {
            let mut server = Process::start(&with_monitor(), |_| {});
            let (folder, origin) = (server.folder.path().to_owned(), Origin::echo());
            let socket = || UnixStream::connect(folder.join("vless-rust.sock")).is_ok();
            wait_until("its socket answers", socket);
            let add = |server: &Process, name: &str, id: &str| server.command(&["user", "add", name, "--id", id]);
            let talk = |server: &Process| {
                let mut session = server.open(&id(FIRST), origin.address).unwrap();
                session.write_all(&vec![7; 30_000]).unwrap();
                session.read_exact(&mut vec![0; 30_000]).unwrap();
            };
            let saved_bytes = || {
                let text = fs::read_to_string(folder.join("state.json")).unwrap();
                // A header, and then the state.
                let state: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
                state["upload_bytes"].as_u64().unwrap() + state["download_bytes"].as_u64().unwrap()
            };
            let counter = |name: &str| {
                let answer = ask(&folder.join("vless-rust.sock"), "GET", "/api/performance", None, None);
                answer.body["counters"][name].as_u64().unwrap()
            };
            for (name, id) in [("first", FIRST), ("other", "other")] {
                assert_eq!(add(&server, name, id).0, Some(0));
            }
            talk(&server);
            wait_until("the state is written", || folder.join("state.json").exists() && saved_bytes() == TALK_BYTES);
            let before = kept(&folder);
            fill(&folder);
            let (code, said) = add(&server, "second", SECOND);
            assert!(code != Some(0) && said.contains("No space left on device"), "{code:?} {said}");
            assert!(said.contains("users.json"), "{said}");
            talk(&server);
            assert!(server.open(&id(SECOND), origin.address).is_none(), "who was refused was let in");
            wait_until("the failed write is counted", || counter("vless_state_write_errors_total") > 0);
            server.wait_for_line(0, "state");
            assert_eq!(kept(&folder), before);
            assert_eq!(saved_bytes(), TALK_BYTES, "the last state that fitted stays");

            make_room(&folder);
            wait_until("the state is written again", || saved_bytes() == 2 * TALK_BYTES);
            assert_eq!(add(&server, "second", SECOND).0, Some(0));
            fill(&folder);
            server.kill_and_start_again();
            wait_until("its socket answers", socket);
            for known in [FIRST, SECOND] {
                assert!(server.open(&id(known), origin.address).is_some(), "{known}");
            }
            assert!(saved_bytes() >= 2 * TALK_BYTES);
        },
    );
}
