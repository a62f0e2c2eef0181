//! What becomes of a worker that does not come to an end, and of one that has found a bug.

use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::time::Instant;

use vless_rust::control::state::file::load;

use crate::harness::Process;
use crate::support::origin::Origin;
use crate::support::server::ALICE;
use crate::support::wait_until;

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT, "workers": 1 }, "outbound": { "allow": [ "127.0.0.0/8" ] },
    "users": [ { "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" } ],
    "monitoring": { "port": MONITOR, "socket": null, "state_interval": 3600 } }"#;

/// The environment in which a build with debug assertions makes the fault by itself.
const PLANT: &str = "VLESS_RUST_PLANT";

fn config() -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    CONFIG.replace("MONITOR", &free.port().to_string())
}

#[test]
fn a_panic_ends_the_process_with_what_it_was_doing_and_keeps_the_totals() {
    let mut server = Process::start_with(&config(), &[(PLANT, "panic:half_closed")], |_| {});
    server.wait_for_line(0, "monitoring on");
    let origin = Origin::echo();
    let mut session = server.open(&ALICE, origin.address).unwrap();
    session.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.wait(), None, "a signal ends it");
    assert!(!matches!(session.read(&mut [0]), Ok(1..)));
    let line = server.wait_for_line(0, "has found a bug of ours");
    assert!(line.contains("worker-0 has found a bug of ours at src/reactor/pulse.rs:"), "{line}");
    assert!(line.contains(": planted; it was serving a session (state half_closed, kind "), "{line}");
    assert!(!line.contains("616c6963"), "an id is a secret: {line}");
    let saved = load(&server.file("state.json"), 0).saved;
    assert_eq!((saved.upload_bytes, saved.download_bytes), (4, 4), "written long before its time");
    let start = Instant::now();
    server.kill_and_start_again();
    println!("serving again after {:?}", start.elapsed());
    assert!(server.open(&ALICE, origin.address).is_some());
}

#[test]
fn a_turn_that_lasts_is_told_of_while_it_lasts() {
    let server = Process::start_with(&config(), &[(PLANT, "stall:relaying")], |_| {});
    let origin = Origin::echo();
    assert!(server.open(&ALICE, origin.address).is_some(), "it comes to an end all the same");
    let line = server.wait_for_line(0, "a turn has lasted for");
    assert!(line.contains("worker 0: a turn has lasted for "), "{line}");
    assert!(line.ends_with(" s: serving a session (state relaying, kind plain)"), "{line}");
    wait_until("nobody tells it twice", || {
        server.said().iter().filter(|line| line.contains("a turn has lasted for")).count() == 1
    });
}
