//! Accounts that change while the server runs: at once, and nobody else notices.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};
use vless_rust::session::close::CloseReason;

use crate::api::{Answer, ask, ask_with};
use crate::harness::{Process, echoes};
use crate::support::origin::Origin;
use crate::support::ports::free_port;
use crate::support::server::ALICE;
use crate::support::wait_until;

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT, "workers": 2 },
    "outbound": { "allow": [ "127.0.0.0/8" ] },
    "users": [ { "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" } ],
    "monitoring": { "listen": "127.0.0.1", "port": MONITOR, "state_interval": 1 }, "log": { "access": true } }"#;
/// From the command to the end of a session.
const AT_ONCE: Duration = Duration::from_secs(1);

struct Server {
    process: Process,
    origin: Origin,
}

impl Server {
    fn start() -> Self {
        let free = free_port();
        let process = Process::start(&CONFIG.replace("MONITOR", &free.to_string()), |_| {});
        Self::of(process, Origin::echo())
    }

    fn of(process: Process, origin: Origin) -> Self {
        wait_until("the socket answers", || UnixStream::connect(process.file("vless-rust.sock")).is_ok());
        Self { process, origin }
    }

    fn ask(&self, method: &str, path: &str, revision: Option<u64>, body: Option<&Value>) -> Answer {
        ask(&self.process.file("vless-rust.sock"), method, path, revision, body)
    }

    /// An answer that is not JSON.
    fn text(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.process.file("vless-rust.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Of a file with accounts, which is whole; 0 where there is none.
    fn revision_of(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.process.file(file)).unwrap_or_else(|_| "{}".to_owned());
        serde_json::from_str::<Value>(&text).unwrap()["revision"].as_u64().unwrap_or(0)
    }

    fn revision(&self) -> u64 {
        self.ask("GET", "/api/users", None, None).body["revision"].as_u64().unwrap()
    }

    /// Makes a change that must succeed.
    #[track_caller]
    fn change(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.ask(method, path, Some(self.revision_of("users.json")), body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        answer.body
    }

    fn add(&self, email: &str, limits: &Value) -> [u8; 16] {
        let user = self.change("POST", "/api/users", Some(&json!({ "email": email, "limits": limits })));
        let id = user["uuid"].as_str().unwrap();
        uuid::Uuid::parse_str(id).unwrap().into_bytes()
    }

    fn open(&self, id: &[u8; 16]) -> Option<TcpStream> {
        self.process.open(id, self.origin.address)
    }
}

/// The session ends by itself within [`AT_ONCE`].
#[track_caller]
fn assert_cut(mut session: &TcpStream, since: Instant) {
    while matches!(session.read(&mut [0; 4096]), Ok(1..)) {}
    assert!(since.elapsed() < AT_ONCE + Duration::from_millis(500), "{:?}", since.elapsed());
}

#[test]
fn a_user_connects_as_soon_as_the_command_has_returned_and_is_cut_when_removed() {
    let server = Server::start();
    let alice = server.open(&ALICE).unwrap();
    let id = server.add("new", &json!({}));
    let session = server.open(&id).expect("at once");
    let since = Instant::now();
    server.change("DELETE", "/api/users/new", None);
    assert_cut(&session, since);
    server.process.wait_for_end("new", CloseReason::UserRemoved);
    assert!(server.open(&id).is_none() && echoes(&alice));
}

#[test]
fn changes_of_many_at_once_are_all_made_and_each_has_a_revision_of_its_own() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 10;
    let server = Server::start();
    let alice = server.open(&ALICE).unwrap();
    let socket = server.process.file("vless-rust.sock");
    let client = |number: usize| {
        let any =
            |method: &str, path: &str, body: Option<&Value>| ask_with(&socket, method, path, "If-Match: *\r\n", body);
        let mut revisions = Vec::new();
        for round in 0..ROUNDS {
            let email = format!("user-{number}-{round}");
            let added = any("POST", "/api/users", Some(&json!({ "email": email })));
            let id = uuid::Uuid::parse_str(added.body["uuid"].as_str().unwrap()).unwrap().into_bytes();
            assert!(server.open(&id).is_some(), "whoever was told may connect");
            let gone = any("DELETE", &format!("/api/users/{email}"), None);
            assert_eq!((added.status, gone.status), (201, 204));
            assert!(server.open(&id).is_none(), "nobody may any more");
            revisions.extend([added.revision.unwrap(), gone.revision.unwrap()]);
        }
        assert!(revisions.is_sorted());
        revisions
    };
    let mut revisions: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=(2 * CLIENTS * ROUNDS) as u64).collect::<Vec<_>>());
    assert_eq!(server.revision(), (2 * CLIENTS * ROUNDS) as u64);
    assert!(echoes(&alice));
}

