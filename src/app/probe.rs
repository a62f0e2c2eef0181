//! The probe: a client of our own that goes through a link step by step and says which side is at fault.
//!
//! Owns the order of the steps and the judgement. It compares what different questions are answered with: a server that
//! does not know an id closes at once, one that knows it waits for the first frame of a Mux request; with another flow
//! the same request may pass. Blocking; every wait has a deadline.

mod fetch;
pub mod fuzz;
mod link;
mod report;
mod tunnel;
mod witness;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::{AlertDescription, ClientConnection, ProtocolVersion};

pub use self::report::{Fault, Report, Side};

use self::fetch::{Goal, direct_words, exchange, fetched};
use self::link::Link;
use self::tunnel::{Asked, NOT_TLS, Shown, TIMEOUT, Tunnel, is_timeout};
use self::witness::client_config;
use crate::app::certs;
use crate::app::exit::Failure;
use crate::protocol::address::{Host, Target};

/// What to fetch when nothing is named: small, and answered by many machines.
pub const DEFAULT_TARGET: &str = "https://cp.cloudflare.com/";
/// A name server that answers everybody, for UDP.
const DNS_SERVER: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1)), 53);
/// A server that does not know an id closes within a round trip; one that keeps the connection this long knows it.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Fewer bytes say nothing about throughput.
const BODY_BYTES_TELLING: u64 = 1 << 20;

/// What to do beside the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// An address such as `https://example.com/path`.
    pub target: String,
    /// A name server to ask by UDP.
    pub dns: SocketAddr,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { target: DEFAULT_TARGET.to_owned(), dns: DNS_SERVER.into() }
    }
}

/// Goes through `link`.
///
/// # Errors
/// 64 for a link or target that is none; a fault that is found is in the report.
pub fn probe(link: &str, wishes: &Wishes) -> Result<Report, Failure> {
    let link = Link::parse(link)?;
    let target = Goal::parse(&wishes.target)?;
    let mut probe = Probe { link, report: Report::default() };
    probe.report.fault = probe.conduct(&target, wishes.dns).err();
    Ok(probe.report)
}

struct Probe {
    link: Link,
    report: Report,
}

impl Probe {
    fn conduct(&mut self, goal: &Goal, dns: SocketAddr) -> Result<(), Fault> {
        let addresses = self.resolve()?;
        let (tcp, address) = self.connect(&addresses)?;
        let (tunnel, shown) =
            Tunnel::open(tcp, self.link.tls.as_ref()).map_err(|error| Self::tls_fault(address, &error))?;
        if let Some(shown) = shown {
            self.judge(&shown)?;
        }
        let fetched = self.fetch(tunnel, goal);
        let said = fetched.map_err(|fetch| self.diagnose(address, goal, &fetch))?;
        for (name, text) in said {
            self.report.note(name, text);
        }
        let udp = match self.ask_dns(address, dns) {
            Ok(took) => format!("{dns} answered after {} ms", took.as_millis()),
            Err(why) => format!("no answer of {dns} ({why}); not every server takes UDP from every account"),
        };
        self.report.note("UDP", udp);
        Ok(())
    }

