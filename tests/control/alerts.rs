//! Alerts reach those who want to know, and whoever does not listen holds up nobody.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use vless_rust::control::alerts::{Condition, Metric, Recipient, Rule};
use vless_rust::control::settings::Settings;
use vless_rust::control::state::file::load;
use vless_rust::control::webhook::{Roots, Url, post};

use super::harness::{Plane, settings};
use super::support::{self, PATIENCE, wait_until};

fn rule(to: Recipient) -> Rule {
    Rule {
        name: "sessions_short".to_owned(),
        metric: Metric::SessionsPercent,
        condition: Condition::Above(50.0),
        hold: Duration::ZERO,
        to: vec![Recipient::Log, to],
    }
}

fn with_rule(to: Recipient) -> Plane {
    Plane::start(Settings { rules: vec![rule(to)], ..settings() })
}

fn set_sessions(plane: &Plane, sessions: u64) {
    plane.backend.sample.lock().unwrap().sessions = sessions;
}

/// Events about alerts, newest first: what happened, and of which rule.
fn alerts(plane: &Plane) -> Vec<(String, String)> {
    let events = plane.get("/api/events?kind=alert").json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alert = |event: &Value| (text(&event["code"]), text(&event["data"]["name"]));
    events["events"].as_array().unwrap().iter().map(alert).collect()
}

/// The head and the JSON of a request; answers it with `status`.
fn serve(mut stream: impl Read + Write, status: u16) -> (String, Value) {
    let mut reader = BufReader::new(&mut stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

/// Answers each request with the next status.
fn receiver(statuses: Vec<u16>) -> (Url, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/hook?key=secret", listener.local_addr().unwrap())).unwrap();
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        for status in statuses {
            let _ = sender.send(serve(support::accept(&listener), status));
        }
    });
    (url, received)
}

#[test]
fn a_webhook_hears_of_the_alert_and_of_its_end() {
    let (url, received) = receiver(vec![200, 204]);
    let plane = with_rule(Recipient::Webhook(url));
    set_sessions(&plane, 80);
    let (head, body) = received.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /hook?key=secret HTTP/1.1\r\nHost: 127.0.0.1:"), "{head}");
    assert_eq!(
        (&body["state"], &body["name"], &body["value"]),
        (&"fired".into(), &"sessions_short".into(), &80.0.into())
    );
    let stats = plane.get("/api/stats").json();
    assert_eq!((&stats["alerts"][0]["name"], &stats["alerts"][0]["limit"]), (&"sessions_short".into(), &50.0.into()));
    assert!(plane.get("/metrics").text().contains("vless_alerts_firing{rule=\"sessions_short\"} 1\n"));
    set_sessions(&plane, 10);
    let (_, body) = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(body["state"], "resolved");
    let events = plane.wait_for("/api/events?kind=alert", |body| body["events"].as_array().unwrap().len() == 2);
    assert_eq!((&events["events"][0]["level"], &events["events"][1]["level"]), (&"info".into(), &"warn".into()));
    assert!(plane.get("/metrics").text().contains("vless_alerts_firing{rule=\"sessions_short\"} 0\n"));
    assert!(received.try_recv().is_err(), "fired once, resolved once");
}

#[test]
fn a_webhook_that_fails_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
    let plane = with_rule(Recipient::Webhook(url));
    set_sessions(&plane, 80);
    let first = support::accept(&listener);
    // The pause begins with the answer, so never before this.
    let start = Instant::now();
    let first = serve(first, 500).1;
    let second = support::accept(&listener);
    assert_eq!(first, serve(second, 200).1);
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
}

#[test]
fn a_message_says_who_sends_it_when_and_in_which_order() {
    let (url, received) = receiver(vec![200, 200]);
    let server = "fra-1".to_owned();
    let rules = vec![rule(Recipient::Webhook(url))];
    let plane = Plane::start(Settings { server, rules, ..settings() });
    let now = plane.get("/api/stats").json()["now"].as_u64().unwrap();
    set_sessions(&plane, 80);
    let fired = received.recv_timeout(PATIENCE).unwrap().1;
    set_sessions(&plane, 10);
    let resolved = received.recv_timeout(PATIENCE).unwrap().1;
    for (body, number) in [(&fired, 1), (&resolved, 2)] {
        assert_eq!((&body["server"], &body["number"]), (&"fra-1".into(), &number.into()), "{body}");
        assert!(body["sent_at"].as_u64().unwrap() >= now, "{body}");
    }
    assert!(fired["process"].as_str().unwrap().ends_with(&format!("-{}", std::process::id())), "{fired}");
    assert_eq!(fired["process"], resolved["process"]);
}

#[test]
fn nobody_hears_of_a_beginning_after_the_end() {
    let (url, received) = receiver(vec![500, 200, 200]);
    let plane = with_rule(Recipient::Webhook(url));
    set_sessions(&plane, 80);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap().1["state"], "fired");
    // Its second attempt is due in two seconds, and it is over by then.
    set_sessions(&plane, 10);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap().1["state"], "resolved");
    assert!(received.recv_timeout(Duration::from_secs(4)).is_err(), "the first message came again");
}