#[test]
fn of_many_who_have_seen_the_same_list_one_changes_it() {
    const CLIENTS: usize = 8;
    let server = Server::start();
    for round in 0..5 {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let server = &server;
            let add = |number| json!({ "email": format!("user-{number}-{round}") });
            let ask = move |number| server.ask("POST", "/api/users", Some(round), Some(&add(number)));
            let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || ask(number))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        let stale: Vec<_> = answers.iter().filter(|answer| answer.status == 412).collect();
        assert_eq!(stale.len(), CLIENTS - 1);
        assert!(stale.iter().all(|answer| answer.body["revision"] == round + 1));
    }
}

/// Adds users until the server is gone, or `stop`; how many the server said it has added.
fn add_until_it_is_gone(socket: &Path, round: u64, stop: &AtomicBool) -> u64 {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        let user = json!({ "email": format!("user-{round}-{answered}") }).to_string();
        let fields = format!("Host: localhost\r\nIf-Match: *\r\nContent-Length: {}\r\n", user.len());
        let Ok(mut stream) = UnixStream::connect(socket) else { break };
        let mut answer = [0; 12];
        let asked = stream.write_all(format!("POST /api/users HTTP/1.1\r\n{fields}\r\n{user}").as_bytes());
        if asked.and_then(|()| stream.read_exact(&mut answer)).is_err() {
            break;
        }
        assert_eq!(&answer, b"HTTP/1.1 201");
        answered += 1;
    }
    answered
}

#[test]
fn what_was_answered_is_there_after_a_kill_and_the_file_is_whole_whenever_it_comes() {
    let mut server = Server::start();
    let mut known = 0;
    for round in 0..10_u64 {
        let socket = server.process.file("vless-rust.sock");
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        let client = std::thread::spawn(move || add_until_it_is_gone(&socket, round, &theirs));
        // Another moment each time.
        std::thread::sleep(Duration::from_millis(40 + 13 * round));
        let Server { mut process, origin } = server;
        process.kill_and_start_again();
        stop.store(true, Ordering::Relaxed);
        known += client.join().unwrap();
        server = Server::of(process, origin);
        let (revision, before) = (server.revision_of("users.json"), server.revision_of("users.json.previous"));
        assert!(revision >= known, "{known} changes were answered, and the file has {revision}");
        assert!(before < revision || revision == 0, "the copy is of {before}, and the file of {revision}");
        // The one under way was made or not.
        known = revision;
    }
    assert!(known > 0);
}

#[test]
fn a_disabled_user_is_cut_and_comes_back_when_enabled() {
    let server = Server::start();
    let id = server.add("u", &json!({}));
    let sessions: Vec<_> = (0..10).map(|_| server.open(&id).unwrap()).collect();
    let since = Instant::now();
    server.change("PATCH", "/api/users/u", Some(&json!({ "enabled": false })));
    for session in &sessions {
        assert_cut(session, since);
    }
    server.process.wait_for_end("u", CloseReason::UserDisabled);
    assert!(server.open(&id).is_none());
    server.change("PATCH", "/api/users/u", Some(&json!({ "enabled": true })));
    assert!(server.open(&id).is_some());
}

#[test]
fn a_new_id_cuts_the_old_one() {
    let server = Server::start();
    let old = server.add("u", &json!({}));
    let session = server.open(&old).unwrap();
    let since = Instant::now();
    let user = server.change("POST", "/api/users/u/rotate", None);
    assert_cut(&session, since);
    let new = uuid::Uuid::parse_str(user["uuid"].as_str().unwrap()).unwrap().into_bytes();
    assert!(server.open(&old).is_none() && server.open(&new).is_some());
}

