//! What fallbacks really speak, asked by `check`: a stranger who agreed on HTTP/2 and is answered in HTTP/1.1, or the
//! other way round, knows that no web server of one piece is behind this address.
//!
//! Each fallback is asked twice: once in HTTP/2 without TLS, as a stranger would go on after agreeing on `h2`, and once
//! in HTTP/1.1. A fallback that is down or says nothing gives no warning about its protocol; it may be started later.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::time::{Duration, Instant};

use crate::app::config::{Config, Fallback, FallbackDest};
use crate::app::rules::abstract_name;
use crate::protocol::proxy_header::{self, Version};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long all questions of a `check` may take.
const ALL_PATIENCE: Duration = Duration::from_secs(5);

/// The preface of HTTP/2 (RFC 9113 3.4) and an empty SETTINGS frame behind it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What a fallback answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    /// Nothing, or something else: a web server may close without a word, too.
    Unclear,
}

/// A line for every fallback that does not speak what its clients will have agreed on.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let deadline = Instant::now() + ALL_PATIENCE;
    let mut lines = Vec::new();
    for (position, fallback) in config.fallbacks.iter().enumerate() {
        if Instant::now() >= deadline {
            break;
        }
        lines.extend(warning(config, position, fallback));
    }
    lines
}

fn warning(config: &Config, position: usize, fallback: &Fallback) -> Option<String> {
    let dest = format!("fallbacks[{position}]");
    let (gets_h1, gets_h2) = gets(config, fallback);
    if gets_h2 && !speaks(fallback, PREFACE, Spoken::Http2)? {
        let way_out = "take \"h2\" out of tls.alpn, or give \"alpn\": \"h2\" a fallback of its own";
        return Some(format!("{dest} gets clients that agreed on h2 and answers in HTTP/1.1: {way_out}"));
    }
    if gets_h1 && !speaks(fallback, REQUEST, Spoken::Http1)? {
        let way_out = "give it \"alpn\": \"h2\", and others a fallback that understands HTTP/1.1";
        return Some(format!("{dest} gets clients that speak HTTP/1.1 and answers in HTTP/2: {way_out}"));
    }
    None
}

/// Whether clients of HTTP/1.1, and of HTTP/2, come to this fallback.
fn gets(config: &Config, fallback: &Fallback) -> (bool, bool) {
    let Some(tls) = &config.tls else { return (true, false) };
    let offers_h2 = tls.alpn.iter().any(|protocol| protocol == "h2");
    let is_for_others = |alpn: &str| {
        let mut others = config.fallbacks.iter().filter(|other| other.name == fallback.name);
        others.any(|other| other.alpn == alpn && other.path.is_empty())
    };
    match fallback.alpn.as_str() {
        "h2" => (false, offers_h2),
        // The preface of HTTP/2 names no path.
        "" => (true, offers_h2 && fallback.path.is_empty() && !is_for_others("h2")),
        _ => (true, false),
    }
}

/// Whether the fallback answers this question in this protocol; `None` where nobody can say.
fn speaks(fallback: &Fallback, question: &[u8], wanted: Spoken) -> Option<bool> {
    let spoken = match &fallback.dest {
        FallbackDest::BuiltIn(_) => Spoken::Http1,
        _ => ask(fallback, question),
    };
    (spoken != Spoken::Unclear).then_some(spoken == wanted)
}

fn ask(fallback: &Fallback, question: &[u8]) -> Spoken {
    let mut said = Vec::new();
    match fallback.xver {
        1 => proxy_header::encode(Version::One, None, &mut said),
        2 => proxy_header::encode(Version::Two, None, &mut said),
        _ => {}
    }
    said.extend_from_slice(question);
    match &fallback.dest {
        FallbackDest::Tcp(host, port) => {
            let Some(address) = (host.as_str(), *port).to_socket_addrs().ok().and_then(|mut list| list.next()) else {
                return Spoken::Unclear;
            };
            TcpStream::connect_timeout(&address, PATIENCE).map_or(Spoken::Unclear, |stream| {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let _ = stream.set_write_timeout(Some(PATIENCE));
                answer(stream, &said)
            })
        }
        FallbackDest::Unix(path) => UnixStream::connect(path).map_or(Spoken::Unclear, |stream| ask_unix(stream, &said)),
        FallbackDest::Abstract { name, padded } => {
            let address = UnixAddress::from_abstract_name(abstract_name(name, *padded));
            let stream = address.and_then(|address| UnixStream::connect_addr(&address));
            stream.map_or(Spoken::Unclear, |stream| ask_unix(stream, &said))
        }
        FallbackDest::BuiltIn(_) => Spoken::Http1,
    }
}

