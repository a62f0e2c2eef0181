//! The live feed, with frames made by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vless_rust::control::events::{Event, Kind, Level};
use vless_rust::control::guard::Keys;
use vless_rust::control::sample::UserSample;
use vless_rust::control::settings::Settings;

use super::harness::{ADMIN, Plane, VIEW, read_answer, settings};
use super::support::{PATIENCE, wait_until};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// Whoever may not look any more is closed with this code.
const POLICY: u16 = 1008;

struct Reader {
    stream: TcpStream,
}

#[derive(Debug)]
struct Frame {
    opcode: u8,
    payload: Vec<u8>,
}

impl Reader {
    fn connect(plane: &Plane, path: &str) -> Self {
        Self::connect_with(plane, path, &format!("Authorization: Bearer {VIEW}\r\n"))
    }

    /// With these fields of the request.
    fn connect_with(plane: &Plane, path: &str, fields: &str) -> Self {
        let mut stream = plane.connect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            plane.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream, true);
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Self { stream }
    }

    /// `None` at the end.
    fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(head[0] & 0xf0, 0x80, "whole frames without extensions");
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let mut take = |count: usize| {
            let mut bytes = vec![0; count];
            self.stream.read_exact(&mut bytes).unwrap();
            bytes
        };
        let length = match head[1] {
            126 => take(2).iter().fold(0, |length, &byte| length << 8 | usize::from(byte)),
            127 => take(8).iter().fold(0, |length, &byte| length << 8 | usize::from(byte)),
            short => usize::from(short),
        };
        Some(Frame { opcode: head[0] & 0xf, payload: take(length) })
    }

    /// The next text message; pings are answered.
    #[track_caller]
    fn message(&mut self) -> Value {
        loop {
            let frame = self.read().expect("another message");
            match frame.opcode {
                TEXT => return serde_json::from_slice(&frame.payload).unwrap(),
                PING => self.send(0x80 | PONG, &frame.payload),
                other => panic!("{other}: {frame:?}"),
            }
        }
    }

    /// A masked frame.
    fn send(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = vec![first, 0x80 | payload.len().min(126) as u8];
        if payload.len() >= 126 {
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let _ = self.stream.write_all(&bytes);
    }

    /// The code with which the server closes; 0 without a close frame.
    #[track_caller]
    fn close_code(&mut self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no close comes");
            match self.read() {
                Some(Frame { opcode: CLOSE, payload }) => {
                    return payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                }
                Some(_) => {}
                None => return 0,
            }
        }
    }
}

#[test]
fn history_comes_first_and_then_a_snapshot_each_second() {
    let plane = Plane::start(settings());
    for path in ["/api/ws", "/ws"] {
        let mut reader = Reader::connect(&plane, path);
        let first = reader.message();
        assert_eq!((&first["type"], &first["payload"]["duration_seconds"]), (&"history".into(), &60.into()));
        let second = reader.message();
        assert_eq!((&second["type"], &second["payload"]["users"][0]["uuid"]), (&"stats".into(), &"5783a3e7".into()));
        let uptimes = [(); 3].map(|()| {
            let message = reader.message();
            assert_eq!(message["type"], "stats");
            message["payload"]["uptime_seconds"].as_u64().unwrap()
        });
        assert!(uptimes[2] > uptimes[0], "{uptimes:?}");
    }
}

#[test]
fn the_interval_of_snapshots_can_be_set() {
    let plane = Plane::start(Settings { broadcast_interval: Duration::from_secs(3), ..settings() });
    let mut reader = Reader::connect(&plane, "/ws");
    let mut uptimes = Vec::new();
    while uptimes.len() < 3 {
        let message = reader.message();
        if message["type"] == "stats" {
            uptimes.push(message["payload"]["uptime_seconds"].as_u64().unwrap());
        }
    }
    assert!(uptimes[2] - uptimes[1] >= 2, "{uptimes:?}");
}

