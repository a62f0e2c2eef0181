//! Each limit of the front.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use vless_rust::control::errands::ORDERS_MAX;

use super::harness::{ADMIN, Plane, read_answer, read_to_end, settings};
use super::support::{PATIENCE, bounded, wait_until};

/// As many connections as there may be at the same time.
const CLIENTS_MAX: usize = 512;
/// Of these, places that one source on this machine may have.
const SHARE_LOCAL: usize = 384;

fn request(plane: &Plane, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ADMIN}\r\n\r\n", plane.address)
}

/// A client for whom the kernel keeps little of what it does not read.
fn with_small_buffer(plane: &Plane) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&plane.address.into()).unwrap();
    bounded(socket.into())
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let plane = Plane::start(settings());
    let mut stream = plane.connect();
    for path in ["/api/session", "/nothing", "/healthz"] {
        stream.write_all(request(&plane, path).as_bytes()).unwrap();
        let status = read_answer(&mut stream, false).status;
        assert_eq!(status, if path == "/nothing" { 404 } else { 200 });
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let plane = Plane::start(settings());
    let mut stream = plane.connect();
    let both = [request(&plane, "/healthz"), request(&plane, "/api/session")].concat();
    stream.write_all(both.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream, false).text(), "ok\n");
    assert_eq!(read_answer(&mut stream, false).json()["right"], "admin");
}

