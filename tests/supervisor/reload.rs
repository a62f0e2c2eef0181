//! Reloading by signal.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use vless_rust::session::close::CloseReason;

use crate::harness::{Process, echoes};
use crate::support::origin::Origin;
use crate::support::server::{ALICE, BOB, STRANGER};
use crate::support::wait_until;

const ALICE_LINE: &str = r#"{ "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" }"#;
const BOB_LINE: &str = r#"{ "uuid": "626f6227-7320-6c6f-6e67-65722069642e", "email": "bob" }"#;
const NEW_LINE: &str = r#"{ "uuid": "6e6f626f-6479-206b-6e6f-7773206d6521", "email": "new" }"#;

fn config(users: &[&str], rest: &str) -> String {
    let users = users.join(", ");
    format!(
        r#"{{ "server": {{ "listen": "127.0.0.1", "port": PORT }}, "outbound": {{ "allow": [ "127.0.0.0/8" ] }},
            "users": [ {users} ], "monitoring": {{ "enabled": false }}, "log": {{ "access": true }} {rest} }}"#
    )
}

/// The server has ended this session.
fn is_ended(mut session: &TcpStream) -> bool {
    !matches!(session.read(&mut [0]), Ok(1..))
}

#[test]
fn users_come_and_go_and_only_the_removed_are_cut() {
    let server = Process::start(&config(&[ALICE_LINE, BOB_LINE], ""), |_| {});
    let origin = Origin::echo();
    let alice: Vec<_> = (0..20).map(|_| server.open(&ALICE, origin.address).unwrap()).collect();
    let bob: Vec<_> = (0..5).map(|_| server.open(&BOB, origin.address).unwrap()).collect();
    assert!(server.open(&STRANGER, origin.address).is_none());
    server.write_config(&config(&[ALICE_LINE, NEW_LINE], ""));
    assert!(server.reload().contains("reloaded (signal): users +1 -1"));
    assert!(bob.iter().all(is_ended));
    server.wait_for_end("bob", CloseReason::UserRemoved);
    assert!(alice.iter().all(echoes), "not one session of others");
    assert!(server.open(&STRANGER, origin.address).is_some(), "the new user's id");
    assert!(server.open(&BOB, origin.address).is_none());
    assert!(alice.iter().all(echoes));
}