#[test]
fn events_come_as_they_happen() {
    let plane = Plane::start(settings());
    let mut reader = Reader::connect(&plane, "/ws");
    assert_eq!(reader.message()["type"], "history");
    plane.control.handle().report(Event::new(Kind::Limit, Level::Warn, "ann has used 80 % of the quota"));
    let event = loop {
        let message = reader.message();
        if message["type"] == "event" {
            break message["payload"].clone();
        }
    };
    assert_eq!((&event["kind"], &event["level"], &event["by"]), (&"limit".into(), &"warn".into(), &"server".into()));
    let listed = plane.get("/api/events?kind=limit").json();
    assert_eq!(listed["events"][0], event);
}

#[test]
fn one_reader_too_many_is_told_to_come_back() {
    let plane = Plane::start(Settings { feed_clients_max: 2, ..settings() });
    let _readers = [Reader::connect(&plane, "/ws"), Reader::connect(&plane, "/ws")];
    assert_eq!(Reader::connect(&plane, "/ws").close_code(), 1013);
    plane.wait_for("/api/stats", |body| body["feed_clients"] == 2);
}

#[test]
fn a_close_is_answered() {
    let plane = Plane::start(settings());
    let mut reader = Reader::connect(&plane, "/ws");
    reader.send(0x80 | CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(reader.close_code(), 1000);
    assert!(reader.read().is_none());
    plane.wait_for("/api/stats", |body| body["feed_clients"] == 0);
}

#[test]
fn a_ping_is_answered_between_messages() {
    let plane = Plane::start(settings());
    let mut reader = Reader::connect(&plane, "/ws");
    reader.send(0x80 | PING, b"are you there?");
    let pong = loop {
        let frame = reader.read().unwrap();
        if frame.opcode == PONG {
            break frame;
        }
    };
    assert_eq!(pong.payload, b"are you there?");
}

/// Does something that a reader must not.
type Bad = fn(&mut Reader);

#[test]
fn readers_who_break_the_protocol_are_closed_with_its_code() {
    let plane = Plane::start(settings());
    let cases: [(&str, Bad, u16); 8] = [
        ("an unmasked frame", |reader| drop(reader.stream.write_all(&[0x81, 2, b'h', b'i'])), 1002),
        ("a fragmented ping", |reader| reader.send(PING, b"x"), 1002),
        ("a long ping", |reader| reader.send(0x80 | PING, &[0; 126]), 1002),
        ("a reserved opcode", |reader| reader.send(0x83, b"x"), 1002),
        ("a reserved bit", |reader| reader.send(0xc1, b"x"), 1002),
        ("a continuation of nothing", |reader| reader.send(0x80, b"x"), 1002),
        ("text that is not UTF-8", |reader| reader.send(0x81, &[0xff, 0xfe]), 1007),
        ("a message too long", |reader| reader.send(0x82, &[0; 5000]), 1009),
    ];
    for (name, send, code) in cases {
        let mut reader = Reader::connect(&plane, "/ws");
        send(&mut reader);
        assert_eq!(reader.close_code(), code, "{name}");
    }
    assert_eq!(plane.get("/healthz").status, 200);
}

#[test]
fn frames_of_absurd_length_are_refused_without_waiting_for_them() {
    let plane = Plane::start(settings());
    let mut reader = Reader::connect(&plane, "/ws");
    let head = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[1, 2, 3, 4]].concat();
    reader.stream.write_all(&head).unwrap();
    assert!(matches!(reader.close_code(), 1009 | 1002));
}

#[test]
fn frames_cut_into_single_bytes_are_understood() {
    let plane = Plane::start(settings());
    let mut reader = Reader::connect(&plane, "/ws");
    for byte in [0x89, 0x82, 0, 0, 0, 0, b'h', b'i'] {
        reader.stream.write_all(&[byte]).unwrap();
    }
    loop {
        let frame = reader.read().unwrap();
        if frame.opcode == PONG {
            assert_eq!(frame.payload, b"hi");
            return;
        }
    }
}