#[test]
fn a_client_that_ends_its_side_still_gets_the_answer() {
    let plane = Plane::start(settings());
    let mut stream = plane.connect();
    stream.write_all(request(&plane, "/api/stats").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = read_to_end(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_head_that_trickles_in_is_refused_after_ten_seconds_whatever_comes() {
    let plane = Plane::start(settings());
    let start = Instant::now();
    let mut stream = plane.connect();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = Vec::new();
    // Longer than the time is for, at ten bytes a second.
    let bytes = format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}", "a".repeat(1000));
    for byte in bytes.bytes() {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        assert!(start.elapsed() < Duration::from_secs(10) + PATIENCE);
        if !answer.is_empty() {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(r#""code":"request_timeout""#), "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(9500), "{:?}", start.elapsed());
}

#[test]
fn bodies_have_a_limit_and_a_length() {
    let plane = Plane::start(settings());
    assert_eq!(plane.ask("POST", "/api/login", "Content-Length: 65537\r\n", "").status, 413);
    assert_eq!(plane.ask("POST", "/api/login", "", &"x".repeat(65_536)).status, 400, "as large as may be, and no JSON");
    assert_eq!(plane.ask("POST", "/api/login", "Transfer-Encoding: chunked\r\n", "").status, 411);
}

#[test]
fn a_client_that_asks_first_may_send_its_body() {
    let plane = Plane::start(settings());
    let mut stream = plane.connect();
    let body = format!("{{\"token\":\"{ADMIN}\"}}");
    let head = format!(
        "POST /api/login HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        plane.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream, false).status, 204);
}

#[test]
fn two_thousand_silent_connections_do_not_keep_the_operator_waiting() {
    let plane = Plane::start(settings());
    let silent: Vec<_> = (0..2000).map(|_| plane.connect()).collect();
    // On a busy machine a try may be late; all of them would not be.
    wait_until("an answer comes within 100 ms", || {
        let start = Instant::now();
        assert_eq!(plane.get("/api/stats").status, 200);
        start.elapsed() < Duration::from_millis(100)
    });
    let evicted = plane.wait_for("/api/performance", |body| {
        body["counters"]["vless_monitor_clients_evicted_total"].as_u64().unwrap() >= 2000 - CLIENTS_MAX as u64
    });
    assert!(evicted["counters"]["vless_monitor_clients"].as_u64().unwrap() <= CLIENTS_MAX as u64);
    drop(silent);
}

#[test]
fn one_source_does_not_take_the_places_of_others() {
    let plane = Plane::start(settings());
    // On a slow line: whoever is connected and has not asked yet is the first to go when places are short.
    let mut slow = plane.connect();
    let from_elsewhere = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        socket.connect(&plane.address.into()).unwrap();
        TcpStream::from(socket)
    };
    let silent: Vec<_> = (0..600).map(|_| from_elsewhere()).collect();
    let counters = plane.wait_for("/api/performance", |body| {
        body["counters"]["vless_monitor_clients_over_share_total"].as_u64().unwrap() >= (600 - SHARE_LOCAL) as u64
    });
    let evicted = &counters["counters"]["vless_monitor_clients_evicted_total"];
    assert_eq!(*evicted, counters["counters"]["vless_monitor_clients_over_share_total"], "nobody else had to go");
    slow.write_all(request(&plane, "/api/stats").as_bytes()).unwrap();
    assert_eq!(read_answer(&mut slow, false).status, 200);
    assert_eq!(plane.get("/api/stats").status, 200);
    drop(silent);
}

#[test]
fn neither_guessers_nor_who_takes_no_answer_keep_all_places() {
    let plane = Plane::start(settings());
    let wrong = request(&plane, "/api/stats").replace(ADMIN, "wrong");
    let large = request(&plane, "/static/vendor/uplot/uPlot.esm.js").repeat(40);
    for requests in [wrong, large] {
        let holders: Vec<_> = (0..CLIENTS_MAX + 40)
            .map(|_| {
                let mut holder = with_small_buffer(&plane);
                // Whoever had to go may be reset already.
                let _ = holder.write_all(requests.as_bytes());
                holder
            })
            .collect();
        for _ in 0..10 {
            assert_eq!(plane.get("/api/stats").status, 200);
        }
        drop(holders);
    }
}

#[test]
fn a_client_that_is_being_served_is_not_closed_for_a_new_one() {
    let plane = Plane::start(settings());
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    *plane.backend.answer.lock().unwrap() = Box::new(move |_| {
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        Err(vless_rust::control::backend::Denied::not_found("such thing"))
    });
    let mut served = plane.connect();
    served.write_all(request(&plane, "/api/connections").as_bytes()).unwrap();
    let silent: Vec<_> = (0..2 * CLIENTS_MAX).map(|_| plane.connect()).collect();
    plane.wait_for("/api/performance", |body| {
        body["counters"]["vless_monitor_clients_evicted_total"].as_u64().unwrap() > 0
    });
    go.send(()).unwrap();
    assert_eq!(read_answer(&mut served, false).status, 404);
    drop(silent);
}

#[test]
fn orders_beyond_their_limit_are_refused() {
    // Those that waited when the last ones were done are obeyed together, the first of them and as many as may wait, while
    // as many wait anew.
    const ACCEPTED_MAX: usize = 1 + 2 * ORDERS_MAX;
    const ASKING: usize = ACCEPTED_MAX + 30;
    let plane = Plane::start(settings());
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    *plane.backend.answer.lock().unwrap() = Box::new(move |_| {
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        Err(vless_rust::control::backend::Denied::not_found("such thing"))
    });
    let mut streams: Vec<_> = (0..ASKING).map(|_| plane.connect()).collect();
    for stream in &mut streams {
        stream.write_all(request(&plane, "/api/connections").as_bytes()).unwrap();
    }
    // Those that were refused have their answer while the first order is still being obeyed.
    let refused = |stream: &TcpStream| stream.peek(&mut [0; 12]).is_ok();
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
    }
    wait_until("some are refused", || streams.iter().filter(|stream| refused(stream)).count() >= ASKING - ACCEPTED_MAX);
    drop(go);
    let mut by_status = [0, 0];
    for stream in &mut streams {
        stream.set_nonblocking(false).unwrap();
        match read_answer(stream, false).status {
            404 => by_status[0] += 1,
            503 => by_status[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(by_status[0] >= ORDERS_MAX && by_status[1] >= ASKING - ACCEPTED_MAX, "{by_status:?}");
}

/// Bytes that the kernel holds on the server's side for a client that has not taken them.
fn bytes_unsent(plane: &Plane, client: &TcpStream) -> usize {
    let ports = [plane.address.port(), client.local_addr().unwrap().port()].map(|port| format!(":{port:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut line = line.filter(|line| line[1].ends_with(&ports[0]) && line[2].ends_with(&ports[1]));
    line.next().map_or(0, |line| usize::from_str_radix(line[4].split(':').next().unwrap(), 16).unwrap())
}

#[test]
fn the_kernel_keeps_little_for_whoever_takes_no_answer() {
    let plane = Plane::start(settings());
    let mut lazy = with_small_buffer(&plane);
    lazy.write_all(request(&plane, "/static/vendor/uplot/uPlot.esm.js").repeat(60).as_bytes()).unwrap();
    wait_until("an answer waits", || bytes_unsent(&plane, &lazy) > 0);
    // Whoever comes later is served after everything that could be written to the other.
    assert_eq!(plane.get("/healthz").status, 200);
    let unsent = bytes_unsent(&plane, &lazy);
    assert!(unsent > 0 && unsent <= 512 << 10, "{unsent}");
}

#[test]
fn an_answer_that_nobody_takes_does_not_stay() {
    // Large answers fill the socket's buffers. Others are served meanwhile: were each waited for, for the 30 s in which an
    // answer has to be taken, that would be long after anybody's patience has ended.
    let plane = Plane::start(settings());
    let lazy: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = with_small_buffer(&plane);
            let many = request(&plane, "/metrics").repeat(60);
            let _ = stream.write_all(many.as_bytes());
            stream
        })
        .collect();
    assert_eq!(plane.get("/healthz").status, 200);
    drop(lazy);
}
