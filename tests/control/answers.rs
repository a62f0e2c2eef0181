//! Every endpoint with its keys, for a server in a known state.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{Value, json};
use vless_rust::control::backend::{CutQuery, Denied, Done, Order, SessionLine, SessionPage, SessionQuery};
use vless_rust::control::sample::UserSample;

use super::harness::{ADMIN, Plane, VIEW, read_answer, read_to_end, settings};

/// The types of all members instead of their values: the shape that scripts rely on.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(number) => json!(if number.is_f64() { "real" } else { "whole" }),
        Value::String(_) => json!("text"),
        Value::Array(elements) => elements.iter().take(1).map(shape).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), shape(member))).collect(),
    }
}

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/control/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

/// `VLESS_RUST_WRITE_REFERENCE=1 cargo test --test control answers` writes them.
#[track_caller]
fn assert_golden(name: &str, body: &Value) {
    let found = shape(body);
    if std::env::var_os("VLESS_RUST_WRITE_REFERENCE").is_some() {
        let path = format!("{}/tests/control/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, format!("{found:#}\n")).unwrap();
        return;
    }
    assert_eq!(found, golden(name), "{name}");
}

fn with_traffic() -> Plane {
    let plane = Plane::start(settings());
    {
        let mut sample = plane.backend.sample.lock().unwrap();
        sample.totals.uplink_bytes = 3000;
        sample.totals.downlink_bytes = 5000;
        sample.totals.downlink_unchanged_bytes = 4000;
        sample.totals.downlink_spliced_bytes = 1500;
        sample.totals.uplinks_direct = 1;
        let user = &mut sample.users[0];
        user.totals.uplink_bytes = 3000;
        user.totals.downlink_bytes = 5000;
        user.totals.sessions_active = 2;
        user.addresses = vec!["203.0.113.7".parse().unwrap()];
    }
    plane.wait_for("/api/stats", |body| body["total_download_bytes"] == 5000);
    plane
}

#[test]
fn every_answer_has_its_shape() {
    let plane = with_traffic();
    for (name, path) in [
        ("stats", "/api/stats"),
        ("user-stats", "/api/user-stats"),
        ("speed-history", "/api/speed-history"),
        ("config", "/api/config"),
        ("performance", "/api/performance"),
        ("connection-pool-stats", "/api/connection-pool-stats"),
        ("memory-pool-stats", "/api/memory-pool-stats"),
        ("history", "/api/history?range=24h"),
        ("events", "/api/events"),
        ("users", "/api/users"),
        ("nodes", "/api/nodes"),
        ("session", "/api/session"),
        ("error", "/api/nothing"),
    ] {
        let answer = plane.get(path);
        assert_eq!(answer.field("Content-Type"), Some("application/json"), "{path}");
        assert_golden(name, &answer.json());
    }
}

#[test]
fn figures_are_those_of_the_sample() {
    let plane = with_traffic();
    let stats = plane.get("/api/stats").json();
    assert_eq!((&stats["total_traffic"], &stats["lifetime"]["upload_bytes"]), (&json!("7.81 KB"), &json!(3000)));
    assert_eq!((&stats["today"]["download_bytes"], &stats["month"]["download_bytes"]), (&json!(5000), &json!(5000)));
    assert_eq!((&stats["active_connections"], &stats["max_connections"]), (&json!(4), &json!(100)));
    assert_eq!((&stats["rejected"]["unknown_user"], &stats["closed"]["finished"]), (&json!(2), &json!(3)));
    assert_eq!(stats["users_online"], 1);
    let vision = &stats["xtls_vision"];
    assert_eq!((&vision["spliced_bytes"], &vision["copied_bytes"]), (&json!(1500), &json!(2500)));
    assert_eq!((&vision["tls_bytes"], &vision["sessions_direct_up"]), (&json!(4000), &json!(1)));
    let user = &stats["users"][0];
    assert_eq!((&user["email"], &user["note"]), (&json!("ann@example.com"), &json!("a \"note\" <b>")));
    assert_eq!((&user["total_traffic"], &user["today_bytes"]), (&json!("7.81 KB"), &json!(8000)));
    assert_eq!((&user["online"], &user["addresses"][0]), (&json!(true), &json!("203.0.113.7")));
    assert!(user["last_seen_at"].is_u64());
    let certificate = &stats["certificates"][0];
    assert_eq!(
        (&certificate["names"][0], &certificate["not_after"]),
        (&json!("vpn.example.com"), &json!(4_000_000_000_u64))
    );
    assert!(stats["memory_bytes"].as_u64().unwrap() > 1 << 20 && stats["threads"].as_u64().unwrap() > 1);
}

#[test]
fn a_quiet_server_has_speed_zero_and_a_busy_one_has_not() {
    let plane = with_traffic();
    let history = plane.get("/api/speed-history").json();
    let points = history["history"].as_array().unwrap();
    let moved: u64 = points.iter().map(|point| point["upload_bps"].as_u64().unwrap()).sum();
    assert!(moved > 0, "{history}");
    assert!(points.iter().all(|point| point["timestamp"].as_str().unwrap().parse::<u64>().is_ok()));
    let stats = plane.wait_for("/api/stats", |body| body["upload_bps"] == 0);
    assert_eq!(stats["upload_speed"], "0.00 B/s");
    assert!(stats["peak"]["download_bps"].as_u64().unwrap() > 0);
}

#[test]
fn head_options_and_wrong_methods_are_answered_everywhere() {
    let plane = Plane::start(settings());
    for path in ["/api/stats", "/metrics", "/healthz", "/api/users"] {
        let head = plane.ask("HEAD", path, "", "");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert!(head.field("Content-Length").unwrap().parse::<usize>().unwrap() > 2, "{path}");
        let options = plane.ask("OPTIONS", path, "", "");
        assert_eq!(options.status, 204, "{path}");
        assert!(options.field("Allow").unwrap().starts_with("GET, HEAD"), "{path}");
        let wrong = plane.ask("PUT", path, "", "");
        assert_eq!((wrong.status, wrong.json()["error"]["code"].as_str()), (405, Some("method_not_allowed")), "{path}");
        assert_eq!(wrong.field("Allow"), options.field("Allow"), "{path}");
    }
    assert_eq!(plane.ask("PUT", "/nothing", "", "").status, 404);
    assert_eq!(plane.ask("GET", "*", "", "").status, 400);
    assert_eq!(plane.ask("OPTIONS", "*", "", "").status, 204);
    assert_eq!(plane.ask("OPTIONS", "/api/connections", "", "").field("Allow"), Some("GET, HEAD, DELETE, OPTIONS"));
    for path in [
        "/api",
        "/api/",
        "/api/stats/",
        "/x",
        "/static",
        "/static/",
        "/static/none.js",
        "/api/users/a/b",
        "/api/users/",
        "/api/users//link",
        "/api/connections/",
        "//",
        "//api/stats",
        "/healthz/",
    ] {
        let answer = plane.get(path);
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("not_found")), "{path}");
    }
}

