//! Share links: from the configuration to the line a client imports.
//!
//! Owns which host, name and pin a link carries. How it is written is the protocol layer's.

use std::net::IpAddr;

use crate::app::certs::LoadedCertificate;
use crate::app::config::{Config, Tls, User};
use crate::app::exit::{self, Failure};
use crate::app::net::default_source_address;
use crate::outbound::policy::is_public;
use crate::protocol::share_link::{Security, ShareLink};

/// What a link names as this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkHost {
    /// An IP address without brackets, or a host name.
    pub host: String,
    /// Why clients elsewhere may not reach it.
    pub warning: Option<String>,
}

/// `server.public_ip`, else the listen address if it is a specific one, else this machine's address on the way to the
/// internet.
pub fn host(config: &Config) -> LinkHost {
    host_with(config, default_source_address)
}

/// The links of all users in the order of the file, or of the one with this email.
///
/// `certificates` are those of the configuration, the default one first.
///
/// # Errors
/// 64 if nobody has this email; the message lists who is known.
pub fn links(
    config: &Config,
    host: &LinkHost,
    certificates: &[LoadedCertificate],
    email: Option<&str>,
) -> Result<Vec<ShareLink>, Failure> {
    let wanted = |user: &&User| email.is_none_or(|email| email == user.email);
    let links = config.users.iter().filter(wanted).map(|user| link(config, host, certificates.first(), user));
    let links = links.collect::<Vec<_>>();
    match email {
        Some(email) if links.is_empty() => {
            let known = config.users.iter().map(|user| user.email.as_str()).collect::<Vec<_>>().join(", ");
            Err(Failure::new(
                exit::USAGE,
                format!("there is no user \"{email}\" in {}; known: {known}", config.file.display()),
            ))
        }
        _ => Ok(links),
    }
}

/// What may keep clients from using the links: the host they name, and the certificates.
pub fn warnings(config: &Config, host: &LinkHost, certificates: &[LoadedCertificate]) -> Vec<String> {
    let certificates = if config.tls.is_some() { certificates } else { &[] };
    host.warning.iter().chain(certificates.iter().flat_map(|certificate| &certificate.warnings)).cloned().collect()
}

fn host_with(config: &Config, default_source: impl FnOnce() -> Option<IpAddr>) -> LinkHost {
    if let Some(host) = &config.server.public_ip {
        return LinkHost { host: host.clone(), warning: None };
    }
    let listen = &config.server.listen;
    let specific = listen.iter().find(|ip| is_public(**ip)).or(listen.first());
    let (ip, known_from) = if listen.iter().any(IpAddr::is_unspecified) {
        (default_source(), "this machine's address")
    } else {
        (specific.copied(), "the listen address")
    };
    let Some(ip) = ip else {
        let warning = "the address of this machine is not known, so links name 127.0.0.1; set server.public_ip to the \
                       address or name that clients reach it by";
        return LinkHost { host: "127.0.0.1".to_owned(), warning: Some(warning.to_owned()) };
    };
    let warning = (!is_public(ip)).then(|| {
        format!(
            "links name {ip}, {known_from}, which is not a public one; if clients are elsewhere, set server.public_ip \
             in the configuration to the address or name that they reach this machine by"
        )
    });
    LinkHost { host: ip.to_string(), warning }
}

fn link(config: &Config, host: &LinkHost, certificate: Option<&LoadedCertificate>, user: &User) -> ShareLink {
    ShareLink {
        id: user.id_text(),
        host: host.host.clone(),
        port: config.server.port,
        security: config.tls.as_ref().map_or(Security::None, |tls| security(tls, certificate, user)),
        name: user.email.clone(),
    }
}

