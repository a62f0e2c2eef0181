//! Who may ask for what, and what nobody gets to see.

use std::io::Write;
use std::time::{Duration, Instant};

use vless_rust::control::backend::Done;
use vless_rust::control::guard::Keys;

use super::harness::{ADMIN, ID_TEXT, Plane, VIEW, read_answer, settings};
use super::support::wait_until;

const FREE: [&str; 3] = ["/healthz", "/readyz", "/api/session"];
const LOOKING: [&str; 13] = [
    "/api/stats",
    "/api/user-stats",
    "/api/speed-history",
    "/api/config",
    "/api/performance",
    "/api/connection-pool-stats",
    "/api/memory-pool-stats",
    "/api/connections",
    "/api/history",
    "/api/events",
    "/api/users",
    "/metrics",
    "/api/ws",
];
const CHANGING: [(&str, &str); 9] = [
    ("DELETE", "/api/connections/1"),
    ("DELETE", "/api/connections?user=ann@example.com"),
    ("POST", "/api/users"),
    ("PATCH", "/api/users/ann@example.com"),
    ("DELETE", "/api/users/ann@example.com"),
    ("POST", "/api/users/ann@example.com/reset"),
    ("POST", "/api/users/ann@example.com/rotate"),
    ("POST", "/api/reload"),
    ("POST", "/api/upgrade"),
];
const SECRET: [&str; 2] = ["/api/users/ann@example.com/link", "/api/users/ann@example.com/qr.svg"];

#[test]
fn without_a_token_only_what_says_nothing_is_answered() {
    let plane = Plane::start(settings());
    for path in FREE {
        assert_eq!(plane.ask_as(None, "GET", path, "", "").status, 200, "{path}");
    }
    for path in LOOKING.iter().chain(&SECRET) {
        let answer = plane.ask_as(None, "GET", path, "", "");
        assert_eq!((answer.status, answer.field("WWW-Authenticate")), (401, Some("Bearer")), "{path}");
    }
    for (method, path) in CHANGING {
        assert_eq!(plane.ask_as(None, method, path, "", "").status, 401, "{method} {path}");
    }
}

#[test]
fn whoever_may_look_may_change_nothing_and_sees_no_secret() {
    let plane = Plane::start(settings());
    for path in SECRET {
        assert_eq!(plane.ask_as(Some(VIEW), "GET", path, "", "").status, 403, "{path}");
    }
    for (method, path) in CHANGING {
        let answer = plane.ask_as(Some(VIEW), method, path, "", "");
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (403, Some("admin_needed")), "{path}");
    }
    assert!(plane.backend.orders.lock().unwrap().is_empty());
}

