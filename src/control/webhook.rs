//! A small HTTP client for webhooks: one POST, TLS by rustls with the system's certificates.
//!
//! It blocks and is used on a thread that has nothing else to do. An attempt ends within [`TIMEOUT`], the look-up of the
//! name (`look_up.rs`) included.

mod look_up;

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use self::look_up::LookUps;

/// An attempt may take so long, from the look-up of the name to the answer's first line.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Files in which systems keep the authorities they trust; the first that is there counts.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Of the whole process: a thread that waits for the system outlives the attempt it belongs to.
static LOOK_UPS: LazyLock<LookUps> = LazyLock::new(LookUps::new);

/// The address of a webhook: `http://` or `https://`, host, port and path. The path may hold a secret, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// Reads a URL. `None` for other schemes, a port that is none, a name or password in front of the host, and characters
    /// that do not belong there.
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_valid = !host.is_empty() && !host.contains('@') && is_clean(host) && is_clean(path);
        is_valid.then(|| Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Scheme, host and port: what may be shown.
    pub fn place(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.host_field())
    }

    fn host_field(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/...", self.place())
    }
}

/// Sends `body` as JSON.
///
/// # Errors
/// When it could not be delivered, or the answer is not of the 200s.
pub fn post(url: &Url, body: &[u8], roots: &Roots) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let addresses = LOOK_UPS.addresses(&url.host, url.port, deadline)?;
    let stream = Bounded { stream: connect(&addresses, deadline)?, deadline };
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: vless-rust\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        url.path,
        url.host_field(),
        body.len()
    );
    if !url.tls {
        return exchange(stream, head.as_bytes(), body);
    }
    let config = ClientConfig::builder().with_root_certificates(Arc::clone(&roots.0)).with_no_client_auth();
    let name = ServerName::try_from(url.host.clone()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(session, stream), head.as_bytes(), body)
}

fn exchange(mut stream: impl Read + Write, head: &[u8], body: &[u8]) -> io::Result<()> {
    stream.write_all(head)?;
    stream.write_all(body)?;
    stream.flush()?;
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    let status = std::str::from_utf8(&line[9..]).ok().and_then(|digits| digits.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(status) => Err(io::Error::other(format!("the answer was {status}"))),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Each address gets its share of the time that is left, so one that does not answer leaves some for the next.
fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (address, to_come) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        match TcpStream::connect_timeout(address, left(deadline)? / to_come) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket on which all calls together end in time.
struct Bounded {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The authorities that the system trusts, or those in the file that `SSL_CERT_FILE` names.
pub fn system_roots() -> Roots {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let files = named.iter().map(String::as_str).chain(BUNDLES);
    let mut roots = RootCertStore::empty();
    if let Some(pem) = files.into_iter().find_map(|file| fs::read(file).ok()) {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    Roots(Arc::new(roots))
}

/// The authorities that vouch for servers.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// For another client of TLS.
    pub fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0)
    }

    /// Only this certificate.
    pub fn only(der: Vec<u8>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates([CertificateDer::from(der)]);
        Self(Arc::new(roots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    #[test]
    fn urls_have_a_scheme_a_host_and_a_path() {
        let parsed = |text: &str| Url::parse(text).map(|url| (url.host_field(), url.port, url.path.clone(), url.tls));
        assert_eq!(parsed("https://a.example/x?y=1"), Some(("a.example".into(), 443, "/x?y=1".into(), true)));
        assert_eq!(parsed("http://a.example:81"), Some(("a.example:81".into(), 81, "/".into(), false)));
        assert_eq!(parsed("https://[::1]:8443/"), Some(("[::1]:8443".into(), 8443, "/".into(), true)));
        assert_eq!(parsed("http://[::1]"), Some(("[::1]".into(), 80, "/".into(), false)));
        for bad in ["ftp://x/", "x", "https://", "https://a:0/", "https://a:x/", "http://a/ b", "http://u:p@a/"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        // As behind a broken route: with its queue full, a listener answers nobody.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let silent_address = silent.local_addr().unwrap().as_socket().unwrap();
        let short = Duration::from_millis(100);
        let queued: Vec<_> = (0..4).map(|_| TcpStream::connect_timeout(&silent_address, short)).collect();
        assert!(queued.last().unwrap().is_err(), "its queue is full");
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [silent_address, other.local_addr().unwrap()];
        let stream = connect(&addresses, Instant::now() + TIMEOUT).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    }

    #[test]
    fn a_url_is_not_shown_whole() {
        let url = Url::parse("https://hooks.example/secret/path").unwrap();
        assert_eq!(
            (url.place(), format!("{url:?}")),
            ("https://hooks.example".into(), "https://hooks.example/...".into())
        );
    }
}
