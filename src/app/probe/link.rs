//! Reading a share link, as a client does.
//!
//! Owns what the probe understands of it: VLESS over TCP, plain or with TLS, with or without Vision.

use std::net::Ipv6Addr;

use crate::app::exit::{self, Failure};
use crate::protocol::user_id::{self, UserId};

/// What a link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) id: UserId,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<LinkTls>,
    pub(super) is_vision: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkTls {
    pub(super) server_name: String,
    pub(super) alpn: Vec<String>,
    /// SHA-256 of the certificate in lower-case hexadecimal.
    pub(super) pin: Option<String>,
}

impl Link {
    /// # Errors
    /// 64: it is no link, or asks for what the probe does not speak. The message repeats no id.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::new(exit::USAGE, format!("the link is wrong: {what}"));
        let rest = text.trim().strip_prefix("vless://").ok_or_else(|| wrong("it must begin with vless://"))?;
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (id, place) = authority.rsplit_once('@').ok_or_else(|| wrong("no user id stands before an @"))?;
        let id = decoded(id).ok_or_else(|| wrong("the id is badly encoded"))?;
        let id = user_id::parse(&id).map_err(|error| wrong(&error.to_string()))?;
        let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = crate::app::config::is_host(host) && (!host.contains(':') || host.parse::<Ipv6Addr>().is_ok());
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(|| wrong("its port is no number"))?;
        if !is_host {
            return Err(wrong("its host is neither a name nor an address"));
        }
        let value = |key: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let Some((_, value)) = pairs.find(|(known, _)| *known == key) else { return Ok(None) };
            let value = decoded(value).ok_or_else(|| wrong(&format!("its {key} is badly encoded")))?;
            Ok(Some(value).filter(|value| !value.is_empty()))
        };
        if let Some(kind) = value("type")?.filter(|kind| kind != "tcp" && kind != "raw") {
            return Err(wrong(&format!("the probe speaks plain TCP only, not type={kind}")));
        }
        let is_vision = match value("flow")?.as_deref() {
            None => false,
            Some("xtls-rprx-vision" | "xtls-rprx-vision-udp443") => true,
            Some(other) => return Err(wrong(&format!("no client speaks flow={other} any more"))),
        };
        let tls = match value("security")?.as_deref() {
            None | Some("none") => None,
            Some("tls") => Some(LinkTls {
                server_name: value("sni")?.unwrap_or_else(|| host.to_owned()),
                alpn: value("alpn")?.map(|list| list.split(',').map(ToOwned::to_owned).collect()).unwrap_or_default(),
                pin: value("pcs")?.map(|pin| pin.to_lowercase().replace(':', "")),
            }),
            Some(other) => return Err(wrong(&format!("the probe does not speak security={other}"))),
        };
        if is_vision && tls.is_none() {
            return Err(wrong("flow xtls-rprx-vision needs security=tls"));
        }
        Ok(Self { id, host: host.to_owned(), port, tls, is_vision })
    }
}

/// The text without percent signs. `None`: that is no text, or one that would do something to a screen.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push((digit(rest.next())? << 4 | digit(rest.next())?) as u8);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";

    #[test]
    fn a_link_of_ours_is_understood() {
        let link = Link::parse(&format!(
            "vless://{ID}@[2001:db8::1]:8443?encryption=none&flow=xtls-rprx-vision-udp443&security=tls&sni=a.example\
             &fp=chrome&alpn=h2%2Chttp%2F1.1&pcs=AB:CD&type=tcp&headerType=none#a%20b"
        ))
        .unwrap();
        assert_eq!((link.host.as_str(), link.port, link.is_vision), ("2001:db8::1", 8443, true));
        let tls = link.tls.unwrap();
        assert_eq!((tls.server_name.as_str(), tls.pin.as_deref()), ("a.example", Some("abcd")));
        assert_eq!(tls.alpn, ["h2", "http/1.1"]);
    }

    #[test]
    fn wrong_links_say_what_is_wrong_without_the_id() {
        for (link, why) in [
            ("http://a", "begin with vless://"),
            ("vless://a.example:443", "no user id"),
            (&format!("vless://{ID}@a.example"), "no port"),
            (&format!("vless://{ID}@a.example:0"), "no number"),
            (&format!("vless://{ID}@a b:1"), "neither a name"),
            (&format!("vless://{ID}@a:1?type=ws"), "type=ws"),
            (&format!("vless://{ID}@a:1?security=reality"), "security=reality"),
            (&format!("vless://{ID}@a:1?flow=xtls-rprx-direct&security=tls"), "flow=xtls-rprx-direct"),
            (&format!("vless://{ID}@a:1?flow=xtls-rprx-vision"), "needs security=tls"),
        ] {
            let failure = Link::parse(link).unwrap_err();
            assert!(failure.message.contains(why) && !failure.message.contains(ID), "{link}: {failure}");
        }
    }
}
