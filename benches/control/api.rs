//! The API as a script uses it: one connection, one request after the other.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The Unix socket of a server, with the revision of the accounts as far as it was seen.
pub(crate) struct Api {
    stream: UnixStream,
    revision: u64,
    /// Changes are to be made whatever the list is by then.
    is_any: bool,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Api {
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut api = Self { stream, revision: 0, is_any: false };
        api.revision = api.get("/api/users")?["revision"].as_u64().unwrap_or_default();
        Ok(api)
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Value> {
        let answer = self.ask("GET", path, None)?;
        expect(&answer, path)?;
        serde_json::from_slice(&answer.body).map_err(io::Error::other)
    }

    /// Has changes made whatever the list is by then, as others change it, too.
    pub(crate) fn whatever_the_list(mut self) -> Self {
        self.is_any = true;
        self
    }

    /// Changes something. Whoever is the only one that changes accounts knows their revision, others are told.
    pub(crate) fn change(&mut self, method: &str, path: &str, body: Option<&Value>) -> io::Result<()> {
        let mut answer = self.ask(method, path, body)?;
        while answer.status == 412 {
            let known: Value = serde_json::from_slice(&answer.body).map_err(io::Error::other)?;
            self.revision = known["revision"].as_u64().unwrap_or_default();
            answer = self.ask(method, path, body)?;
        }
        expect(&answer, path)?;
        if path.starts_with("/api/users") {
            self.revision += 1;
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, email: &str, id: [u8; 16], flow: &str, limits: &Value) -> io::Result<()> {
        let id = uuid::Uuid::from_bytes(id).to_string();
        let user = json!({ "email": email, "uuid": id, "flow": flow, "limits": limits });
        self.change("POST", "/api/users", Some(&user))
    }

    pub(crate) fn remove(&mut self, email: &str) -> io::Result<()> {
        self.change("DELETE", &format!("/api/users/{email}"), None)
    }

    /// What is told about one user.
    pub(crate) fn user(&mut self, email: &str) -> io::Result<Value> {
        let users = self.get("/api/users")?;
        let found = users["users"].as_array().into_iter().flatten().find(|user| user["email"] == email);
        found.cloned().ok_or_else(|| io::Error::other(format!("there is no user {email}")))
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let tag = if self.is_any { "*".to_owned() } else { format!("\"{}\"", self.revision) };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nIf-Match: {tag}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all((head + &body).as_bytes())?;
        read_answer(&mut self.stream)
    }
}

fn expect(answer: &Answer, path: &str) -> io::Result<()> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    Err(io::Error::other(format!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))))
}

/// A connection to the control port.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Asks on a connection to the control port, which may be used again.
pub(crate) fn poll(stream: &mut TcpStream, path: &str) -> io::Result<Answer> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())?;
    let answer = read_answer(stream)?;
    expect(&answer, path)?;
    Ok(answer)
}

/// A reader of the live feed, behind its handshake.
pub(crate) fn open_feed(port: u16) -> io::Result<TcpStream> {
    let mut stream = connect(port)?;
    stream.write_all(
        b"GET /api/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let head = read_head(&mut stream)?;
    if head.starts_with("HTTP/1.1 101 ") { Ok(stream) } else { Err(io::Error::other(head)) }
}

fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let head = read_head(stream)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let length = head.lines().filter_map(|line| line.split_once(": "));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.find_map(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; if status == 204 { 0 } else { length }];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, body })
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}
