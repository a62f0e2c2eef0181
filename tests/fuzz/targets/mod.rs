//! What is fuzzed: everything that reads bytes of strangers, users, name servers or engines, and
//! texts and files of operators.
//!
//! Each function takes any bytes and panics if an invariant is broken.

mod answers;
mod cluster;
mod control;
mod files;
mod stack;
mod strangers;
mod texts;
mod vision;
mod wire;

use crate::input::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "request", run: wire::request_header, words: &[FLOW, b"\x02\x0bexample.com", b"\x03", &[0xff; 16]] },
    Target { name: "addons", run: wire::request_addons, words: &[FLOW, b"\x12\x01\x00", b"\x18\x05", &[0xff; 10]] },
    Target { name: "user_id", run: wire::user_id_text, words: &[b"-", b"00000000", "我".as_bytes()] },
    Target { name: "record", run: wire::tls_record, words: &[b"\x17\x03\x03\x00\x05", b"\x16\x03\x01", b"\x40\x00"] },
    Target { name: "boundary", run: vision::inner_records, words: &[b"\x17\x03\x03\x00\x05", b"\x16\x03\x03\x00\x01"] },
    Target {
        name: "tls_opening",
        run: stack::tls_opening,
        words: &[b"\x16\x03\x01\x00\x05", b"\x15\x03\x03\x00\x02\x01\x00"],
    },
    Target { name: "tls_relay", run: stack::tls_relay, words: &[b"\x17\x03\x03\x00\x20", b"\x02\x00\x00\x00\x00"] },
    Target {
        name: "unpad",
        run: vision::unpad,
        words: &[b"\x00\x00\x04\x00\x02", b"\x01\x00\x00\x00\x00", b"\x02\x00\x01\x00\x00"],
    },
    Target { name: "pad", run: vision::pad, words: &[b"\x16\x03\x01\x02\x00\x01", b"\x17\x03\x03\x00\x05", TLS13] },
    Target {
        name: "dns",
        run: answers::dns_reply,
        words: &[b"\xc0\x0c", b"\x00\x01\x00\x01", b"\x00\x05\x00\x01", b"\x07example\x03com\x00"],
    },
    Target {
        name: "frames",
        run: wire::mux_frames,
        words: &[
            b"\x00\x04\x00\x01\x03\x00",
            b"\x00\x04\x00\x00\x02\x01\x00\x01",
            b"\x00\x0c\x00\x00\x01\x01\x02\x00\x35\x01",
            b"\x02\x00",
        ],
    },
    Target { name: "packets", run: wire::packets, words: &[b"\x00\x00", b"\x00\x05", b"\xff\xff"] },
    Target {
        name: "proxy_header",
        run: wire::proxy_header,
        words: &[PROXY, b"PROXY TCP4 ", b"PROXY UNKNOWN", b"\r\n", b" 1.2.3.4", b" 65535"],
    },
    Target { name: "config", run: texts::config_text, words: CONFIG_WORDS },
    Target { name: "users_file", run: texts::users_file, words: USERS_WORDS },
    Target {
        name: "import",
        run: texts::imported,
        words: &[b"\"settings\":", b"\"clients\":[", b"\"users\":[", b"\"protocol\":\"vless\"", b"null", b"-1"],
    },
    Target {
        name: "state_file",
        run: control::state_file,
        words: &[b"\"users\":[", b"\"history\":{", b"null", b"-1", b"\n"],
    },
    Target { name: "http_head", run: control::http_head, words: HTTP_WORDS },
    Target { name: "http_connection", run: control::http_connection, words: HTTP_WORDS },
    Target {
        name: "web_socket",
        run: control::web_socket,
        words: &[b"\x81\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8", b"\x89\x80\0\0\0\0", b"\x01\xfe\x10\x01\0\0\0\0"],
    },
    Target {
        name: "share_link",
        run: texts::share_link,
        words: &[b"\xff", b"%41", b"[::1]", b"&", b"#", "ü".as_bytes()],
    },
    Target {
        name: "pasted_link",
        run: texts::pasted_link,
        words: &[b"vless://", b"@[::1]:443", b"?security=tls", b"&flow=xtls-rprx-vision", b"%1b", b"&type=", b"&alpn="],
    },
    Target { name: "site", run: strangers::site, words: SITE_WORDS },
    Target {
        name: "fallback",
        run: strangers::fallback,
        words: &[b"\xff", b"GET /x HTTP/1.1\r\n", b" /x/y?", b"a.test", b"h2", b"\r\n", b"PRI * HTTP/2.0\r\n\r\n"],
    },
    Target {
        name: "engine_answers",
        run: cluster::engine_answers,
        words: &[
            b"\r\n",
            b"*3\r\n",
            b"$5\r\nhello\r\n",
            b":1\r\n",
            b"-NOSCRIPT x\r\n",
            b"$-1\r\n",
            b"9223372036854775807",
        ],
    },
    Target { name: "cluster_record", run: cluster::cluster_record, words: USERS_WORDS },
    Target {
        name: "addresses",
        run: cluster::addresses,
        words: &[b"://", b"rediss", b"redis+sentinel", b"unix:///", b"@", b"%41", b"[::1]", b":6379", b"/0", b"https"],
    },
    Target {
        name: "journal",
        run: cluster::journal,
        words: &[
            b"{\"add\":{\"a\":{\"up\":1,\"down\":2}}}\n",
            b"{\"seal\":{\"boot\":1,\"sequence\":1,\"accounts\":{}}}\n",
            b"{\"applied\":{\"boot\":1,\"sequence\":1}}\n",
            b"18446744073709551615",
        ],
    },
    Target {
        name: "certificate",
        run: files::certificate,
        words: &[
            b"\x30\x80",
            b"\x30\x82\x01\x00",
            b"\x06\x03\x55\x1d\x11",
            b"\x17\x0d300101000000Z",
            b"\x84\xff\xff\xff\xff",
        ],
    },
    Target {
        name: "pem",
        run: files::pem,
        words: &[b"-----BEGIN A-----\n", b"-----END A-----\n", b"QUJD", b"=", b"Proc-Type: 4,ENCRYPTED\n", b"\r\n"],
    },
    Target {
        name: "backup",
        run: files::backup,
        words: &[
            b"\"path\": \"../x\"",
            b"\"role\": \"key\"",
            b"\"version\": 1",
            b"\"bytes\": 2",
            b"ustar",
            b"\0\0\0\0",
        ],
    },
    Target {
        name: "system_names",
        run: files::system_names,
        words: &[b"nameserver ", b"options attempts:", b"use-vc", b"fe80::1%lo", b"127.0.0.1", b"\n", b"#", b"\t"],
    },
];

