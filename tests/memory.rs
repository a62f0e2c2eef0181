//! The limit on buffer memory on real sockets: who waits goes on, and strangers take nothing from users.

mod support;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use support::client::{Client, request};
use support::origin::Origin;
use support::server::{ALICE, Options, PATIENT, Server};
use support::{PATIENCE, wait_until};
use vless_rust::io::buffer_memory::OVERSHOOT_BYTES_MAX;
use vless_rust::session::Timeouts;
use vless_rust::session::close::CloseReason;

const LIMIT_BYTES: usize = 1 << 20;

/// What clients send with their request: little enough for many of them to wait for admission.
const FIRST_BYTES: usize = 2000;

fn short_of_memory(options: Options) -> Server {
    Server::start(Options { buffer_memory_max: LIMIT_BYTES, ..options })
}

/// A user whose relay works.
fn echoing(server: &Server, origin: &Origin) -> Client {
    let client = Client::open(server, &ALICE, origin.address, b"!");
    client.take_response();
    assert_eq!(client.take(1), b"!");
    client
}

/// A record of the client's TLS around `plaintext`, not sent.
fn sealed(client: &Client, plaintext: &[u8]) -> Vec<u8> {
    client.tls(|tls| {
        tls.writer().write_all(plaintext).unwrap();
        let mut wire = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut wire).unwrap();
        }
        wire
    })
}

/// More than 4 KiB of a record that never becomes whole, from somebody who never says who it is.
fn stranger(server: &Server) -> Client {
    let client = Client::connect(server);
    let record = sealed(&client, &[0; 16_000]);
    // Refused once the server has cut others, which may be this one.
    let _ = client.send_raw(&record[..4200]);
    client
}

/// Every one of them holds the beginning of a record, and together that is more than there is.
#[test]
fn records_that_come_in_pieces_are_completed_however_many_there_are() {
    const CLIENTS: usize = 120;
    const RECORD_BYTES: usize = 16_000;
    let server = short_of_memory(Options::tls());
    let origin = Origin::echo();
    let clients: Vec<_> = (0..CLIENTS).map(|_| echoing(&server, &origin)).collect();
    let records: Vec<_> = clients.iter().map(|client| sealed(client, &[7; RECORD_BYTES])).collect();
    for piece in [0..1400, 1400..9000] {
        for (client, record) in clients.iter().zip(&records) {
            client.send_raw(&record[piece.clone()]).unwrap();
        }
        wait_until("memory is short", || piece.start == 0 || server.totals().sessions_awaiting_buffer > 0);
    }
    for (client, record) in clients.iter().zip(&records) {
        client.send_raw(&record[9000..]).unwrap();
    }
    for client in &clients {
        assert_eq!(client.take(RECORD_BYTES), [7; RECORD_BYTES]);
    }
    assert!(server.totals().buffer_waits > 0);
    drop(clients);
    server.wait_until_empty();
}

#[test]
fn datagrams_that_come_in_pieces_are_completed_however_many_there_are() {
    const CLIENTS: usize = 40;
    const DATAGRAM_BYTES: usize = 20_000;
    let server = short_of_memory(Options::default());
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_read_timeout(Some(PATIENCE)).unwrap();
    let connect = || {
        let mut client = TcpStream::connect(server.address).unwrap();
        let mut packet = request(&ALICE, target.local_addr().unwrap());
        packet[18] = 2;
        packet.extend((DATAGRAM_BYTES as u16).to_be_bytes());
        packet.extend([1; FIRST_BYTES]);
        client.write_all(&packet).unwrap();
        client
    };
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect()).collect();
    wait_until("memory is short", || server.totals().sessions_awaiting_buffer > 0);
    for client in &mut clients {
        client.write_all(&vec![1; DATAGRAM_BYTES - FIRST_BYTES]).unwrap();
        // One at a time, because the target's socket holds only so many.
        let mut datagram = vec![0; DATAGRAM_BYTES + 1];
        assert_eq!(target.recv(&mut datagram).unwrap(), DATAGRAM_BYTES);
    }
    drop(clients);
    server.wait_until_empty();
}

