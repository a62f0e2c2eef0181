//! How TLS answers clients: certificates by name, protocols, versions. Makes one [`TlsEngine`] per client.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{SupportedProtocolVersion, version};

use super::asked_name::AskedName;
use super::{TlsEngine, TlsError};

/// A server certificate with the names it answers to.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Lower-case DNS names, `*.` in front for a wildcard. Empty: chosen only as the default.
    pub names: Vec<String>,
    pub key: Arc<CertifiedKey>,
}

/// How TLS answers clients.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// At least one. The first is the default for unknown and missing names.
    pub certificates: Vec<Certificate>,
    /// Protocols, the preferred first. Empty: none is negotiated.
    pub alpn: Vec<String>,
    /// TLS 1.2 is refused.
    pub tls13_only: bool,
    /// The engine remembers the name that its client asks for and the protocol that is agreed on. Fallbacks are chosen by
    /// them.
    pub remember_names: bool,
}

/// Makes one [`TlsEngine`] per client. Cheap to clone.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    remember_names: bool,
}

impl TlsAcceptor {
    /// An acceptor with these settings.
    ///
    /// # Errors
    /// A sentence that says why rustls refuses the settings (no certificate, no randomness for ticket keys).
    pub fn new(settings: TlsSettings) -> Result<Self, String> {
        if settings.certificates.is_empty() {
            return Err("no certificate".to_owned());
        }
        let versions: &[&SupportedProtocolVersion] =
            if settings.tls13_only { &[&version::TLS13] } else { &[&version::TLS13, &version::TLS12] };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName { certificates: settings.certificates }));
        config.alpn_protocols = settings.alpn.into_iter().map(String::into_bytes).collect();
        // Stateless tickets need no table that all workers would lock. One ticket instead of two: each costs a record
        // and its encryption, and a client that resumes needs one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        config.send_tls13_tickets = 1;
        // The secrets go to our own record layer and nowhere else.
        config.enable_secret_extraction = true;
        Ok(Self { config: Arc::new(config), remember_names: settings.remember_names })
    }

    /// The same acceptor, with its keys for tickets, whose engines remember names or do not.
    #[must_use]
    pub fn remembering_names(self, remember_names: bool) -> Self {
        Self { remember_names, ..self }
    }

    /// The engine for a client that has sent its first byte.
    pub fn engine(&self) -> Result<TlsEngine, TlsError> {
        let asked_name = self.remember_names.then(|| Arc::new(AskedName::new(&self.config)));
        let config = asked_name.as_ref().map_or_else(|| Arc::clone(&self.config), |asked| asked.watch(&self.config));
        let connection = UnbufferedServerConnection::new(config).map_err(TlsError::from)?;
        Ok(TlsEngine::new(connection, asked_name))
    }
}

/// Chooses the certificate by the name that the client asks for (SNI): the exact name first, then a wildcard for its
/// parent, then the first certificate and those for the same name. A client that asks for nothing, or for something
/// unknown, gets an answer like anybody else, as from Xray.
#[derive(Debug)]
pub(super) struct ByName {
    pub(super) certificates: Vec<Certificate>,
}

impl ByName {
    /// Of several certificates for the name, such as one with an RSA and one with an ECDSA key, the first that the
    /// client can verify: `suits` says whether it can.
    pub(super) fn choose(
        &self,
        server_name: Option<&str>,
        suits: impl Fn(&Certificate) -> bool,
    ) -> Option<&Certificate> {
        let name = server_name.unwrap_or_default().to_ascii_lowercase();
        let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let has = |wanted: Option<&str>| {
            let known = move |one: &&Certificate| one.names.iter().any(|name| Some(name.as_str()) == wanted);
            self.certificates.iter().filter(known).collect::<Vec<_>>()
        };
        let mut found = has(Some(&name));
        if found.is_empty() {
            found = has(parent.as_deref());
        }
        if found.is_empty() {
            let default = self.certificates.first()?;
            let shares_a_name = |one: &&Certificate| one.names.iter().any(|name| default.names.contains(name));
            found = vec![default];
            found.extend(self.certificates.iter().skip(1).filter(shares_a_name));
        }
        found.iter().find(|one| suits(one)).or_else(|| found.first()).copied()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |one: &Certificate| one.key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.choose(hello.server_name(), suits).map(|one| Arc::clone(&one.key))
    }
}