#[test]
fn a_reader_who_does_not_answer_is_dropped() {
    let plane = Plane::start(Settings { heartbeat_timeout: Duration::from_secs(2), ..settings() });
    let start = Instant::now();
    let mut silent = Reader::connect(&plane, "/ws");
    let mut alive = Reader::connect(&plane, "/ws");
    // Reads everything, answers nothing.
    while silent.read().is_some() {
        assert!(start.elapsed() < PATIENCE);
        assert_eq!(alive.stream.peek(&mut [0]).unwrap(), 1);
        alive.message();
    }
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
    plane.wait_for("/api/performance", |body| body["counters"]["vless_feed_clients_dropped_total"] == 1);
    alive.message();
}

/// Snapshots of a megabyte and more, if all of them change.
fn with_many_users(plane: &Plane) {
    let mut sample = plane.backend.sample.lock().unwrap();
    let one = sample.users[0].clone();
    sample.users = (0..2000_u64)
        .map(|number| {
            let mut user = one.clone();
            user.ledger_id[..8].copy_from_slice(&number.to_be_bytes());
            user.email = format!("user-{number}@example.com").into();
            user
        })
        .collect();
}

/// Changes all accounts over and over, until it is dropped.
struct Changing(Arc<AtomicBool>);

impl Changing {
    fn start(plane: &Plane) -> Self {
        let (is_over, backend) = (Arc::new(AtomicBool::new(false)), Arc::clone(&plane.backend));
        let changing = Self(Arc::clone(&is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                backend.sample.lock().unwrap().users.iter_mut().for_each(|user| user.quota_used_bytes += 1);
                thread::sleep(Duration::from_millis(100));
            }
        });
        changing
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_who_do_not_read_cost_no_memory_and_are_dropped() {
    let plane = Plane::start(settings());
    with_many_users(&plane);
    let _changing = Changing::start(&plane);
    plane.wait_for("/api/stats", |body| body["users"].as_array().unwrap().len() == 2000);
    let before = plane.get("/api/stats").json()["memory_bytes"].as_u64().unwrap();
    let _lazy: Vec<_> = (0..50).map(|_| Reader::connect(&plane, "/ws")).collect();
    let mut most = 0;
    let start = Instant::now();
    plane.wait_for("/api/stats", |body| body["feed_clients"] == 50);
    wait_until("all of them are dropped", || {
        thread::sleep(Duration::from_millis(100));
        let stats = plane.get("/api/stats").json();
        most = most.max(stats["memory_bytes"].as_u64().unwrap());
        stats["feed_clients"] == 0
    });
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
    // Each of them had more than a megabyte coming, over and over; together they may hold the snapshots of some seconds.
    assert!(most < before + (64 << 20), "{before} grew to {most}");
    let dropped = plane.get("/api/performance").json()["counters"]["vless_feed_clients_dropped_total"].clone();
    assert_eq!(dropped, 50);
}

#[test]
fn a_reader_who_does_not_read_and_goes_on_pinging_is_dropped_all_the_same() {
    let plane = Plane::start(Settings { heartbeat_timeout: PATIENCE * 10, ..settings() });
    with_many_users(&plane);
    let _changing = Changing::start(&plane);
    plane.wait_for("/api/stats", |body| body["users"].as_array().unwrap().len() == 2000);
    let mut reader = Reader::connect(&plane, "/ws");
    plane.wait_for("/api/stats", |body| body["feed_clients"] == 1);
    wait_until("whoever takes nothing goes, however lively", || {
        // Not so many that the answers to them are too much.
        reader.send(0x80 | PONG, b"here I am");
        thread::sleep(Duration::from_millis(100));
        plane.get("/api/stats").json()["feed_clients"] == 0
    });
}

#[test]
fn a_slow_reader_misses_snapshots_and_gets_whole_messages_all_the_same() {
    let plane = Plane::start(settings());
    with_many_users(&plane);
    let _changing = Changing::start(&plane);
    plane.wait_for("/api/stats", |body| body["users"].as_array().unwrap().len() == 2000);
    let mut reader = Reader::connect(&plane, "/ws");
    assert_eq!(reader.message()["type"], "history");
    let mut uptimes = Vec::new();
    // Between two messages with all accounts there may be one without.
    for number in 0..6 {
        thread::sleep(Duration::from_millis(2500));
        let message = reader.message();
        let users = message["payload"]["users"].as_array().unwrap().len();
        assert!(users == 2000 || users == 0 && number > 0, "{users}");
        uptimes.push((message["payload"]["uptime_seconds"].as_u64().unwrap(), users));
    }
    assert!(uptimes.iter().map(|(uptime, _)| uptime).is_sorted(), "{uptimes:?}");
    assert!(uptimes.iter().filter(|(_, users)| *users == 2000).count() >= 2, "{uptimes:?}");
}

/// The next figures for which `is_wanted`, and how long their message was.
fn figures(reader: &mut Reader, is_wanted: impl Fn(&Value) -> bool) -> (Value, usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no such figures come");
        let message = reader.message();
        if message["type"] == "stats" && is_wanted(&message["payload"]) {
            return (message["payload"].clone(), message.to_string().len());
        }
    }
}