#[test]
fn history_comes_in_four_ranges_for_everybody_and_for_one_and_as_csv() {
    let plane = with_traffic();
    for range in ["1h", "24h", "30d", "1y"] {
        for user in ["", "&user=ann%40example.com"] {
            let body = plane.get(&format!("/api/history?range={range}{user}")).json();
            assert_eq!(body["range"], range);
            let sum: u64 =
                body["points"].as_array().unwrap().iter().map(|p| p["download_bytes"].as_u64().unwrap()).sum();
            assert_eq!(sum, 5000, "{range}{user}");
        }
    }
    let csv = plane.get("/api/history?range=1y&format=csv");
    assert_eq!(csv.field("Content-Type"), Some("text/csv; charset=utf-8"));
    let text = csv.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "at,upload_bytes,download_bytes,upload_peak_bps,download_peak_bps");
    assert_eq!(lines[1].split(',').nth(2), Some("5000"));
    assert_eq!(plane.get("/api/history?range=2h").status, 400);
    assert_eq!(plane.get("/api/history?format=xml").status, 400);
    assert_eq!(plane.get("/api/history?user=nobody").status, 404);
    assert_eq!(plane.get("/api/history?range=&user=&format=").json()["range"], "1h", "without values they are absent");
}

#[test]
fn live_sessions_are_listed_with_their_filters_and_cut() {
    let plane = Plane::start(settings());
    *plane.backend.answer.lock().unwrap() = Box::new(|order| match order {
        Order::Sessions(_) => Ok(Done::Sessions(SessionPage {
            total: 2,
            connections: vec![SessionLine { id: "0-1-2".to_owned(), upload_bytes: 5, ..SessionLine::default() }],
            next: Some("0-1-2".to_owned()),
        })),
        Order::Cut { .. } => Ok(Done::Cut { sessions: 3, took: Duration::from_millis(12), others_told: None }),
        _ => Err(Denied::not_found("such thing")),
    });
    let page = plane.get("/api/connections?user=ann%40example.com&source=203.0.113.7&target=x&limit=1&after=0-0-0");
    assert_golden("connections", &page.json());
    assert_eq!(page.json()["next"], "0-1-2");
    assert_eq!(plane.get("/api/connections?limit=99999").status, 200);
    for wrong in ["limit=0", "limit=x", "source=x"] {
        assert_eq!(plane.get(&format!("/api/connections?{wrong}")).status, 400, "{wrong}");
    }
    for list in ["/api/events", "/api/users"] {
        assert_eq!(
            ["0", "x", "-1"].map(|limit| plane.get(&format!("{list}?limit={limit}")).status),
            [400; 3],
            "{list}"
        );
        assert_eq!(
            ["", "1", "99999"].map(|limit| plane.get(&format!("{list}?limit={limit}")).status),
            [200; 3],
            "{list}"
        );
    }
    assert_eq!(plane.ask("DELETE", "/api/connections/0-1-2", "", "").json(), json!({ "cut": 3, "took_ms": 12 }));
    assert_eq!(plane.ask("DELETE", "/api/connections?user=ann", "", "").status, 200);
    assert_eq!(plane.ask("DELETE", "/api/connections?source=::1", "", "").status, 200);
    assert_eq!(plane.ask("DELETE", "/api/connections", "", "").status, 400, "nobody cuts everybody by mistake");
    assert_eq!(plane.ask("DELETE", "/api/connections?user=a&source=::1", "", "").status, 400);
    let asked = SessionQuery {
        after: Some("0-0-0".to_owned()),
        user: Some("ann@example.com".to_owned()),
        source: Some("203.0.113.7".parse().unwrap()),
        target: Some("x".to_owned()),
        limit: 1,
    };
    let orders = plane.backend.orders.lock().unwrap();
    assert_eq!(orders[0], Order::Sessions(asked));
    assert!(matches!(&orders[1], Order::Sessions(query) if query.limit == 1000));
    let cuts = [
        CutQuery::Session("0-1-2".to_owned()),
        CutQuery::User("ann".to_owned()),
        CutQuery::Source("::1".parse().unwrap()),
    ];
    assert_eq!(orders[2..], cuts.map(|query| Order::Cut { query, by: "127.0.0.1".to_owned() }));
    drop(orders);
    let events = plane.get("/api/events?kind=cut").json();
    let texts: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
    let expected = ["3 sessions from ::1 cut in 12 ms", "3 sessions of ann cut in 12 ms", "session 0-1-2 cut in 12 ms"];
    assert_eq!(texts, expected);
    assert_eq!(events["events"][0]["by"], "127.0.0.1");
}

