//! `backup` beside a running server, and `restore`, which must not pull the files away under one.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::Process;
use crate::support::origin::Origin;
use crate::support::ports::free_port;
use crate::support::wait_until;

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT }, "outbound": { "allow": [ "127.0.0.0/8" ] },
    "users": [ { "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" } ],
    "monitoring": { "port": MONITOR } }"#;

fn command(name: &str, file: &Path, config: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vless-rust"));
    command.arg(name).arg(file).arg("-c").arg(config).output().unwrap()
}

#[test]
fn the_files_of_a_running_server_are_saved_and_not_replaced() {
    let free = free_port();
    let server = Process::start(&CONFIG.replace("MONITOR", &free.to_string()), |_| {});
    wait_until("the socket is there", || server.file("vless-rust.sock").exists());
    let (config, file) = (server.file("config.json"), server.file("all.tar"));
    let saved = command("backup", &file, &config);
    assert!(saved.status.success(), "{saved:?}");
    assert!(String::from_utf8(saved.stderr).unwrap().contains("holds ids, tokens and private keys"));
    let refused = command("restore", &file, &config);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("a server runs with") && why.contains("systemctl stop"), "{why}");
    let other = tempfile::tempdir().unwrap();
    let restored = command("restore", &file, &other.path().join("config.json"));
    assert!(restored.status.success(), "{restored:?}");
    let origin = Origin::echo();
    assert!(server.open(b"alice's user id.", origin.address).is_some(), "the server has noticed nothing");
}