/// What there is of a frame goes to its target, which has to be dialled, and no memory waits for the rest.
#[test]
fn frames_that_come_in_pieces_are_obeyed_as_they_come() {
    const CLIENTS: usize = 40;
    const PAYLOAD_BYTES: usize = 20_000;
    let server = short_of_memory(Options::default());
    let origin = Origin::echo();
    let frame = || {
        let mut request = request(&ALICE, origin.address);
        request.truncate(18);
        // Mux; a new TCP session 1 with data; IPv4.
        request.extend([3, 0, 12, 0, 1, 1, 1, 1]);
        request.extend(origin.address.port().to_be_bytes());
        request.extend([1, 127, 0, 0, 1]);
        request.extend((PAYLOAD_BYTES as u16).to_be_bytes());
        request.resize(request.len() + PAYLOAD_BYTES, 7);
        request
    };
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&frame()[..FIRST_BYTES]).unwrap();
    }
    wait_until("they have gone on", || {
        let totals = server.totals();
        totals.mux_sessions_opened == CLIENTS as u64 && totals.uplink_bytes > 0 && totals.buffer_bytes_held == 0
    });
    for client in &mut clients {
        client.write_all(&frame()[FIRST_BYTES..]).unwrap();
    }
    for client in &mut clients {
        let mut response = [0; 2];
        client.read_exact(&mut response).unwrap();
        let mut heard = 0;
        while heard < PAYLOAD_BYTES {
            let mut header = [0; 8];
            client.read_exact(&mut header).unwrap();
            assert_eq!(header[..6], [0, 4, 0, 1, 2, 1], "a chunk of session 1");
            let mut chunk = vec![0; usize::from(u16::from_be_bytes([header[6], header[7]]))];
            client.read_exact(&mut chunk).unwrap();
            assert!(chunk.iter().all(|&byte| byte == 7));
            heard += chunk.len();
        }
    }
    drop(clients);
    server.wait_until_empty();
}

#[test]
fn strangers_take_no_memory_from_users_and_the_oldest_of_them_are_cut() {
    const STRANGERS: usize = 60;
    let server = short_of_memory(Options::tls());
    let origin = Origin::echo();
    let user = echoing(&server, &origin);
    let strangers: Vec<_> = (0..STRANGERS).map(|_| stranger(&server)).collect();
    wait_until("strangers are cut", || server.closes(CloseReason::OpeningShed) > 0);
    assert!(server.totals().buffer_bytes_held <= LIMIT_BYTES as u64 / 4);
    user.send(b"still here").unwrap();
    assert_eq!(user.take(10), b"still here");
    let newcomer = echoing(&server, &origin);
    assert_eq!(server.totals().buffer_waits, 0);
    drop((user, newcomer, strangers));
    server.wait_until_empty();
}

#[test]
fn handshakes_that_are_never_whole_count_too() {
    const STRANGERS: usize = 60;
    let server = short_of_memory(Options::tls());
    // Records of a ClientHello that claims to be 60,000 bytes long.
    let mut beginning = vec![22, 3, 1, 0x3a, 0x98, 1, 0, 0xea, 0x60];
    beginning.resize(5 + 15_000, 0);
    beginning.extend([22, 3, 1, 0x3a, 0x98]);
    beginning.resize(2 * (5 + 15_000), 0);
    let connect = || {
        let mut stranger = TcpStream::connect(server.address).unwrap();
        // Refused once the server has cut others, which may be this one.
        let _ = stranger.write_all(&beginning);
        stranger
    };
    let strangers: Vec<_> = (0..STRANGERS).map(|_| connect()).collect();
    wait_until("strangers are cut", || server.closes(CloseReason::OpeningShed) > 0);
    let origin = Origin::echo();
    drop((echoing(&server, &origin), strangers));
    server.wait_until_empty();
}