#[test]
fn after_the_first_figures_only_accounts_that_changed_come() {
    let plane = Plane::start(settings());
    with_many_users(&plane);
    plane.wait_for("/api/stats", |body| body["users_total"] == 2000);
    let mut reader = Reader::connect(&plane, "/ws");
    let (first, length) = figures(&mut reader, |_| true);
    assert_eq!((&first["users_scope"], first["users"].as_array().unwrap().len()), (&"all".into(), 2000));
    assert!(length > 1 << 20);
    let seen = first["users_version"].as_u64().unwrap();
    // What had changed shortly before may come once more.
    let (_, length) = figures(&mut reader, |stats| stats["users"].as_array().unwrap().is_empty());
    assert!(length < 10_000, "{length} bytes about nobody");
    {
        let mut sample = plane.backend.sample.lock().unwrap();
        sample.users[5].totals.sessions_active = 1;
        sample.users.remove(7);
    }
    let (changed, length) =
        figures(&mut reader, |stats| stats["users_scope"] == "changed" && stats["users_removed"][0] != Value::Null);
    assert_eq!((&changed["users_removed"], &changed["users_total"]), (&json!(["user-7@example.com"]), &1999.into()));
    assert_eq!(
        (&changed["users"][0]["email"], changed["users"].as_array().unwrap().len()),
        (&"user-5@example.com".into(), 1)
    );
    assert!(changed["users_since"].as_u64().unwrap() >= seen && changed["users_version"].as_u64() > Some(seen));
    assert!(length < 10_000, "{length} bytes about one account");
    // Whoever comes back with a version gets what has changed since; without one, or with one of another process, all.
    let mut back = Reader::connect(&plane, &format!("/ws?users_since={seen}"));
    let (missed, _) = figures(&mut back, |_| true);
    assert_eq!(missed["users_scope"], "changed");
    assert!(missed["users_removed"].as_array().unwrap().contains(&"user-7@example.com".into()), "{missed}");
    let scope = |query: &str| plane.get(&format!("/api/stats?{query}")).json()["users_scope"].clone();
    assert_eq!(scope(&format!("users_since={seen}")), "changed");
    assert_eq!([scope(""), scope("users_since=5"), scope("users=all")], ["all", "all", "all"]);
    assert_eq!(scope("users=none"), "none");
    assert_eq!(plane.get("/api/stats?users=x").status, 400);
    assert_eq!(plane.get("/api/stats?users_since=x").status, 400);
    let mut without = Reader::connect(&plane, "/ws?users=none");
    for _ in 0..3 {
        assert_eq!(figures(&mut without, |_| true).0["users"], json!([]));
    }
}

