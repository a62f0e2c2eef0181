//! The modes of a session that somebody cuts, each open and at work.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

use crate::ground::{Ground, Server};
use crate::inner::{self, Mode as Wish, Pattern, REQUEST_BYTES};
use crate::leg::{Leg, PlainLeg, connect, recv_exact};
use crate::tls::TlsLeg;
use crate::udp::{self, Framing};
use crate::vision::VisionLeg;
use crate::vless::Header;

const VISION: &str = "xtls-rprx-vision";
/// A download at about 6 MiB/s: fast enough to be spliced, and little work for the clients' processor.
const TRICKLE: Wish = Wish::Trickle { piece_bytes: 32 << 10, pause_us: 5000 };
const UPLOAD_BYTES: usize = 16 << 10;
const UPLOAD_PAUSE: Duration = Duration::from_millis(2);
/// Connections inside the one of Mux.
const MUX_TARGETS: u8 = 4;
/// Blocks that are padded where the content is not TLS.
const PADDED_BLOCKS: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    TlsDown,
    TlsUp,
    Padded,
    Spliced,
    Udp,
    Mux,
    Xudp,
}

impl Mode {
    pub(crate) const ALL: [Self; 8] =
        [Self::Plain, Self::TlsDown, Self::TlsUp, Self::Padded, Self::Spliced, Self::Udp, Self::Mux, Self::Xudp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain, quiet",
            Self::TlsDown => "TLS, download",
            Self::TlsUp => "TLS, upload",
            Self::Padded => "Vision, padded, quiet",
            Self::Spliced => "Vision, direct, download",
            Self::Udp => "UDP",
            Self::Mux => "Mux, 4 streams",
            Self::Xudp => "XUDP over Vision",
        }
    }

    pub(crate) fn is_tls(self) -> bool {
        self != Self::Plain
    }

    pub(crate) fn flow(self) -> &'static str {
        if matches!(self, Self::Padded | Self::Spliced | Self::Xudp) { VISION } else { "" }
    }

    /// A session of this user that has moved some bytes.
    pub(crate) fn open(self, ground: &Ground, server: &Server, user: [u8; 16]) -> io::Result<Box<dyn Leg>> {
        let socket = connect(server.port)?;
        let (origin, tls) = (ground.targets.origin_port, &ground.tls);
        let mut leg: Box<dyn Leg> = match self {
            Self::Plain => Box::new(PlainLeg::new(socket, Header::plain(origin).of(user))),
            Self::TlsDown | Self::TlsUp => Box::new(TlsLeg::open(socket, tls, Header::plain(origin).of(user))?),
            Self::Padded | Self::Spliced => Box::new(VisionLeg::open(socket, tls, Header::vision(origin).of(user))?),
            Self::Udp => Box::new(TlsLeg::open(socket, tls, Header::udp(ground.targets.datagram_port).of(user))?),
            Self::Mux => Box::new(TlsLeg::open(socket, tls, Header::mux().of(user))?),
            Self::Xudp => {
                let leg = VisionLeg::open(socket, tls, Header::vision_mux().of(user))?;
                Box::new(leg.with_blocks_max(PADDED_BLOCKS))
            }
        };
        self.begin(leg.as_mut(), ground)?;
        Ok(leg)
    }

    fn begin(self, leg: &mut dyn Leg, ground: &Ground) -> io::Result<()> {
        let (origin, datagrams) = (ground.targets.origin_port, ground.targets.datagram_port);
        match self {
            Self::Plain => echo(leg),
            Self::TlsDown => download(leg),
            Self::TlsUp => leg.send(&inner::request(Wish::Sink(u64::MAX))),
            Self::Padded => {
                leg.send(&inner::client_hello())?;
                recv_exact(leg, &mut vec![0; inner::server_flight().len()])
            }
            Self::Spliced => {
                inner::client_handshake(leg)?;
                download(leg)?;
                if leg.is_downlink_direct() { Ok(()) } else { Err(io::Error::other("the downlink is not direct")) }
            }
            Self::Udp => udp::exchange(leg, Framing::Packets, datagrams, 4, 1).map(|_| ()),
            Self::Xudp => udp::exchange(leg, Framing::Xudp, datagrams, 12, 1).map(|_| ()),
            Self::Mux => (1..=MUX_TARGETS).try_for_each(|number| mux_echo(leg, number, origin)),
        }
    }

    /// Goes on until the stream ends, and says when that was.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn await_end(self, leg: &mut dyn Leg, pattern: &Pattern) -> io::Result<Instant> {
        let mut buf = vec![0; 64 << 10];
        loop {
            let step = if self == Self::TlsUp {
                thread::sleep(UPLOAD_PAUSE);
                leg.send(&pattern.at(0)[..UPLOAD_BYTES]).map(|()| 1)
            } else {
                leg.skip(&mut buf)
            };
            match step {
                Ok(0) => return Ok(Instant::now()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(error),
                Err(_) => return Ok(Instant::now()),
            }
        }
    }
}

pub(crate) fn echo(leg: &mut dyn Leg) -> io::Result<()> {
    let request = inner::request(Wish::Echo);
    leg.send(&request)?;
    let mut answer = [0; REQUEST_BYTES];
    recv_exact(leg, &mut answer)?;
    if answer == request { Ok(()) } else { Err(io::Error::other("an echo came back changed")) }
}

fn download(leg: &mut dyn Leg) -> io::Result<()> {
    leg.send(&inner::request(TRICKLE))?;
    recv_exact(leg, &mut vec![0; 64 << 10])
}

/// One more stream inside Mux, with one echo.
fn mux_echo(leg: &mut dyn Leg, number: u8, port: u16) -> io::Result<()> {
    let request = inner::request(Wish::Echo);
    let [port_high, port_low] = port.to_be_bytes();
    let mut frame = vec![0, 12, 0, number, 1, 1, 1, port_high, port_low, 1, 127, 0, 0, 1, 0, request.len() as u8];
    frame.extend(request);
    leg.send(&frame)?;
    let mut answer = vec![0; 8 + request.len()];
    recv_exact(leg, &mut answer)?;
    let (metadata, payload) = answer.split_at(8);
    let wanted = [0, 4, 0, number, 2, 1, 0, request.len() as u8];
    if metadata == wanted && payload == request { Ok(()) } else { Err(io::Error::other("a wrong frame of Mux")) }
}
