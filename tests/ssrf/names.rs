//! A hostile name server: names that mean protected addresses, aliases of them, lists of good and bad, and a name that
//! means something else each time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// A public address that is not this machine's and has no route here.
pub(crate) const ELSEWHERE: &str = "8.8.8.8";

pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.53:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut room, asked) = ([0; 1500], AtomicUsize::new(0));
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, client)) = socket.recv_from(&mut room) else { continue };
                    let _ = socket.send_to(&answer(&room[..length], &asked), client);
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// The name that means `ip`: `ip-7f000001.test`.
pub(crate) fn name_of(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets.iter().fold("ip-".to_owned(), |name, octet| format!("{name}{octet:02x}")) + ".test"
}

/// Names begin with what they do: `ip-` means that address, `alias-` is an alias of an alias of it, `mixed-` means it
/// after a public one, `rebind-` means it every other time it is asked for.
fn answer(query: &[u8], asked: &AtomicUsize) -> Vec<u8> {
    let query = Packet::parse(query).unwrap();
    let question = query.questions[0].clone();
    let mut packet = Packet::new_reply(query.id());
    packet.set_flags(PacketFlag::RECURSION_AVAILABLE);
    let name = question.qname.to_string().to_lowercase();
    let first = name.strip_suffix(".test").unwrap_or("");
    let Some((manner, ip)) = first.split_once('-').and_then(|(manner, text)| Some((manner, address(text)?))) else {
        *packet.rcode_mut() = RCODE::NameError;
        packet.questions.push(question);
        return packet.build_bytes_vec().unwrap();
    };
    let elsewhere: IpAddr = ELSEWHERE.parse().unwrap();
    let mut owner = question.qname.clone();
    let addresses = match manner {
        "alias" => {
            for target in ["first.alias.example", "second.alias.example"] {
                let target = Name::new_unchecked(target);
                let data = RData::CNAME(CNAME(target.clone()));
                packet.answers.push(ResourceRecord::new(owner, CLASS::IN, 300, data));
                owner = target;
            }
            vec![ip]
        }
        "mixed" => vec![elsewhere, ip],
        "rebind" if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => vec![elsewhere],
        _ => vec![ip],
    };
    for ip in addresses {
        let data = match (ip, question.qtype) {
            (IpAddr::V4(ip), QTYPE::TYPE(TYPE::A)) => RData::A(A { address: ip.to_bits() }),
            (IpAddr::V6(ip), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA { address: ip.to_bits() }),
            _ => continue,
        };
        packet.answers.push(ResourceRecord::new(owner.clone(), CLASS::IN, 0, data));
    }
    packet.questions.push(question);
    packet.build_bytes_vec().unwrap()
}

/// The digits of [`name_of`].
fn address(digits: &str) -> Option<IpAddr> {
    match digits.len() {
        8 => u32::from_str_radix(digits, 16).ok().map(|bits| Ipv4Addr::from(bits).into()),
        32 => u128::from_str_radix(digits, 16).ok().map(|bits| Ipv6Addr::from(bits).into()),
        _ => None,
    }
}