#[test]
fn sessions_are_listed_and_cut_by_the_name_that_their_user_has_now() {
    let server = Server::start();
    let id = server.add("before", &json!({}));
    let (session, alice) = (server.open(&id).unwrap(), server.open(&ALICE).unwrap());
    server.change("PATCH", "/api/users/before", Some(&json!({ "email": "after" })));
    let listed = |name: &str| server.change("GET", &format!("/api/connections?user={name}"), None);
    assert_eq!(listed("before")["total"], 0);
    let page = listed("after");
    assert_eq!((&page["total"], &page["connections"][0]["user"]), (&json!(1), &json!("after")), "{page}");
    let cut = |name: &str| server.change("DELETE", &format!("/api/connections?user={name}"), None);
    assert_eq!(cut("before")["cut"], 0);
    let since = Instant::now();
    assert_eq!(cut("after")["cut"], 1);
    assert_cut(&session, since);
    assert!(echoes(&alice));
}

#[test]
fn an_account_ends_by_the_clock() {
    let server = Server::start();
    let alice = server.open(&ALICE).unwrap();
    let at = SystemTime::now() + Duration::from_secs(3);
    let at = at.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let text = vless_rust::app::clock::rfc3339_seconds(at);
    let id = server.add("u", &json!({ "expires_at": text }));
    let mut session = server.open(&id).unwrap();
    while matches!(session.read(&mut [0]), Ok(1..)) {}
    let late = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(at)).expect("not before its time");
    assert!(late < AT_ONCE + Duration::from_millis(500), "{late:?}");
    server.process.wait_for_end("u", CloseReason::Expired);
    assert!(server.open(&id).is_none() && echoes(&alice));
}

#[test]
fn a_used_quota_cuts_and_a_reset_lets_in_again() {
    let server = Server::start();
    let id = server.add("u", &json!({ "quota_bytes": 100_000 }));
    let mut session = server.open(&id).unwrap();
    let since = Instant::now();
    session.write_all(&vec![7; 60_000]).unwrap();
    // Both directions together are more than the quota, so the answer does not come whole.
    assert!(session.read_exact(&mut vec![0; 60_000]).is_err());
    assert_cut(&session, since);
    server.process.wait_for_end("u", CloseReason::QuotaUsed);
    assert!(server.open(&id).is_none());
    server.change("POST", "/api/users/u/reset", None);
    assert!(server.open(&id).is_some());
}

#[test]
fn what_was_used_survives_a_kill() {
    let server = Server::start();
    let id = server.add("u", &json!({ "quota_bytes": 100_000 }));
    let mut session = server.open(&id).unwrap();
    session.write_all(&vec![7; 30_000]).unwrap();
    session.read_exact(&mut vec![0; 30_000]).unwrap();
    let used = 60_000 + 8;
    wait_until("the state has it", || {
        fs::read_to_string(server.process.file("state.json")).is_ok_and(|text| text.contains(&format!(":{used}")))
    });
    let Server { mut process, origin } = server;
    process.kill_and_start_again();
    let server = Server::of(process, origin);
    wait_until("the list has what was used before", || {
        let users = server.ask("GET", "/api/users", None, None).body;
        users["users"]
            .as_array()
            .is_some_and(|users| users.iter().any(|user| user["email"] == "u" && user["quota_used_bytes"] == used))
    });
    assert!(server.open(&id).is_some());
}

