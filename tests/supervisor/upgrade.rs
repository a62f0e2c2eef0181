//! Another process takes over: nobody notices, and nothing is counted twice or lost.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use vless_rust::session::close::CloseReason;

use crate::harness::{Process, echoes, program};
use crate::support::client::request;
use crate::support::origin::Origin;
use crate::support::ports::free_port;
use crate::support::server::{ALICE, BOB};
use crate::support::{bounded, pattern, wait_until};

const ALICE_LINE: &str = r#"{ "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" }"#;
const BOB_LINE: &str = r#"{ "uuid": "626f6227-7320-6c6f-6e67-65722069642e", "email": "bob" }"#;

/// All clients have one address here, so what a source may have is no limit.
fn config(workers: usize, users: &str, monitoring: u16) -> String {
    format!(
        r#"{{ "server": {{ "listen": "127.0.0.1", "port": PORT, "workers": {workers} }},
            "limits": {{ "handshakes_per_source_max": 0 }},
            "outbound": {{ "allow": [ "127.0.0.0/8" ] }}, "users": [ {users} ], "log": {{ "access": true }},
            "monitoring": {{ "port": {monitoring} }}, "timeouts": {{ "upgrade": 60 }} }}"#
    )
}

fn number(variable: &str, usual: u64) -> u64 {
    env::var(variable).ok().map_or(usual, |text| text.parse().unwrap())
}

/// The answer of the server that serves now.
fn stats(server: &Process) -> Option<Value> {
    let (code, said) = server.command(&["status", "--json"]);
    (code == Some(0)).then(|| serde_json::from_str(&said).unwrap())
}

/// A download that takes until `may_end`, and then as long as it needs. Panics at the first wrong byte.
fn download(server: SocketAddr, origin: SocketAddr, bytes: u64, may_end: &AtomicBool) {
    let mut socket = bounded(TcpStream::connect(server).unwrap());
    socket.write_all(&request(&ALICE, origin)).unwrap();
    let mut header = [0; 2];
    socket.read_exact(&mut header).unwrap();
    let (mut received, mut chunk) = (0, vec![0; 32 << 10]);
    loop {
        let count = socket.read(&mut chunk).unwrap();
        pattern::check(received, &chunk[..count]);
        received += count as u64;
        if count == 0 {
            break;
        }
        if !may_end.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
    }
    assert_eq!(received, bytes);
}

/// What became of new sessions.
#[derive(Default)]
struct Come {
    served: AtomicU64,
    /// Refused, cut, or without the right echo.
    failed: AtomicU64,
}

/// One new session: whether it gets its echo.
fn is_served(server: SocketAddr, origin: SocketAddr) -> bool {
    let talk = || -> std::io::Result<[u8; 6]> {
        let mut socket = bounded(TcpStream::connect(server)?);
        socket.write_all(&request(&ALICE, origin))?;
        socket.write_all(b"ping")?;
        let mut answer = [0; 6];
        socket.read_exact(&mut answer)?;
        Ok(answer)
    };
    talk().is_ok_and(|answer| &answer == b"\0\0ping")
}

