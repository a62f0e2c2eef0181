//! One request to a running server through its Unix socket.
//!
//! Owns HTTP/1.1 as far as our own control plane speaks it: an answer with a length, or to the end of the stream. Knows
//! no path and no meaning. Every wait has a deadline.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::app::config::Config;
use crate::app::exit::{self, Failure};

/// A server that is alive answers at once. A reload may read many files, and an upgrade waits for another process.
const TIMEOUT: Duration = Duration::from_secs(90);
/// A list of ten thousand accounts has some 8 MB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const HEADERS_MAX: usize = 64;
/// A server that lives accepts within a turn of its loop.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_RETRY: Duration = Duration::from_millis(10);

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// What is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// A change of accounts, whatever their list is by now.
    pub is_change: bool,
    /// JSON, or nothing.
    pub body: &'a str,
}

/// The configuration at `path`. Where it has become wrong while its server runs, what reaches that server, with defaults
/// for everything else: who has made a mistake in the file can look, cut and be told what is wrong all the same.
///
/// # Errors
/// Those of [`Config::load`].
pub fn config_to_ask(path: &Path) -> Result<Config, Failure> {
    let wrong = match Config::load_without_accounts(path) {
        Err(wrong) if wrong.code == exit::CONFIG => wrong,
        other => return other,
    };
    let text = fs::read_to_string(path).unwrap_or_default();
    let socket = serde_json::from_str(&text).map_or(Value::Null, |mut file: Value| file["monitoring"]["socket"].take());
    let stand_in = match &socket {
        Value::String(socket) => json!({ "users": [{ "uuid": "example" }], "monitoring": { "socket": socket } }),
        _ => json!({ "users": [{ "uuid": "example" }] }),
    };
    let stand_in = Config::parse(&stand_in.to_string(), path);
    stand_in.ok().filter(|config| ask(config, "GET", "/healthz").is_ok()).ok_or(wrong)
}

/// Asks the server of `config`.
///
/// # Errors
/// 69 if no server runs, or answers; 77 if this user may not use its socket; 78 if the configuration has none.
pub fn ask(config: &Config, method: &str, target: &str) -> Result<Answer, Failure> {
    let Some(socket) = &config.monitoring.socket else {
        return Err(Failure::new(
            exit::CONFIG,
            "monitoring.socket is null, and commands reach the server through it: name a file, and restart",
        ));
    };
    put(socket, &Question { method, target, ..Question::default() })
}

/// Asks the server at `socket`.
///
/// # Errors
/// As [`ask`].
pub fn put(socket: &Path, question: &Question<'_>) -> Result<Answer, Failure> {
    let mut stream = connect(socket).map_err(|error| not_reached(socket, &error))?;
    exchange(&mut stream, question).map_err(|error| {
        Failure::new(exit::UNAVAILABLE, format!("the server at {} does not answer: {error}", socket.display()))
    })
}

/// A connection to the server at `socket`. `UnixStream::connect` would wait for ever while a server that is stuck has
/// no room for one more.
///
/// # Errors
/// What the system says; `TimedOut` for a server without room.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    let (address, deadline) = (SockAddr::unix(socket)?, Instant::now() + CONNECT_TIMEOUT);
    loop {
        match stream.connect(&address) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(CONNECT_RETRY);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

fn not_reached(socket: &Path, error: &io::Error) -> Failure {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            exit::NO_PERMISSION,
            format!("{path}: only the user whom the server runs as, and root, may use it: try sudo"),
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            exit::UNAVAILABLE,
            format!(
                "no server runs with this configuration ({path}: {error}); start it with `vless-rust run` or \
                 `systemctl start vless-rust`, or name its configuration with -c"
            ),
        ),
        _ => Failure::new(exit::UNAVAILABLE, format!("{path}: {error}")),
    }
}

fn exchange(stream: &mut UnixStream, question: &Question<'_>) -> io::Result<Answer> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Question { method, target, is_change, body } = question;
    let if_match = if *is_change { "If-Match: *\r\n" } else { "" };
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{if_match}Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 16 << 10];
        let count = match stream.read(&mut chunk) {
            Ok(count) => count,
            // It has said what it had to say and closed before it read our end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error),
        };
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if let Some(answer) = whole(&bytes, count == 0)? {
            return Ok(answer);
        }
        if count == 0 || bytes.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The answer, once all of it is there.
fn whole(bytes: &[u8], is_end: bool) -> io::Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(invalid)? else { return Ok(None) };
    let body = bytes.get(head..).unwrap_or_default();
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    let status = response.code.unwrap_or_default();
    let body = match length {
        _ if status == 204 => &[],
        Some(length) if body.len() >= length => body.get(..length).unwrap_or_default(),
        None if is_end => body,
        _ => return Ok(None),
    };
    Ok(Some(Answer { status, body: String::from_utf8_lossy(body).into_owned() }))
}

/// `text` as a value in a query.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::UnixListener;

    fn config(folder: &Path, monitoring: &str) -> Config {
        let text =
            format!("{{ \"users\": [ {{ \"uuid\": \"a\", \"flow\": \"\" }} ], \"monitoring\": {{ {monitoring} }} }}");
        Config::parse(&text, &folder.join("config.json")).unwrap()
    }

    #[test]
    fn an_answer_is_whole_with_its_length_or_at_the_end() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab";
        assert_eq!(whole(head, false).unwrap(), None);
        let answer = |body: &str| Some(Answer { status: 200, body: body.into() });
        assert_eq!(whole(&[&head[..], b"cd"].concat(), false).unwrap(), answer("abc"));
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n\r\nab", false).unwrap(), None);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n\r\nab", true).unwrap(), answer("ab"));
        assert!(whole(b"SSH-2.0-x\r\n\r\n", false).is_err());
    }

    #[test]
    fn without_a_server_it_is_said_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let failure = ask(&config(folder.path(), ""), "GET", "/api/stats").unwrap_err();
        assert_eq!(failure.code, exit::UNAVAILABLE);
        assert!(failure.message.contains("no server runs") && failure.message.contains("vless-rust run"), "{failure}");
        let failure = ask(&config(folder.path(), "\"socket\": null"), "GET", "/").unwrap_err();
        assert_eq!(failure.code, exit::CONFIG);
    }

    #[test]
    fn a_server_that_hangs_up_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "");
        let listener = UnixListener::bind(folder.path().join("vless-rust.sock")).unwrap();
        let server = thread::spawn(move || drop(listener.accept().unwrap()));
        let failure = ask(&config, "GET", "/").unwrap_err();
        assert!(failure.message.contains("does not answer") && failure.code == exit::UNAVAILABLE, "{failure}");
        server.join().unwrap();
    }

    #[test]
    fn a_server_without_room_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stuck.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let start = Instant::now();
        let waiting: Vec<_> = (0..9).map_while(|_| connect(&path).ok()).collect();
        assert!(waiting.len() < 9 && start.elapsed() < 3 * CONNECT_TIMEOUT, "{} connected", waiting.len());
    }

    #[test]
    fn values_of_a_query_are_encoded() {
        assert_eq!(encoded("a b&c=我@x"), "a%20b%26c%3D%E6%88%91%40x");
    }
}
