//! TLS as the simulated clients speak it: rustls's own client in memory, and a certificate made when the test starts.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use vless_rust::inbound::tls::{Certificate, TlsSettings};
use vless_rust::session::TlsAcceptor;

/// The server's side, made once. Ed25519: its signatures are all of one length, so a seed gives the same run each time.
fn server() -> &'static (TlsAcceptor, RootCertStore) {
    static SERVER: OnceLock<(TlsAcceptor, RootCertStore)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(7_u64));
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let key = Arc::new(CertifiedKey::new(vec![certificate], key));
        let certificates = vec![Certificate { names: vec!["localhost".to_owned()], key }];
        let settings =
            TlsSettings { certificates, alpn: vec!["http/1.1".to_owned()], tls13_only: false, remember_names: false };
        (TlsAcceptor::new(settings).unwrap(), roots)
    })
}

pub(crate) fn acceptor() -> TlsAcceptor {
    server().0.clone()
}

/// What a client's TLS is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientTls {
    pub(crate) tls13: bool,
    /// Largest record it writes, ClientHello included.
    pub(crate) fragment: Option<usize>,
    /// Offers the large post-quantum key share.
    pub(crate) post_quantum: bool,
}

impl ClientTls {
    pub(crate) const NEW: Self = Self { tls13: true, fragment: None, post_quantum: false };
    pub(crate) const OLD: Self = Self { tls13: false, fragment: None, post_quantum: false };

    /// Clients made from the same configuration resume each other's sessions.
    pub(crate) fn config(self) -> Arc<ClientConfig> {
        let mut groups = vec![aws_lc_rs::kx_group::X25519];
        if self.post_quantum {
            groups.insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
        }
        let provider = CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() };
        let versions: &[&SupportedProtocolVersion] = if self.tls13 { &[&version::TLS13] } else { &[&version::TLS12] };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(server().1.clone())
            .with_no_client_auth();
        config.max_fragment_size = self.fragment;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A client's TLS connection, fed one record at a time.
pub(crate) struct TlsPeer {
    connection: ClientConnection,
    /// The beginning of a record whose end has not come.
    partial: Vec<u8>,
    pub(crate) error: Option<rustls::Error>,
}

impl TlsPeer {
    pub(crate) fn new(config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        connection.set_buffer_limit(None);
        Self { connection, partial: Vec::new(), error: None }
    }

    /// Takes wire bytes, of which [`TlsPeer::next_payload`] then makes something.
    pub(crate) fn feed(&mut self, wire: &[u8]) {
        self.partial.extend_from_slice(wire);
    }

    /// The payload of the next record that has any.
    pub(crate) fn next_payload(&mut self) -> Option<Vec<u8>> {
        loop {
            let length =
                self.partial.get(3..5).map(|field| 5 + usize::from(u16::from_be_bytes([field[0], field[1]])))?;
            if self.partial.len() < length {
                return None;
            }
            let record: Vec<u8> = self.partial.drain(..length).collect();
            let mut record = &record[..];
            if self.error.is_some() {
                continue;
            }
            while !record.is_empty() && self.connection.read_tls(&mut record).unwrap() > 0 {}
            if let Err(error) = self.connection.process_new_packets() {
                self.error = Some(error);
                continue;
            }
            let mut payload = Vec::new();
            // Fails with "would block" when it is empty, which is all there can be.
            let _ = self.connection.reader().read_to_end(&mut payload);
            if !payload.is_empty() {
                return Some(payload);
            }
        }
    }

    /// What TLS was given and has not looked at.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// Wire bytes for `payload`; without payload, what TLS has to say.
    pub(crate) fn say(&mut self, payload: &[u8]) -> Vec<u8> {
        self.connection.writer().write_all(payload).unwrap();
        let mut wire = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut wire).unwrap();
        }
        wire
    }

    pub(crate) fn close_notify(&mut self) -> Vec<u8> {
        if self.error.is_none() {
            self.connection.send_close_notify();
        }
        self.say(&[])
    }

    /// Changes the sending keys, and asks the server to change its own; TLS 1.3 only.
    pub(crate) fn key_update(&mut self) -> Vec<u8> {
        if self.error.is_none()
            && !self.connection.is_handshaking()
            && self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
        {
            self.connection.refresh_traffic_keys().unwrap();
        }
        self.say(&[])
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Tickets that came; TLS 1.3 only.
    pub(crate) fn tickets(&self) -> u32 {
        self.connection.tls13_tickets_received()
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The server's close_notify came.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.connection.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }
}
