//! The connection to the engine: a socket, with or without TLS, on which no call takes longer or brings more than it may.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::named::Named;
use crate::app::config::EnginePlace;
use crate::control::webhook::system_roots;

/// From the look-up of the name to the end of the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// More than any chain of certificates has.
const HANDSHAKE_BYTES_MAX: usize = 1 << 20;

/// A connection.
pub(super) enum Stream {
    Plain(Bounded),
    Tls(Box<StreamOwned<ClientConnection, Bounded>>),
}

/// A socket on which all calls together end in time and bring a limited number of bytes.
pub(super) struct Bounded {
    socket: Socket,
    deadline: Instant,
    bytes_left: usize,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to the engine at `place`. With TLS, `ca_file` is the only authority if it is given.
    pub(super) fn connect(place: &EnginePlace, ca_file: Option<&Path>) -> io::Result<Self> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let (host, port, is_tls) = match place {
            EnginePlace::Unix(path) => {
                return Ok(Self::Plain(Bounded::new(Socket::Unix(UnixStream::connect(path)?), deadline)));
            }
            EnginePlace::Tcp { host, port, tls } => (host, *port, *tls),
            // Somebody has to say first where it is.
            EnginePlace::Sentinels { .. } => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = connect(host, port, deadline)?;
        socket.set_nodelay(true)?;
        let bounded = Bounded::new(Socket::Tcp(socket), deadline);
        if !is_tls {
            return Ok(Self::Plain(bounded));
        }
        let config = match ca_file {
            None => ClientConfig::builder().with_root_certificates(system_roots().store()),
            Some(file) => {
                let named = Arc::new(Named::new(certificates_of(file)?)?);
                ClientConfig::builder().dangerous().with_custom_certificate_verifier(named)
            }
        };
        let config = config.with_no_client_auth();
        let name = ServerName::try_from(host.clone()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, bounded);
        // Whom we speak to has to be known before a password is sent.
        while stream.conn.is_handshaking() {
            let done = stream.conn.complete_io(&mut stream.sock);
            done.map_err(|error| io::Error::new(error.kind(), format!("TLS with the engine: {error}")))?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// What comes next has to be over after `timeout`, and to bring at most `bytes` bytes.
    pub(super) fn allow(&mut self, timeout: Duration, bytes: usize) {
        let bounded = match self {
            Self::Plain(bounded) => bounded,
            Self::Tls(stream) => &mut stream.sock,
        };
        bounded.deadline = Instant::now() + timeout;
        bounded.bytes_left = bytes;
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(bounded) => bounded.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(bounded) => bounded.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(bounded) => bounded.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Bounded {
    fn new(socket: Socket, deadline: Instant) -> Self {
        Self { socket, deadline, bytes_left: HANDSHAKE_BYTES_MAX }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes_left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the engine's answer is longer than any should be"));
        }
        let most = buffer.len().min(self.bytes_left);
        let left = Some(left(self.deadline)?);
        let buffer = &mut buffer[..most];
        let count = match &mut self.socket {
            Socket::Tcp(socket) => socket.set_read_timeout(left).and_then(|()| socket.read(buffer)),
            Socket::Unix(socket) => socket.set_read_timeout(left).and_then(|()| socket.read(buffer)),
        };
        let count = count.map_err(in_words)?;
        self.bytes_left -= count;
        Ok(count)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = Some(left(self.deadline)?);
        let count = match &mut self.socket {
            Socket::Tcp(socket) => socket.set_write_timeout(left).and_then(|()| socket.write(bytes)),
            Socket::Unix(socket) => socket.set_write_timeout(left).and_then(|()| socket.write(bytes)),
        };
        count.map_err(in_words)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(stalled()) } else { Ok(left) }
}

/// A timeout of a socket says "resource temporarily unavailable", which helps nobody.
fn in_words(error: io::Error) -> io::Error {
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) { stalled() } else { error }
}

fn stalled() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the engine does not answer in time")
}

fn certificates_of(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(io::Error::other)?;
    let certificates: Vec<_> = certificates.flatten().collect();
    if certificates.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no certificate in {}", file.display())));
    }
    Ok(certificates)
}
