//! What signals do.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Process, echoes};
use crate::support::origin::Origin;
use crate::support::server::ALICE;
use crate::support::wait_until;

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT }, "outbound": { "allow": [ "127.0.0.0/8" ] },
    "users": [ { "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" } ],
    "monitoring": { "enabled": false }, "log": { "file": "a.log", "access": true } }"#;

#[test]
fn hup_reopens_a_log_file_that_was_renamed_and_cuts_nobody() {
    let server = Process::start(CONFIG, |_| {});
    let origin = Origin::echo();
    let session = server.open(&ALICE, origin.address).unwrap();
    fs::rename(server.file("a.log"), server.file("a.log.1")).unwrap();
    server.signal(Signal::HUP);
    // It is there before it is written to.
    let new = || fs::read_to_string(server.file("a.log")).unwrap_or_default();
    wait_until("there is a new log file", || new().contains("reloaded"));
    assert!(echoes(&session));
    drop(session);
    wait_until("the end of the session is in the new file", || new().contains("user=alice"));
    assert!(!fs::read_to_string(server.file("a.log.1")).unwrap().contains("user=alice"));
}
