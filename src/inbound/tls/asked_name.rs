//! The name that one client asks for, which rustls tells to nobody but the resolver of certificates.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;

/// What a client and its TLS agreed on by name; empty where nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsNames {
    /// The server name that the client asked for (SNI).
    pub server_name: String,
    /// The protocol that was agreed on (ALPN).
    pub protocol: String,
}

/// A resolver for one connection: it remembers the name and leaves the choice to the common resolver.
#[derive(Debug)]
pub(super) struct AskedName {
    resolver: Arc<dyn ResolvesServerCert>,
    name: OnceLock<String>,
}

impl AskedName {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self { resolver: Arc::clone(&config.cert_resolver), name: OnceLock::new() }
    }

    /// The configuration for the connection that asks this resolver.
    pub(super) fn watch(self: &Arc<Self>, config: &ServerConfig) -> Arc<ServerConfig> {
        let mut config = config.clone();
        config.cert_resolver = Arc::<Self>::clone(self);
        Arc::new(config)
    }

    pub(super) fn names(&self, connection: &UnbufferedServerConnection) -> TlsNames {
        let protocol = connection.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        TlsNames { server_name: self.name.get().cloned().unwrap_or_default(), protocol: protocol.unwrap_or_default() }
    }
}

impl ResolvesServerCert for AskedName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A second hello, after a retry request, asks for the same name (RFC 8446 4.1.2).
        let _ = self.name.set(hello.server_name().unwrap_or_default().to_owned());
        self.resolver.resolve(hello)
    }
}
