//! How the connection pool reaches real sockets, registered for both directions like those of dials.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::socket::{self, Progress};
use crate::io::sockopt::SocketOptions;
use crate::io::token::Token;
use crate::outbound::connection_pool::{ConnectState, Connector, Waiting};
use crate::outbound::policy::judge::Judge;

const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

pub(super) struct TcpConnector<'a> {
    pub registry: &'a Registry,
    pub bind: Option<IpAddr>,
    pub options: SocketOptions,
    pub judge: &'a Judge,
}

impl Connector for TcpConnector<'_> {
    type Socket = TcpStream;

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let mut socket = socket::connect(address, self.bind, self.options)?;
        self.registry.register(&mut socket, token.into(), INTEREST)?;
        Ok(socket)
    }

    fn watch(&mut self, socket: &mut TcpStream, token: Token) -> io::Result<()> {
        self.registry.reregister(socket, token.into(), INTEREST)
    }

    fn state(&mut self, socket: &TcpStream) -> ConnectState {
        match socket::progress(socket) {
            Progress::Connected(_) => ConnectState::Connected,
            Progress::Pending => ConnectState::Pending,
            Progress::Failed(_) => ConnectState::Failed,
        }
    }

    fn look(&mut self, socket: &TcpStream) -> Waiting {
        // Not a peek: bytes in front would hide that the target has ended or broken the connection behind them.
        let mut asked = [PollFd::new(socket, PollFlags::IN | PollFlags::RDHUP)];
        let answered = poll(&mut asked, Some(&Timespec::default()));
        let [asked] = asked;
        if answered.is_err() || asked.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            Waiting::Ended
        } else if asked.revents().contains(PollFlags::IN) {
            Waiting::Bytes
        } else {
            Waiting::Nothing
        }
    }

    fn permits(&self, address: SocketAddr) -> bool {
        self.judge.may_have_spares(address)
    }
}