#[test]
fn changes_need_the_revision_and_come_back_with_the_next() {
    let plane = Plane::start(settings());
    let list = plane.get("/api/users");
    assert_eq!(list.json()["revision"], 7);
    let whole_tag = format!("If-Match: {}\r\n", list.field("ETag").unwrap());
    let add = |fields: &str, body: &str| plane.ask("POST", "/api/users", fields, body);
    assert_eq!(add("", "{\"email\":\"ben\"}").json()["error"]["code"], "if_match_needed");
    assert_eq!(add("If-Match: x\r\n", "{}").status, 400);
    assert_eq!(add("If-Match: \"7\"\r\n", "[]").status, 400);
    assert_eq!(add("If-Match: \"7\"\r\n", "").status, 400);
    *plane.backend.answer.lock().unwrap() = Box::new(|order| match order {
        Order::AddUser { revision: Some(7), .. } => {
            Ok(Done::Json { status: 201, body: json!({ "email": "ben" }), revision: Some(8) })
        }
        Order::RemoveUser { .. } => Ok(Done::Json { status: 204, body: Value::Null, revision: Some(9) }),
        _ => Err(Denied {
            beside: Some(json!({ "revision": 9, "current": { "note": "x" } })),
            ..Denied::new(412, "stale", "somebody else was faster")
        }),
    });
    for seen in ["If-Match: \"7\"\r\n", &whole_tag] {
        let added = add(seen, "{\"email\":\"ben\"}");
        assert_eq!((added.status, added.field("ETag")), (201, Some("\"8\"")), "{seen}");
    }
    let removed = plane.ask("DELETE", "/api/users/ben", "If-Match: \"8\"\r\n", "");
    assert_eq!((removed.status, removed.field("ETag"), removed.body.len()), (204, Some("\"9\""), 0));
    let stale = plane.ask("PATCH", "/api/users/ann%40example.com", "If-Match: W/\"1\"\r\n", "{\"note\":\"y\"}");
    assert_eq!(stale.status, 412);
    assert_eq!((&stale.json()["error"]["code"], &stale.json()["current"]["note"]), (&json!("stale"), &json!("x")));
    let orders = plane.backend.orders.lock().unwrap();
    let patched = Order::PatchUser {
        email: "ann@example.com".to_owned(),
        change: json!({ "note": "y" }),
        revision: Some(1),
        by: "127.0.0.1".to_owned(),
    };
    assert_eq!(orders[3], patched);
}