/// So many new sessions a second until `is_over`.
fn come_and_go(server: SocketAddr, origin: SocketAddr, per_second: u64, is_over: &AtomicBool, come: &Come) {
    let interval = Duration::from_secs(1) / per_second as u32;
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let count = if is_served(server, origin) { &come.served } else { &come.failed };
        count.fetch_add(1, Ordering::Relaxed);
        next = (next + interval).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn upgrades_under_load_lose_no_connection_no_byte_and_no_count() {
    let per_second = number("UPGRADE_CONNECTIONS_PER_SECOND", 100);
    let clients = (per_second / 20).max(1);
    let (downloads, bytes) = (number("UPGRADE_DOWNLOADS", 20), 8 << 20);
    let monitoring = free_port();
    let present = |program: &Path, folder: &Path| {
        let _ = fs::remove_file(folder.join("present"));
        symlink(program, folder.join("present")).unwrap();
    };
    let link = Path::new("FOLDER/present");
    let mut server = Process::start_program(link, &config(2, ALICE_LINE, monitoring), &[], |folder| {
        present(&program(), folder);
    });
    let (echo, source) = (Origin::echo(), Origin::source(bytes));
    let (may_end, is_over, come) = (AtomicBool::new(false), AtomicBool::new(false), Come::default());
    let opened_a_second = thread::scope(|scope| {
        let (server, may_end, is_over, come) = (&server, &may_end, &is_over, &come);
        let opened = &come.served;
        for _ in 0..clients {
            scope.spawn(move || come_and_go(server.address, echo.address, per_second / clients, is_over, come));
        }
        for _ in 0..downloads {
            scope.spawn(move || download(server.address, source.address, bytes, may_end));
        }
        wait_until("all are there", || opened.load(Ordering::Relaxed) > 50);
        let (started, earlier) = (Instant::now(), opened.load(Ordering::Relaxed));
        // More workers than listeners are inherited, then fewer.
        for workers in [3, 1, 2] {
            server.write_config(&config(workers, ALICE_LINE, monitoring));
            let pid = server.upgrade();
            let (before, lines) = (opened.load(Ordering::Relaxed), server.said().len());
            // As many as come in a second.
            wait_until("new clients are served", || opened.load(Ordering::Relaxed) > before + per_second);
            server.wait_for_line(0, &format!("process {pid} has taken over"));
            assert_eq!(server.said()[lines..].iter().filter(|line| line.contains("ERROR")).count(), 0);
            // A program that ends before it serves loses nothing, either.
            present(Path::new("/bin/false"), server.folder.path());
            let (code, said) = server.command(&["upgrade"]);
            assert!(code != Some(0) && said.contains("exit status: 1"), "{said}");
            present(&program(), server.folder.path());
        }
        let later = opened.load(Ordering::Relaxed) - earlier;
        may_end.store(true, Ordering::Relaxed);
        is_over.store(true, Ordering::Relaxed);
        later as f64 / started.elapsed().as_secs_f64()
    });
    let (opened, failed) = (come.served.into_inner(), come.failed.into_inner());
    println!(
        "{opened} new sessions, {opened_a_second:.0} a second ({per_second} wanted), and {downloads} downloads across 3 \
         upgrades and 3 that failed: {failed} errors"
    );
    assert_eq!(failed, 0, "new sessions that were not served");
    assert_eq!(server.wait(), Some(0), "the first process has ended by itself");
    let mut last = Value::Null;
    wait_until("every byte is counted once", || {
        last = stats(&server).unwrap();
        last["total_upload_bytes"] == opened * 4 && last["total_download_bytes"] == opened * 4 + downloads * bytes
    });
    let alice = &last["users"][0];
    assert_eq!(
        (&alice["total_upload_bytes"], &alice["total_download_bytes"]),
        (&last["total_upload_bytes"], &last["total_download_bytes"])
    );
}

#[test]
fn a_new_program_that_cannot_start_changes_nothing() {
    let monitoring = free_port();
    let link = Path::new("FOLDER/present");
    let real = program();
    let server = Process::start_program(link, &config(2, ALICE_LINE, monitoring), &[], |folder| {
        symlink(&real, folder.join("present")).unwrap();
    });
    let origin = Origin::echo();
    let session = server.open(&ALICE, origin.address).unwrap();
    wait_until("it can be asked", || stats(&server).is_some());
    let script = |name: &str, text: &str| {
        fs::write(server.file(name), text).unwrap();
        fs::set_permissions(server.file(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("broken", "no program at all");
    script("leaves", "#!/bin/sh\nexit 3\n");
    let name = real.display();
    script("wrong", &format!("#!/bin/sh\nexec {name} run /no/such/config.json\n"));
    // It has the listeners and the state already when something goes wrong.
    fs::write(
        server.file("taken.json"),
        config(2, ALICE_LINE, monitoring)
            .replace("PORT", &server.address.port().to_string())
            .replace("\"127.0.0.1\"", "[ \"127.0.0.1\", \"192.0.2.1\" ]"),
    )
    .unwrap();
    script("late", &format!("#!/bin/sh\nexec {name} run {}\n", server.file("taken.json").display()));
    for (name, why) in [
        ("missing", "cannot be started"),
        ("broken", "cannot be started"),
        ("leaves", "exit status: 3"),
        ("wrong", "/no/such/config.json"),
        ("late", "cannot listen on 192.0.2.1"),
    ] {
        fs::remove_file(server.file("present")).unwrap();
        symlink(server.file(name), server.file("present")).unwrap();
        let (code, said) = server.command(&["upgrade"]);
        assert!(code != Some(0) && said.contains(why), "{name}: {said}");
        assert!(echoes(&session) && server.open(&ALICE, origin.address).is_some(), "{name}");
        wait_until("it can be asked again", || stats(&server).is_some());
    }
    fs::remove_file(server.file("present")).unwrap();
    symlink(&real, server.file("present")).unwrap();
    server.upgrade();
    assert!(echoes(&session), "who is there stays in the old process");
    assert!(server.open(&ALICE, origin.address).is_some());
    let counted = || stats(&server).map(|stats| stats["total_upload_bytes"].clone());
    // Seven sessions said "ping", the first "more" six times.
    wait_until("the new one knows what the old one counted", || counted() == Some((7 * 4 + 6 * 4).into()));
}

#[test]
fn where_nobody_could_take_over_that_is_said_and_nothing_changes() {
    // The engine is away, which a node serves without.
    let node = config(1, ALICE_LINE, free_port()).replacen(
        '{',
        r#"{ "cluster": { "url": "redis://127.0.0.1:1/0", "node": "one" },"#,
        1,
    );
    let deaf = Path::new("FOLDER/service");
    let script = |folder: &Path| {
        let text = format!("#!/bin/sh\nexec env SYSTEMD_EXEC_PID=$$ {} \"$@\"\n", program().display());
        fs::write(folder.join("service"), text).unwrap();
        fs::set_permissions(folder.join("service"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let origin = Origin::echo();
    for (server, why) in [
        (Process::start(&node, |_| {}), "a node of a cluster: restart it"),
        (
            Process::start_program(deaf, &config(1, ALICE_LINE, free_port()), &[], script),
            "systemd does not hear which process serves",
        ),
    ] {
        let session = server.open(&ALICE, origin.address).unwrap();
        wait_until("it can be asked", || stats(&server).is_some());
        let (code, said) = server.command(&["upgrade"]);
        assert!(code != Some(0) && said.contains(why), "{said}");
        server.signal(Signal::USR2);
        server.wait_for_line(0, "not upgraded (signal)");
        assert!(echoes(&session) && server.open(&ALICE, origin.address).is_some());
    }
}

#[test]
fn what_the_new_process_decides_about_accounts_holds_in_the_old_one() {
    let monitoring = free_port();
    let users = [ALICE_LINE, BOB_LINE].join(", ");
    let mut server = Process::start(&config(1, &users, monitoring), |_| {});
    let origin = Origin::echo();
    let (alice, bob) = (server.open(&ALICE, origin.address).unwrap(), server.open(&BOB, origin.address).unwrap());
    wait_until("it can be asked", || stats(&server).is_some());
    let pid = server.upgrade();
    server.write_config(&config(1, ALICE_LINE, monitoring));
    let (code, said) = server.command(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    server.wait_for_end("bob", CloseReason::UserRemoved);
    assert!(echoes(&alice));
    drop((alice, bob));
    assert_eq!(server.wait(), Some(0));
    // The new one ends as any server does.
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    wait_until("it has ended", || test_kill_process(pid).is_err() || is_zombie(pid));
}

/// It has ended, and whoever its parent is now has not noticed.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| state.starts_with('Z'))
}

#[test]
fn a_signal_upgrades_too_and_the_service_manager_is_told_who_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let heard = || {
        let mut bytes = [0; 4096];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut server = Process::start_with(&config(1, ALICE_LINE, free_port()), &variables, |_| {});
    while heard() != "READY=1" {}
    server.signal(Signal::USR2);
    let main = loop {
        if let Some(pid) = heard().strip_prefix("MAINPID=") {
            break pid.parse().unwrap();
        }
    };
    server.note_successor(main);
    while heard() != "READY=1" {}
    assert!(fs::read_link(format!("/proc/{main}/exe")).is_ok());
    assert_eq!(server.wait(), Some(0));
    assert!(server.open(&ALICE, Origin::echo().address).is_some());
}
