//! What the doctor reads of the machine itself, below a root that tests can plant.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::{Findings, Place, Weight, read};
use crate::app::config::Config;

/// Fewer descriptors than this are few sessions.
const DESCRIPTORS_FEW: u64 = 4096;
/// A clock before the end of 2025 is wrong: the program is younger.
const CLOCK_MIN_S: u64 = 1_764_000_000;
/// The largest receive window of a connection must allow a fast line over a long way.
const WINDOW_BYTES_MIN: u64 = 4 << 20;
const BACKLOG_MIN: u64 = 1024;
/// A name server that needs longer is as good as none.
const DNS_TIMEOUT: Duration = Duration::from_secs(2);

impl Findings {
    pub(super) fn system(&mut self, place: &Place<'_>, config: Option<&Config>) {
        self.clock(place);
        self.descriptors(&place.root);
        self.network_settings(&place.root);
        self.unit(place, config);
    }

    fn clock(&mut self, place: &Place<'_>) {
        let now = place.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now < CLOCK_MIN_S {
            self.add(
                Weight::Fault,
                "the clock of this machine is years behind; certificates and expiry dates depend on it",
                "switch time synchronisation on: timedatectl set-ntp true",
            );
        } else {
            self.good("clock: plausible");
        }
    }

    fn descriptors(&mut self, root: &Path) {
        let limits = read(root, "proc/self/limits").unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        // Soft and hard limit; the server raises the one to the other.
        let Some(hard) = line.and_then(|line| line.split_whitespace().nth(4).map(ToOwned::to_owned)) else { return };
        let count = hard.parse::<u64>().unwrap_or(u64::MAX);
        if count < DESCRIPTORS_FEW {
            self.add(
                Weight::Fault,
                format!("at most {count} descriptors: enough for some {} sessions", count / 4),
                "LimitNOFILE=1048576 in the service, or ulimit -Hn in the shell",
            );
        } else {
            self.good(format!("descriptors: at most {hard}"));
        }
    }

    fn network_settings(&mut self, root: &Path) {
        let setting = |name: &str| read(root, &format!("proc/sys/net/{name}")).map(|text| text.trim().to_owned());
        match setting("ipv4/tcp_congestion_control") {
            Some(kind) if kind == "bbr" => self.good("congestion control: bbr"),
            Some(kind) => self.add(
                Weight::Hint,
                format!("congestion control: {kind}; bbr is faster over long ways with loss"),
                "sysctl -w net.core.default_qdisc=fq net.ipv4.tcp_congestion_control=bbr",
            ),
            None => {}
        }
        let largest = |name: &str| setting(name).and_then(|text| text.split_whitespace().last()?.parse::<u64>().ok());
        for name in ["tcp_rmem", "tcp_wmem"] {
            if largest(&format!("ipv4/{name}")).is_some_and(|bytes| bytes < WINDOW_BYTES_MIN) {
                self.add(
                    Weight::Fault,
                    format!("net.ipv4.{name} allows small buffers only: long ways will be slow"),
                    format!("sysctl -w net.ipv4.{name}='4096 131072 6291456'"),
                );
            }
        }
        if largest("core/somaxconn").is_some_and(|count| count < BACKLOG_MIN) {
            self.add(
                Weight::Fault,
                "net.core.somaxconn is small: many clients at once will be turned away",
                "sysctl -w net.core.somaxconn=4096",
            );
        }
        if setting("ipv6/conf/all/disable_ipv6").as_deref() == Some("1") {
            self.add(
                Weight::Hint,
                "IPv6 is switched off",
                "sysctl -w net.ipv6.conf.all.disable_ipv6=0, if the network has it",
            );
        }
    }

    /// Asks each server that would be used.
    pub(super) fn name_servers(&mut self, place: &Place<'_>, configured: &[SocketAddr]) {
        let text = read(&place.root, "etc/resolv.conf").unwrap_or_default();
        let of_system = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        let of_system = of_system.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
        let of_system = of_system.map(|ip| SocketAddr::new(ip, 53));
        let servers: Vec<_> = if configured.is_empty() { of_system.collect() } else { configured.to_vec() };
        if servers.is_empty() {
            self.add(
                Weight::Fault,
                "no name server is known: clients reach addresses only",
                "name some in outbound.dns.servers, or in /etc/resolv.conf",
            );
        }
        for server in servers {
            match asked(server) {
                Ok(()) => self.good(format!("name server {server} answers")),
                Err(error) => self.add(
                    Weight::Fault,
                    format!("name server {server} does not answer: {error}"),
                    "name another one in outbound.dns.servers",
                ),
            }
        }
    }
}

/// Asks for the root's name servers, which every server knows.
fn asked(server: SocketAddr) -> std::io::Result<()> {
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(DNS_TIMEOUT))?;
    socket.connect(server)?;
    socket.send(b"\x13\x57\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01")?;
    let mut answer = [0; 512];
    socket.recv(&mut answer).map(drop)
}