#[test]
fn the_admin_token_reaches_the_backend() {
    let plane = Plane::start(settings());
    *plane.backend.answer.lock().unwrap() =
        Box::new(|_| Ok(Done::Json { status: 200, body: serde_json::json!({}), revision: Some(8) }));
    for (method, path) in CHANGING {
        let body = if method == "DELETE" || path.ends_with('t') || path.ends_with('e') { "" } else { "{}" };
        let answer = plane.ask(method, path, "If-Match: \"7\"\r\n", body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
    }
    assert_eq!(plane.backend.orders.lock().unwrap().len(), CHANGING.len());
}

#[test]
fn ids_are_whole_for_the_admin_right_alone_and_in_one_place() {
    let plane = Plane::start(settings());
    for path in LOOKING.iter().filter(|path| **path != "/api/ws") {
        assert!(!plane.ask_as(Some(VIEW), "GET", path, "", "").text().contains(ID_TEXT), "{path}");
        let whole = plane.get(path).text().contains(ID_TEXT);
        assert_eq!(whole, *path == "/api/users", "{path}");
    }
    let masked = plane.ask_as(Some(VIEW), "GET", "/api/users", "", "").json();
    assert_eq!(masked["users"][0]["uuid"], "5783a3e7");
}

#[test]
fn no_answer_holds_a_token() {
    let plane = Plane::start(settings());
    let mut stream = plane.connect();
    let login = |token: &str| format!("{{\"token\":\"{token}\"}}");
    for body in [login(ADMIN), login(VIEW), login("wrong")] {
        let head =
            format!("POST /api/login HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", plane.address, body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let answer = read_answer(&mut stream, false);
        for secret in [ADMIN, VIEW] {
            assert!(!format!("{}{}", answer.head, answer.text()).contains(secret));
        }
    }
    for path in LOOKING.iter().chain(&FREE) {
        let answer = plane.get(path);
        for secret in [ADMIN, VIEW] {
            assert!(!format!("{}{}", answer.head, answer.text()).contains(secret), "{path}");
        }
    }
}

#[test]
fn a_login_lasts_until_the_logout() {
    let plane = Plane::start(settings());
    let answer = plane.ask_as(None, "POST", "/api/login", "", &format!("{{\"token\":\"{ADMIN}\"}}"));
    assert_eq!(answer.status, 204);
    let set = answer.field("Set-Cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    assert_eq!(plane.ask_as(None, "GET", "/api/session", &cookie, "").json()["right"], "admin");
    assert_eq!(plane.ask_as(None, "POST", "/api/logout", &cookie, "").status, 204);
    assert_eq!(plane.ask_as(None, "GET", "/api/session", &cookie, "").json()["right"], "none");
}

#[test]
fn wrong_tokens_wait_and_are_counted() {
    let plane = Plane::start(settings());
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(plane.ask_as(Some("wrong"), "GET", "/api/stats", "", "").status, 401);
    }
    // 250, 500 and 1000 ms.
    assert!(start.elapsed() >= Duration::from_millis(1700), "{:?}", start.elapsed());
    assert!(plane.get("/metrics").text().contains("\nvless_auth_failures_total 3\n"));
    let events = plane.get("/api/events?kind=auth").json();
    assert_eq!(events["events"][0]["text"], "3 wrong tokens from 127.0.0.1");
    assert_eq!(events["events"][0]["by"], "127.0.0.1");
}

#[test]
fn a_wrong_token_keeps_nobody_else_waiting() {
    let plane = Plane::start(settings());
    let guess = || {
        let mut stream = plane.connect();
        let request = format!("GET /api/stats HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer no\r\n\r\n", plane.address);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    // After some of them, each waits for seconds.
    let _guessers: Vec<_> = (0..20).map(|_| guess()).collect();
    wait_until("somebody is served while a guesser waits", || {
        let guesser = guess();
        assert_eq!(plane.get("/api/stats").status, 200);
        guesser.set_nonblocking(true).unwrap();
        guesser.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    });
}

#[test]
fn other_names_and_other_pages_are_refused() {
    let plane = Plane::start(settings());
    let mut stream = plane.connect();
    stream.write_all(b"GET /api/session HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream, false).status, 421);
    assert_eq!(plane.ask("POST", "/api/reload", "Origin: http://evil.example\r\n", "").status, 403);
    assert_eq!(plane.ask("GET", "/api/ws", "Origin: http://evil.example\r\n", "").status, 403);
    let own = format!("Origin: http://{}\r\n", plane.address);
    assert_eq!(plane.ask("GET", "/api/session", &own, "").status, 200);
}

#[test]
fn a_link_in_a_mail_leads_to_the_page() {
    let plane = Plane::start(settings());
    let followed = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    for path in ["/", "/index.html", "/static/app.js"] {
        assert_eq!(plane.ask_as(None, "GET", path, followed, "").status, 200, "{path}");
    }
    let embedded = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n";
    assert_eq!(plane.ask_as(None, "GET", "/static/app.js", embedded, "").status, 403);
    for path in LOOKING {
        assert_eq!(plane.ask("GET", path, followed, "").status, 403, "{path}");
    }
    for (method, path) in CHANGING {
        assert_eq!(plane.ask(method, path, followed, "").status, 403, "{method} {path}");
    }
}

#[test]
fn monitoring_systems_and_load_balancers_may_use_any_name() {
    let plane = Plane::start(settings());
    let status = |method: &str, path: &str, fields: &str| {
        let mut stream = plane.connect();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: vpn.example.com:9090\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream, false).status
    };
    assert_eq!([status("GET", "/healthz", ""), status("GET", "/readyz", "")], [200, 200]);
    let bearer = format!("Authorization: Bearer {ADMIN}\r\n");
    for path in ["/metrics", "/api/stats", "/api/users"] {
        assert_eq!([status("GET", path, &bearer), status("GET", path, "")], [200, 421], "{path}");
    }
    assert_eq!(status("POST", "/api/reload", &bearer), 403, "nobody said that there is TLS");
    assert_eq!(status("GET", "/metrics", "Authorization: Bearer wrong\r\n"), 401);
    assert_eq!(status("GET", "/", ""), 421);
    assert_eq!(status("GET", "/api/session", ""), 421);
}

#[test]
fn other_settings_hold_from_the_next_request_on() {
    let plane = Plane::start(settings());
    let open = Keys { token: None, ..settings().keys };
    plane.control.handle().adopt(vless_rust::control::settings::Settings { keys: open, ..settings() });
    let deadline = Instant::now() + super::support::PATIENCE;
    while plane.ask_as(None, "GET", "/api/stats", "", "").status != 200 {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn security_fields_are_on_every_answer() {
    let plane = Plane::start(settings());
    for path in ["/", "/api/stats", "/nothing", "/metrics"] {
        let answer = plane.get(path);
        let policy = answer.field("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"), "{path}");
        assert_eq!(answer.field("X-Frame-Options"), Some("DENY"), "{path}");
        assert_eq!(answer.field("Referrer-Policy"), Some("no-referrer"), "{path}");
    }
}
