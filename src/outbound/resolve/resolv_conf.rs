//! `/etc/resolv.conf` as far as we follow it: `nameserver` lines, `options attempts:` and `options use-vc`.
//!
//! `search`, `domain` and `ndots` are not applied. The names come from clients elsewhere, for whom this machine's
//! search list means nothing. `options timeout:` is not needed. We wait a second at most before asking the next server,
//! which is the smallest value it can have.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::query::Transport;

/// The most servers that are asked. The C library has the same limit.
pub const SERVERS_MAX: usize = 3;
/// The port name servers listen on.
pub const DNS_PORT: u16 = 53;

const ATTEMPTS_DEFAULT: u32 = 2;
const ATTEMPTS_MAX: u32 = 5;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// At least one, at most [`SERVERS_MAX`].
    pub servers: Vec<SocketAddr>,
    /// How often the list is gone through, from 1 to 5.
    pub attempts: u32,
    /// TCP where the file says `use-vc`.
    pub transport: Transport,
}

impl Default for ResolvConf {
    /// What holds without a file: a name server on this machine.
    fn default() -> Self {
        let servers = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT)];
        Self { servers, attempts: ATTEMPTS_DEFAULT, transport: Transport::Udp }
    }
}

impl ResolvConf {
    /// Reads the file's text. Lines that mean nothing to us are passed over.
    pub fn parse(text: &str) -> Self {
        let mut servers = Vec::new();
        let mut attempts = ATTEMPTS_DEFAULT;
        let mut transport = Transport::Udp;
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if servers.len() < SERVERS_MAX => servers.extend(words.next().and_then(server)),
                Some("options") => {
                    for word in words {
                        if word == "use-vc" {
                            transport = Transport::Tcp;
                        } else if let Some(given) = word.strip_prefix("attempts:").and_then(|text| text.parse().ok()) {
                            attempts = u32::clamp(given, 1, ATTEMPTS_MAX);
                        }
                    }
                }
                _ => {}
            }
        }
        if servers.is_empty() {
            servers = Self::default().servers;
        }
        Self { servers, attempts, transport }
    }
}

/// The server that a word names: an address, followed by `%` and the name or number of an interface for link-local
/// IPv6.
fn server(word: &str) -> Option<SocketAddr> {
    let (address, scope) = match word.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (word, None),
    };
    match (address.parse().ok()?, scope) {
        (ip, None) => Some(SocketAddr::new(ip, DNS_PORT)),
        (IpAddr::V6(ip), Some(scope)) => with_scope(ip, scope),
        (IpAddr::V4(_), Some(_)) => None,
    }
}

fn with_scope(ip: Ipv6Addr, scope: &str) -> Option<SocketAddr> {
    let index = scope.parse().ok().or_else(|| interface_index(scope))?;
    Some(SocketAddrV6::new(ip, DNS_PORT, 0, index).into())
}

fn interface_index(name: &str) -> Option<u32> {
    let is_plain = !name.contains('/') && !name.starts_with('.');
    let text = is_plain.then(|| fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok())??;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        ResolvConf::parse(text).servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_come_in_file_order_and_the_fourth_is_left_out() {
        let text = "# made by hand\nnameserver 192.0.2.1\nsearch example.org\nnameserver 2001:db8::1 # second\n\
                    nameserver\t192.0.2.3\nnameserver 192.0.2.4\n";
        assert_eq!(servers(text), ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"]);
    }

    #[test]
    fn a_scope_is_a_number_or_an_interface() {
        assert_eq!(servers("nameserver fe80::1%7"), ["[fe80::1%7]:53"]);
        assert_eq!(servers("nameserver fe80::1%lo"), ["[fe80::1%1]:53"]);
        assert_eq!(servers("nameserver fe80::1%../lo\nnameserver 192.0.2.1"), ["192.0.2.1:53"]);
    }

    #[test]
    fn without_a_usable_server_this_machine_is_asked() {
        assert_eq!(servers("nameserver nonsense\nsearch a b\n"), ["127.0.0.1:53"]);
    }

    #[test]
    fn use_vc_means_tcp() {
        let transport = |text| ResolvConf::parse(text).transport;
        assert_eq!(transport("options use-vc"), Transport::Tcp);
        assert_eq!(transport("options attempts:3 use-vc trust-ad"), Transport::Tcp);
        assert_eq!(transport("options ndots:2\nnameserver use-vc"), Transport::Udp);
    }

    #[test]
    fn attempts_are_taken_within_bounds() {
        let attempts = |text| ResolvConf::parse(text).attempts;
        assert_eq!(attempts(""), 2);
        assert_eq!(attempts("options ndots:2 attempts:4 rotate"), 4);
        assert_eq!(attempts("options attempts:0"), 1);
        assert_eq!(attempts("options attempts:99"), 5);
        assert_eq!(attempts("options attempts:x"), 2);
    }
}