    fn resolve(&mut self) -> Result<Vec<SocketAddr>, Fault> {
        let (host, port) = (self.link.host.clone(), self.link.port);
        let (sender, answer) = mpsc::channel();
        let name = host.clone();
        // The system's look-up has no deadline of its own.
        thread::spawn(move || sender.send((name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)));
        match answer.recv_timeout(TIMEOUT) {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                if host.parse::<IpAddr>().is_err() {
                    let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
                    self.report.note("name", format!("{host} is {}", shown.join(", ")));
                }
                Ok(addresses)
            }
            Ok(_) => Err(fault(
                Side::Link,
                format!("the name {host} has no address"),
                "correct the host of the link, or the entry of the name",
            )),
            Err(_) => Err(fault(
                Side::Network,
                format!("nobody answered what the address of {host} is"),
                "check the name servers of this machine",
            )),
        }
    }

    fn connect(&mut self, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Fault> {
        let mut last = None;
        for address in addresses {
            let started = Instant::now();
            match TcpStream::connect_timeout(address, TIMEOUT) {
                Ok(tcp) => {
                    self.report.note("TCP", format!("{address} after {} ms", started.elapsed().as_millis()));
                    return Ok((tcp, *address));
                }
                Err(error) => last = Some((address, error)),
            }
        }
        let Some((address, error)) = last else {
            return Err(fault(Side::Link, "no address to connect to", "correct the host of the link"));
        };
        Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => fault(
                Side::Server,
                format!("nothing listens on {address}"),
                "start the server (`vless-rust status` there), or correct the port in the link",
            ),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => fault(
                Side::Network,
                format!("{address} does not answer"),
                "open the port in the server's firewall and in its provider's, and check the address",
            ),
            _ => fault(
                Side::Network,
                format!("{address} cannot be reached: {error}"),
                "check this machine's network, or use the server's address of the other family",
            ),
        })
    }

    fn tls_fault(address: SocketAddr, error: &io::Error) -> Fault {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner {
            let (what, remedy) = match alert {
                AlertDescription::NoApplicationProtocol => (
                    "the server takes none of the protocols in alpn".to_owned(),
                    "take alpn out of the link, or add the protocol to tls.alpn of the server",
                ),
                AlertDescription::UnrecognisedName => (
                    "the server has no certificate for the server name of the link".to_owned(),
                    "correct sni in the link: print it again with `vless-rust link`",
                ),
                other => (format!("the server refused the TLS handshake: {other:?}"), "see the log of the server"),
            };
            return fault(Side::Link, what, remedy);
        }
        if error.to_string() == NOT_TLS {
            return fault(
                Side::Server,
                format!("{address} does not speak TLS"),
                "another program listens there, or tls.enabled is false: correct the port, or print the link again",
            );
        }
        if error.kind() == io::ErrorKind::InvalidInput {
            return fault(Side::Link, error.to_string(), "correct sni in the link");
        }
        if is_timeout(error) {
            return fault(
                Side::Network,
                format!("{address} accepts but says nothing to a TLS greeting"),
                "something between swallows it, or a server without TLS waits: try security=none or another network",
            );
        }
        fault(
            Side::Server,
            format!("{address} closed the connection during the TLS handshake ({error})"),
            "the server has no TLS (print its link again), or something between cuts TLS off",
        )
    }

    fn judge(&mut self, shown: &Shown) -> Result<(), Fault> {
        let Some(tls) = &self.link.tls else { return Ok(()) };
        let alpn = shown.alpn.as_ref().map_or(String::new(), |alpn| format!(", {alpn}"));
        self.report.steps.push(("TLS", format!("version {}{alpn}", shown.version)));
        let Some(leaf) = shown.chain.first() else {
            return Err(fault(Side::Server, "it showed no certificate", "see the log of the server"));
        };
        let seen = certs::fingerprint_hex(leaf);
        if let Some(pin) = &tls.pin {
            if *pin != seen {
                return Err(fault(
                    Side::Link,
                    format!("the certificate is another one than the link pins (it has SHA-256 {seen})"),
                    "if the server's certificate was renewed, print the link again there; else somebody is between",
                ));
            }
            self.report.note("certificate", "is the one that the link pins");
        } else if let Some(why) = certs::refused(&shown.chain, &tls.server_name, SystemTime::now()) {
            return Err(fault(
                Side::Server,
                format!("clients refuse the certificate for {}: {why}", tls.server_name),
                "print the link again (it pins a self-signed certificate), or renew the certificate",
            ));
        } else {
            self.report.note("certificate", format!("is valid for {}", tls.server_name));
        }
        if self.link.is_vision && shown.version != "1.3" {
            return Err(fault(
                Side::Server,
                "it speaks TLS 1.2 only, and Vision needs 1.3",
                "put nothing between that ends TLS, or update it",
            ));
        }
        Ok(())
    }

    fn fetch(&self, mut tunnel: Tunnel, goal: &Goal) -> Result<Vec<(&'static str, String)>, FetchError> {
        tunnel.request(&self.link, Asked::Tcp, Some(&goal.target));
        let started = Instant::now();
        let mut said = Vec::new();
        let (status, body, took);
        if goal.is_https {
            let (settings, _) = client_config(&[]);
            let name = goal.name.clone().try_into().map_err(|_| FetchError::new(&tunnel, None))?;
            let mut inner =
                ClientConnection::new(Arc::new(settings), name).map_err(|_| FetchError::new(&tunnel, None))?;
            while inner.is_handshaking() {
                inner.complete_io(&mut tunnel).map_err(|error| FetchError::new(&tunnel, Some(error)))?;
            }
            said.push(("VLESS", format!("accepted after {} ms", started.elapsed().as_millis())));
            let is_13 = inner.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            let asked = Instant::now();
            let got = exchange(&mut rustls::Stream::new(&mut inner, &mut tunnel), goal);
            (status, body, took) = got.map_err(|error| FetchError::new(&tunnel, Some(error)))?;
            said.push(fetched(status, asked, took.first));
            said.extend(self.link.is_vision.then(|| ("direct", direct_words(tunnel.is_direct(), is_13))));
        } else {
            let asked = Instant::now();
            let got = exchange(&mut tunnel, goal);
            (status, body, took) = got.map_err(|error| FetchError::new(&tunnel, Some(error)))?;
            said.push(("VLESS", format!("accepted after {} ms", started.elapsed().as_millis())));
            said.push(fetched(status, asked, took.first));
        }
        let seconds = took.body.as_secs_f64();
        said.push(if body >= BODY_BYTES_TELLING && seconds > 0.0 {
            ("throughput", format!("{:.1} Mbit/s over {body} bytes", body as f64 * 8.0 / seconds / 1e6))
        } else {
            ("throughput", format!("not measured: the answer has {body} bytes only (--via names a larger file)"))
        });
        Ok(said)
    }

    /// Why nothing came through, by asking differently.
    fn diagnose(&self, address: SocketAddr, goal: &Goal, error: &FetchError) -> Fault {
        if error.is_accepted {
            return fault(
                Side::Target,
                format!("the server takes the link, but {} did not answer as a web server ({})", goal.name, error.why),
                "try another --via; if none works, the server's way out is blocked",
            );
        }
        if error.heard.starts_with(b"HTTP/") || (!error.heard.is_empty() && error.heard.first() != Some(&0x15)) {
            return fault(
                Side::Link,
                "a web server answered: the server does not know the user id and passed us on",
                "print the link again with `vless-rust link`; the account may be removed, disabled or expired",
            );
        }
        if self.link.tls.is_none() && Self::speaks_tls(address) {
            return fault(
                Side::Link,
                "the server speaks TLS, and the link says security=none",
                "print the link again with `vless-rust link`",
            );
        }
        if self.link.tls.is_some() || !self.link.is_vision {
            let mut other = self.link.clone();
            other.is_vision = !other.is_vision;
            if other.tls.is_some() && passes(&other, address, goal) {
                let (has, wants) =
                    if self.link.is_vision { ("xtls-rprx-vision", "no flow") } else { ("no flow", "xtls-rprx-vision") };
                return fault(
                    Side::Link,
                    format!("the link has {has}, and the account has {wants}"),
                    "print the link again with `vless-rust link`",
                );
            }
        }
        if is_known(&self.link, address) {
            return fault(
                Side::Target,
                format!("the server knows the account, but cannot reach {} ({})", goal.name, error.why),
                "try another --via; if none works, see the server's outbound policy, name servers and firewall",
            );
        }
        fault(
            Side::Link,
            "the server does not know the user id, or not with this flow",
            "print the link again with `vless-rust link`; the account may be removed, disabled, expired or over its \
             quota",
        )
    }

    fn speaks_tls(address: SocketAddr) -> bool {
        let tls = link::LinkTls { server_name: "localhost".to_owned(), alpn: Vec::new(), pin: None };
        let tcp = TcpStream::connect_timeout(&address, TIMEOUT);
        tcp.and_then(|tcp| Tunnel::open(tcp, Some(&tls))).is_ok()
    }

    /// Asks a name server by UDP what the address of a name is.
    fn ask_dns(&self, address: SocketAddr, dns: SocketAddr) -> Result<Duration, String> {
        let told = |error: io::Error| if is_timeout(&error) { "in time".to_owned() } else { error.to_string() };
        let tcp = TcpStream::connect_timeout(&address, TIMEOUT).map_err(told)?;
        let (mut tunnel, _) = Tunnel::open(tcp, self.link.tls.as_ref()).map_err(told)?;
        let target = Target { host: Host::Ip(dns.ip()), port: dns.port() };
        tunnel.request(&self.link, Asked::Udp, Some(&target));
        tunnel.set_read_timeout(Duration::from_secs(5)).map_err(told)?;
        let query = b"\x13\x57\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
        let mut packet = (query.len() as u16).to_be_bytes().to_vec();
        packet.extend_from_slice(query);
        let started = Instant::now();
        tunnel.write_all(&packet).map_err(told)?;
        let mut answer = [0; 4];
        tunnel.read_exact(&mut answer).map_err(told)?;
        if answer.get(2..) == query.get(..2) { Ok(started.elapsed()) } else { Err("another answer".to_owned()) }
    }
}

