//! Where the server listens, and how that changes while it runs.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::app::exit::{self, Failure};
use crate::io::sockopt::SocketOptions;
use crate::reactor::request::ListenerId;
use crate::reactor::{Handle, accept};

/// The addresses in use, each with what names it to the workers.
#[derive(Debug)]
pub struct Listening {
    addresses: Vec<(SocketAddr, ListenerId)>,
    workers: usize,
}

/// Sockets that are open and not yet served.
pub(super) struct Opened {
    added: Vec<(SocketAddr, Vec<TcpListener>)>,
    gone: Vec<ListenerId>,
}

impl Listening {
    /// Opens a listener per address and worker: the outer list has an entry for each worker.
    ///
    /// # Errors
    /// 77 or 69 with the address and the way out.
    pub fn open(
        addresses: &[SocketAddr],
        workers: usize,
        options: SocketOptions,
    ) -> Result<(Self, Vec<Vec<TcpListener>>), Failure> {
        let sockets = open(addresses, workers, options)?;
        let addresses = addresses.iter().enumerate().map(|(place, address)| (*address, ListenerId(place))).collect();
        Ok((Self { addresses, workers }, sockets))
    }

    /// Opens what is new in `wanted`.
    ///
    /// # Errors
    /// As [`Listening::open`]; and when the new address covers one that is served, which only a restart can change.
    pub(super) fn open_new(&self, wanted: &[SocketAddr], options: SocketOptions) -> Result<Opened, Failure> {
        let mut added = Vec::new();
        for address in wanted.iter().filter(|address| self.addresses.iter().all(|(known, _)| known != *address)) {
            let overlaps = |known: &SocketAddr| {
                known.port() == address.port() && (known.ip().is_unspecified() || address.ip().is_unspecified())
            };
            if let Some((known, _)) = self.addresses.iter().find(|(known, _)| overlaps(known)) {
                let message =
                    format!("server.listen: {address} and {known}, which is served now, cover each other; restart");
                return Err(Failure::new(exit::UNAVAILABLE, message));
            }
            let sockets = open(&[*address], self.workers, options)?;
            added.push((*address, sockets.into_iter().flatten().collect()));
        }
        let gone = self.addresses.iter().filter(|(address, _)| !wanted.contains(address)).map(|(_, id)| *id).collect();
        Ok(Opened { added, gone })
    }

    /// Has the workers serve what was opened, and stop with what is gone. What the kernel has queued there is served.
    pub(super) fn adopt(&mut self, opened: Opened, handle: &Handle) {
        for (address, sockets) in opened.added {
            match handle.add_listener(sockets) {
                Ok(id) => self.addresses.push((address, id)),
                Err(_) => log::error!("listening on {address}: the workers have too much to do; reload again"),
            }
        }
        for id in opened.gone {
            match handle.remove_listener(id) {
                Ok(()) => self.addresses.retain(|(_, known)| *known != id),
                Err(_) => log::error!("the workers have too much to do to close a listener; reload again"),
            }
        }
    }
}

fn open(addresses: &[SocketAddr], workers: usize, options: SocketOptions) -> Result<Vec<Vec<TcpListener>>, Failure> {
    accept::listen(addresses, workers, options).map_err(|(address, error)| {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
            _ => exit::UNAVAILABLE,
        };
        Failure::new(code, format!("cannot listen on {address}: {error}{}", advice(&error)))
    })
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: stop it, or change server.port",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE: grant it, or change server.port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address: change server.listen",
        _ => "",
    }
}
