//! Which firewall this machine has, and the command that opens a port in it.
//!
//! Owns recognising ufw, firewalld, nftables and iptables. Changes nothing: the operator runs the command.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::app::port_holder;

/// What stands between the network and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firewall {
    Ufw,
    Firewalld,
    /// A base chain that drops what is not allowed: family, table, chain.
    Nft(String, String, String),
    /// The input chain of iptables, kept by nftables under its own name.
    Iptables,
    /// None was found on this machine.
    None,
    /// Only root may look.
    Unknown,
}

impl Firewall {
    /// The one of this machine.
    pub fn detect() -> Self {
        let ufw = fs::read_to_string("/etc/ufw/ufw.conf").unwrap_or_default();
        if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("enabled=yes")) {
            return Self::Ufw;
        }
        if port_holder::is_running("firewalld") {
            return Self::Firewalld;
        }
        if !is_installed("nft") {
            return Self::None;
        }
        let listed = Command::new("nft").args(["list", "ruleset"]).stdin(Stdio::null()).output();
        match listed {
            Ok(output) if output.status.success() => of_ruleset(&String::from_utf8_lossy(&output.stdout)),
            _ => Self::Unknown,
        }
    }

    /// The command that lets TCP connections to `port` in; none if nothing is in the way.
    pub fn command(&self, port: u16) -> Option<String> {
        match self {
            Self::Ufw => Some(format!("ufw allow {port}/tcp")),
            Self::Firewalld => Some(format!("firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload")),
            Self::Nft(family, table, chain) => {
                Some(format!("nft insert rule {family} {table} {chain} tcp dport {port} accept"))
            }
            Self::Iptables => Some(format!("iptables -I INPUT -p tcp --dport {port} -j ACCEPT")),
            Self::None | Self::Unknown => None,
        }
    }
}

/// The first base chain of `nft list ruleset` on the way in that drops what no rule accepts.
fn of_ruleset(ruleset: &str) -> Firewall {
    let (mut table, mut chain) = (None, None);
    for line in ruleset.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table", family, name, ..] => table = Some((*family, *name)),
            ["chain", name, ..] => chain = Some(*name),
            ["type", "filter", "hook", "input", ..] if line.contains("policy drop") => {
                let (Some((family, table)), Some(chain)) = (table, chain) else { continue };
                if family == "ip" && table == "filter" && chain == "INPUT" {
                    return Firewall::Iptables;
                }
                return Firewall::Nft(family.to_owned(), table.to_owned(), chain.to_owned());
            }
            _ => {}
        }
    }
    Firewall::None
}

fn is_installed(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(Path::new);
    env::split_paths(&folders).any(|folder| folder.join(program).exists())
        || usual.iter().any(|folder| folder.join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_that_drops_is_found() {
        let ruleset =
            "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n";
        let found = of_ruleset(ruleset);
        assert_eq!(found, Firewall::Nft("inet".into(), "filter".into(), "input".into()));
        assert_eq!(found.command(443).unwrap(), "nft insert rule inet filter input tcp dport 443 accept");
        assert_eq!(of_ruleset(&ruleset.replace("drop", "accept")), Firewall::None);
        let tables = ruleset.replace("inet filter", "ip filter").replace("chain input", "chain INPUT");
        assert_eq!(of_ruleset(&tables), Firewall::Iptables);
    }

    #[test]
    fn each_firewall_has_its_command() {
        assert_eq!(Firewall::Ufw.command(443).unwrap(), "ufw allow 443/tcp");
        assert!(Firewall::Firewalld.command(443).unwrap().contains("--add-port=443/tcp"));
        assert!(Firewall::Iptables.command(443).unwrap().contains("--dport 443"));
        assert_eq!(Firewall::None.command(443), None);
    }
}
