//! Configurations of real clients, complete files with the pin of the certificate.
//!
//! Owns the three dialects. Each opens a SOCKS5 proxy on loopback port 1080 and sends all through this server. A
//! self-signed certificate is pinned, so that nobody has to allow insecure connections.

use serde_json::{Value, json};

use crate::app::certs::{self, LoadedCertificate};
use crate::protocol::share_link::{Security, ShareLink};

/// Where the clients' own SOCKS5 proxy listens.
const SOCKS_PORT: u16 = 1080;
/// The browser whose ClientHello is imitated.
const FINGERPRINT: &str = "chrome";

/// What `link --format` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A link.
    #[default]
    Vless,
    Xray,
    SingBox,
    Mihomo,
}

impl Format {
    /// The format called `name`.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "vless" => Some(Self::Vless),
            "xray" => Some(Self::Xray),
            "sing-box" => Some(Self::SingBox),
            "mihomo" => Some(Self::Mihomo),
            _ => None,
        }
    }
}

/// `link` in this format, with its final line break. `certificate` is the one that the server shows.
pub fn text(format: Format, link: &ShareLink, certificate: Option<&LoadedCertificate>) -> String {
    match format {
        Format::Vless => format!("{link}\n"),
        Format::Xray => format!("{:#}\n", xray(link)),
        Format::SingBox => format!("{:#}\n", sing_box(link, certificate)),
        Format::Mihomo => mihomo(link),
    }
}

fn xray(link: &ShareLink) -> Value {
    let mut user = json!({ "id": link.id, "encryption": "none" });
    let mut stream = json!({ "network": "raw", "security": "none" });
    if let Security::Tls { flow, server_name, alpn, pinned_certificate } = &link.security {
        if let Some(flow) = flow {
            user["flow"] = json!(flow);
        }
        let mut tls = json!({ "serverName": server_name, "fingerprint": FINGERPRINT });
        if !alpn.is_empty() {
            tls["alpn"] = json!(alpn);
        }
        if let Some(digest) = pinned_certificate {
            tls["pinnedPeerCertSha256"] = json!(certs::hex(digest));
        }
        stream = json!({ "network": "raw", "security": "tls", "tlsSettings": tls });
    }
    json!({
        "log": { "loglevel": "warning" },
        "inbounds": [ {
            "listen": "127.0.0.1", "port": SOCKS_PORT, "protocol": "socks", "settings": { "udp": true, "ip": "127.0.0.1" }
        } ],
        "outbounds": [ {
            "protocol": "vless",
            "settings": { "vnext": [ { "address": bare(&link.host), "port": link.port, "users": [user] } ] },
            "streamSettings": stream
        } ]
    })
}

fn sing_box(link: &ShareLink, certificate: Option<&LoadedCertificate>) -> Value {
    let mut vless = json!({
        "type": "vless", "tag": "vless-rust", "server": bare(&link.host), "server_port": link.port, "uuid": link.id
    });
    if let Security::Tls { flow, server_name, alpn, pinned_certificate } = &link.security {
        // The suffix is a word of Xray; sing-box never blocks QUIC.
        if flow.is_some() {
            vless["flow"] = json!("xtls-rprx-vision");
        }
        let mut tls = json!({ "enabled": true, "server_name": server_name });
        if !alpn.is_empty() {
            tls["alpn"] = json!(alpn);
        }
        if let Some(certificate) = certificate.filter(|_| pinned_certificate.is_some()) {
            tls["certificate_public_key_sha256"] = json!([certificate.public_key_sha256]);
        }
        vless["tls"] = tls;
    }
    json!({
        "log": { "level": "warn" },
        "inbounds": [ { "type": "socks", "listen": "127.0.0.1", "listen_port": SOCKS_PORT } ],
        "outbounds": [ vless ]
    })
}

