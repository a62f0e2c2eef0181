//! `vless://` links: everything a client needs, in one line that it can import.
//!
//! ```text
//! vless://<id>@<host>:<port>?<key>=<value>&...#<name>
//! ```
//!
//! | key | value | emitted |
//! |---|---|---|
//! | `encryption` | `none` | always |
//! | `flow` | as configured, `-udp443` included: that suffix is for the client | TLS, if there is a flow |
//! | `security` | `none` or `tls` | always |
//! | `sni` | server name of the certificate | TLS |
//! | `fp` | `chrome`: the browser whose ClientHello is imitated | TLS |
//! | `alpn` | protocols joined by commas | TLS, if there are any |
//! | `pcs` | SHA-256 of the DER certificate in lower-case hex, for a self-signed one | TLS, if pinned |
//! | `type` | `tcp`: older clients do not know its other name `raw` | always |
//! | `headerType` | `none` | always |
//!
//! The grammar is narrower than what importers read. The port is always there, no `/` stands between port and `?`, each
//! key comes once, and every value is encoded as JavaScript's `encodeURIComponent` does. A space is `%20` and never
//! `+`, because importers differ on that. `allowInsecure` and its like are not written: current Xray refuses them.
//!
//! Read from the importers of v2rayN, libXray and mihomo, and from Xray-core discussion 716, where the format was
//! proposed.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

/// A link to one user's account. `to_string` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareLink {
    /// As configured: a UUID, or a free text of up to 30 bytes.
    pub id: String,
    /// A domain name in ASCII or an IP address. An IPv6 address may have brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
    pub security: Security,
    /// What the client shows in its list. It may be empty.
    pub name: String,
}

/// The part of a link that depends on TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    None,
    Tls {
        /// As configured. `None` for an account without flow.
        flow: Option<String>,
        server_name: String,
        /// In the order of preference. Empty leaves the choice to the client.
        alpn: Vec<String>,
        /// SHA-256 of the DER certificate that the client shall accept instead of checking a chain.
        pinned_certificate: Option<[u8; 32]>,
    },
}

impl fmt::Display for ShareLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vless://{}@", Encoded(&self.id))?;
        write_host(f, &self.host)?;
        write!(f, ":{}?encryption=none", self.port)?;
        self.security.write_parameters(f)?;
        f.write_str("&type=tcp&headerType=none")?;
        if !self.name.is_empty() {
            write!(f, "#{}", Encoded(&self.name))?;
        }
        Ok(())
    }
}

impl Security {
    fn write_parameters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Tls { flow, server_name, alpn, pinned_certificate } = self else {
            return f.write_str("&security=none");
        };
        if let Some(flow) = flow {
            write!(f, "&flow={}", Encoded(flow))?;
        }
        write!(f, "&security=tls&sni={}&fp=chrome", Encoded(server_name))?;
        if !alpn.is_empty() {
            write!(f, "&alpn={}", Encoded(&alpn.join(",")))?;
        }
        if let Some(digest) = pinned_certificate {
            f.write_str("&pcs=")?;
            digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

fn write_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<Ipv6Addr>() {
        Ok(ip) => write!(f, "[{ip}]"),
        // Changes nothing about a valid name. An invalid one cannot end the host early.
        Err(_) => write!(f, "{}", Encoded(host)),
    }
}

/// Writes a text as `encodeURIComponent` does.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
                f.write_char(byte.into())?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;

    const ID: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";

    fn link(host: &str, port: u16, security: Security, name: &str) -> ShareLink {
        ShareLink { id: ID.into(), host: host.into(), port, security, name: name.into() }
    }

    fn tls(flow: Option<&str>, server_name: &str, alpn: &[&str], pin: Option<&str>) -> Security {
        Security::Tls {
            flow: flow.map(Into::into),
            server_name: server_name.into(),
            alpn: alpn.iter().map(|&protocol| protocol.into()).collect(),
            pinned_certificate: pin.map(|digest| hex(digest).try_into().expect("32 bytes")),
        }
    }

