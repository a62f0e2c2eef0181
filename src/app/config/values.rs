//! What single texts of the configuration mean: hosts, ports, networks, destinations.
//!
//! Pure functions from text to value. On failure most give the text back, because the key words what was expected; the
//! others give the whole message.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;

use super::error::quoted;
use super::settings::{FallbackDest, Receiver};
use crate::app::clock;
use crate::control::alerts::METRICS;
use crate::control::webhook::Url;
use crate::outbound::policy::{Cidr, ParseCidrError};
use crate::protocol::user_id::{self, UserId};

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// Long enough for every address, short enough for a log line.
const EMAIL_CHARS_MAX: usize = 255;
const NOTE_CHARS_MAX: usize = 1000;

/// What [`ip`] expects.
pub(super) const IP_EXPECTED: &str = "an IP address such as \"0.0.0.0\", \"127.0.0.1\" or \"::\"";

/// A host name or an IP address, without port and brackets.
pub(super) fn host(text: &str) -> Result<String, String> {
    let valid = text.parse::<IpAddr>().is_ok() || (is_name(text) && !looks_like_ipv4(text));
    if valid { Ok(text.to_owned()) } else { Err(text.to_owned()) }
}

/// A host name as certificates have it, in lower case: the first label may be `*`.
pub(super) fn certificate_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    if is_name(name) && !looks_like_ipv4(name) { Ok(text.to_lowercase()) } else { Err(text.to_owned()) }
}

/// `host:port` or `[v6]:port`.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.rsplit_once(':').ok_or_else(|| text.to_owned())?;
    let port = port_number(port).ok_or_else(|| text.to_owned())?;
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(v6) => v6.parse::<Ipv6Addr>().map(|_| (v6.to_owned(), port)).map_err(|_| text.to_owned()),
        None if name.contains(':') => Err(text.to_owned()),
        None => host(name).map(|name| (name, port)).map_err(|_| text.to_owned()),
    }
}

/// An address of a name server, `ip`, `ip:port`, `[v6]` or `[v6]:port`.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0).ok_or_else(|| text.to_owned())
}

/// `network/bits`; a bare address is a network of one. On failure the whole message.
pub(super) fn cidr(text: &str) -> Result<Cidr, String> {
    let given = quoted("outbound.allow", text);
    let cidr = text.parse::<Cidr>().map_err(|error| match error {
        ParseCidrError::Address => {
            format!("must be a network such as \"10.0.0.0/8\" or \"fd00::/8\", not {given}")
        }
        ParseCidrError::Prefix => format!("the prefix of {given} must be a number up to 32 for IPv4, 128 for IPv6"),
    })?;
    let address = text.split('/').next().and_then(|address| address.parse::<IpAddr>().ok());
    if address.is_some_and(|address| address.to_canonical() != cidr.base()) {
        return Err(format!("{given} has bits set after its prefix; did you mean \"{cidr}\"?"));
    }
    Ok(cidr)
}

/// Where a fallback leads: a port on this machine, `host:port`, a Unix socket, an abstract socket, a site of our own.
pub(super) fn fallback_dest(text: &str) -> Result<FallbackDest, String> {
    // A keyword that Xray recognises and nothing implements; as a host name it would be a surprise.
    if text == "serve-ws-none" || text.contains('\0') {
        return Err(text.to_owned());
    }
    if text == "builtin" {
        return Ok(FallbackDest::BuiltIn(None));
    }
    if text.starts_with('/') {
        return Ok(FallbackDest::Unix(PathBuf::from(text)));
    }
    if let Some(name) = text.strip_prefix('@') {
        let (name, padded) = name.strip_prefix('@').map_or((name, false), |name| (name, true));
        let named = !name.is_empty();
        return if named { Ok(FallbackDest::Abstract { name: name.to_owned(), padded }) } else { Err(text.to_owned()) };
    }
    if let Some(port) = port_number(text) {
        return Ok(FallbackDest::Tcp("localhost".to_owned(), port));
    }
    host_and_port(text).map(|(host, port)| FallbackDest::Tcp(host, port))
}

/// An IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| text.to_owned())
}

/// A name that may stand in a key of the engine: nothing in it means something there.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_plain && (1..=64).contains(&text.len()) { Ok(text.to_owned()) } else { Err(text.to_owned()) }
}

/// A user id. The message does not repeat it.
pub(super) fn user_id(text: &str) -> Result<UserId, String> {
    user_id::parse(text).map_err(|error| error.to_string())
}

/// The name of an account.
pub(super) fn email(text: &str) -> Result<String, String> {
    // Browsers fold these two out of the paths of the API.
    let is_path = matches!(text, "." | "..");
    one_line(text, EMAIL_CHARS_MAX).filter(|_| !is_path).ok_or_else(|| {
        format!("must be 1 to {EMAIL_CHARS_MAX} characters without line breaks or tabs, not \".\" or \"..\"")
    })
}

/// A remark about an account.
pub(super) fn note(text: &str) -> Result<String, String> {
    one_line(text, NOTE_CHARS_MAX)
        .ok_or_else(|| format!("must be at most {NOTE_CHARS_MAX} characters without line breaks or tabs"))
}