const FLOW: &[u8] = b"\x0a\x10xtls-rprx-vision";
const PROXY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";
const TLS13: &[u8] = b"\x00\x2b\x00\x02\x03\x04";
const USERS_WORDS: &[&[u8]] = &[
    b"\"version\":1",
    b"\"revision\":",
    b"\"users\":[",
    b"\"email\":",
    b"\"enabled\":false",
    b"\"limits\":{",
    b"\"quota_period\":\"week\"",
    b"\"expires_at\":\"2030-01-01T00:00:00Z\"",
    b"18446744073709551616",
    b"null",
    b"-1",
];
const SITE_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"GET //a%20b HTTP/1.1\r\nHost: a\r\n",
    b"http://a/",
    b"%2e%2e/",
    b"%0d%0a",
    b"\\",
    b"?x",
    b"Range: bytes=1-\r\n",
    b"If-None-Match: *\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
];
const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"%2e%2e",
    b"?a=%",
    b"\0",
    b"HTTP/1.0",
];
const CONFIG_WORDS: &[&[u8]] = &[
    b"{}",
    b"[]",
    b"null",
    b"-1",
    b"1e9",
    b"\"\"",
    b"/*",
    b"*/",
    b"//",
    b",",
    b"\\u0000",
    b"\"users\":",
    b"\"tls\":",
    b"\"timeouts\":",
    b"true",
    b"\xef\xbb\xbf",
    b"18446744073709551616",
];
