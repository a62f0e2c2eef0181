//! `/etc/hosts`: names the administrator gave addresses by hand. They are answered without asking anybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Answer, Family, ResolveError, normalized};

/// Addresses of one family kept for one name.
const ADDRESSES_MAX: usize = 16;

/// The names of one hosts file.
#[derive(Debug, Default)]
pub struct Hosts {
    names: HashMap<Box<str>, Addresses>,
}

/// By family. Block lists give one address to very many names, which share it here.
#[derive(Debug, Default)]
struct Addresses {
    v4: Option<Arc<[IpAddr]>>,
    v6: Option<Arc<[IpAddr]>>,
}

impl Hosts {
    /// Reads lines of the form `address name name ... # comment`. Other lines are passed over.
    pub fn parse(text: &str) -> Self {
        let mut hosts = Self::default();
        let mut alone: HashMap<IpAddr, Arc<[IpAddr]>> = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            // An address with a scope (fe80::1%eth0) does not parse. Such lines name the local link, not targets.
            let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            let alone = alone.entry(ip).or_insert_with(|| Arc::from([ip]));
            for name in words {
                let addresses = hosts.names.entry(normalized(name).into()).or_default();
                let list = if ip.is_ipv4() { &mut addresses.v4 } else { &mut addresses.v6 };
                match list {
                    None => *list = Some(Arc::clone(alone)),
                    Some(known) if known.len() < ADDRESSES_MAX && !known.contains(&ip) => {
                        *known = known.iter().copied().chain([ip]).collect();
                    }
                    Some(_) => {}
                }
            }
        }
        hosts
    }

    /// The answer for a name in normal form. A name listed with one family only has no address of the other, because
    /// asking a server would undo what the administrator wrote.
    pub fn find(&self, name: &str, family: Family) -> Option<Answer> {
        let addresses = self.names.get(name)?;
        let list = match family {
            Family::V4 => &addresses.v4,
            Family::V6 => &addresses.v6,
        };
        Some(list.clone().ok_or(ResolveError::NoAddress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_line_has_its_address_in_any_case() {
        let hosts = Hosts::parse("10.0.0.1\tAlpha.Example  beta # gamma\n#10.0.0.2 delta\nnot-an-ip epsilon\n");
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        for name in ["alpha.example", "beta"] {
            assert_eq!(hosts.find(name, Family::V4).unwrap().unwrap().as_ref(), [ip]);
        }
        for name in ["gamma", "delta", "epsilon", "10.0.0.1"] {
            assert!(hosts.find(name, Family::V4).is_none(), "{name}");
        }
    }

    #[test]
    fn lines_for_one_name_add_up_by_family() {
        let hosts = Hosts::parse("10.0.0.1 a\n10.0.0.2 a\n10.0.0.1 a\nfd00::1 a\n");
        assert_eq!(hosts.find("a", Family::V4).unwrap().unwrap().len(), 2);
        assert_eq!(hosts.find("a", Family::V6).unwrap().unwrap().len(), 1);
    }

    #[test]
    fn a_name_with_one_family_has_no_address_of_the_other() {
        assert_eq!(Hosts::parse("10.0.0.1 a").find("a", Family::V6), Some(Err(ResolveError::NoAddress)));
    }
}