fn one_line(text: &str, chars_max: usize) -> Option<String> {
    (text.chars().count() <= chars_max && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// A point in time, in seconds since 1970.
pub(super) fn time(text: &str) -> Result<u64, String> {
    clock::parse_rfc3339(text).ok_or_else(|| text.to_owned())
}

/// The reverse of [`time`].
pub(super) fn time_text(seconds: u64) -> String {
    clock::rfc3339_seconds(seconds)
}

/// A protocol name of ALPN. RFC 7301 3.1: a name has 1 to 255 bytes.
pub(super) fn protocol(text: &str) -> Result<String, String> {
    let is_name = (1..=255).contains(&text.len());
    if is_name { Ok(text.to_owned()) } else { Err("must be a protocol name such as \"h2\" or \"http/1.1\"".to_owned()) }
}

/// The path of an HTTP request, or nothing.
pub(super) fn request_path(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') { Ok(text.to_owned()) } else { Err(text.to_owned()) }
}

/// Any text, in lower case.
#[expect(clippy::unnecessary_wraps, reason = "one of several readers")]
pub(super) fn lower_case(text: &str) -> Result<String, String> {
    Ok(text.to_lowercase())
}

/// Any text.
#[expect(clippy::unnecessary_wraps, reason = "one of several readers")]
pub(super) fn anything(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Who is told of an alert.
pub(super) fn receiver(value: &Value) -> Option<Receiver> {
    if value == "log" {
        return Some(Receiver::Log);
    }
    let (name, value) = value.as_object().filter(|object| object.len() == 1)?.iter().next()?;
    match name.as_str() {
        "webhook" => {
            let url = value.as_str().filter(|url| Url::parse(url).is_some())?;
            Some(Receiver::Webhook(url.to_owned()))
        }
        "command" => {
            let words = value.as_array().filter(|words| !words.is_empty())?.iter();
            words.map(|word| word.as_str().map(str::to_owned)).collect::<Option<_>>().map(Receiver::Command)
        }
        _ => None,
    }
}

/// The name of a figure that alerts can watch. On failure the whole message.
pub(super) fn metric(text: &str) -> Result<String, String> {
    let names: Vec<_> = METRICS.iter().map(|(_, name, _)| *name).collect();
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("must be one of {}, not {}", names.join(", "), quoted("monitoring.alerts", text)))
}

fn port_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0)
}

/// RFC 1123 2.1, and the underscore that exists in practice. No trailing dot: certificates and links do not have it.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A mistyped address such as `1.2.3.400` must not pass as a name. No top-level domain is all digits.
fn looks_like_ipv4(text: &str) -> bool {
    text.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_without_port() {
        for good in ["localhost", "vpn.example.com", "203.0.113.7", "2001:db8::1", "xn--nxasmq6b.example"] {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "1.2.3.400", "example.com:443", "[::1]", "-a.example", "a..b", "http://x", "例え.jp"] {
            assert_eq!(host(bad), Err(bad.to_owned()));
        }
    }

    #[test]
    fn certificate_names_may_begin_with_a_star() {
        assert_eq!(certificate_name("*.Example.com").as_deref(), Ok("*.example.com"));
        assert!(certificate_name("a.*.com").is_err());
        assert!(certificate_name("*").is_err());
    }

    #[test]
    fn a_name_server_needs_no_port() {
        assert_eq!(dns_server("9.9.9.9").unwrap().to_string(), "9.9.9.9:53");
        assert_eq!(dns_server("9.9.9.9:5353").unwrap().to_string(), "9.9.9.9:5353");
        assert_eq!(dns_server("2620:fe::fe").unwrap().to_string(), "[2620:fe::fe]:53");
        assert_eq!(dns_server("[2620:fe::fe]:853").unwrap().to_string(), "[2620:fe::fe]:853");
        assert_eq!(dns_server("[2620:fe::fe]").unwrap().to_string(), "[2620:fe::fe]:53");
        for bad in ["dns.example", "9.9.9.9:0", "9.9.9.9:", "", "https://9.9.9.9/dns-query"] {
            assert!(dns_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_have_an_address_and_a_prefix() {
        assert_eq!(cidr("127.0.0.0/8").unwrap().to_string(), "127.0.0.0/8");
        assert_eq!(cidr("::1/128").unwrap().to_string(), "::1/128");
        assert_eq!(cidr("0.0.0.0/0").unwrap().to_string(), "0.0.0.0/0");
        assert_eq!(cidr("::/0").unwrap().to_string(), "::/0");
        assert_eq!(cidr("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert!(cidr("10.0.0.1/8").unwrap_err().contains("did you mean \"10.0.0.0/8\"?"));
        for bad in ["10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/8/9", "localhost", ""] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fallbacks_lead_to_ports_hosts_and_sockets() {
        assert_eq!(fallback_dest("80"), Ok(FallbackDest::Tcp("localhost".into(), 80)));
        assert_eq!(fallback_dest("builtin"), Ok(FallbackDest::BuiltIn(None)));
        assert_eq!(fallback_dest("[::1]:81"), Ok(FallbackDest::Tcp("::1".into(), 81)));
        assert_eq!(fallback_dest("/run/web.sock"), Ok(FallbackDest::Unix("/run/web.sock".into())));
        assert_eq!(fallback_dest("@web"), Ok(FallbackDest::Abstract { name: "web".into(), padded: false }));
        assert_eq!(fallback_dest("@@web"), Ok(FallbackDest::Abstract { name: "web".into(), padded: true }));
        for bad in ["", "0", "70000", "+80", "host", "host:0", "::1:80", "@", "@@", "serve-ws-none"] {
            assert_eq!(fallback_dest(bad), Err(bad.to_owned()));
        }
    }
}