#[test]
fn accounts_come_in_parts() {
    let plane = Plane::start(settings());
    {
        let mut sample = plane.backend.sample.lock().unwrap();
        let one = sample.users[0].clone();
        sample.users = (0..5).map(|n| UserSample { email: format!("user-{n}").into(), ..one.clone() }).collect();
    }
    plane.wait_for("/api/users", |body| body["total"] == 5);
    let part = |query: &str| {
        let body = plane.get(&format!("/api/users?{query}")).json();
        let users: Vec<_> = body["users"].as_array().unwrap().iter().map(|user| user["email"].clone()).collect();
        assert_eq!((&body["revision"], &body["total"]), (&json!(7), &json!(5)), "{query}");
        (json!(users), body["next"].clone())
    };
    assert_eq!(part("limit=2"), (json!(["user-0", "user-1"]), json!(2)));
    assert_eq!(part("limit=2&offset=2"), (json!(["user-2", "user-3"]), json!(4)));
    assert_eq!(part("limit=2&offset=4"), (json!(["user-4"]), Value::Null));
    assert_eq!(part("offset=9"), (json!([]), Value::Null));
    assert_eq!(part("").1, Value::Null);
    let two = plane.get("/api/user-stats?limit=2&offset=3").json();
    assert_eq!(
        (&two[0]["email"], &two[1]["email"], two.as_array().unwrap().len()),
        (&json!("user-3"), &json!("user-4"), 2)
    );
    assert_eq!(plane.get("/api/users?offset=x").status, 400);
}

#[test]
fn the_list_of_accounts_is_still_the_same_only_while_nothing_in_it_has_moved() {
    let plane = Plane::start(settings());
    let seen = plane.get("/api/users");
    let tag = seen.field("ETag").unwrap().to_owned();
    let again = |token: &str, tag: &str| {
        plane.ask_as(Some(token), "GET", "/api/users", &format!("If-None-Match: {tag}\r\n"), "")
    };
    let same = again(ADMIN, &tag);
    assert_eq!(same.field("Content-Length"), None, "it would be that of the list");
    assert_eq!((same.status, same.field("ETag"), same.body.len()), (304, Some(&*tag), 0));
    assert_eq!(again(VIEW, &tag).status, 200, "whoever may only look sees other ids");
    // The revision stays: nobody has changed an account.
    plane.backend.sample.lock().unwrap().users[0].quota_used_bytes = 5;
    plane.wait_for("/api/users", |body| body["users"][0]["quota_used_bytes"] == 5);
    let moved = again(ADMIN, &tag);
    assert_eq!((moved.status, &moved.json()["revision"]), (200, &json!(7)));
    assert_ne!(moved.field("ETag"), Some(&*tag));
    {
        let mut sample = plane.backend.sample.lock().unwrap();
        let other = UserSample { email: "ben".into(), ..sample.users[0].clone() };
        sample.users.push(other);
    }
    plane.wait_for("/api/users", |body| body["total"] == 2);
    let two = plane.get("/api/users").field("ETag").unwrap().to_owned();
    plane.backend.sample.lock().unwrap().users.swap(0, 1);
    plane.wait_for("/api/users", |body| body["users"][0]["email"] == "ben");
    assert_eq!(again(ADMIN, &two).status, 200, "they stand in another order");
}