fn security(tls: &Tls, certificate: Option<&LoadedCertificate>, user: &User) -> Security {
    Security::Tls {
        flow: user.flow.is_vision().then(|| user.flow.as_str().to_owned()),
        server_name: tls.server_name.clone(),
        alpn: tls.alpn.clone(),
        pinned_certificate: certificate.filter(|known| known.needs_pin).map(|known| known.fingerprint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;
    use std::time::SystemTime;

    use crate::app::certs;

    fn config(server: &str, rest: &str) -> Config {
        let text = format!(
            "{{ \"server\": {{ {server} }}, {rest} \"users\": [ {{ \"uuid\": \"example\", \"email\": \"a@b\" }}, {{ \"uuid\": \"user1\" }} ] }}"
        );
        Config::parse(&text, Path::new("/nowhere/config.json")).unwrap()
    }

    fn named(server: &str, source: Option<&str>) -> LinkHost {
        host_with(&config(server, ""), || source.map(|ip| ip.parse().unwrap()))
    }

    #[test]
    fn the_public_address_of_the_configuration_comes_first() {
        let found = named("\"public_ip\": \"vpn.example\", \"listen\": \"1.1.1.1\"", Some("9.9.9.9"));
        assert_eq!(found, LinkHost { host: "vpn.example".into(), warning: None });
    }

    #[test]
    fn a_specific_listen_address_comes_second() {
        assert_eq!(named("\"listen\": \"1.1.1.1\"", Some("9.9.9.9")).host, "1.1.1.1");
        assert_eq!(named("\"listen\": [\"10.0.0.1\", \"1.1.1.1\"]", Some("9.9.9.9")).host, "1.1.1.1");
        let private = named("\"listen\": \"10.0.0.1\"", Some("9.9.9.9"));
        assert_eq!(private.host, "10.0.0.1");
        assert!(private.warning.unwrap().contains("server.public_ip"));
    }

    #[test]
    fn the_address_of_the_default_route_comes_third() {
        assert_eq!(named("\"listen\": \"::\"", Some("9.9.9.9")), LinkHost { host: "9.9.9.9".into(), warning: None });
        assert!(named("\"listen\": \"0.0.0.0\"", Some("192.168.1.2")).warning.is_some());
        let unknown = named("\"listen\": \"0.0.0.0\"", None);
        assert_eq!(unknown.host, "127.0.0.1");
        assert!(unknown.warning.is_some());
    }

    #[test]
    fn a_plain_link_has_the_user_and_the_port() {
        let config = config("\"listen\": \"1.1.1.1\", \"port\": 10080", "");
        let all = links(&config, &host(&config), &[], None).unwrap();
        assert_eq!(
            all[0].to_string(),
            "vless://feb54431-301b-52bb-a6dd-e1e93e81bb9e@1.1.1.1:10080\
             ?encryption=none&security=none&type=tcp&headerType=none#a%40b"
        );
        assert_eq!(all[1].name, "user-2");
    }

    #[test]
    fn a_self_signed_certificate_is_pinned_and_the_flow_is_carried() {
        let folder = tempfile::tempdir().unwrap();
        let text = "{ \"server\": { \"public_ip\": \"2001:db8::1\" }, \"users\": [ { \"uuid\": \"example\" } ],
                      \"tls\": { \"enabled\": true, \"server_name\": \"vpn.example\", \"alpn\": [] } }";
        let config = Config::parse(text, &folder.path().join("config.json")).unwrap();
        let certificates = certs::load_or_generate(&config, "", SystemTime::now()).unwrap();
        let all = links(&config, &host(&config), &certificates, None).unwrap();
        assert_eq!(
            all[0].to_string(),
            format!(
                "vless://feb54431-301b-52bb-a6dd-e1e93e81bb9e@[2001:db8::1]:443?encryption=none&flow=xtls-rprx-vision\
                 &security=tls&sni=vpn.example&fp=chrome&pcs={}&type=tcp&headerType=none#user-1",
                certs::hex(&certificates[0].fingerprint)
            )
        );
        assert!(warnings(&config, &host(&config), &certificates).is_empty());
    }

    #[test]
    fn an_unknown_user_is_told_who_is_known() {
        let config = config("\"listen\": \"1.1.1.1\"", "");
        assert_eq!(links(&config, &host(&config), &[], Some("user-2")).unwrap().len(), 1);
        let failure = links(&config, &host(&config), &[], Some("nobody")).unwrap_err();
        assert_eq!(failure.code, exit::USAGE);
        assert!(failure.message.contains("a@b, user-2"), "{failure}");
    }
}
