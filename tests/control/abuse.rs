//! Inputs that are meant to harm: each is refused or ignored, and the next client is served at once.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::harmful::cases;
use super::harness::{Plane, read_to_end, settings};
use super::support::{bounded, reset_on_close, wait_until};

#[test]
fn harmful_inputs_are_refused_and_nobody_else_notices() {
    let cases = cases();
    assert!(cases.len() >= 30);
    let plane = Plane::start(settings());
    for (name, bytes, status) in cases {
        let mut stream = bounded(TcpStream::connect(plane.address).unwrap());
        // The server may have refused before all was sent.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let answer = String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned();
        let found = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        assert_eq!(found, status, "{name}: {answer}");
        // One answer at the most, and nothing that leads anywhere behind it.
        assert!(answer.matches("Server: vless-rust").count() <= 1, "{name}: {answer}");
        assert_eq!(plane.get("/healthz").status, 200, "after {name}");
    }
}

#[test]
fn a_smuggled_request_is_not_answered() {
    let plane = Plane::start(settings());
    let mut stream = plane.connect();
    let hidden = "GET /api/stats HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer the-token-that-looks\r\n\r\n";
    let outer = format!(
        "POST /api/login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{hidden}"
    );
    stream.write_all(outer.as_bytes()).unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 411 ") && !answer.contains("upload_speed"), "{answer}");
}

#[test]
fn clients_that_reset_before_they_are_accepted_do_no_harm() {
    let plane = Plane::start(settings());
    for _ in 0..200 {
        let stream = plane.connect();
        reset_on_close(&stream);
        drop(stream);
    }
    assert_eq!(plane.get("/healthz").status, 200);
}

#[test]
fn clients_that_reset_in_the_middle_do_no_harm() {
    let plane = Plane::start(settings());
    for (number, (_, bytes, _)) in cases().into_iter().enumerate() {
        let mut stream = plane.connect();
        let _ = stream.write_all(&bytes[..bytes.len() * (number % 4) / 4]);
        reset_on_close(&stream);
        drop(stream);
    }
    assert_eq!(plane.get("/healthz").status, 200);
}

#[test]
fn all_of_them_at_once_leave_nothing_behind() {
    let plane = Plane::start(settings());
    let address = plane.address;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                for (_, bytes, _) in cases() {
                    let mut stream = bounded(TcpStream::connect(address).unwrap());
                    let _ = stream.write_all(&bytes);
                    let _ = stream.shutdown(Shutdown::Write);
                    read_to_end(&mut stream);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    wait_until("only the one who asks is left", || {
        thread::sleep(Duration::from_millis(50));
        plane.get("/api/performance").json()["counters"]["vless_monitor_clients"].as_u64().unwrap() <= 1
    });
}