    #[test]
    fn a_plain_link() {
        assert_eq!(
            link("203.0.113.10", 10080, Security::None, "plain").to_string(),
            "vless://5783a3e7-e373-51cd-8642-c83782b807c5@203.0.113.10:10080\
             ?encryption=none&security=none&type=tcp&headerType=none#plain"
        );
    }

    #[test]
    fn a_link_with_tls_and_vision() {
        let security = tls(Some("xtls-rprx-vision"), "example.com", &["h2", "http/1.1"], None);
        assert_eq!(
            link("example.com", 443, security, "tls-vision").to_string(),
            "vless://5783a3e7-e373-51cd-8642-c83782b807c5@example.com:443?encryption=none&flow=xtls-rprx-vision\
             &security=tls&sni=example.com&fp=chrome&alpn=h2%2Chttp%2F1.1&type=tcp&headerType=none#tls-vision"
        );
    }

    #[test]
    fn a_link_with_a_pinned_certificate() {
        let pin = "60a3fc80cd8d087bc8168f6570269dc500863b337424a07aa71b9a104dc25c7f";
        let security = tls(Some("xtls-rprx-vision"), "vpn.example", &[], Some(pin));
        assert_eq!(
            link("203.0.113.10", 443, security, "pinned").to_string(),
            "vless://5783a3e7-e373-51cd-8642-c83782b807c5@203.0.113.10:443?encryption=none&flow=xtls-rprx-vision\
             &security=tls&sni=vpn.example&fp=chrome\
             &pcs=60a3fc80cd8d087bc8168f6570269dc500863b337424a07aa71b9a104dc25c7f&type=tcp&headerType=none#pinned"
        );
    }

    #[test]
    fn an_ipv6_host_stands_in_brackets_once() {
        for host in ["2001:db8::10", "[2001:db8::10]"] {
            assert_eq!(
                link(host, 443, tls(None, "example.com", &[], None), "v6").to_string(),
                "vless://5783a3e7-e373-51cd-8642-c83782b807c5@[2001:db8::10]:443?encryption=none&security=tls\
                 &sni=example.com&fp=chrome&type=tcp&headerType=none#v6"
            );
        }
    }

    #[test]
    fn a_link_without_a_name_has_no_fragment() {
        assert!(!link("example.com", 443, Security::None, "").to_string().contains('#'));
    }

    #[test]
    fn the_udp443_flow_is_emitted_in_full() {
        let security = tls(Some("xtls-rprx-vision-udp443"), "example.com", &[], None);
        assert!(link("example.com", 443, security, "x").to_string().contains("&flow=xtls-rprx-vision-udp443&"));
    }

    #[test]
    fn text_is_encoded_as_encode_uri_component_does() {
        let free = "AZaz09-_.!~*'()";
        assert_eq!(Encoded(free).to_string(), free);
        assert_eq!(
            Encoded(" +/,=&#?@:%\"<>[]{}|^`\\;$").to_string(),
            "%20%2B%2F%2C%3D%26%23%3F%40%3A%25%22%3C%3E%5B%5D%7B%7D%7C%5E%60%5C%3B%24"
        );
        assert_eq!(Encoded("我é\n").to_string(), "%E6%88%91%C3%A9%0A");
    }

    #[test]
    fn nothing_a_user_chose_can_break_out_of_its_place() {
        let hostile = "a&b=c#d?e@f/g h";
        let security = tls(Some(hostile), hostile, &[hostile], None);
        let mut link = link(hostile, 443, security, hostile);
        link.id = hostile.into();
        let text = link.to_string();
        let (head, name) = text.split_once('#').expect("a fragment");
        let (authority, query) = head.split_once('?').expect("a query");
        assert_eq!(name, "a%26b%3Dc%23d%3Fe%40f%2Fg%20h");
        assert_eq!(authority, format!("vless://{name}@{name}:443"));
        assert_eq!(query.split('&').count(), 8);
        assert!(query.split('&').all(|pair| pair.matches('=').count() == 1));
    }
}