#[test]
fn whoever_takes_long_answers_slowly_does_not_fill_the_memory() {
    let plane = Plane::start(settings());
    {
        // More than the kernel keeps for a client that reads nothing.
        let mut sample = plane.backend.sample.lock().unwrap();
        let one = UserSample { note: "x".repeat(10_000).into(), ..sample.users[0].clone() };
        sample.users = (0..500).map(|n| UserSample { email: format!("user-{n}").into(), ..one.clone() }).collect();
    }
    plane.wait_for("/api/stats?users=none", |body| body["users_total"] == 500);
    let evicted = || {
        let counters = plane.get("/api/performance").json();
        counters["counters"]["vless_monitor_clients_evicted_total"].as_u64().unwrap()
    };
    let mut lazy = Vec::new();
    wait_until("some are closed", || {
        let mut stream = plane.connect();
        let head =
            format!("GET /api/users HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {VIEW}\r\n\r\n", plane.address);
        stream.write_all(head.as_bytes()).unwrap();
        lazy.push(stream);
        thread::sleep(Duration::from_millis(100));
        evicted() > 0
    });
    assert!(lazy.len() > 2, "two may wait");
    assert_eq!(plane.get("/api/users").json()["users"].as_array().unwrap().len(), 500);
}

#[test]
fn a_reader_goes_with_the_token_it_came_with_and_the_others_stay() {
    let plane = Plane::start(settings());
    let mut viewer = Reader::connect(&plane, "/ws");
    let mut admin = Reader::connect_with(&plane, "/ws", &format!("Authorization: Bearer {ADMIN}\r\n"));
    let keys = Keys { token: Some("another-token-to-look".to_owned()), ..settings().keys };
    plane.control.handle().adopt(Settings { keys, ..settings() });
    assert_eq!(viewer.close_code(), POLICY);
    admin.message();
    admin.message();
    // The token stays, and may do less.
    let keys = Keys { token: Some(ADMIN.to_owned()), admin_token: None, ..settings().keys };
    plane.control.handle().adopt(Settings { keys, ..settings() });
    assert_eq!(admin.close_code(), POLICY);
    plane.wait_for("/api/stats", |body| body["feed_clients"] == 0);
}

#[test]
fn a_reader_goes_with_the_logout_of_its_login() {
    let plane = Plane::start(settings());
    let log_in = || {
        let answer = plane.ask_as(None, "POST", "/api/login", "", &format!("{{\"token\":\"{ADMIN}\"}}"));
        format!("Cookie: {}\r\n", answer.field("Set-Cookie").unwrap().split(';').next().unwrap())
    };
    let (cookie, other) = (log_in(), log_in());
    let mut gone = Reader::connect_with(&plane, "/ws", &cookie);
    let mut stays = Reader::connect_with(&plane, "/ws", &other);
    assert_eq!(plane.ask_as(None, "POST", "/api/logout", &cookie, "").status, 204);
    assert_eq!(gone.close_code(), POLICY);
    stays.message();
    stays.message();
}

#[test]
fn a_reader_without_a_token_goes_when_one_is_needed() {
    let open = Settings { keys: Keys { token: None, ..settings().keys }, ..settings() };
    let plane = Plane::start(open);
    let mut reader = Reader::connect_with(&plane, "/ws", "");
    reader.message();
    plane.control.handle().adopt(settings());
    assert_eq!(reader.close_code(), POLICY);
}

#[test]
fn at_the_end_readers_are_told() {
    let mut plane = Plane::start(settings());
    let mut reader = Reader::connect(&plane, "/ws");
    reader.message();
    plane.control.stop();
    assert_eq!(reader.close_code(), 1001);
}
