//! rustls's client and our engine joined in memory, and records made by hand.

use std::io::{Read, Write};
use std::mem;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::cipher::{InboundOpaqueMessage, MessageDecrypter, MessageEncrypter};
use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, DigitallySignedStruct, ProtocolVersion, SignatureScheme,
    SupportedProtocolVersion,
};

use super::super::{Certificate, TlsAcceptor, TlsEngine, TlsError, TlsSettings};
use crate::io::buf::Buf;

/// A KeyUpdate that asks for one in return (RFC 8446 4.6.3).
pub(super) const KEY_UPDATE_REQUEST: [u8; 5] = [24, 0, 0, 1, 1];

/// A client and an engine, joined in memory.
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) engine: TlsEngine,
}

impl Pair {
    pub(super) fn new(
        acceptor: &TlsAcceptor,
        versions: &[&'static SupportedProtocolVersion],
        change: impl FnOnce(&mut ClientConfig),
    ) -> Self {
        Self::with_config(acceptor, &client_config(versions, change), "a.test")
    }

    pub(super) fn with_config(acceptor: &TlsAcceptor, config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self { client: ClientConnection::new(Arc::clone(config), name).unwrap(), engine: acceptor.engine().unwrap() }
    }

    /// What the client wants to send.
    pub(super) fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Feeds record by record, as the server does; returns the payload.
    pub(super) fn feed_all(&mut self, bytes: &[u8]) -> Result<Vec<u8>, TlsError> {
        let mut payload = Vec::new();
        for mut record in records(bytes) {
            self.engine.feed(&mut record, |bytes| payload.extend_from_slice(bytes))?;
        }
        Ok(payload)
    }

    pub(super) fn client_to_engine(&mut self) -> Result<Vec<u8>, TlsError> {
        let bytes = self.client_bytes();
        self.feed_all(&bytes)
    }

    pub(super) fn engine_to_client(&mut self) -> rustls::IoState {
        let outgoing = mem::take(self.engine.outgoing());
        let mut rest = &outgoing[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets().unwrap();
        }
        self.client.process_new_packets().unwrap()
    }

    pub(super) fn try_handshake(&mut self) -> Result<(), TlsError> {
        for _ in 0..4 {
            self.client_to_engine()?;
            self.engine_to_client();
        }
        Ok(())
    }

    pub(super) fn handshake(&mut self) {
        self.try_handshake().unwrap();
        assert!(self.engine.is_open() && !self.client.is_handshaking());
    }

    pub(super) fn up(&mut self, payload: &[u8]) -> Vec<u8> {
        self.client.writer().write_all(payload).unwrap();
        self.client_to_engine().unwrap()
    }

    pub(super) fn down(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut wire = Buf::new(payload.len() + 1000);
        assert!(wire.append(self.engine.outgoing()));
        self.engine.outgoing().clear();
        self.engine.seal(payload, &mut wire).unwrap();
        client_reads(&mut self.client, wire.bytes())
    }

    /// The name of the alert that waits for the client.
    pub(super) fn alert_seen(&mut self) -> String {
        let outgoing = mem::take(self.engine.outgoing());
        self.client.read_tls(&mut &outgoing[..]).unwrap();
        match self.client.process_new_packets() {
            Err(rustls::Error::AlertReceived(alert)) => format!("{alert:?}"),
            other => panic!("no alert but {other:?}"),
        }
    }
}

pub(super) fn client_reads(client: &mut ClientConnection, mut wire: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while !wire.is_empty() {
        client.read_tls(&mut wire).unwrap();
        client.process_new_packets().unwrap();
        let mut chunk = vec![0; 1 << 16];
        while let Ok(count @ 1..) = client.reader().read(&mut chunk) {
            payload.extend_from_slice(&chunk[..count]);
        }
    }
    payload
}

/// A TLS 1.3 client whose records are made by hand after the handshake.
pub(super) struct Hand {
    pub(super) engine: TlsEngine,
    encrypter: Box<dyn MessageEncrypter>,
    sent: u64,
    decrypter: Box<dyn MessageDecrypter>,
    received: u64,
}

impl Hand {
    pub(super) fn new() -> Self {
        let mut pair = Pair::new(&acceptor(&["a.test"], &[]), &[&TLS13], |config| {
            config.enable_secret_extraction = true;
        });
        pair.handshake();
        let rustls::SupportedCipherSuite::Tls13(suite) = pair.client.negotiated_cipher_suite().unwrap() else {
            panic!("not a TLS 1.3 suite");
        };
        let secrets = pair.client.dangerous_extract_secrets().unwrap();
        let parts = |secrets| match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => panic!("an unknown suite"),
        };
        let ((sent, tx), (received, rx)) = (secrets.tx, secrets.rx);
        let ((tx_key, tx_iv), (rx_key, rx_iv)) = (parts(tx), parts(rx));
        Self {
            engine: pair.engine,
            encrypter: suite.aead_alg.encrypter(tx_key, tx_iv),
            sent,
            decrypter: suite.aead_alg.decrypter(rx_key, rx_iv),
            received,
        }
    }

