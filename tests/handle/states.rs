//! Live sessions in every state and mode, brought there by a client and a target.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::bounded;
use crate::support::client::{Client, request};
use crate::support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, client_hello, data, server_hello};
use crate::support::origin::Origin;
use crate::support::server::{ALICE, STRANGER, Server, VISION};
use crate::support::vision_client::{CONTINUE, DIRECT, How, Phase, VisionClient};

pub(crate) const KINDS: [Kind; 12] = [
    Kind { state: "handshake", mode: "tls", tls: true, bring: handshake },
    Kind { state: "first_byte", mode: "tls", tls: true, bring: first_byte },
    Kind { state: "request", mode: "plain", tls: false, bring: half_a_request },
    Kind { state: "dialling", mode: "plain", tls: false, bring: dialling },
    Kind { state: "relaying", mode: "plain", tls: false, bring: relaying },
    Kind { state: "relaying", mode: "tls", tls: true, bring: relaying },
    Kind { state: "relaying", mode: "vision", tls: true, bring: padded },
    Kind { state: "relaying", mode: "splice", tls: true, bring: spliced },
    Kind { state: "relaying", mode: "udp", tls: false, bring: udp },
    Kind { state: "relaying", mode: "mux", tls: false, bring: mux },
    Kind { state: "half_closed", mode: "plain", tls: false, bring: half_closed },
    Kind { state: "lingering", mode: "plain", tls: false, bring: lingering },
];

/// What a session hangs on; it lives until this is dropped, or the server ends it.
pub(crate) type Live = Box<dyn Any>;

/// A way to bring a session into a state.
pub(crate) struct Kind {
    /// Of the session's view.
    pub(crate) state: &'static str,
    pub(crate) mode: &'static str,
    /// It needs a server with TLS; every other one is tried without.
    pub(crate) tls: bool,
    pub(crate) bring: fn(&Server) -> Live,
}

fn handshake(server: &Server) -> Live {
    let mut client = bounded(TcpStream::connect(server.address).unwrap());
    client.write_all(&[22, 3, 1]).unwrap();
    Box::new(client)
}

fn first_byte(server: &Server) -> Live {
    Box::new(Client::connect(server))
}

fn half_a_request(server: &Server) -> Live {
    let client = Client::connect(server);
    client.send(&[0, ALICE[0]]).unwrap();
    Box::new(client)
}

/// The target's queue is full, so its kernel answers nobody.
fn dialling(server: &Server) -> Live {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            let _ = socket.connect(&SockAddr::from(address));
            socket
        })
        .collect();
    let client = Client::open(server, &ALICE, address, b"hello");
    Box::new((client, waiting, listener))
}

pub(crate) fn relaying(server: &Server) -> Live {
    let origin = Origin::echo();
    let client = Client::open(server, &ALICE, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    Box::new((client, origin))
}

/// An inner handshake was seen in both directions, and both are padded.
fn shaken(server: &Server) -> (VisionClient, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = VisionClient::open(server, How::with(VISION), listener.local_addr().unwrap(), &client_hello());
    let target = bounded(listener.accept().unwrap().0);
    hear(&target, &client_hello());
    (client, target)
}

fn hear(mut target: &TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    target.read_exact(&mut heard).unwrap();
    assert_eq!(heard, expected);
}

fn padded(server: &Server) -> Live {
    Box::new(shaken(server))
}

/// Both directions have left TLS and are busy: neither end reads, and both have more to say than fits anywhere.
fn spliced(server: &Server) -> Live {
    let (mut client, mut target) = shaken(server);
    let hello = [&server_hello(Inner::Tls13), CHANGE_CIPHER_SPEC].concat();
    target.write_all(&hello).unwrap();
    client.down.expect(&hello);
    client.up.send_block(CONTINUE, &data(53), 0);
    client.up.send_block(DIRECT, &data(333), 0);
    hear(&target, &[data(53), data(333)].concat());
    target.write_all(&data(700)).unwrap();
    client.down.expect(&data(700));
    assert_eq!(client.down.phase, Phase::Raw);
    for end in [&target, client.up.wire()] {
        end.set_nonblocking(true).unwrap();
        let chunk = vec![7; 1 << 20];
        for _ in 0..8 {
            let _ = (&mut &*end).write(&chunk);
        }
        end.set_nonblocking(false).unwrap();
    }
    Box::new((client, target))
}

fn udp(server: &Server) -> Live {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut header = request(&ALICE, peer.local_addr().unwrap());
    header[18] = 2;
    let client = Client::connect(server);
    client.send(&[&header[..], &[0, 2], b"hi"].concat()).unwrap();
    let (length, server_side) = peer.recv_from(&mut [0; 10]).unwrap();
    peer.send_to(b"answer", server_side).unwrap();
    client.take_response();
    assert_eq!((length, client.take(8)), (2, [&[0, 6], &b"answer"[..]].concat()));
    Box::new((client, peer))
}

fn mux(server: &Server) -> Live {
    let origin = Origin::echo();
    let SocketAddr::V4(address) = origin.address else { unreachable!("an IPv4 origin") };
    let client = Client::connect(server);
    let target = [&[1], &address.port().to_be_bytes()[..], &[1], &address.ip().octets()].concat();
    // A new session with data.
    let meta = [&[0, 1, 1, 1], &target[..]].concat();
    let frame = [&(meta.len() as u16).to_be_bytes()[..], &meta, &[0, 5], b"hello"].concat();
    client.send(&[&[0], &ALICE[..], &[0, 3], &frame].concat()).unwrap();
    client.take_response();
    // The answer: a frame of the same session with as much data.
    let length = usize::from(u16::from_be_bytes(client.take(2).try_into().unwrap()));
    client.take(length);
    assert_eq!(client.take(7), [&[0, 5], &b"hello"[..]].concat());
    Box::new((client, origin))
}

fn half_closed(server: &Server) -> Live {
    let origin = Origin::holder();
    let client = Client::open(server, &ALICE, origin.address, b"");
    client.finish();
    Box::new((client, origin))
}

/// It was refused, and does not go.
fn lingering(server: &Server) -> Live {
    let client = Client::open(server, &STRANGER, "127.0.0.1:9".parse().unwrap(), b"");
    assert_eq!(client.recv(&mut [0]).unwrap(), 0);
    Box::new(client)
}
