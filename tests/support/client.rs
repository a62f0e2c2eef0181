//! A small blocking VLESS client, plain or TLS, that owes nothing to the code under test.
//!
//! All methods take `&self`, so that one thread may send while another receives.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};

use super::server::Server;
use super::{bounded, reset_on_close};

/// One connection to a server.
pub struct Client {
    tcp: TcpStream,
    tls: Option<Mutex<ClientConnection>>,
    /// What came out of TLS and was not taken yet.
    plain: Mutex<VecDeque<u8>>,
    /// What came from the socket, before TLS.
    wire: Mutex<Vec<u8>>,
}

/// The start of a request: version 0, the user's id, no addons, TCP, then port, type and address.
pub fn request(id: &[u8; 16], target: SocketAddr) -> Vec<u8> {
    let mut header = vec![0];
    header.extend_from_slice(id);
    header.extend_from_slice(&[0, 1]);
    header.extend_from_slice(&target.port().to_be_bytes());
    match target {
        SocketAddr::V4(target) => {
            header.push(1);
            header.extend_from_slice(&target.ip().octets());
        }
        SocketAddr::V6(target) => {
            header.push(3);
            header.extend_from_slice(&target.ip().octets());
        }
    }
    header
}

impl Client {
    /// Connects as `server` wants it, with or without TLS, and says nothing inside yet.
    pub fn connect(server: &Server) -> Self {
        Self::connect_with(server, rustls::ALL_VERSIONS)
    }

    pub fn connect_with(server: &Server, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let tcp = bounded(TcpStream::connect(server.address).unwrap());
        let tls = server.certificate.as_ref().map(|certificate| handshake(&tcp, certificate, versions).unwrap());
        Self { tcp, tls: tls.map(Mutex::new), plain: Mutex::default(), wire: Mutex::default() }
    }

    /// A client that only has a connection: what it sends goes without TLS.
    pub fn raw(tcp: TcpStream) -> Self {
        Self { tcp, tls: None, plain: Mutex::default(), wire: Mutex::default() }
    }

    /// Connects and asks for `target`; the request goes out together with `first`.
    pub fn open(server: &Server, id: &[u8; 16], target: SocketAddr, first: &[u8]) -> Self {
        let client = Self::connect(server);
        client.send(&[&request(id, target), first].concat()).unwrap();
        client
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return (&self.tcp).write_all(bytes) };
        for part in bytes.chunks(32 << 10) {
            let mut sealed = Vec::new();
            {
                let mut tls = tls.lock().unwrap();
                tls.writer().write_all(part)?;
                while tls.wants_write() {
                    tls.write_tls(&mut sealed)?;
                }
            }
            (&self.tcp).write_all(&sealed)?;
        }
        Ok(())
    }

    /// Sends below TLS.
    pub fn send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.tcp).write_all(bytes)
    }

    /// Receives some bytes; 0 is the end of the stream. With TLS that must be close_notify: a bare end of the
    /// connection is an error, and so is an end without one of the two.
    pub fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&self.tcp).read(into) };
        let mut plain = self.plain.lock().unwrap();
        let mut chunk = vec![0; 64 << 10];
        while plain.is_empty() {
            let mut open = tls.lock().unwrap();
            match open.reader().read(&mut chunk) {
                Ok(count @ 1..) => plain.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    drop(open);
                    let count = (&self.tcp).read(&mut chunk)?;
                    self.wire.lock().unwrap().extend_from_slice(&chunk[..count]);
                    open_records(&mut tls.lock().unwrap(), &chunk[..count], &mut plain)?;
                }
                over => return over,
            }
        }
        plain.read(into)
    }

    pub fn recv_exact(&self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            match self.recv(&mut into[filled..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Receives exactly `count` bytes.
    #[track_caller]
    pub fn take(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.recv_exact(&mut bytes).unwrap();
        bytes
    }

    /// Receives the response header, which is two zeros (version and no addons).
    #[track_caller]
    pub fn take_response(&self) {
        assert_eq!(self.take(2), [0, 0]);
    }

    /// Receives to the end of the stream.
    pub fn recv_to_end(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            match self.recv(&mut chunk)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Ends our direction in order: close_notify in TLS, then the end of the TCP stream.
    pub fn finish(&self) {
        self.say_goodbye();
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends close_notify and leaves the connection open.
    pub fn say_goodbye(&self) {
        if let Some(tls) = &self.tls {
            let mut sealed = Vec::new();
            let mut tls = tls.lock().unwrap();
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut sealed).unwrap();
            }
            (&self.tcp).write_all(&sealed).unwrap();
        }
    }

    /// Ends the TCP stream and says nothing in TLS before.
    pub fn finish_tcp(&self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// Breaks the connection.
    pub fn reset(self) {
        reset_on_close(&self.tcp);
    }

    /// Ends both directions at once, from whichever thread.
    pub fn break_off(&self) {
        self.tcp.shutdown(Shutdown::Both).unwrap();
    }

    /// For tests that look what comes within a short time.
    pub fn set_read_timeout(&self, timeout: Duration) {
        self.tcp.set_read_timeout(Some(timeout)).unwrap();
    }

    /// For tests that look how much is taken.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.tcp.set_write_timeout(Some(timeout)).unwrap();
    }

    /// What came from the socket since the handshake (TLS only).
    pub fn wire(&self) -> Vec<u8> {
        self.wire.lock().unwrap().clone()
    }

    pub fn tls<T>(&self, look: impl FnOnce(&mut ClientConnection) -> T) -> T {
        look(&mut self.tls.as_ref().expect("a TLS client").lock().unwrap())
    }
}

/// Gives `bytes` to TLS (none: the connection has ended) and takes out what it makes of them.
fn open_records(tls: &mut ClientConnection, mut bytes: &[u8], plain: &mut VecDeque<u8>) -> io::Result<()> {
    let mut chunk = [0; 16 << 10];
    loop {
        tls.read_tls(&mut bytes)?;
        tls.process_new_packets().map_err(io::Error::other)?;
        while let Ok(count @ 1..) = tls.reader().read(&mut chunk) {
            plain.extend(&chunk[..count]);
        }
        if bytes.is_empty() {
            return Ok(());
        }
    }
}

/// Cuts bytes into TLS records by their length fields; the last one may be incomplete.
pub fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, ..] = bytes {
        let length = (5 + usize::from(u16::from_be_bytes([*high, *low]))).min(bytes.len());
        let (record, rest) = bytes.split_at(length);
        records.push(record);
        bytes = rest;
    }
    records
}

fn handshake(
    mut tcp: &TcpStream,
    certificate: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<ClientConnection> {
    let mut tls = ClientConnection::new(config(certificate, versions), "localhost".try_into().unwrap()).unwrap();
    while tls.is_handshaking() {
        while tls.wants_write() {
            tls.write_tls(&mut tcp)?;
        }
        if tls.is_handshaking() {
            if tls.read_tls(&mut tcp)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
    while tls.wants_write() {
        tls.write_tls(&mut tcp)?;
    }
    Ok(tls)
}

/// A client's settings that accept one certificate and no other.
pub fn config(
    certificate: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Pinned { certificate: certificate.clone(), provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Arc::new(config.with_no_client_auth())
}

#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another certificate".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