    pub(super) fn record(&mut self, typ: ContentType, content: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(content);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        self.sent += 1;
        self.encrypter.encrypt(message, self.sent - 1).unwrap().encode()
    }

    pub(super) fn handshake_record(&mut self, content: &[u8]) -> Vec<u8> {
        self.record(ContentType::Handshake, content)
    }

    pub(super) fn feed(&mut self, record: &[u8]) -> Result<(), TlsError> {
        self.engine.feed(&mut record.to_vec(), |_| ())
    }

    pub(super) fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut wire = Buf::new(1 << 16);
        self.engine.seal(payload, &mut wire).unwrap();
        wire.bytes().to_vec()
    }

    /// Seals `payload` and opens the records that come of it, each with its inner type.
    pub(super) fn open_downlink(&mut self, payload: &[u8]) -> Vec<(ContentType, Vec<u8>)> {
        let wire = self.seal(payload);
        self.open(&wire)
    }

    /// Level and description of the alert that waits for the client.
    pub(super) fn alert_seen(&mut self) -> Vec<u8> {
        let outgoing = mem::take(self.engine.outgoing());
        let [(ContentType::Alert, alert)] = &self.open(&outgoing)[..] else { panic!("no alert in {outgoing:?}") };
        alert.clone()
    }

    fn open(&mut self, wire: &[u8]) -> Vec<(ContentType, Vec<u8>)> {
        let mut opened = Vec::new();
        for mut record in records(wire) {
            let body = &mut record[5..];
            let message = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, body);
            let plain = self.decrypter.decrypt(message, self.received).unwrap();
            self.received += 1;
            opened.push((plain.typ, plain.payload.to_vec()));
        }
        opened
    }
}

pub(super) fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, ..] = bytes {
        let (record, rest) = bytes.split_at(5 + usize::from(u16::from_be_bytes([*high, *low])));
        records.push(record.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a record");
    records
}

pub(super) fn plain_record(content_type: u8, fragment: &[u8]) -> Vec<u8> {
    let [high, low] = (fragment.len() as u16).to_be_bytes();
    [&[content_type, 3, 3, high, low], fragment].concat()
}

pub(super) fn certificate(names: &[&str]) -> Certificate {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Certificate { names, key: Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key)) }
}

pub(super) fn settings(names: &[&str], alpn: &[&str]) -> TlsSettings {
    let alpn = alpn.iter().map(ToString::to_string).collect();
    TlsSettings { certificates: vec![certificate(names)], alpn, tls13_only: false, remember_names: false }
}

pub(super) fn acceptor(names: &[&str], alpn: &[&str]) -> TlsAcceptor {
    TlsAcceptor::new(settings(names, alpn)).unwrap()
}

pub(super) fn client_config(
    versions: &[&'static SupportedProtocolVersion],
    change: impl FnOnce(&mut ClientConfig),
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    change(&mut config);
    Arc::new(config)
}

/// Checks signatures but not who made the certificate.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A small xorshift generator; the seed must not be zero.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    pub(super) fn bytes(&mut self, bytes_max: usize) -> Vec<u8> {
        (0..self.below(bytes_max)).map(|_| self.below(256) as u8).collect()
    }
}
