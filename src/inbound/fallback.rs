//! Which fallback a stranger gets: by the name and ALPN of its TLS and by the path of its HTTP request.
//!
//! [`Fallbacks`] is the table, expanded once per configuration as Xray-core expands it
//! (proxy/vless/inbound/inbound.go), so that files written for Xray-core choose the same here. It knows no socket: a
//! [`Dest`] is only the name of one.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::protocol::proxy_header;

/// The request line is searched for a path up to here.
const PATH_END_MAX: usize = 64;
/// Methods are three to seven letters long: GET to OPTIONS.
const PATH_START: std::ops::Range<usize> = 4..9;
/// The longest path that can be found: behind the shortest method, with a byte that ends it.
pub const PATH_BYTES_MAX: usize = PATH_END_MAX - PATH_START.start - 1;
/// Less than the shortest VLESS request is no HTTP request either.
const REQUEST_BYTES_MIN: usize = 18;

/// One fallback of the configuration. Empty texts stand for "any other".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The server name that the client asks for, in lower case.
    pub name: String,
    /// The protocol that TLS agreed on.
    pub alpn: String,
    /// The path of the request line, without the query.
    pub path: String,
    pub dest: Dest,
    /// The header that tells the fallback who its client is.
    pub proxy_header: Option<proxy_header::Version>,
}

/// Where a stranger's connection is passed on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dest {
    /// Host and port.
    Tcp(Box<str>, u16),
    /// A path in the file system.
    Unix(Box<Path>),
    /// An abstract name (Linux), which lies in no file system; the leading zero byte is not part of it.
    Abstract(Box<[u8]>),
    /// A site that this process serves.
    BuiltIn(BuiltIn),
}

/// Something in this process that serves strangers.
pub trait Site: fmt::Debug + Send + Sync {
    /// A connection to it, as a stream socket that does not block. Called on a worker's thread, so it must not wait.
    ///
    /// # Errors
    /// When there is no descriptor, or when too many wait already.
    fn visit(&self) -> io::Result<OwnedFd>;
}

/// A [`Site`]. Two are the same if they are one.
#[derive(Clone, Debug)]
pub struct BuiltIn(pub Arc<dyn Site>);