#[test]
fn a_new_name_and_new_timeouts_cut_nobody() {
    let server = Process::start(&config(&[ALICE_LINE], ""), |_| {});
    let origin = Origin::echo();
    let alice = server.open(&ALICE, origin.address).unwrap();
    server.write_config(
        &config(
            &[&ALICE_LINE.replace("\"alice\"", "\"anna\"")],
            r#", "timeouts": { "idle": 77 }, "server": { "listen": "127.0.0.1", "port": PORT, "workers": 7 }"#,
        )
        .replacen(r#""server": { "listen": "127.0.0.1", "port": PORT }, "#, "", 1),
    );
    let line = server.reload();
    let said = "users +0 -0, 1 changed, timeouts.idle 300 -> 77; after a restart only: server.workers";
    assert!(line.ends_with(said), "{line}");
    assert!(echoes(&alice));
    // The old name is that of the session, the new one that of the account: removed, both are gone.
    let anna = server.open(&ALICE, origin.address).unwrap();
    server.write_config(&config(&[BOB_LINE], ""));
    server.reload();
    assert!(is_ended(&alice) && is_ended(&anna));
}

#[test]
fn an_invalid_file_changes_nothing_and_says_where() {
    let server = Process::start(&config(&[ALICE_LINE], ""), |_| {});
    let origin = Origin::echo();
    let alice = server.open(&ALICE, origin.address).unwrap();
    for (text, why) in [
        (config(&[BOB_LINE], ", \"timeouts\": {\n\"idle\": 0 }"), "config.json:3:9: timeouts.idle: must be between"),
        (
            config(&[BOB_LINE, &NEW_LINE.replace("\"new\"", "\"bob\"")], ""),
            "users[1].email: \"bob\" is also the email of users[0]",
        ),
        ("{".to_owned(), "config.json:1:1: not valid JSON"),
        (
            config(&[BOB_LINE], r#", "log": { "file": "/no/such/folder/log" }"#).replacen(
                r#""log": { "access": true } , "#,
                "",
                1,
            ),
            "/no/such/folder/log",
        ),
    ] {
        server.write_config(&text);
        let line = server.reload();
        assert!(line.contains("not reloaded (signal), everything is as before"), "{line}");
        assert!(line.contains(why), "{line}");
        assert!(echoes(&alice) && server.open(&ALICE, origin.address).is_some());
        assert!(server.open(&BOB, origin.address).is_none());
    }
}

#[test]
fn listeners_come_and_go() {
    let server = Process::start(&config(&[ALICE_LINE], ""), |_| {});
    let origin = Origin::echo();
    let alice = server.open(&ALICE, origin.address).unwrap();
    let with_listen = |listen: &str| config(&[ALICE_LINE], "").replacen("\"127.0.0.1\"", listen, 1);
    let second = format!("127.0.0.2:{}", server.address.port());
    assert!(TcpStream::connect(&second).is_err());
    server.write_config(&with_listen("[\"127.0.0.1\", \"127.0.0.2\"]"));
    let line = server.reload();
    assert!(
        line.ends_with("reloaded (signal): server.listen [\"127.0.0.1\"] -> [\"127.0.0.1\",\"127.0.0.2\"]"),
        "{line}"
    );
    wait_until("it listens there, too", || TcpStream::connect(&second).is_ok());
    server.write_config(&with_listen("\"127.0.0.2\""));
    server.reload();
    wait_until("it does not listen here any more", || TcpStream::connect(server.address).is_err());
    assert!(TcpStream::connect(&second).is_ok());
    assert!(echoes(&alice), "who came through the old one stays");
    // An address that cannot be had changes nothing, not even the rest.
    let _taken = TcpListener::bind(("127.0.0.3", server.address.port())).unwrap();
    server.write_config(&with_listen("[\"127.0.0.2\", \"127.0.0.3\"]").replace(ALICE_LINE, BOB_LINE));
    let line = server.reload();
    assert!(line.contains("not reloaded") && line.contains("127.0.0.3"), "{line}");
    assert!(echoes(&alice));
}

#[test]
fn a_hundred_reloads_half_of_them_invalid_lose_nobody_and_nothing() {
    let server = Process::start(&config(&[ALICE_LINE, BOB_LINE], ""), |_| {});
    let origin = Origin::echo();
    let sessions: Vec<_> = (0..50).map(|_| server.open(&ALICE, origin.address).unwrap()).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // New clients come all the while, and old ones are served.
        let busy = scope.spawn(|| {
            let mut opened = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert!(server.open(&ALICE, origin.address).is_some());
                assert!(echoes(&sessions[opened % sessions.len()]));
                opened += 1;
            }
            opened
        });
        let mut first = None;
        for number in 0..100 {
            let rest = if number % 2 == 0 {
                format!(", \"timeouts\": {{ \"idle\": {} }}", 100 + number)
            } else {
                ", 5".to_owned()
            };
            let users = if number % 4 == 0 { &[ALICE_LINE, BOB_LINE][..] } else { &[ALICE_LINE, NEW_LINE] };
            server.write_config(&config(users, &rest));
            let line = server.reload();
            assert_eq!(line.contains("not reloaded"), number % 2 == 1, "{line}");
            if number == 20 {
                first = Some(server.resident_bytes());
            }
        }
        let grown = server.resident_bytes().saturating_sub(first.unwrap());
        println!("{grown} bytes more memory after the last 80 of 100 reloads");
        assert!(grown < 4 << 20, "{grown} bytes more");
        is_over.store(true, Ordering::Relaxed);
        let opened = busy.join().unwrap();
        println!("{opened} new sessions meanwhile");
        assert!(opened > 50);
    });
    assert!(sessions.iter().all(echoes));
    drop(sessions);
    wait_until("no descriptor is left over", || server.descriptors() < 64);
    println!("{} descriptors at the end", server.descriptors());
}