#[test]
fn long_answers_are_compressed_for_whoever_takes_that() {
    let plane = Plane::start(settings());
    {
        let mut sample = plane.backend.sample.lock().unwrap();
        let one = sample.users[0].clone();
        sample.users = (0..500).map(|n| UserSample { email: format!("user-{n}").into(), ..one.clone() }).collect();
    }
    plane.wait_for("/api/users", |body| body["total"] == 500);
    for path in ["/api/users", "/api/stats", "/api/user-stats", "/metrics"] {
        let plain = plane.get(path);
        assert_eq!((plain.field("Content-Encoding"), plain.field("Vary")), (None, Some("Accept-Encoding")), "{path}");
        let packed = plane.ask("GET", path, "Accept-Encoding: gzip\r\n", "");
        assert_eq!((packed.field("Content-Encoding"), packed.field("Vary")), (Some("gzip"), Some("Accept-Encoding")));
        assert!(packed.body.len() * 3 < plain.body.len(), "{path}: {} of {}", packed.body.len(), plain.body.len());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
        if path == "/metrics" {
            assert!(text.contains("\nvless_users_online 0\n"), "{text}");
        } else {
            let body: Value = serde_json::from_str(&text).unwrap();
            let users = if path == "/api/user-stats" { &body } else { &body["users"] };
            assert_eq!(users.as_array().unwrap().len(), 500, "{path}");
        }
    }
    let short = plane.ask("GET", "/api/config", "Accept-Encoding: gzip\r\n", "");
    assert_eq!((short.field("Content-Encoding"), short.field("Vary")), (None, None));
}

#[test]
fn head_says_what_get_says() {
    let plane = with_traffic();
    let fields = |method: &str, path: &str, more: &str| {
        let answer = plane.ask(method, path, more, "");
        let lines = answer.head.lines().filter(|line| !line.starts_with("Date:")).map(str::to_owned);
        (answer.status, lines.collect::<Vec<_>>())
    };
    let tag = format!("If-None-Match: {}\r\n", plane.get("/").field("ETag").unwrap());
    for path in
        ["/", "/static/app.js", "/api/users", "/api/config", "/api/nodes", "/readyz", "/nothing", "/api/login", "/ws"]
    {
        for more in [
            "",
            "Accept-Encoding: gzip\r\n",
            "If-None-Match: \"7\"\r\n",
            &tag,
            "Expect: x\r\n",
            "Content-Length: 99999\r\n",
        ] {
            assert_eq!(fields("HEAD", path, more), fields("GET", path, more), "{path} {more}");
        }
    }
}