/// Why an attempt did not come through.
struct FetchError {
    is_accepted: bool,
    heard: Vec<u8>,
    why: String,
}

impl FetchError {
    fn new(tunnel: &Tunnel, error: Option<io::Error>) -> Self {
        let why = match error {
            Some(error) if is_timeout(&error) => "no answer in time".to_owned(),
            Some(error) => error.to_string(),
            None => "its name cannot be asked for".to_owned(),
        };
        Self { is_accepted: tunnel.is_accepted(), heard: tunnel.heard().to_vec(), why }
    }
}

/// Whether the fetch comes through with this link.
fn passes(link: &Link, address: SocketAddr, goal: &Goal) -> bool {
    let Ok(tcp) = TcpStream::connect_timeout(&address, TIMEOUT) else { return false };
    let Ok((tunnel, _)) = Tunnel::open(tcp, link.tls.as_ref()) else { return false };
    let probe = Probe { link: link.clone(), report: Report::default() };
    probe.fetch(tunnel, goal).map_or_else(|error| error.is_accepted, |_| true)
}

/// Whether the server knows the account: it then waits for the first frame instead of closing.
fn is_known(link: &Link, address: SocketAddr) -> bool {
    let Ok(tcp) = TcpStream::connect_timeout(&address, TIMEOUT) else { return false };
    let Ok((mut tunnel, _)) = Tunnel::open(tcp, link.tls.as_ref()) else { return false };
    tunnel.request(link, Asked::Mux, None);
    tunnel.write(&[]).is_ok() && tunnel.is_kept_open(PATIENCE).unwrap_or(false)
}

fn fault(side: Side, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault { side, what: what.into(), remedy: remedy.into() }
}
