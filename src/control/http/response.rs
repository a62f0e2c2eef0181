//! Answers as bytes. `tiny_http` contributes the response line, fields and date; its server is not used.

use std::io::Cursor;

use serde_json::json;
use tiny_http::{HTTPVersion, Header, Response, StatusCode};
use tungstenite::Bytes;

use super::gzip;

pub const JSON: &str = "application/json";

/// Sent with every answer. The page has neither inline scripts nor inline styles, and talks to its own origin only.
const SECURITY_FIELDS: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
];

/// The interim answer that lets a client send its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    /// Further fields. The values are ours, or were checked: nothing of a request is repeated here.
    pub fields: Vec<(&'static str, String)>,
    /// Shared by all who get the same: a clone costs nothing.
    pub body: Bytes,
}

impl Reply {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, fields: Vec::new(), body: body.into() }
    }

    /// A JSON body. What is shown here always becomes JSON: numbers, texts and lists.
    pub fn json(status: u16, body: &impl serde::Serialize) -> Self {
        Self::new(status, JSON, serde_json::to_vec(body).unwrap_or_default())
    }

    /// `{"error":{"code":..,"message":..}}`.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "error": { "code": code, "message": message } }))
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self::new(status, "", &b""[..])
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The same, compressed if it is worth it and the client takes that.
    pub fn packed(self, takes_gzip: bool) -> Self {
        let is_final = self.fields.iter().any(|(name, _)| *name == "Vary");
        if is_final || self.status != 200 || self.body.len() < gzip::BYTES_MIN {
            return self;
        }
        if takes_gzip { self.with_packed(gzip::pack) } else { self.with("Vary", "Accept-Encoding") }
    }

    /// The same with its body as `pack` makes it with gzip.
    pub fn with_packed(mut self, pack: impl FnOnce(&[u8]) -> Bytes) -> Self {
        self.body = pack(&self.body);
        self.with("Content-Encoding", "gzip").with("Vary", "Accept-Encoding")
    }
}

/// What of the request decides how its answer is written.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    pub minor_version: u8,
    pub keep_alive: bool,
    /// The answer to HEAD has the length of a body and no body.
    pub is_head: bool,
    /// The body may be compressed.
    pub takes_gzip: bool,
}

/// What follows the head of `reply`.
pub fn body(reply: &Reply, framing: Framing) -> Bytes {
    if framing.is_head { Bytes::new() } else { reply.body.clone() }
}

/// The head of `reply`, the empty line included.
pub fn head(reply: &Reply, framing: Framing) -> Vec<u8> {
    let mut fields = vec![("Server", "vless-rust".to_owned())];
    fields.extend(SECURITY_FIELDS.iter().map(|&(name, value)| (name, value.to_owned())));
    if !reply.content_type.is_empty() {
        fields.push(("Content-Type", reply.content_type.to_owned()));
    }
    if !reply.fields.iter().any(|(name, _)| *name == "Cache-Control") {
        fields.push(("Cache-Control", "no-store".to_owned()));
    }
    fields.extend(reply.fields.iter().cloned());
    let headers = fields.iter().filter_map(|(name, value)| header(name, value)).collect();
    let body = Cursor::new(&[]);
    let response = Response::new(StatusCode(reply.status), headers, body, Some(reply.body.len()), None)
        // Answers are whole; chunks would only cost.
        .with_chunked_threshold(usize::MAX);
    let mut bytes = Vec::with_capacity(1024);
    let version = HTTPVersion(1, framing.minor_version);
    // Writing into memory does not fail.
    let _ = response.raw_print(&mut bytes, version, &[], true, None);
    if matches!(reply.status, 204 | 304) {
        remove_length(&mut bytes);
    }
    insert_connection(&mut bytes, framing);
    bytes
}

/// Where there can be no body, there must be no length of one (RFC 9110 8.6); behind 304 it would be that of the body
/// which the client has.
fn remove_length(bytes: &mut Vec<u8>) {
    const FIELD: &[u8] = b"\r\nContent-Length: 0";
    if let Some(at) = bytes.windows(FIELD.len()).position(|window| window == FIELD) {
        bytes.drain(at..at + FIELD.len());
    }
}

/// `Connection` is the one field that the library keeps for itself.
fn insert_connection(bytes: &mut Vec<u8>, framing: Framing) {
    let field: &[u8] = match (framing.keep_alive, framing.minor_version) {
        (true, 0) => b"\r\nConnection: keep-alive",
        (true, _) => return,
        (false, _) => b"\r\nConnection: close",
    };
    if let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
        bytes.splice(at..at, field.iter().copied());
    }
}

/// Nothing that is not printable ASCII gets into a field.
fn header(name: &str, value: &str) -> Option<Header> {
    let is_clean = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    is_clean.then(|| Header::from_bytes(name, value).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &Reply, framing: Framing) -> String {
        String::from_utf8([&head(reply, framing)[..], &body(reply, framing)].concat()).unwrap()
    }

    const KEEP: Framing = Framing { minor_version: 1, keep_alive: true, is_head: false, takes_gzip: false };

    #[test]
    fn an_answer_has_a_length_and_is_not_chunked_however_long_it_is() {
        let long = text(&Reply::new(200, "text/plain", vec![b'a'; 100_000]), KEEP);
        assert!(long.starts_with("HTTP/1.1 200 OK\r\n") && long.contains("\r\nContent-Length: 100000\r\n"));
        assert!(!long.contains("chunked") && !long.contains("Connection"));
        assert!(long.contains("Content-Security-Policy: default-src 'none'"));
    }

    #[test]
    fn head_has_the_length_only() {
        let head = text(&Reply::error(404, "not_found", "no"), Framing { is_head: true, ..KEEP });
        assert!(head.contains("Content-Length: 45\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_long_body_is_compressed_for_whoever_takes_that_and_says_that_it_may_be() {
        let long = || Reply::new(200, JSON, vec![b'7'; 100_000]);
        let packed = long().packed(true);
        assert_eq!(packed.body, gzip::pack(&long().body));
        assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < 1000);
        assert!(text(&Reply { body: Bytes::new(), ..packed }, KEEP).contains("\r\nContent-Encoding: gzip\r\n"));
        let plain = long().packed(false);
        assert_eq!((plain.body.len(), &plain.fields), (100_000, &vec![("Vary", "Accept-Encoding".to_owned())]));
        for left_alone in [Reply::new(200, JSON, "short"), Reply::new(404, JSON, vec![b'7'; 100_000]), plain] {
            assert_eq!(left_alone.clone().packed(true), left_alone);
        }
    }

    #[test]
    fn the_end_of_a_connection_is_said() {
        let last = text(&Reply::empty(204), Framing { keep_alive: false, ..KEEP });
        assert!(
            last.contains("\r\nConnection: close\r\n")
                && !last.contains("\r\nContent-Type")
                && !last.contains("Content-Length"),
            "{last}"
        );
        let old = text(&Reply::empty(204), Framing { minor_version: 0, ..KEEP });
        assert!(old.starts_with("HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n"), "{old}");
    }

    #[test]
    fn a_field_with_a_line_end_is_left_out() {
        let answer = text(&Reply::empty(200).with("ETag", "\"1\"\r\nX: y"), KEEP);
        assert!(!answer.contains("X: y"), "{answer}");
    }
}