#[test]
fn a_change_needs_the_newest_revision_and_an_account_of_the_configuration_is_locked() {
    let server = Server::start();
    server.add("u", &json!({}));
    let patch = json!({ "note": "n" });
    let status = |revision: Option<u64>, user: &str| {
        let answer = server.ask("PATCH", &format!("/api/users/{user}"), revision, Some(&patch));
        (answer.status, answer.body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(status(None, "u").0, 428);
    assert_eq!(status(Some(0), "u"), (412, "stale".to_owned()));
    assert_eq!(status(Some(1), "alice"), (409, "locked".to_owned()));
    assert_eq!(status(Some(1), "nobody"), (404, "not_found".to_owned()));
    let wrong = server.ask("PATCH", "/api/users/u", Some(1), Some(&json!({ "limits": { "quota_day": 29 } })));
    assert_eq!(wrong.status, 422);
    assert_eq!(wrong.body["error"]["message"], "limits.quota_day: must be between 1 and 28, not 29");
    assert_eq!(status(Some(1), "u").0, 200);
    wait_until("the list has the new revision", || server.revision() == 2);
}

#[test]
fn live_sessions_are_listed_and_cut() {
    let server = Server::start();
    let (one, other) = (server.open(&ALICE).unwrap(), server.open(&ALICE).unwrap());
    let list = server.ask("GET", "/api/connections?user=alice", None, None).body;
    assert_eq!(list["total"], 2, "{list}");
    let port = |session: &TcpStream| session.local_addr().unwrap().to_string();
    let lines = list["connections"].as_array().unwrap();
    let id = lines.iter().find(|line| line["client"] == port(&one)).unwrap()["id"].as_str().unwrap();
    let cut = server.ask("DELETE", &format!("/api/connections/{id}"), None, None);
    assert_eq!((cut.status, &cut.body["cut"]), (200, &json!(1)));
    assert_cut(&one, Instant::now());
    assert!(echoes(&other));
    assert_eq!(server.ask("DELETE", &format!("/api/connections/{id}"), None, None).status, 404);
    let cut = server.ask("DELETE", "/api/connections?user=alice", None, None);
    assert_eq!(cut.body["cut"], 1);
    assert_cut(&other, Instant::now());
    server.process.wait_for_end("alice", CloseReason::Cut);
}

#[test]
fn a_reload_is_asked_for_and_answered_in_words() {
    let server = Server::start();
    let answer = server.ask("POST", "/api/reload", None, None);
    assert_eq!((answer.status, &answer.body["ok"], &answer.body["changes"]), (200, &json!(true), &json!([])));
    let text = fs::read_to_string(server.process.file("config.json")).unwrap();
    fs::write(server.process.file("config.json"), text.replace("\"workers\": 2", "\"workers\": true")).unwrap();
    let answer = server.ask("POST", "/api/reload", None, None);
    assert_eq!(answer.status, 422);
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("server.workers: must be a whole number"));
    server.process.signal(Signal::USR1);
    server.process.wait_for_line(0, "\"uptime_seconds\"");
}

#[test]
fn a_users_file_that_is_gone_cuts_nobody() {
    let server = Server::start();
    let session = server.open(&server.add("bob", &json!({}))).unwrap();
    let file = server.process.file("users.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let answer = server.ask("POST", "/api/reload", None, None);
    assert_eq!(answer.status, 422);
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("users.json is gone, and 1 accounts"));
    let change = server.ask("POST", "/api/users", Some(server.revision()), Some(&json!({ "email": "eve" })));
    assert!(change.status >= 400 && change.body.to_string().contains("is gone"), "{change:?}");
    assert!(echoes(&session) && !file.exists());
    fs::write(&file, text.replace("\"bob\"", "\"rob\"")).unwrap();
    assert_eq!(server.ask("POST", "/api/reload", None, None).status, 200);
    assert!(echoes(&session));
    fs::write(&file, "{ \"users\": [] }").unwrap();
    assert_eq!(server.ask("POST", "/api/reload", None, None).status, 200);
    assert_cut(&session, Instant::now());
}

#[test]
fn two_hundred_changes_in_a_row_disturb_nobody() {
    let server = Server::start();
    let sessions: Vec<_> = (0..20).map(|_| server.open(&ALICE).unwrap()).collect();
    for number in 0..100 {
        server.add(&format!("u{number}"), &json!({}));
        assert!(echoes(&sessions[number % sessions.len()]));
    }
    for number in 0..100 {
        server.change("DELETE", &format!("/api/users/u{number}"), None);
        assert!(echoes(&sessions[number % sessions.len()]));
    }
    assert!(sessions.iter().all(echoes));
    let address: SocketAddr = server.process.address;
    assert!(TcpStream::connect(address).is_ok());
}

#[test]
fn who_may_not_connect_gets_the_answer_of_a_stranger_and_the_operator_learns_why() {
    let server = Server::start();
    let past = "2020-01-01T00:00:00Z";
    let disabled = server.add("disabled", &json!({}));
    server.change("PATCH", "/api/users/disabled", Some(&json!({ "enabled": false })));
    let expired = server.add("expired", &json!({ "expires_at": past }));
    let used = server.add("used", &json!({ "quota_bytes": 1 }));
    assert!(server.open(&used).is_none(), "the first bytes use it up");
    wait_until("it is cut", || {
        let users = server.ask("GET", "/api/users", None, None).body;
        users["users"].as_array().is_some_and(|users| users.iter().any(|user| user["state"] == "quota_used"))
    });
    for (id, times) in [(disabled, 1), (expired, 2), (used, 3), (*b"nobody knows me!", 4)] {
        (0..times).for_each(|_| assert!(server.open(&id).is_none()));
    }
    let full = server.add("full", &json!({ "sessions_max": 1 }));
    let _one = server.open(&full).unwrap();
    (0..5).for_each(|_| assert!(server.open(&full).is_none()));
    let expected =
        json!({ "user_disabled": 1, "expired": 2, "quota_used": 3, "unknown_user": 4, "user_sessions_limit": 5 });
    wait_until("all of it is shown", || {
        let rejected = server.ask("GET", "/api/stats", None, None).body["rejected"].take();
        expected.as_object().unwrap().iter().all(|(reason, count)| rejected[reason] == *count)
    });
    let metrics = server.text("/metrics");
    for (reason, count) in expected.as_object().unwrap() {
        let line = format!("vless_rejected_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} {metrics}");
    }
    for reason in [CloseReason::UserDisabled, CloseReason::Expired, CloseReason::QuotaUsed] {
        wait_until("it is in the access log", || {
            server.process.said().iter().any(|line| line.contains("user=- ") && line.ends_with(reason.name()))
        });
    }
}

#[test]
fn most_of_a_quota_and_the_coming_end_of_an_account_are_told_once_also_after_a_kill() {
    let server = Server::start();
    let soon = SystemTime::now() + Duration::from_secs(2 * 86_400);
    let soon = vless_rust::app::clock::rfc3339_seconds(soon.duration_since(UNIX_EPOCH).unwrap().as_secs());
    let id = server.add("u", &json!({ "quota_bytes": 100_000, "expires_at": soon }));
    let mut session = server.open(&id).unwrap();
    session.write_all(&vec![7; 41_000]).unwrap();
    session.read_exact(&mut vec![0; 41_000]).unwrap();
    let codes = |server: &Server| {
        let events = server.ask("GET", "/api/events?kind=limit", None, None).body;
        let events = events["events"].as_array().cloned().unwrap_or_default();
        let mut codes: Vec<_> = events.iter().filter_map(|event| event["code"].as_str().map(str::to_owned)).collect();
        codes.sort_unstable();
        codes
    };
    wait_until("both are told", || codes(&server) == ["account_ends_soon", "quota_low"]);
    server.process.wait_for_line(0, "user u: 82 % of the quota is used");
    server.process.wait_for_line(0, &format!("user u: the account ends at {soon}"));
    wait_until("the state has it", || {
        fs::read_to_string(server.process.file("state.json")).is_ok_and(|text| {
            text.contains("\"warned\":3") && text.contains("quota_low") && text.contains("account_ends_soon")
        })
    });
    let Server { mut process, origin } = server;
    process.kill_and_start_again();
    let server = Server::of(process, origin);
    let id_again = server.open(&id).unwrap();
    assert!(echoes(&id_again));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(codes(&server), ["account_ends_soon", "quota_low"], "not told again");
    drop(id_again);
    let mut session = server.open(&id).unwrap();
    session.write_all(&vec![7; 30_000]).unwrap();
    let _ = session.read_exact(&mut vec![0; 30_000]);
    server.process.wait_for_line(0, "user u: quota_used");
}