#[test]
fn who_is_gone_does_not_wait_for_memory() {
    const HOLDERS: usize = 40;
    let timeouts = Timeouts { idle: Duration::from_secs(50), ..PATIENT };
    let server = short_of_memory(Options { timeouts, ..Options::tls() });
    let origin = Origin::echo();
    let holders: Vec<_> = (0..HOLDERS).map(|_| echoing(&server, &origin)).collect();
    let mut abrupt: Vec<_> = (0..HOLDERS).map(|_| echoing(&server, &origin)).collect();
    for holder in &holders {
        let record = sealed(holder, &[0; 16_000]);
        holder.send_raw(&record[..5000]).unwrap();
    }
    wait_until("memory is short", || server.totals().sessions_awaiting_buffer > 0);
    let orderly = abrupt.split_off(HOLDERS / 2);
    for leaver in &abrupt {
        leaver.send(b"x").unwrap();
    }
    wait_until("they wait", || server.totals().sessions_awaiting_buffer as usize >= abrupt.len());
    let abrupt_ones = abrupt.len();
    for leaver in abrupt {
        leaver.reset();
    }
    for leaver in &orderly {
        leaver.finish();
    }
    let ended = server.closed(HOLDERS);
    let count = |reason| ended.iter().filter(|record| record.reason == reason).count();
    assert_eq!(count(CloseReason::ClientReset), abrupt_ones);
    assert_eq!(count(CloseReason::Finished), orderly.len());
    drop((holders, orderly));
    server.wait_until_empty();
    wait_until("nobody waits any more", || server.totals().sessions_awaiting_buffer == 0);
}

/// Clients that leave behind a chunk for a target that never answers hold no more than there is, however many they are.
#[test]
fn gone_mux_clients_do_not_pass_the_limit() {
    const CLIENTS: usize = 200;
    const PAYLOAD_BYTES: usize = 60_000;
    const WORKERS: usize = 2;
    // Who holds something ends with its dial, who waits for memory with its idle time.
    let timeouts = Timeouts { idle: Duration::from_secs(3), half_close: Duration::from_secs(1), ..PATIENT };
    let connect_timeout = Duration::from_secs(2);
    let server = short_of_memory(Options { timeouts, connect_timeout, workers: WORKERS, ..Options::default() });
    // A listener whose queue is full: dials hang.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let target = listener.local_addr().unwrap().as_socket().unwrap();
    let _queued: Vec<_> = (0..2).map(|_| TcpStream::connect_timeout(&target, Duration::from_millis(200))).collect();
    let mut opening = request(&ALICE, target);
    opening.truncate(18);
    opening.push(3);
    let mut frame = vec![0, 12, 0, 1, 1, 1, 1];
    frame.extend(target.port().to_be_bytes());
    frame.extend([1, 127, 0, 0, 1]);
    frame.extend((PAYLOAD_BYTES as u16).to_be_bytes());
    frame.resize(frame.len() + PAYLOAD_BYTES, 7);
    let connect = || {
        let mut client = TcpStream::connect(server.address).unwrap();
        client.write_all(&opening).unwrap();
        client
    };
    // Admitted while there is memory for all of them.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect()).collect();
    wait_until("all are admitted", || server.totals().requests_accepted == CLIENTS as u64);
    for client in &mut clients {
        client.write_all(&frame).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut held_bytes_most = 0;
    wait_until("all of them have ended", || {
        let totals = server.totals();
        held_bytes_most = held_bytes_most.max(totals.buffer_bytes_held as usize);
        server.reactor().sessions() == 0
    });
    assert!(held_bytes_most > LIMIT_BYTES / 4, "hardly anything was held: {held_bytes_most}");
    assert!(held_bytes_most <= LIMIT_BYTES + WORKERS * OVERSHOOT_BYTES_MAX, "{held_bytes_most}");
    // What workers hold is told at the end of a turn.
    wait_until("everything is given back", || server.totals().buffer_bytes_held == 0);
    drop(clients);
}
