//! Address ranges as operators write them: `10.0.0.0/8`, `fd00::/8`, or a bare address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses of one family.
///
/// An IPv4-mapped IPv6 range of `/96` and longer is the IPv4 range it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: IpAddr,
    prefix_bits: u8,
}

/// What is wrong with the text of a [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseCidrError {
    /// The part before `/` is no IP address.
    Address,
    /// The part after `/` is no number from 0 to 32 (IPv4) or 128 (IPv6).
    Prefix,
}

impl Cidr {
    /// The range of addresses that share the first `prefix_bits` bits with `base`. Bits beyond are cleared. `None` if
    /// the family has fewer bits.
    pub fn new(base: IpAddr, prefix_bits: u8) -> Option<Self> {
        let (base, prefix_bits) = match (base.to_canonical(), base) {
            (IpAddr::V4(mapped), IpAddr::V6(_)) if (96..=128).contains(&prefix_bits) => {
                (IpAddr::V4(mapped), prefix_bits - 96)
            }
            _ => (base, prefix_bits),
        };
        (prefix_bits <= bits(base)).then(|| Self { base: cleared(base, prefix_bits), prefix_bits })
    }

    /// How many bits its addresses share; 0: it is the whole family.
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// The first address of the range.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// Whether `ip` lies in the range. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.base.is_ipv4() && cleared(ip, self.prefix_bits) == self.base
    }
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// `ip` with all bits after the first `prefix_bits` at zero.
fn cleared(ip: IpAddr, prefix_bits: u8) -> IpAddr {
    // A shift by the whole width would overflow. Such a mask is empty.
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| ParseCidrError::Address)?;
        let prefix_bits = match prefix {
            None => bits(base),
            // The integer parser would take a sign.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| ParseCidrError::Prefix)?
            }
            Some(_) => return Err(ParseCidrError::Prefix),
        };
        Self::new(base, prefix_bits).ok_or(ParseCidrError::Prefix)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_holds_its_first_and_last_address_and_not_the_neighbours() {
        let range = cidr("172.16.0.0/12");
        assert!(range.contains(ip("172.16.0.0")) && range.contains(ip("172.31.255.255")));
        assert!(!range.contains(ip("172.15.255.255")) && !range.contains(ip("172.32.0.0")));
        let range = cidr("fe80::/10");
        assert!(range.contains(ip("fe80::")) && range.contains(ip("febf:ffff::1")));
        assert!(!range.contains(ip("fe7f::")) && !range.contains(ip("fec0::")));
    }

    #[test]
    fn a_bare_address_is_a_range_of_one() {
        assert_eq!(cidr("10.1.2.3").to_string(), "10.1.2.3/32");
        assert_eq!(cidr("::1").to_string(), "::1/128");
        assert!(cidr("::1").contains(ip("::1")) && !cidr("::1").contains(ip("::2")));
    }

    #[test]
    fn the_empty_prefix_holds_its_whole_family_and_only_that() {
        assert!(cidr("0.0.0.0/0").contains(ip("255.255.255.255")) && !cidr("0.0.0.0/0").contains(ip("::1")));
        assert!(cidr("::/0").contains(ip("ffff::")) && !cidr("::/0").contains(ip("1.2.3.4")));
    }

    #[test]
    fn mapped_spellings_mean_ipv4() {
        assert!(cidr("127.0.0.0/8").contains(ip("::ffff:127.0.0.1")));
        assert_eq!(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(cidr("10.1.2.3/8").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn bad_text_says_which_part() {
        for text in ["", "10.0.0/8", "example.org", "10.0.0.0 /8", "[::1]", "127.0.0.1:80"] {
            assert_eq!(text.parse::<Cidr>(), Err(ParseCidrError::Address), "{text}");
        }
        for text in ["10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "::/-1", "::/256", "10.0.0.0/8/8"] {
            assert_eq!(text.parse::<Cidr>(), Err(ParseCidrError::Prefix), "{text}");
        }
    }
}
