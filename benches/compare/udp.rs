//! Datagrams: their framing inside VLESS, the echo they go to, and the load that keeps some of them under way.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::leg::{Leg, recv_exact};

/// Payload of every datagram.
pub(crate) const DATAGRAM_BYTES: usize = 512;

const STATUS_NEW: u8 = 1;
const STATUS_KEEP: u8 = 2;
const OPTION_DATA: u8 = 1;
const NETWORK_UDP: u8 = 2;

/// How datagrams are framed in the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Command 2: a length in front.
    Packets,
    /// Command 3 with one UDP session: Mux.cool frames with an address.
    Xudp,
}

/// Starts a UDP echo on a free port, for as long as the process lives.
pub(crate) fn start_echo() -> io::Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = socket.local_addr()?.port();
    thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((length, source)) = socket.recv_from(&mut datagram) {
            // A datagram that is lost shows at the client, which waits for it in vain.
            let _ = socket.send_to(&datagram[..length], source);
        }
    });
    Ok(port)
}

/// Sends `count` datagrams with at most `in_flight` unanswered, each as a write of its own as clients do, and compares
/// what comes back.
pub(crate) fn exchange(
    leg: &mut dyn Leg,
    framing: Framing,
    port: u16,
    count: u64,
    in_flight: u64,
) -> io::Result<Duration> {
    let begin = Instant::now();
    let (mut sent, mut received) = (0, 0);
    while received < count {
        while sent < count && sent - received < in_flight {
            leg.send(&frame(framing, port, sent))?;
            sent += 1;
        }
        if recv_frame(leg, framing, port)? != payload(received) {
            return Err(io::Error::other(format!("datagram {received} came back changed or out of order")));
        }
        received += 1;
    }
    Ok(begin.elapsed())
}

fn payload(number: u64) -> Vec<u8> {
    let mut payload = vec![number as u8; DATAGRAM_BYTES];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    payload
}

fn frame(framing: Framing, port: u16, number: u64) -> Vec<u8> {
    let mut frame = Vec::with_capacity(DATAGRAM_BYTES + 32);
    if framing == Framing::Xudp {
        let status = if number == 0 { STATUS_NEW } else { STATUS_KEEP };
        frame.extend([0, 12, 0, 0, status, OPTION_DATA, NETWORK_UDP]);
        frame.extend(port.to_be_bytes());
        frame.extend([1, 127, 0, 0, 1]);
    }
    frame.extend((DATAGRAM_BYTES as u16).to_be_bytes());
    frame.extend(payload(number));
    frame
}

fn recv_frame(leg: &mut dyn Leg, framing: Framing, port: u16) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    recv_exact(leg, &mut length)?;
    if framing == Framing::Xudp {
        let mut metadata = vec![0; usize::from(u16::from_be_bytes(length))];
        recv_exact(leg, &mut metadata)?;
        let [port_high, port_low] = port.to_be_bytes();
        let from_echo = [0, 0, STATUS_KEEP, OPTION_DATA, NETWORK_UDP, port_high, port_low, 1, 127, 0, 0, 1];
        if metadata != from_echo && metadata != from_echo[..4] {
            return Err(io::Error::other(format!("an unexpected frame: {metadata:?}")));
        }
        recv_exact(leg, &mut length)?;
    }
    let mut payload = vec![0; usize::from(u16::from_be_bytes(length))];
    recv_exact(leg, &mut payload)?;
    Ok(payload)
}
