//! How clients reach a node, as nodes tell each other, and the links that follow from it.

use serde::{Deserialize, Serialize};

use crate::app::certs::{LoadedCertificate, hex};
use crate::app::config::{Config, User};
use crate::app::link;
use crate::protocol::share_link::{Security, ShareLink};

/// What of a share link is the node's and not the user's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reach {
    pub host: String,
    pub port: u16,
    /// `None`: without TLS.
    pub tls: Option<TlsReach>,
}

/// What clients have to know of the node's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsReach {
    pub server_name: String,
    pub alpn: Vec<String>,
    /// SHA-256 of the certificate to accept, in hexadecimal digits; `None`: it has a chain that clients can check.
    pub pinned_certificate: Option<String>,
}

impl Reach {
    /// How clients reach the node of this configuration.
    pub fn of(config: &Config, certificates: &[LoadedCertificate]) -> Self {
        let pin = certificates.first().filter(|certificate| certificate.needs_pin);
        Self {
            host: link::host(config).host,
            port: config.server.port,
            tls: config.tls.as_ref().map(|tls| TlsReach {
                server_name: tls.server_name.clone(),
                alpn: tls.alpn.clone(),
                pinned_certificate: pin.map(|certificate| hex(&certificate.fingerprint)),
            }),
        }
    }

    /// `user`'s link to `node`, which is reached like this.
    pub fn link(&self, user: &User, node: &str) -> ShareLink {
        let security = self.tls.as_ref().map_or(Security::None, |tls| Security::Tls {
            flow: user.flow.is_vision().then(|| user.flow.as_str().to_owned()),
            server_name: tls.server_name.clone(),
            alpn: tls.alpn.clone(),
            pinned_certificate: tls.pinned_certificate.as_deref().and_then(fingerprint),
        });
        let name = format!("{} {node}", user.email);
        ShareLink { id: user.id_text(), host: self.host.clone(), port: self.port, security, name }
    }
}

fn fingerprint(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, place) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(place..place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    #[test]
    fn a_node_is_reached_as_its_own_links_say_and_named() {
        let text = r#"{ "users": [ { "uuid": "example", "email": "a" } ], "tls": { "enabled": true, "server_name": "x.example" },
            "server": { "public_ip": "n.example", "port": 8443 } }"#;
        let config = Config::parse(text, Path::new("/nowhere/c.json")).unwrap();
        let reach = Reach::of(&config, &[]);
        let told: Reach = serde_json::from_str(&serde_json::to_string(&reach).unwrap()).unwrap();
        let link = told.link(&config.users[0], "fra-1").to_string();
        let own = link::links(&config, &link::host(&config), &[], None).unwrap()[0].to_string();
        assert_eq!(link, own.replace("#a", "#a%20fra-1"));
        let pinned = TlsReach { pinned_certificate: Some("ab".repeat(32)), ..TlsReach::default() };
        let link = Reach { tls: Some(pinned), ..told }.link(&config.users[0], "n");
        let Security::Tls { pinned_certificate, .. } = link.security else { panic!() };
        assert_eq!(pinned_certificate, Some([0xab; 32]));
        assert_eq!([fingerprint("ab"), fingerprint(&"é".repeat(32))], [None, None]);
    }
}
