//! Name servers on loopback, with answers written by another implementation than ours.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// How often the server's thread looks whether the test is over.
const PAUSE: Duration = Duration::from_millis(20);

/// Longer than a silent server is waited for before the next one is asked.
pub(crate) const SLOW: Duration = Duration::from_millis(1500);

/// Answers to each query in [`Manner::Misdirects`].
pub(crate) const MISDIRECTED_ANSWERS: usize = 100;

/// A name server that knows some names, on a thread of its own until it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) queries_over_udp: Arc<AtomicUsize>,
    pub(crate) queries_over_tcp: Arc<AtomicUsize>,
}

/// Names and their addresses; a name with none exists without addresses.
pub(crate) type Zone = &'static [(&'static str, &'static [&'static str])];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    /// Everything over UDP is cut to nothing.
    TruncatesOverUdp,
    /// Likewise, and TCP takes [`SLOW`] for each answer.
    SlowOverTcp,
    /// Every query is answered many times, each time with another query's id.
    Misdirects,
    /// Answers over UDP are cut in the middle of their last record, and do not say so.
    CutsSilently,
    /// Questions are repeated in small letters.
    FoldsCase,
    /// Queries with EDNS are not understood.
    RefusesEdns,
    /// Queries with EDNS are not answered.
    SwallowsEdns,
}

impl NameServer {
    pub(crate) fn start(ip: &str, zone: Zone, manner: Manner) -> Self {
        let (udp, tcp) = sockets(ip);
        let address = udp.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let queries_over_udp = Arc::new(AtomicUsize::new(0));
        let queries_over_tcp = Arc::new(AtomicUsize::new(0));
        let threads = vec![
            thread::spawn({
                let (stop, queries) = (Arc::clone(&stop), Arc::clone(&queries_over_udp));
                move || serve_udp(&udp, zone, manner, &stop, &queries)
            }),
            thread::spawn({
                let (stop, queries) = (Arc::clone(&stop), Arc::clone(&queries_over_tcp));
                move || serve_tcp(&tcp, zone, manner, &stop, &queries)
            }),
        ];
        Self { address, stop, threads, queries_over_udp, queries_over_tcp }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A name server that takes queries and never says anything.
pub(crate) fn silent_server(ip: &str) -> UdpSocket {
    UdpSocket::bind((ip, 0)).unwrap()
}

/// A UDP and a TCP socket with the same port.
fn sockets(ip: &str) -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind((ip, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

fn serve_udp(socket: &UdpSocket, zone: Zone, manner: Manner, stop: &AtomicBool, queries: &AtomicUsize) {
    socket.set_read_timeout(Some(PAUSE)).unwrap();
    let mut buffer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        queries.fetch_add(1, Ordering::Relaxed);
        let is_truncated = matches!(manner, Manner::TruncatesOverUdp | Manner::SlowOverTcp);
        let mut answer = answer(&buffer[..length], zone, is_truncated);
        let mut repeats = 1;
        let has_edns = buffer[11] == 1;
        match manner {
            Manner::CutsSilently => answer.truncate(answer.len() - 2),
            Manner::FoldsCase => answer[12..].make_ascii_lowercase(),
            Manner::RefusesEdns if has_edns => {
                answer[3] = answer[3] & 0xf0 | 1;
                answer[6..8].fill(0);
            }
            Manner::SwallowsEdns if has_edns => continue,
            _ => {}
        }
        if manner == Manner::Misdirects {
            answer[1] ^= 1;
            repeats = MISDIRECTED_ANSWERS;
        }
        for _ in 0..repeats {
            let _ = socket.send_to(&answer, client);
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: Zone, manner: Manner, stop: &AtomicBool, queries: &AtomicUsize) {
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut prefix = [0; 2];
        stream.read_exact(&mut prefix).unwrap();
        let mut query = vec![0; usize::from(u16::from_be_bytes(prefix))];
        stream.read_exact(&mut query).unwrap();
        queries.fetch_add(1, Ordering::Relaxed);
        let answer = answer(&query, zone, false);
        if manner == Manner::SlowOverTcp {
            thread::sleep(SLOW);
        }
        // In three pieces, so that the other side has to put them together.
        stream.set_nodelay(true).unwrap();
        for piece in [&(answer.len() as u16).to_be_bytes(), &answer[..5], &answer[5..]] {
            // Who was answered in another way may be gone.
            let _ = stream.write_all(piece);
        }
    }
}

fn answer(query: &[u8], zone: Zone, is_truncated: bool) -> Vec<u8> {
    let query = Packet::parse(query).expect("a query that can be read");
    assert_eq!(query.questions.len(), 1);
    let question = query.questions[0].clone();
    let mut packet = Packet::new_reply(query.id());
    packet.set_flags(PacketFlag::RECURSION_AVAILABLE);
    let name = question.qname.clone();
    match zone.iter().find(|(known, _)| name.to_string().eq_ignore_ascii_case(known)) {
        None => *packet.rcode_mut() = RCODE::NameError,
        Some(_) if is_truncated => packet.set_flags(PacketFlag::TRUNCATION),
        Some((_, addresses)) => {
            for address in *addresses {
                let data = match (address.parse().unwrap(), question.qtype) {
                    (IpAddr::V4(ip), QTYPE::TYPE(TYPE::A)) => RData::A(A { address: ip.to_bits() }),
                    (IpAddr::V6(ip), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA { address: ip.to_bits() }),
                    _ => continue,
                };
                packet.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 300, data));
            }
        }
    }
    packet.questions.push(question);
    packet.build_bytes_vec_compressed().unwrap()
}
