//! The process of the targets: an origin, an echo of datagrams, and a place where sessions are parked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

use rustix::process::Signal;

use crate::inner::{Pattern, REQUEST_BYTES};
use crate::{origin, udp};

/// First argument of a process that is to become the targets.
pub(crate) const ARGUMENT: &str = "--targets";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The running process. Dropping it ends it.
pub(crate) struct Targets {
    child: Child,
    pub(crate) origin_port: u16,
    pub(crate) datagram_port: u16,
    pub(crate) parking_port: u16,
}

impl Targets {
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let mut child = command.arg(ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ports: Vec<u16> = line.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        match ports[..] {
            [origin_port, datagram_port, parking_port] => Ok(Self { child, origin_port, datagram_port, parking_port }),
            _ => Err(io::Error::other("the targets did not start")),
        }
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        // Only fails for a process that has ended by itself, which `wait` then collects.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does: it says its ports and serves until its parent ends.
pub(crate) fn run() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let origin_port = origin::start(Arc::new(Pattern::new()))?;
    let datagram_port = udp::start_echo()?;
    let parking = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{origin_port} {datagram_port} {}", parking.local_addr()?.port());
    io::stdout().flush()?;
    park(&parking)
}

/// Answers the first request of each connection with itself, and then holds on to the connection.
fn park(listener: &TcpListener) -> io::Result<()> {
    let mut parked = Vec::new();
    for socket in listener.incoming() {
        let mut socket = socket?;
        socket.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        let mut request = [0; REQUEST_BYTES];
        // A client that has left again shows at the client.
        if socket.read_exact(&mut request).and_then(|()| socket.write_all(&request)).is_ok() {
            parked.push(socket);
        }
    }
    // Nothing else keeps the process: the listener ends with it.
    thread::park();
    Ok(())
}
