//! Renewed certificates are used without a reload, and what cannot be used changes nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use crate::harness::Process;
use crate::support::{bounded, wait_until};

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT }, "users": [ { "uuid": "example" } ],
    "tls": { "enabled": true, "cert_file": "live/cert.pem", "key_file": "live/key.pem" },
    "monitoring": { "enabled": false } }"#;

/// A pair in a folder of its own, as certbot keeps them.
fn write_pair(folder: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().to_vec()
}

/// Points `live` to another folder in one step.
fn point_to(folder: &Path, archive: &str) {
    symlink(archive, folder.join("next")).unwrap();
    fs::rename(folder.join("next"), folder.join("live")).unwrap();
}

#[test]
fn another_link_brings_another_certificate_and_leaves_sessions_alone() {
    let mut first = Vec::new();
    let server = Process::start(CONFIG, |folder| {
        first = write_pair(&folder.join("one"));
        point_to(folder, "one");
    });
    let old = Client::connect(&server);
    assert_eq!(old.certificate, first);
    let second = write_pair(&server.file("two"));
    point_to(server.folder.path(), "two");
    wait_until("the new one is shown", || Client::connect(&server).certificate == second);
    server.wait_for_line(0, "certificate replaced");
    assert!(old.is_alive(), "the session with the old one goes on");
}

#[test]
fn a_pair_that_does_not_match_yet_is_waited_for() {
    let mut first = Vec::new();
    let server = Process::start(CONFIG, |folder| {
        first = write_pair(&folder.join("live"));
    });
    let next = server.file("next");
    let second = write_pair(&next);
    fs::rename(next.join("cert.pem"), server.file("live/cert.pem")).unwrap();
    server.wait_for_line(0, "cannot be used (yet)");
    assert_eq!(Client::connect(&server).certificate, first);
    fs::rename(next.join("key.pem"), server.file("live/key.pem")).unwrap();
    wait_until("the pair is used once it is whole", || Client::connect(&server).certificate == second);
}

#[test]
fn files_that_are_gone_or_torn_change_nothing() {
    let mut first = Vec::new();
    let server = Process::start(CONFIG, |folder| {
        first = write_pair(&folder.join("live"));
    });
    fs::write(server.file("live/cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    server.wait_for_line(0, "BEGIN CERTIFICATE without its END");
    assert_eq!(Client::connect(&server).certificate, first);
    let before = server.said().len();
    fs::remove_file(server.file("live/cert.pem")).unwrap();
    server.wait_for_line(before, "is missing");
    assert_eq!(Client::connect(&server).certificate, first);
}

#[test]
fn a_fallback_by_name_that_a_reload_adds_finds_the_names_of_clients() {
    let server = Process::start(CONFIG, |folder| {
        write_pair(&folder.join("live"));
    });
    let fallback = r#""fallbacks": [ { "name": "localhost", "dest": "builtin" } ], "monitoring""#;
    server.write_config(&CONFIG.replace("\"monitoring\"", fallback));
    assert!(server.reload().ends_with("reloaded (signal): fallbacks"));
    wait_until("the site answers", || Client::connect(&server).answer().starts_with(b"HTTP/1.1 200"));
}

/// A TLS client that takes any certificate and tells which.
struct Client {
    certificate: Vec<u8>,
    stream: Mutex<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    fn connect(server: &Process) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any))
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, bounded(TcpStream::connect(server.address).unwrap()));
        stream.flush().unwrap();
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        let certificate = stream.conn.peer_certificates().unwrap()[0].to_vec();
        Self { certificate, stream: Mutex::new(stream) }
    }

    /// What a request for a page is answered, nothing where the connection ends.
    fn answer(&self) -> Vec<u8> {
        let mut stream = self.stream.lock().unwrap();
        let mut answer = vec![0; 64];
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let length = asked.and_then(|()| stream.read(&mut answer)).unwrap_or(0);
        answer.truncate(length);
        answer
    }

    /// Nothing came, and no end either.
    fn is_alive(&self) -> bool {
        let mut stream = self.stream.lock().unwrap();
        stream.sock.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