fn ask_unix(stream: UnixStream, said: &[u8]) -> Spoken {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    answer(stream, said)
}

fn answer(mut stream: impl Read + Write, said: &[u8]) -> Spoken {
    if stream.write_all(said).is_err() {
        return Spoken::Unclear;
    }
    let mut heard = [0; 9];
    let mut length = 0;
    while length < heard.len() {
        match stream.read(heard.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    spoken(heard.get(..length).unwrap_or_default())
}

/// HTTP/2 begins with a SETTINGS frame (type 4, stream 0), HTTP/1 with its name; an error page without a head is what
/// old servers say to what they take for HTTP/0.9.
fn spoken(heard: &[u8]) -> Spoken {
    match heard {
        [_, _, _, 4 | 7, _, 0, 0, 0, 0] => Spoken::Http2,
        [b'H', b'T', b'T', b'P', b'/', b'1', ..] | [b'<', ..] => Spoken::Http1,
        _ => Spoken::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;
    use std::path::Path;
    use std::thread;

    /// Answers everybody with these bytes.
    fn web(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                let mut heard = [0; 512];
                let _ = socket.read(&mut heard);
                let _ = socket.write_all(answer);
            }
        });
        port
    }

    const HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    const HTTP2: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";

    fn warned(alpn: &str, fallbacks: &str) -> Vec<String> {
        let text = format!(
            r#"{{ "users": [ {{ "uuid": "example" }} ], "tls": {{ "enabled": true, "alpn": {alpn} }}, "fallbacks": [ {fallbacks} ] }}"#
        );
        warnings(&Config::parse(&text, Path::new("/nowhere/config.json")).unwrap())
    }

    #[test]
    fn what_is_agreed_on_must_be_what_the_fallback_speaks() {
        let (old, new) = (web(HTTP1), web(HTTP2));
        let both = r#"["h2", "http/1.1"]"#;
        assert!(
            warned(both, &format!(r#"{{ "dest": {old} }}"#))[0].contains("fallbacks[0] gets clients that agreed on h2")
        );
        assert!(warned(both, &format!(r#"{{ "dest": {new} }}"#))[0].contains("answers in HTTP/2"));
        assert!(warned(both, r#"{ "dest": "builtin" }"#)[0].contains("agreed on h2"));
        let apart = format!(r#"{{ "dest": {old} }}, {{ "dest": {new}, "alpn": "h2" }}"#);
        assert_eq!(warned(both, &apart), Vec::<String>::new());
        let swapped = format!(r#"{{ "dest": {new} }}, {{ "dest": {old}, "alpn": "h2", "xver": 1 }}"#);
        assert_eq!(warned(both, &swapped).len(), 2);
        for alpn in [r#"["http/1.1"]"#, "[]"] {
            assert_eq!(warned(alpn, &format!(r#"{{ "dest": {old} }}"#)), Vec::<String>::new());
            assert_eq!(warned(alpn, r#"{ "dest": "builtin" }"#), Vec::<String>::new());
        }
    }

    #[test]
    fn nobody_is_accused_of_silence() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let silent = web(b"");
        for dest in [gone.to_string(), silent.to_string(), "\"/nowhere/web.sock\"".to_owned(), "\"@nobody\"".to_owned()]
        {
            assert_eq!(warned(r#"["h2"]"#, &format!(r#"{{ "dest": {dest} }}"#)), Vec::<String>::new(), "{dest}");
        }
    }
}