#[test]
fn head_is_refused_without_a_body_too() {
    let plane = Plane::start(settings());
    for (fields, status) in [("Expect: x\r\n\r\n", 417), ("Content-Length: 9\r\n\r\n", 408), ("X Y: z\r\n\r\n", 400)] {
        let mut stream = plane.connect();
        stream.write_all(format!("HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}").as_bytes()).unwrap();
        let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[test]
fn refusals_have_words_of_their_own() {
    let plane = Plane::start(settings());
    let long = "a".repeat(16 << 10);
    for (status, code, bytes) in [
        (411, "length_required", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        (413, "body_too_large", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n".to_owned()),
        (414, "target_too_long", format!("GET /{long}")),
        (417, "expectation_unknown", "GET / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n".to_owned()),
        (431, "head_too_large", format!("GET / HTTP/1.1\r\nX: {long}")),
        (501, "method_unknown", "BREW / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (505, "version_unsupported", "GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned()),
        (400, "bad_request", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
    ] {
        let mut stream = plane.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let answer = read_answer(&mut stream, false);
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{answer:?}");
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
    }
}

#[test]
fn a_client_may_say_that_it_does_not_care_what_the_list_is() {
    let plane = Plane::start(settings());
    *plane.backend.answer.lock().unwrap() =
        Box::new(|_| Ok(Done::Json { status: 204, body: Value::Null, revision: Some(8) }));
    assert_eq!(plane.ask("DELETE", "/api/users/ben", "If-Match: *\r\n", "").status, 204);
    let removed = Order::RemoveUser { email: "ben".to_owned(), revision: None, by: "127.0.0.1".to_owned() };
    assert_eq!(*plane.backend.orders.lock().unwrap(), [removed]);
}

#[test]
fn orders_that_wait_are_obeyed_together_and_each_client_gets_its_own_answer() {
    const WAITING: usize = 5;
    let plane = Plane::start(settings());
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    *plane.backend.answer.lock().unwrap() = Box::new(move |order| {
        let Order::RemoveUser { email, .. } = order else { panic!("{order:?}") };
        if email == "first" {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
        Ok(Done::Json { status: 200, body: json!({ "gone": email }), revision: Some(8) })
    });
    let remove = |email: &str| {
        let answer = plane.ask("DELETE", &format!("/api/users/{email}"), "If-Match: *\r\n", "");
        assert_eq!(answer.json()["gone"], email);
    };
    let requests = || {
        let metrics = plane.get("/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("vless_monitor_requests_total "));
        line.unwrap().parse::<usize>().unwrap()
    };
    let mut before = requests();
    std::thread::scope(|scope| {
        scope.spawn(|| remove("first"));
        has_begun.recv().unwrap();
        for number in 0..WAITING {
            scope.spawn(move || remove(&format!("user-{number}")));
        }
        super::support::wait_until("all wait", || {
            // To ask is a request, too.
            before += 1;
            requests() - before == 1 + WAITING
        });
        go_on.send(()).unwrap();
    });
    assert_eq!(*plane.backend.together.lock().unwrap(), [1, WAITING]);
}

#[test]
fn what_was_changed_is_seen_by_the_next_request() {
    let plane = Plane::start(settings());
    let backend = std::sync::Arc::clone(&plane.backend);
    *plane.backend.answer.lock().unwrap() = Box::new(move |_| {
        let mut sample = backend.sample.lock().unwrap();
        sample.users.clear();
        sample.users_revision = 8;
        Ok(Done::Json { status: 204, body: Value::Null, revision: Some(8) })
    });
    plane.ask("DELETE", "/api/users/ann%40example.com", "If-Match: \"7\"\r\n", "");
    let list = plane.get("/api/users").json();
    assert_eq!((&list["revision"], list["users"].as_array().unwrap().len()), (&json!(8), 0));
    assert_eq!(plane.get("/api/stats").json()["users"].as_array().unwrap().len(), 0);
}

#[test]
fn ready_follows_the_state() {
    let plane = Plane::start(settings());
    plane.backend.sample.lock().unwrap().state = vless_rust::control::sample::ServerState::Draining;
    super::support::wait_until("it is not ready any more", || plane.get("/readyz").status == 503);
    assert_eq!(plane.get("/readyz").text(), "draining\n");
    assert_eq!(plane.get("/healthz").status, 200);
    assert_eq!(plane.get("/api/stats").json()["state"], "draining");
}

#[test]
fn files_of_the_page_are_compressed_tagged_and_kept_for_good_under_their_version() {
    let plane = Plane::start(settings());
    let page = plane.get("/");
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.field("Cache-Control"), Some("no-cache"));
    let tag = page.field("ETag").unwrap().to_owned();
    let again = plane.ask("GET", "/", &format!("If-None-Match: {tag}\r\n"), "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let text = page.text();
    let script = text.split('"').find(|part| part.ends_with("/app.js")).expect("the page has a script").to_owned();
    let plain = plane.get(&script);
    assert_eq!(plain.field("Content-Type"), Some("text/javascript; charset=utf-8"));
    assert!(plain.field("Cache-Control").unwrap().contains("immutable"), "{script}");
    let gzip = plane.ask("GET", &script, "Accept-Encoding: gzip, br\r\n", "");
    assert_eq!((gzip.field("Content-Encoding"), gzip.field("Vary")), (Some("gzip"), Some("Accept-Encoding")));
    assert!(gzip.body.starts_with(&[0x1f, 0x8b]) && gzip.body.len() < plain.body.len());
    let unversioned = plane.get("/static/app.js");
    assert_eq!(
        (unversioned.body, plain.field("ETag")),
        (plain.body.clone(), unversioned.head.lines().find_map(|line| line.strip_prefix("ETag: ")))
    );
}
