//! Texts of operators, and the links that are made from them.

use std::path::Path;

use vless_rust::app::accounts::import;
use vless_rust::app::config::{Config, UsersFile};
use vless_rust::app::probe::fuzz::fuzz_link;
use vless_rust::protocol::share_link::{Security, ShareLink};

use crate::input::shape;

/// A text is either refused with places in it, or the settings it stands for can be shown.
pub(super) fn config_text(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    match Config::parse(&text, Path::new("config.json")) {
        Ok(config) => {
            let shown = config.effective_json();
            serde_json::from_str::<serde_json::Value>(&shown).expect("settings are shown as JSON");
            shape(config.warnings().len())
        }
        Err(errors) => {
            let lines = text.split('\n').count();
            assert!((1..=50).contains(&errors.0.len()), "{} errors", errors.0.len());
            for error in &errors.0 {
                assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
                assert!(error.column >= 1 && !error.message.is_empty());
                let line = text.split('\n').nth(error.line - 1).unwrap();
                assert!(error.column <= line.chars().count() + 1, "column {} of {line:?}", error.column);
            }
            let first = &errors.0[0];
            shape((errors.0.len(), &first.path, first.message.split(' ').take(2).collect::<Vec<_>>()))
        }
    }
}

/// A users file is refused with places in it, or written again as the same accounts.
pub(super) fn users_file(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    match UsersFile::parse(&text, Path::new("users.json"), None) {
        Ok(file) => {
            let again = UsersFile::parse(&file.text(), Path::new("users.json"), None);
            assert_eq!(again.as_ref(), Ok(&file), "{}", file.text());
            shape((file.users.len(), file.revision.min(9)))
        }
        Err(errors) => {
            let first = errors.0.first().expect("a reason");
            assert!(first.line <= text.split('\n').count() && !first.message.is_empty());
            shape((errors.0.len(), &first.path, first.message.split(' ').take(2).collect::<Vec<_>>()))
        }
    }
}

/// Exports of other panels.
pub(super) fn imported(data: &[u8]) -> u64 {
    let outcome = import::read(&String::from_utf8_lossy(data));
    shape(
        outcome
            .map(|export| export.accounts.len())
            .map_err(|error| format!("{error:?}").split('(').next().map(str::to_owned)),
    )
}

/// A link of anybody is read, or refused in words.
pub(super) fn pasted_link(data: &[u8]) -> u64 {
    shape(fuzz_link(&String::from_utf8_lossy(data)))
}

/// Whatever stands in a link, an importer gets back what was put in: fields are cut out of `data` at 0xff bytes.
pub(super) fn share_link(data: &[u8]) -> u64 {
    let mut fields = data.split(|&byte| byte == 0xff).map(|field| String::from_utf8_lossy(field).into_owned());
    let mut field = || fields.next().unwrap_or_default();
    let (id, host, name) = (field(), field(), field());
    let port = data.len() as u16 | 1;
    let flow = Some(field()).filter(|flow| !flow.is_empty());
    let (server_name, alpn) = (field(), field());
    let security = if data.first().is_some_and(|byte| byte & 1 == 1) {
        Security::None
    } else {
        let alpn = if alpn.is_empty() { Vec::new() } else { vec![alpn.clone()] };
        Security::Tls { flow: flow.clone(), server_name: server_name.clone(), alpn, pinned_certificate: Some([7; 32]) }
    };
    let is_tls = security != Security::None;
    let link = ShareLink { id: id.clone(), host: host.clone(), port, security, name: name.clone() }.to_string();

    assert!(link.bytes().all(|byte| byte.is_ascii_graphic()), "{link}");
    let rest = link.strip_prefix("vless://").unwrap();
    let (rest, read_name) = rest.split_once('#').unwrap_or((rest, ""));
    let (authority, query) = rest.split_once('?').unwrap();
    let (read_id, address) = authority.split_once('@').unwrap();
    let (read_host, read_port) = address.rsplit_once(':').unwrap();
    assert_eq!((unescape(read_id), unescape(read_name), read_port.parse()), (id, name, Ok(port)));
    if let Some(ip) = read_host.strip_prefix('[') {
        let ip: std::net::Ipv6Addr = ip.strip_suffix(']').unwrap().parse().unwrap();
        assert_eq!(host.trim_start_matches('[').trim_end_matches(']').parse(), Ok(ip));
    } else {
        assert_eq!(unescape(read_host), host);
    }
    let parameter = |key: &str| {
        let mut found = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == key);
        let value = found.next().map(|(_, value)| unescape(value));
        assert!(found.next().is_none(), "{key} twice in {link}");
        value
    };
    assert_eq!(parameter("security").unwrap(), if is_tls { "tls" } else { "none" });
    assert_eq!(parameter("flow"), flow.filter(|_| is_tls));
    assert_eq!(parameter("sni"), is_tls.then_some(server_name));
    assert_eq!(parameter("alpn"), Some(alpn).filter(|alpn| is_tls && !alpn.is_empty()));
    shape((is_tls, link.matches('%').count(), read_host.starts_with('['), link.len() / 16))
}

/// Undoes percent-encoding as importers do.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}
