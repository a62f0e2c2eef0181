use super::*;

const PLAIN: &str = "GET /api/users/ann%40example.com?limit=5&q=a+b%26c HTTP/1.1\r\nHost: localhost:9090\r\n\r\n";

fn head(bytes: &str) -> Head {
    match parse(bytes.as_bytes()) {
        Parsed::Complete(head, _) => *head,
        other => panic!("{bytes:?}: {other:?}"),
    }
}

#[track_caller]
fn refused(bytes: &[u8]) -> u16 {
    match parse(bytes) {
        Parsed::Refused(refusal) => refusal.status(),
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn path_and_query_are_decoded() {
    let head = head(PLAIN);
    assert_eq!(head.segments, ["api", "users", "ann@example.com"]);
    assert_eq!((head.parameter("limit"), head.parameter("q"), head.parameter("x")), (Some("5"), Some("a b&c"), None));
    assert_eq!((head.method, head.keep_alive, head.content_length), (Method::Get, true, 0));
    assert_eq!(head.host.as_deref(), Some("localhost:9090"));
}

#[test]
fn every_prefix_needs_more() {
    for length in 0..PLAIN.len() {
        assert_eq!(parse(&PLAIN.as_bytes()[..length]), Parsed::Partial, "{length}");
    }
    let Parsed::Complete(_, length) = parse(format!("{PLAIN}GET /next").as_bytes()) else { panic!() };
    assert_eq!(length, PLAIN.len());
}

#[test]
fn fields_are_read() {
    let head = head(
        "POST / HTTP/1.1\r\nhOsT: [::1]:9\r\nAuthorization: bearer abc\r\nCookie: a=b; vless_session_9=xyz\r\nOrigin: http://x\r\n\
         Content-Length: 7\r\nExpect: 100-continue\r\nAccept-Encoding: br, gzip;q=0.5\r\nIf-Match: \"3\"\r\nConnection: close\r\n\
         Sec-Fetch-Site: cross-site\r\n\r\n",
    );
    assert_eq!((head.bearer.as_deref(), head.session.as_deref()), (Some("abc"), Some("xyz")));
    assert_eq!((head.content_length, head.expects_continue, head.keep_alive), (7, true, false));
    assert!(head.accepts_gzip && head.fetched_cross_site);
    assert_eq!(head.if_match.as_deref(), Some("\"3\""));
}

#[test]
fn servers_on_other_ports_of_one_host_have_cookies_of_their_own() {
    let session = |host: &str| {
        let cookies = "Cookie: vless_session=plain; vless_session_1=one\r\nCookie: vless_session_22=two\r\n";
        head(&format!("GET / HTTP/1.1\r\n{cookies}Host: {host}\r\n\r\n")).session
    };
    let hosts = ["x.test", "[::1]", "127.0.0.1:1", "[::1]:22", "x.test:", "localhost:3"];
    let expected = [Some("plain"), Some("plain"), Some("one"), Some("two"), Some("plain"), None];
    assert_eq!(hosts.map(session).each_ref().map(Option::as_deref), expected);
}

#[test]
fn a_navigation_fills_a_window_and_not_a_frame() {
    let is_navigation =
        |fields: &str| head(&format!("GET / HTTP/1.1\r\nHost: x\r\nSec-Fetch-{fields}\r\n\r\n")).is_navigation;
    assert!(is_navigation("Mode: navigate"));
    assert!(is_navigation("Mode: navigate\r\nSec-Fetch-Dest: document"));
    assert!(!is_navigation("Mode: navigate\r\nSec-Fetch-Dest: iframe"));
    assert!(!is_navigation("Mode: no-cors\r\nSec-Fetch-Dest: document"));
    assert!(!is_navigation("Dest: document"));
}

#[test]
fn an_upgrade_needs_all_of_its_fields() {
    let with = |fields: &str| head(&format!("GET /ws HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).upgrade;
    let whole = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(with(&format!("{whole}Sec-WebSocket-Key: {key}\r\n")), Upgrade::WebSocket(key.to_owned()));
    assert_eq!(with(whole), Upgrade::BrokenWebSocket);
    assert_eq!(with(&format!("{whole}Sec-WebSocket-Key: short\r\n")), Upgrade::BrokenWebSocket);
    assert_eq!(with("Connection: Upgrade\r\n"), Upgrade::None);
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let with = |fields: &str| refused(format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes());
    assert_eq!(with("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
    assert_eq!(with("Content-Length: +5\r\n"), 400);
    assert_eq!(with("Content-Length: 5, 5\r\n"), 400);
    assert_eq!(with("Content-Length: 65537\r\n"), 413);
    assert_eq!(with("Content-Length: 99999999999999999999999999\r\n"), 413);
    assert_eq!(with("Transfer-Encoding: chunked\r\n"), 411);
    assert_eq!(with("Content-Length: 5\r\nTransfer-Encoding: identity\r\n"), 411);
    assert_eq!(with("Host: y\r\n"), 400);
    assert_eq!(with("X Y: z\r\n"), 400);
    assert_eq!(with("X : z\r\n"), 400);
    assert_eq!(with("X: a\r\n b\r\n"), 400);
    assert_eq!(with("X: a\nY: b\r\n"), 400);
    assert_eq!(with("X: a\rY: b\r\n"), 400);
    assert_eq!(with("Expect: the-unexpected\r\n"), 417);
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), 400, "no Host");
}

#[test]
fn what_is_not_http_1_is_refused() {
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_eq!(refused(b"GET /\r\n\r\n"), 400);
    assert_eq!(refused(b"GET /\n"), 400);
    assert_eq!(refused(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]), 400);
    assert_eq!(refused(b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    assert_eq!(refused(b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    assert_eq!(refused(b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    assert_eq!(refused(b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
}

#[test]
fn heads_have_a_limit() {
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(refused(long.as_bytes()), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX));
    assert_eq!(refused(many.as_bytes()), 431);
    assert_eq!(refused(format!("GET /{}", "a".repeat(HEAD_BYTES_MAX)).as_bytes()), 414);
}

#[test]
fn a_list_may_come_in_several_fields() {
    let head = head(
        "GET / HTTP/1.1\r\nHost: x\r\nAccept: a/b\r\nAccept: c/d\r\nAccept-Encoding: br\r\nAccept-Encoding: gzip\r\n\
         If-None-Match: \"1\"\r\nIf-None-Match: \"2\"\r\n\r\n",
    );
    assert_eq!((head.accept.as_str(), head.if_none_match.as_deref()), ("a/b,c/d", Some("\"1\",\"2\"")));
    assert!(head.accepts_gzip);
}

#[test]
fn a_method_that_http_does_not_know_is_refused() {
    assert_eq!(refused(b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n"), 501);
    assert_eq!(refused(b"get / HTTP/1.1\r\nHost: x\r\n\r\n"), 501);
}

#[test]
fn other_methods_need_no_path() {
    assert_eq!(head("CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n").method, Method::Other);
    assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").method, Method::Options);
}