fn mihomo(link: &ShareLink) -> String {
    let name = if link.name.is_empty() { "vless-rust" } else { &link.name };
    let mut lines = vec![
        format!("mixed-port: {SOCKS_PORT}"),
        "bind-address: 127.0.0.1".to_owned(),
        "mode: rule".to_owned(),
        "log-level: warning".to_owned(),
        "proxies:".to_owned(),
    ];
    let mut keys = vec![
        ("name", quoted(name)),
        ("type", "vless".to_owned()),
        ("server", quoted(bare(&link.host))),
        ("port", link.port.to_string()),
        ("uuid", quoted(&link.id)),
        ("network", "tcp".to_owned()),
        ("udp", "true".to_owned()),
        ("packet-encoding", "xudp".to_owned()),
    ];
    if let Security::Tls { flow, server_name, alpn, pinned_certificate } = &link.security {
        keys.push(("tls", "true".to_owned()));
        keys.push(("servername", quoted(server_name)));
        keys.push(("client-fingerprint", FINGERPRINT.to_owned()));
        // The suffix is a word of Xray.
        keys.extend(flow.as_ref().map(|_| ("flow", "xtls-rprx-vision".to_owned())));
        let protocols = alpn.iter().map(|protocol| quoted(protocol)).collect::<Vec<_>>().join(", ");
        keys.extend((!alpn.is_empty()).then(|| ("alpn", format!("[{protocols}]"))));
        keys.extend(pinned_certificate.map(|digest| ("fingerprint", certs::hex(&digest))));
    }
    for (position, (key, value)) in keys.iter().enumerate() {
        let dash = if position == 0 { "-" } else { " " };
        lines.push(format!("  {dash} {key}: {value}"));
    }
    lines.push("rules:".to_owned());
    lines.push(format!("  - {}", quoted(&format!("MATCH,{name}"))));
    lines.join("\n") + "\n"
}

/// An IPv6 address without the brackets that it has in links.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// A string in double quotes: JSON's is also YAML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::SystemTime;

    use crate::app::config::Config;
    use crate::app::link;

    fn made(tls: &str) -> (ShareLink, Option<LoadedCertificate>) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "{{ \"server\": {{ \"public_ip\": \"2001:db8::1\" }}, \"users\": [ {{ \"uuid\": \"example\", \
             \"email\": \"a: \\\"b\\\"\" }} ], \"tls\": {tls} }}"
        );
        let config = Config::parse(&text, &folder.path().join("config.json")).unwrap();
        let certificates = certs::load_or_generate(&config, "", SystemTime::now()).unwrap();
        let link = link::links(&config, &link::host(&config), &certificates, None).unwrap().remove(0);
        (link, certificates.into_iter().next())
    }

    fn json_of(format: Format, tls: &str) -> Value {
        let (link, certificate) = made(tls);
        serde_json::from_str(&text(format, &link, certificate.as_ref())).unwrap()
    }

    #[test]
    fn xray_pins_the_certificate() {
        let (link, certificate) = made("{ \"enabled\": true, \"xtls_flow\": \"xtls-rprx-vision-udp443\" }");
        let written = xray(&link);
        let outbound = &written["outbounds"][0];
        let pin = certs::hex(&certificate.unwrap().fingerprint);
        assert_eq!(outbound["streamSettings"]["tlsSettings"]["pinnedPeerCertSha256"], json!(pin));
        let server = &outbound["settings"]["vnext"][0];
        assert_eq!((&server["address"], &server["port"]), (&json!("2001:db8::1"), &json!(443)));
        assert_eq!(server["users"][0]["flow"], "xtls-rprx-vision-udp443");
        assert!(!written.to_string().contains("allowInsecure"));
    }

    #[test]
    fn sing_box_pins_the_public_key_and_knows_no_suffix() {
        let (link, certificate) = made("{ \"enabled\": true, \"xtls_flow\": \"xtls-rprx-vision-udp443\" }");
        let written = sing_box(&link, certificate.as_ref());
        let outbound = &written["outbounds"][0];
        let pin = certificate.unwrap().public_key_sha256;
        assert_eq!(outbound["tls"]["certificate_public_key_sha256"], json!([pin]));
        assert_eq!(outbound["flow"], "xtls-rprx-vision");
        assert!(!written.to_string().contains("insecure"));
    }

    #[test]
    fn without_tls_no_client_is_told_of_it() {
        assert_eq!(json_of(Format::Xray, "{}")["outbounds"][0]["streamSettings"]["security"], "none");
        assert_eq!(json_of(Format::SingBox, "{}")["outbounds"][0]["tls"], Value::Null);
        let (link, _) = made("{}");
        assert!(!mihomo(&link).contains("tls"));
    }

    #[test]
    fn mihomo_gets_a_list_of_one_proxy_with_quoted_texts() {
        let (link, certificate) = made("{ \"enabled\": true }");
        let written = mihomo(&link);
        let pin = certs::hex(&certificate.unwrap().fingerprint);
        for line in [
            "  - name: \"a: \\\"b\\\"\"",
            "    server: \"2001:db8::1\"",
            "    tls: true",
            "    flow: xtls-rprx-vision",
            "    alpn: [\"h2\", \"http/1.1\"]",
            &format!("    fingerprint: {pin}"),
            "  - \"MATCH,a: \\\"b\\\"\"",
        ] {
            assert!(written.lines().any(|known| known == line), "{line}\n{written}");
        }
        assert!(!written.contains("skip-cert-verify"));
    }
}
