//! A client that asks for targets in every way there is; it shares no code with the server.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

use crate::stage::{PATIENCE, Server, USER};

pub(crate) const WAYS: [Way; 6] = [Way::Tcp, Way::Udp, Way::MuxTcp, Way::MuxUdp, Way::Xudp, Way::MuxUdpKeep];

/// How a client spells a target: as an address, or as a name.
#[derive(Clone, Debug)]
pub(crate) enum Spelling {
    Ip(IpAddr),
    Name(String),
}

/// A way to ask for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    /// The UDP command: one target for the whole connection.
    Udp,
    MuxTcp,
    MuxUdp,
    /// Mux with a Global ID.
    Xudp,
    /// A socket that was opened for a harmless target, then a packet to this one.
    MuxUdpKeep,
}

impl Way {
    pub(crate) fn is_udp(self) -> bool {
        !matches!(self, Self::Tcp | Self::MuxTcp)
    }

    /// Asks for `port` of the target and sends it some bytes. The connection lives as long as what is returned.
    pub(crate) fn ask(self, server: &Server, target: &Spelling, port: u16) -> TcpStream {
        let to = target.bytes(port);
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let header = |command: u8| [&[0], &USER[..], &[0, command]].concat();
        let bytes = match self {
            Self::Tcp => [header(1), to, b"hello".to_vec()].concat(),
            Self::Udp => [header(2), to, packet(b"hello")].concat(),
            Self::MuxTcp => [header(3), frame(1, 1, &[&[1], &to[..]].concat())].concat(),
            Self::MuxUdp => [header(3), frame(1, 1, &[&[2], &to[..]].concat())].concat(),
            Self::Xudp => [header(3), frame(0, 1, &[&[2], &to[..], b"globalid"].concat())].concat(),
            Self::MuxUdpKeep => {
                let harmless = Spelling::Ip([8, 8, 8, 8].into()).bytes(9);
                let opening = frame(1, 1, &[&[2], &harmless[..]].concat());
                [header(3), opening, frame(1, 2, &[&[2], &to[..]].concat())].concat()
            }
        };
        // Who was refused already may have closed.
        let _ = socket.write_all(&bytes);
        socket
    }
}

/// Reads until the server has nothing more to say, and returns what it said.
pub(crate) fn read_to_end(mut socket: &TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = socket.read_to_end(&mut said);
    said
}

impl Spelling {
    /// Port, kind and address, as in a request header and in a frame.
    fn bytes(&self, port: u16) -> Vec<u8> {
        let mut bytes = port.to_be_bytes().to_vec();
        match self {
            Self::Ip(IpAddr::V4(ip)) => {
                bytes.push(1);
                bytes.extend(ip.octets());
            }
            Self::Ip(IpAddr::V6(ip)) => {
                bytes.push(3);
                bytes.extend(ip.octets());
            }
            Self::Name(name) => {
                bytes.extend([2, name.len() as u8]);
                bytes.extend(name.as_bytes());
            }
        }
        bytes
    }
}

/// A datagram as the UDP command carries it.
pub(crate) fn packet(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u16).to_be_bytes()[..], payload].concat()
}

/// A frame with five bytes of payload.
fn frame(id: u16, status: u8, rest: &[u8]) -> Vec<u8> {
    let metadata = [&id.to_be_bytes()[..], &[status, 1], rest].concat();
    [&(metadata.len() as u16).to_be_bytes()[..], &metadata, &packet(b"hello")].concat()
}
