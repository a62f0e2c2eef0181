//! The client's outer TLS: rustls, limited to TLS 1.3, X25519 and AES-128-GCM without resumption, so that every server
//! under test does the same work.
//!
//! Records are framed here and rustls is given exactly one at a time: Vision's downlink may leave TLS after any of
//! them, and what follows must then still be in our hands.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::leg::Leg;
use crate::vless::Header;

/// RFC 8446 section 5.2: header, 2^14 bytes, 256 bytes of expansion.
const RECORD_BYTES_MAX: usize = 5 + 16384 + 256;
const WIRE_BYTES: usize = 128 * 1024;

/// The one client configuration of all scenarios; accepts this certificate and no other.
pub(crate) fn client_config(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(provider);
    let pinned = Arc::new(Pinned { certificate, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has a TLS 1.3 suite")
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// One outer TLS connection and the socket below it.
pub(crate) struct Tls {
    connection: ClientConnection,
    socket: TcpStream,
    wire: Vec<u8>,
    /// `wire[head..tail]` was received and not yet given to rustls.
    head: usize,
    tail: usize,
}

impl Tls {
    /// Completes the handshake on a connected socket.
    pub(crate) fn open(socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        // Otherwise rustls takes only part of a large write.
        connection.set_buffer_limit(None);
        let mut tls = Self { connection, socket, wire: vec![0; WIRE_BYTES], head: 0, tail: 0 };
        tls.flush()?;
        while tls.connection.is_handshaking() {
            if !tls.feed_record()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            tls.flush()?;
        }
        Ok(tls)
    }

    /// Sends these bytes as records of at most 16 KiB; up to 16 KiB they share one record.
    pub(crate) fn send(&mut self, plaintext: &[u8]) -> io::Result<()> {
        self.connection.writer().write_all(plaintext)?;
        self.flush()
    }

    /// Appends the plaintext of exactly one record, possibly none; false at the end of the stream.
    pub(crate) fn recv_record(&mut self, plaintext: &mut Vec<u8>) -> io::Result<bool> {
        if !self.feed_record()? {
            return Ok(false);
        }
        match self.connection.reader().read_to_end(plaintext) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The bytes behind the last record that rustls has seen; from here on the caller reads the socket itself.
    pub(crate) fn take_unread(&mut self) -> &[u8] {
        let unread = &self.wire[self.head..self.tail];
        self.head = self.tail;
        unread
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(crate) fn send_close_notify(&mut self) -> io::Result<()> {
        self.connection.send_close_notify();
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Gives rustls exactly one record; false when the server closed the socket between two records.
    fn feed_record(&mut self) -> io::Result<bool> {
        let Some(mut record_bytes) = self.await_record()? else { return Ok(false) };
        while record_bytes > 0 {
            let mut record = &self.wire[self.head..self.head + record_bytes];
            let taken = self.connection.read_tls(&mut record)?;
            self.head += taken;
            record_bytes -= taken;
        }
        self.connection.process_new_packets().map_err(io::Error::other)?;
        Ok(true)
    }

    /// Waits until a whole record lies at `head` and returns its length.
    fn await_record(&mut self) -> io::Result<Option<usize>> {
        loop {
            let held = self.tail - self.head;
            if held >= 5 {
                let record_bytes =
                    5 + usize::from(u16::from_be_bytes([self.wire[self.head + 3], self.wire[self.head + 4]]));
                if record_bytes > RECORD_BYTES_MAX {
                    return Err(io::Error::other("the server sent something that is not a TLS record"));
                }
                if held >= record_bytes {
                    return Ok(Some(record_bytes));
                }
            }
            if self.wire.len() - self.head < RECORD_BYTES_MAX || held == 0 {
                self.wire.copy_within(self.head..self.tail, 0);
                (self.head, self.tail) = (0, held);
            }
            match self.socket.read(&mut self.wire[self.tail..])? {
                0 if held == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.tail += n,
            }
        }
    }
}

/// VLESS with flow none over TLS.
pub(crate) struct TlsLeg {
    tls: Tls,
    header: Header,
    payload: Vec<u8>,
    payload_head: usize,
}

impl TlsLeg {
    pub(crate) fn open(socket: TcpStream, config: &Arc<ClientConfig>, header: Header) -> io::Result<Self> {
        Ok(Self { tls: Tls::open(socket, config)?, header, payload: Vec::new(), payload_head: 0 })
    }
}

impl Leg for TlsLeg {
    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        match self.header.take_request() {
            None => self.tls.send(payload),
            Some(request) => self.tls.send(&[&request, payload].concat()),
        }
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.payload_head == self.payload.len() {
            self.payload.clear();
            self.payload_head = 0;
            let is_open = self.tls.recv_record(&mut self.payload)?;
            let payload = self.header.take_response(&self.payload)?;
            self.payload_head = self.payload.len() - payload.len();
            if !is_open && self.payload_head == self.payload.len() {
                return Ok(0);
            }
        }
        let count = buf.len().min(self.payload.len() - self.payload_head);
        buf[..count].copy_from_slice(&self.payload[self.payload_head..self.payload_head + count]);
        self.payload_head += count;
        Ok(count)
    }

    fn close(&mut self) -> io::Result<()> {
        self.tls.send_close_notify()
    }
}

/// Accepts one known certificate; signatures are verified as usual.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("not the certificate of this run".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
