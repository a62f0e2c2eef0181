//! Clients that somebody else has accepted: who passes them on says in a PROXY header (PROXY-1) who they are.
//!
//! The header comes before everything else, TLS included. It is mandatory from sources that the operator has listed, and
//! its time is that of the handshake. From here on the session is that of the announced client: limits by address, logs
//! and lists see its address. Whether its source may have one more session is the worker's to say, before anything that
//! follows the header is looked at. A header that names nobody (LOCAL, UNKNOWN) leaves the addresses of the socket.

use std::net::{IpAddr, SocketAddr};

use super::close::CloseReason;
use super::opening::Opening;
use super::party::Party;
use super::{Context, Next, Phase, Session, Wish};
use crate::inbound::Inbound;
use crate::io::buf::Buf;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::protocol::proxy_header::{self, ProxyHeader};

impl Opening {
    /// What is waited for first.
    pub(super) fn first(inbound: &Inbound, is_announced: bool) -> Self {
        match (is_announced, inbound.is_open()) {
            (true, _) => Self::ProxyHeader,
            (false, true) => Self::FirstByte,
            (false, false) => Self::Handshake { held: None },
        }
    }
}

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// Decodes what was received, from the header in front on if one is due. `None`: more must arrive.
    pub(super) fn decode_announced(&mut self, mut rest: Buf, cx: &mut Context<'_>) -> Option<Next> {
        if !matches!(self.phase, Phase::Opening(Opening::ProxyHeader)) {
            return self.decode_opening(rest, cx);
        }
        match proxy_header::decode(rest.bytes()) {
            Ok(Some((header, length))) => {
                rest.consume(length);
                if self.believe(header) {
                    self.uplink.intake.keep(&rest, true, cx.means.pool);
                    cx.means.scratch.give_input(rest);
                    self.phase = Phase::Opening(Opening::Announced);
                    cx.wishes.push(Wish::Enter { client: self.client_address.ip() });
                    return Some(Next::Wait);
                }
                self.enter(Phase::Opening(Opening::first(&self.inbound, false)), cx.means.now);
                if !rest.is_empty() {
                    return self.decode_opening(rest, cx);
                }
                cx.means.scratch.give_input(rest);
                None
            }
            Ok(None) => {
                self.uplink.intake.keep(&rest, false, cx.means.pool);
                cx.means.scratch.give_input(rest);
                None
            }
            Err(error) => {
                log::debug!("{}: no PROXY header: {error:?}", self.client_address);
                cx.means.scratch.give_input(rest);
                Some(self.refuse(CloseReason::BadProxyHeader, cx))
            }
        }
    }

    /// Whether the source of the announced client has room for it.
    pub fn on_entered(&mut self, has_room: bool, cx: &mut Context<'_>) -> Next {
        if matches!(self.phase, Phase::Opening(Opening::Announced)) {
            if !has_room {
                return self.abort(CloseReason::SourceLimit);
            }
            self.enter(Phase::Opening(Opening::first(&self.inbound, false)), cx.means.now);
        }
        self.advance(cx)
    }

    /// Takes the client for the one that `header` names. False: it names nobody.
    fn believe(&mut self, header: ProxyHeader) -> bool {
        let Some(ends) = header.ends else { return false };
        self.client_address = canonical(ends.source);
        self.party = Party::Stranger(Some(Box::new(canonical(ends.destination))));
        true
    }
}

/// An IPv4 client is one address, however it is written.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}
