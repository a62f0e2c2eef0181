//! The address of this machine that somebody elsewhere may know, for links.

use std::net::{IpAddr, UdpSocket};

/// The address this machine would use towards the internet, if it has a route there. Nothing is sent: connecting a UDP
/// socket only asks the kernel's routing table.
pub fn default_source_address() -> Option<IpAddr> {
    // Any global unicast addresses do; these belong to a public name service.
    let probes = [("0.0.0.0:0", "1.1.1.1:53"), ("[::]:0", "[2606:4700:4700::1111]:53")];
    probes.iter().find_map(|(local, remote)| {
        let socket = UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_source_address_is_a_real_one_if_there_is_one() {
        assert!(default_source_address().is_none_or(|ip| !ip.is_unspecified()));
    }
}
