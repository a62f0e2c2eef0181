//! Inputs that are meant to harm the monitoring interface. The benchmarks send them, too.

/// What is sent, and the status that must come; `None`: the connection ends without an answer.
pub type Case = (&'static str, Vec<u8>, Option<u16>);

fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST /api/login HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n").into_bytes()
}

pub fn cases() -> Vec<Case> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("huge Content-Length", with_fields("Content-Length: 99999999999999999999\r\n"), Some(413)),
        ("a Content-Length just too large", with_fields("Content-Length: 65537\r\n"), Some(413)),
        ("two equal lengths", with_fields("Content-Length: 2\r\nContent-Length: 2\r\n"), Some(400)),
        ("two different lengths", with_fields("Content-Length: 2\r\nContent-Length: 3\r\n"), Some(400)),
        ("a list of lengths", with_fields("Content-Length: 2, 2\r\n"), Some(400)),
        ("a negative length", with_fields("Content-Length: -1\r\n"), Some(400)),
        ("a length with a sign", with_fields("Content-Length: +2\r\n"), Some(400)),
        ("a hexadecimal length", with_fields("Content-Length: 0x2\r\n"), Some(400)),
        ("chunks", with_fields("Transfer-Encoding: chunked\r\n"), Some(411)),
        ("chunks and a length", with_fields("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"), Some(411)),
        ("an encoding that hides", with_fields("Transfer-Encoding: xchunked\r\n"), Some(411)),
        ("the encoding identity", with_fields("Transfer-Encoding: identity\r\n"), Some(411)),
        ("bare LF between fields", with_fields("A: b\nC: d\r\n"), Some(400)),
        ("bare CR in a field", with_fields("A: b\rC: d\r\n"), Some(400)),
        ("bare LF for all line ends", text("GET / HTTP/1.1\nHost: x\n\n"), Some(400)),
        ("a blank in a field's name", with_fields("A B: c\r\n"), Some(400)),
        ("a blank behind a field's name", with_fields("A : c\r\n"), Some(400)),
        ("a folded field", with_fields("A: b\r\n c\r\n"), Some(400)),
        ("a NUL in a field", with_fields("A: b\0c\r\n"), Some(400)),
        ("a field without colon", with_fields("A\r\n"), Some(400)),
        ("a mebibyte of head", [text("GET / HTTP/1.1\r\nHost: x\r\nA: "), vec![b'a'; 1 << 20]].concat(), Some(431)),
        (
            "a mebibyte of fields",
            [text("GET / HTTP/1.1\r\n"), "A: b\r\n".repeat(1 << 17).into_bytes()].concat(),
            Some(431),
        ),
        ("a mebibyte of path", [text("GET /"), vec![b'a'; 1 << 20]].concat(), Some(414)),
        ("a method of nobody", text("BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(501)),
        ("CONNECT", text("CONNECT example.com:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(405)),
        ("an absolute URI", text("GET http://127.0.0.1/api/stats HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(400)),
        ("HTTP/0.9", text("GET /\r\n\r\n"), Some(400)),
        ("the preface of HTTP/2", text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(505)),
        ("HTTP/3.0", text("GET / HTTP/3.0\r\nHost: x\r\n\r\n"), Some(505)),
        (
            "an upgrade without key",
            text(
                "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer the-token-that-looks\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
            ),
            Some(426),
        ),
        (
            "an upgrade of something else",
            text("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
            Some(400),
        ),
        ("a TLS hello", [vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], vec![7; 500]].concat(), Some(400)),
        ("no Host", text("GET /healthz HTTP/1.1\r\n\r\n"), Some(400)),
        ("two Hosts", text("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(400)),
        ("a path that climbs", text("GET /static/../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(404)),
        (
            "a path that climbs in disguise",
            text("GET /static/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
            Some(404),
        ),
        ("a broken percent-encoding", text("GET /%f HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(400)),
        ("a path that is not text", text("GET /%ff%fe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(400)),
        ("bytes of no meaning", (0..=255).cycle().take(5000).collect(), Some(400)),
        ("an expectation", with_fields("Expect: miracles\r\n"), Some(417)),
        ("nothing", Vec::new(), None),
        ("half a head", text("GET / HTTP/1.1\r\nHost: 127"), None),
        ("half a body", with_fields("Content-Length: 10\r\n"), None),
    ]
}