impl PartialEq for BuiltIn {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BuiltIn {}

/// All fallbacks, by name, ALPN and path.
#[derive(Debug, Default)]
pub struct Fallbacks {
    names: BTreeMap<String, Row>,
}

type Row = BTreeMap<String, BTreeMap<String, Arc<Fallback>>>;

impl Fallbacks {
    /// A table of `fallbacks`; of two for the same name, ALPN and path the later one counts.
    pub fn new(fallbacks: impl IntoIterator<Item = Fallback>) -> Self {
        let mut names: BTreeMap<String, Row> = BTreeMap::new();
        for fallback in fallbacks {
            let paths = names.entry(fallback.name.clone()).or_default().entry(fallback.alpn.clone()).or_default();
            paths.insert(fallback.path.clone(), Arc::new(fallback));
        }
        expand(&mut names);
        Self { names }
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The fallback of a client that asked TLS for `name` and agreed on `alpn` (both empty without TLS), and whose
    /// first bytes are `first`. `None`: it is closed as if there were none.
    pub fn select(&self, name: &str, alpn: &str, first: &[u8]) -> Option<&Arc<Fallback>> {
        let row = self.names.get(self.known_name(&name.to_lowercase())).or_else(|| self.names.get(""))?;
        let paths = row.get(&alpn.to_lowercase()).or_else(|| row.get(""))?;
        let path = if paths.len() > 1 || !paths.contains_key("") { request_path(first) } else { None };
        path.and_then(|path| paths.get(path)).or_else(|| paths.get(""))
    }

    /// `name` where it is a key, else the longest key that occurs in it, else the default.
    fn known_name<'a>(&'a self, name: &'a str) -> &'a str {
        let only_default = self.names.len() == 1 && self.names.contains_key("");
        if only_default || name.is_empty() || self.names.contains_key(name) {
            return name;
        }
        let occurring = self.names.keys().filter(|key| name.contains(key.as_str()));
        occurring.max_by_key(|key| key.len()).map_or("", String::as_str)
    }
}

/// Copies defaults to where nothing was said, so that a look-up falls through: names inherit from the default name, and
/// within a name protocols inherit from the default protocol.
fn expand(names: &mut BTreeMap<String, Row>) {
    let default_alpns: Vec<String> = names.get("").map(|row| row.keys().cloned().collect()).unwrap_or_default();
    for row in names.values_mut() {
        for alpn in &default_alpns {
            row.entry(alpn.clone()).or_default();
        }
        let defaults = row.get("").cloned().unwrap_or_default();
        for paths in row.values_mut() {
            inherit(paths, &defaults);
        }
    }
    let default_row = names.get("").cloned().unwrap_or_default();
    for row in names.values_mut() {
        for (alpn, defaults) in &default_row {
            inherit(row.entry(alpn.clone()).or_default(), defaults);
        }
    }
}

fn inherit(paths: &mut BTreeMap<String, Arc<Fallback>>, defaults: &BTreeMap<String, Arc<Fallback>>) {
    for (path, fallback) in defaults {
        paths.entry(path.clone()).or_insert_with(|| Arc::clone(fallback));
    }
}

/// The path in the request line that `first` begins with, without its query.
fn request_path(first: &[u8]) -> Option<&str> {
    if first.len() < REQUEST_BYTES_MIN || first.get(4) == Some(&b'*') {
        return None;
    }
    let start = PATH_START.into_iter().find(|&at| first.get(at - 1..=at) == Some(b" /"))?;
    let line = first.get(start..first.len().min(PATH_END_MAX))?;
    let end = line.iter().position(|byte| matches!(byte, b'?' | b' ' | b'\r' | b'\n'))?;
    let is_cut = matches!(line.get(end), Some(b'\r' | b'\n'));
    if is_cut { None } else { std::str::from_utf8(line.get(..end)?).ok() }
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::BuiltIn(_) => f.write_str("builtin"),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name).trim_end_matches('\0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of `name alpn path -> port`, and the port that a request gets.
    struct Table(Fallbacks);

    impl Table {
        fn new(rows: &[(&str, &str, &str, u16)]) -> Self {
            Self(Fallbacks::new(rows.iter().map(|&(name, alpn, path, port)| Fallback {
                name: name.to_owned(),
                alpn: alpn.to_owned(),
                path: path.to_owned(),
                dest: Dest::Tcp("localhost".into(), port),
                proxy_header: None,
            })))
        }

        fn port(&self, name: &str, alpn: &str, first: &[u8]) -> Option<u16> {
            match &self.0.select(name, alpn, first)?.dest {
                Dest::Tcp(_, port) => Some(*port),
                _ => None,
            }
        }
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn without_fallbacks_nobody_gets_one() {
        assert!(Fallbacks::default().is_empty());
        assert_eq!(Table::new(&[]).port("a", "h2", GET), None);
    }

    #[test]
    fn one_default_is_for_everybody() {
        let table = Table::new(&[("", "", "", 80)]);
        for (name, alpn, first) in
            [("", "", &b"\0\x01"[..]), ("a.test", "h2", GET), ("A", "x", b"PRI * HTTP/2.0\r\n\r\nSM")]
        {
            assert_eq!(table.port(name, alpn, first), Some(80));
        }
    }

    #[test]
    fn the_longest_configured_name_that_occurs_in_the_asked_one_counts() {
        let table = Table::new(&[("", "", "", 1), ("test", "", "", 2), ("a.test", "", "", 3)]);
        assert_eq!(table.port("a.test", "", GET), Some(3));
        assert_eq!(table.port("www.A.Test.org", "", GET), Some(3));
        assert_eq!(table.port("b.test", "", GET), Some(2));
        assert_eq!(table.port("example.org", "", GET), Some(1));
        assert_eq!(table.port("", "", GET), Some(1));
        assert_eq!(Table::new(&[("a.test", "", "", 3)]).port("b.test", "", GET), None);
    }

    #[test]
    fn names_inherit_what_they_do_not_say_from_the_default_name() {
        let table = Table::new(&[("", "h2", "", 1), ("", "", "/x", 2), ("a.test", "", "", 3)]);
        assert_eq!(table.port("a.test", "h2", GET), Some(3), "its own default comes first");
        assert_eq!(table.port("a.test", "", b"GET /x HTTP/1.1\r\n\r\n"), Some(2));
        assert_eq!(table.port("b.test", "h2", b"PRI * HTTP/2.0\r\n\r\nSM"), Some(1));
        assert_eq!(table.port("b.test", "http/1.1", GET), None, "there is no default path");
    }

    #[test]
    fn a_path_counts_without_its_query_and_only_as_a_whole() {
        let table = Table::new(&[("", "", "", 1), ("", "", "/x", 2)]);
        let port = |first: &str| table.port("", "", first.as_bytes());
        assert_eq!(port("GET /x?y HTTP/1.1\r\n\r\n"), Some(2));
        assert_eq!(port("OPTIONS /x HTTP/1.1\r\n\r\n"), Some(2));
        assert_eq!(port("GET /xy HTTP/1.1\r\n\r\n"), Some(1));
        assert_eq!(port("GET /X HTTP/1.1\r\n\r\n"), Some(1));
        assert_eq!(port("GET /x\r\nHost: aaaaaaaa\r\n"), Some(1), "HTTP/0.9 has no path");
        assert_eq!(port("PROPFIND /x HTTP/1.1\r\n\r\n"), Some(1), "the method is too long");
        assert_eq!(port("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(1));
        assert_eq!(port(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(80))), Some(1));
        assert_eq!(port("GET /x HTTP/1."), Some(1), "shorter than any request");
    }

    #[test]
    fn of_two_for_the_same_the_later_one_counts() {
        assert_eq!(Table::new(&[("", "", "", 1), ("", "", "", 2)]).port("", "", GET), Some(2));
    }

    #[test]
    fn destinations_are_shown_as_they_are_configured() {
        assert_eq!(Dest::Tcp("::1".into(), 80).to_string(), "[::1]:80");
        assert_eq!(Dest::Unix(Path::new("/run/a.sock").into()).to_string(), "/run/a.sock");
        assert_eq!(Dest::Abstract((*b"name\0\0").into()).to_string(), "@name");
    }
}