#[test]
fn an_alert_ends_when_its_rule_is_changed_or_removed() {
    let changed = |to: &Url| vec![Rule { condition: Condition::Above(90.0), ..rule(Recipient::Webhook(to.clone())) }];
    for is_removed in [false, true] {
        let (url, received) = receiver(vec![200, 200]);
        let plane = with_rule(Recipient::Webhook(url.clone()));
        set_sessions(&plane, 80);
        assert_eq!(received.recv_timeout(PATIENCE).unwrap().1["state"], "fired");
        let rules = if is_removed { Vec::new() } else { changed(&url) };
        plane.control.handle().adopt(Settings { rules, ..settings() });
        assert_eq!(received.recv_timeout(PATIENCE).unwrap().1["state"], "resolved");
        wait_until("the event is there", || alerts(&plane).len() == 2);
        assert_eq!(alerts(&plane)[0], ("alert_resolved".to_owned(), "sessions_short".to_owned()));
        assert_eq!(plane.get("/api/stats").json()["alerts"].as_array().unwrap().len(), 0);
    }
}

#[test]
fn an_alert_that_was_told_is_not_told_again_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (url, received) = receiver(vec![200, 200]);
    let with = |state_file| Settings {
        state_file: Some(state_file),
        state_interval: Duration::from_hours(1),
        rules: vec![rule(Recipient::Webhook(url.clone()))],
        ..settings()
    };
    let plane = Plane::start(with(path.clone()));
    set_sessions(&plane, 80);
    let fired = received.recv_timeout(PATIENCE).unwrap().1;
    // Long before the interval is over.
    wait_until("it is kept", || !load(&path, 0).saved.alerts.is_empty());
    // As a kill leaves it.
    let saved = load(&path, 0).saved;
    let again = Plane::with_state(with(folder.path().join("later.json")), saved);
    set_sessions(&again, 80);
    let stats = again.wait_for("/api/stats", |body| body["uptime_seconds"].as_u64().unwrap() >= 3);
    assert_eq!(stats["alerts"][0]["since"], fired["since"]);
    assert_eq!(alerts(&again).len(), 1, "{:?}", alerts(&again));
    assert!(received.try_recv().is_err());
    set_sessions(&again, 10);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap().1["state"], "resolved");
}

#[test]
fn a_webhook_that_hangs_blocks_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let script = format!("cat > {}", told.display());
    let command = Recipient::Command(["/bin/sh", "-c", &script].map(str::to_owned).to_vec());
    let mut rule = rule(Recipient::Webhook(url));
    rule.to.push(command);
    let plane = Plane::start(Settings { rules: vec![rule], ..settings() });
    set_sessions(&plane, 80);
    // Accepted, and never answered.
    let mut hanging = support::accept(&listener);
    wait_until("the command was told", || fs::read(&told).is_ok_and(|bytes| !bytes.is_empty()));
    let body: Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
    assert_eq!(body["state"], "fired");
    // Time goes on while the attempt is under way. On a slow machine one may end before that is seen; it is tried again.
    for _ in 0..3 {
        let before = plane.get("/api/stats").json()["uptime_seconds"].as_u64().unwrap();
        plane.wait_for("/api/stats", |body| body["uptime_seconds"].as_u64().unwrap() >= before + 3);
        hanging.set_nonblocking(true).unwrap();
        let mut request = [0; 4096];
        let end = std::iter::from_fn(|| Some(hanging.read(&mut request))).find(|read| !matches!(read, Ok(1..)));
        if end.unwrap().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            return;
        }
        hanging = support::accept(&listener);
    }
    panic!("every attempt was over before three seconds had passed on the server");
}

fn tls_server() -> (u16, Vec<u8>, TcpListener, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().port(), certificate.to_vec(), listener, Arc::new(config))
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), support::accept(listener))
}

#[test]
fn https_is_spoken_with_whom_the_roots_vouch_for() {
    let (port, certificate, listener, config) = tls_server();
    let server = thread::spawn(move || serve(accept(&listener, &config), 200));
    let url = Url::parse(&format!("https://localhost:{port}/x")).unwrap();
    post(&url, b"{\"a\":1}", &Roots::only(certificate)).unwrap();
    let (head, body) = server.join().unwrap();
    assert!(head.starts_with(&format!("POST /x HTTP/1.1\r\nHost: localhost:{port}\r\n")), "{head}");
    assert_eq!(body["a"], 1);
}

#[test]
fn https_is_not_spoken_with_strangers() {
    let (port, _, listener, config) = tls_server();
    let (_, other, _, _) = tls_server();
    let server = thread::spawn(move || {
        let mut stream = accept(&listener, &config);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    });
    let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
    assert!(post(&url, b"{}", &Roots::only(other)).is_err());
    assert_eq!(server.join().unwrap(), b"", "nothing was sent");
}

#[test]
fn an_attempt_ends_in_time_whatever_the_other_side_does() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let trickle = thread::spawn(move || {
        let mut stream = support::accept(&listener);
        // A byte now and then, for longer than anybody waits: each read succeeds.
        let begin = Instant::now();
        while begin.elapsed() < 2 * PATIENCE && stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_secs(3));
        }
    });
    let start = Instant::now();
    assert!(post(&url, b"{}", &Roots::only(Vec::new())).is_err());
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    trickle.join().unwrap();
}
