//! The API over the Unix socket, as commands use it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::PATIENCE;

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The list's, where the answer has one.
    #[allow(dead_code, reason = "not every program of tests looks at it")]
    pub(crate) revision: Option<u64>,
    pub(crate) body: Value,
}

/// One request on a connection of its own.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, revision: Option<u64>, body: Option<&Value>) -> Answer {
    let if_match = revision.map(|revision| format!("If-Match: \"{revision}\"\r\n")).unwrap_or_default();
    ask_with(socket, method, path, &if_match, body)
}

/// The same with these header fields, each with its line break.
pub(crate) fn ask_with(socket: &Path, method: &str, path: &str, fields: &str, body: Option<&Value>) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut tags = head.lines().filter_map(|line| line.strip_prefix("ETag: "));
    let revision = tags.find_map(|tag| tag.trim_matches('"').parse().ok());
    Answer { status, revision, body: serde_json::from_str(body).unwrap_or(json!(null)) }
}
