//! Fetching one page through a stream: what to fetch, the request, the answer and its times.
//!
//! Knows no VLESS: the stream may be anything.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::app::config;
use crate::app::exit::{self, Failure};
use crate::protocol::address::{Host, Target};

/// How much is read of an answer, and for how long.
const BODY_BYTES_MAX: u64 = 64 << 20;
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// A longer head is none.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// What is fetched.
pub(super) struct Goal {
    pub(super) target: Target,
    /// The name in the request, and whether TLS is spoken.
    pub(super) name: String,
    pub(super) is_https: bool,
    path: String,
}

impl Goal {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::new(exit::USAGE, format!("\"{text}\" is not an address such as https://example.com/"));
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let default_port = if is_https { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (authority, default_port),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if !config::is_host(bare) || path.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let host = bare.parse().map_or_else(|_| Host::Name(bare.into()), Host::Ip);
        Ok(Self { target: Target { host, port }, name: bare.to_owned(), is_https, path: format!("/{path}") })
    }
}

/// When the answer came: its first byte, and the rest.
pub(super) struct Took {
    pub(super) first: Duration,
    pub(super) body: Duration,
}

/// Sends a request and reads the answer: status, bytes behind the head, times.
pub(super) fn exchange(stream: &mut (impl Read + Write), goal: &Goal) -> io::Result<(u16, u64, Took)> {
    let (path, name) = (&goal.path, &goal.name);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: vless-rust\r\nConnection: close\r\n\r\n");
    let started = Instant::now();
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let (mut head, mut body, mut first) = (Vec::new(), 0, Duration::ZERO);
    let mut head_bytes = None;
    let mut chunk = vec![0; 64 << 10];
    while body < BODY_BYTES_MAX && started.elapsed() < BODY_TIME_MAX {
        let count = match stream.read(&mut chunk) {
            Ok(count) => count,
            // Servers end TLS without a goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && head_bytes.is_some() => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            break;
        }
        if head_bytes.is_none() {
            head.extend_from_slice(chunk.get(..count).unwrap_or_default());
            first = if first.is_zero() { started.elapsed() } else { first };
            head_bytes = head.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
            if head_bytes.is_none() && head.len() > HEAD_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "what came is not HTTP"));
            }
            body = head_bytes.map_or(0, |bytes| (head.len() - bytes) as u64);
            // Without a body nothing more comes; the other side need not close.
            if head.starts_with(b"HTTP/1.1 204") || head.starts_with(b"HTTP/1.1 304") {
                break;
            }
        } else {
            body += count as u64;
        }
    }
    let text = String::from_utf8_lossy(&head);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what came is not HTTP"))?;
    Ok((status, body, Took { first, body: started.elapsed().saturating_sub(first) }))
}

pub(super) fn fetched(status: u16, asked: Instant, first: Duration) -> (&'static str, String) {
    let (first, all) = (first.as_millis(), asked.elapsed().as_millis());
    ("fetch", format!("status {status}; round trip {first} ms, all after {all} ms"))
}

pub(super) fn direct_words(is_direct: (bool, bool), is_13: bool) -> String {
    match is_direct {
        (true, true) => "both directions left TLS".to_owned(),
        _ if !is_13 => "not seen: the target speaks TLS 1.2, which stays inside".to_owned(),
        (true, false) => "only ours left TLS; the server kept on encrypting".to_owned(),
        _ => "not seen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that says `a` for as long as anybody listens.
    #[derive(Default)]
    struct Endless {
        said_bytes: usize,
    }

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.said_bytes += buffer.len();
            assert!(self.said_bytes < 64 << 20, "whoever listens keeps all of it");
            buffer.fill(b'a');
            Ok(buffer.len())
        }
    }

    impl Write for Endless {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_head_without_end_is_not_listened_to_for_long() {
        let goal = Goal::parse("http://a.example/").unwrap();
        let mut target = Endless::default();
        let error = exchange(&mut target, &goal).err().expect("a failure");
        assert!(error.to_string().contains("not HTTP") && target.said_bytes <= 1 << 20, "{error}");
    }
}
