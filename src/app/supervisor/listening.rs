//! Where the server listens, and how that changes while it runs.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::app::exit::{self, Failure};
use crate::app::port_holder;
use crate::io::sockopt::SocketOptions;
use crate::reactor::request::ListenerId;
use crate::reactor::{Handle, accept};

/// The addresses in use, and their sockets once more, to be handed to a successor.
#[derive(Debug)]
pub struct Listening {
    places: Vec<Place>,
    workers: usize,
    /// What is set on the sockets: a buffer size stays until another one is set.
    options: SocketOptions,
}

/// A place in every worker's list of listeners.
#[derive(Debug)]
struct Place {
    address: SocketAddr,
    id: ListenerId,
    sockets: Vec<TcpListener>,
}

/// Sockets that are open and not yet served.
pub(super) struct Opened {
    added: Vec<(SocketAddr, Vec<TcpListener>)>,
    gone: Vec<ListenerId>,
}

/// Listeners that somebody else has opened, by the address that the configuration gives them.
pub type Inherited = Vec<(SocketAddr, Vec<TcpListener>)>;

impl Listening {
    /// Opens a listener per address and worker, unless it is among those inherited: the outer list has an entry for
    /// each worker.
    ///
    /// # Errors
    /// 77 or 69 with the address and the way out.
    pub fn open(
        addresses: &[SocketAddr],
        workers: usize,
        options: SocketOptions,
        mut inherited: Inherited,
    ) -> Result<(Self, Vec<Vec<TcpListener>>), Failure> {
        let mut listening = Self { places: Vec::new(), workers, options };
        let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for &address in addresses {
            let known = inherited.iter().position(|(known, _)| *known == address);
            let rows = match known.map(|place| inherited.swap_remove(place).1) {
                Some(inherited) => {
                    for socket in &inherited {
                        options.apply_to_listener(socket);
                    }
                    spread(inherited, workers).map_err(|error| failed(address, &error))?
                }
                None => vec![open(&[address], workers, options)?.into_iter().flatten().collect()],
            };
            for row in rows {
                listening.push(address, ListenerId(listening.places.len()), &row)?;
                sockets.iter_mut().zip(row).for_each(|(worker, socket)| worker.push(socket));
            }
        }
        Ok((listening, sockets))
    }

    fn push(&mut self, address: SocketAddr, id: ListenerId, sockets: &[TcpListener]) -> Result<(), Failure> {
        let sockets = clones(sockets).map_err(|error| failed(address, &error))?;
        self.places.push(Place { address, id, sockets });
        Ok(())
    }

    /// All sockets by address, for a successor.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn sockets(&self) -> io::Result<Inherited> {
        self.places.iter().map(|place| Ok((place.address, clones(&place.sockets)?))).collect()
    }

    /// Lets go of all: once a worker closes its listener, nobody here has it any more.
    pub(super) fn release(&mut self) {
        self.places.clear();
    }

    /// Opens what is new in `wanted`.
    ///
    /// # Errors
    /// As [`Listening::open`]; and when the new address covers one that is served, which only a restart can change.
    pub(super) fn open_new(&self, wanted: &[SocketAddr], options: SocketOptions) -> Result<Opened, Failure> {
        let mut added = Vec::new();
        for address in wanted.iter().filter(|address| self.places.iter().all(|known| known.address != **address)) {
            let overlaps = |known: &SocketAddr| {
                known.port() == address.port() && (known.ip().is_unspecified() || address.ip().is_unspecified())
            };
            if let Some(known) = self.places.iter().map(|place| place.address).find(overlaps) {
                let message =
                    format!("server.listen: {address} and {known}, which is served now, cover each other; restart");
                return Err(Failure::new(exit::UNAVAILABLE, message));
            }
            let sockets = open(&[*address], self.workers, options)?;
            added.push((*address, sockets.into_iter().flatten().collect()));
        }
        let gone = self.places.iter().filter(|place| !wanted.contains(&place.address)).map(|place| place.id).collect();
        Ok(Opened { added, gone })
    }

    /// Sets options for clients who come from now on. Those keys whose values hold only after a restart: a buffer of a
    /// fixed size cannot be given back to the kernel.
    pub(super) fn set_options(&mut self, options: SocketOptions) -> Vec<&'static str> {
        for socket in self.places.iter().flat_map(|place| &place.sockets) {
            options.apply_to_listener(socket);
        }
        let mut lasting = Vec::new();
        let mut lasts = |key, old: usize, new: usize| {
            if new == 0 && old > 0 {
                lasting.push(key);
            }
            if new == 0 { old } else { new }
        };
        let (old, new) = (self.options, options);
        self.options = SocketOptions {
            nodelay: new.nodelay,
            recv_buffer_bytes: lasts("performance.tcp_recv_buffer", old.recv_buffer_bytes, new.recv_buffer_bytes),
            send_buffer_bytes: lasts("performance.tcp_send_buffer", old.send_buffer_bytes, new.send_buffer_bytes),
        };
        lasting
    }

    /// Has the workers serve what was opened, and stop with what is gone. What the kernel has queued there is served.
    pub(super) fn adopt(&mut self, opened: Opened, handle: &Handle) {
        for (address, sockets) in opened.added {
            let kept = clones(&sockets);
            match (handle.add_listener(sockets), kept) {
                (Ok(id), Ok(sockets)) => self.places.push(Place { address, id, sockets }),
                (Ok(id), Err(_)) => self.places.push(Place { address, id, sockets: Vec::new() }),
                (Err(_), _) => log::error!("listening on {address}: the workers have too much to do; reload again"),
            }
        }
        for id in opened.gone {
            match handle.remove_listener(id) {
                Ok(()) => self.places.retain(|place| place.id != id),
                Err(_) => log::error!("the workers have too much to do to close a listener; reload again"),
            }
        }
    }
}

/// Rows of sockets with one for each worker. Where there are fewer, workers share one; where there are more, workers
/// have several: none may be left without somebody who accepts from its queue.
fn spread(sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut rows = Vec::new();
    let mut sockets = sockets.into_iter().peekable();
    while sockets.peek().is_some() {
        let mut row: Vec<_> = sockets.by_ref().take(workers).collect();
        for place in 0..workers - row.len() {
            row.push(row[place].try_clone()?);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn clones(sockets: &[TcpListener]) -> io::Result<Vec<TcpListener>> {
    sockets.iter().map(TcpListener::try_clone).collect()
}

fn open(addresses: &[SocketAddr], workers: usize, options: SocketOptions) -> Result<Vec<Vec<TcpListener>>, Failure> {
    accept::listen(addresses, workers, options).map_err(|(address, error)| failed(address, &error))
}

fn failed(address: SocketAddr, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
        _ => exit::UNAVAILABLE,
    };
    Failure::new(code, format!("cannot listen on {address}: {error}{}", advice(address, error)))
}

fn advice(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; {} listens there: stop it, or change server.port", port_holder::who(address.port()))
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE: grant it, or change server.port"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address: change server.listen".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpStream;

    fn rows(sockets: usize, workers: usize) -> Vec<Vec<u16>> {
        let sockets = (0..sockets).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |socket: &TcpListener| socket.local_addr().unwrap().port();
        spread(sockets, workers).unwrap().iter().map(|row| row.iter().map(port).collect()).collect()
    }

    #[test]
    fn new_options_hold_for_the_clients_who_come_next() {
        let address = "127.0.0.1:0".parse().unwrap();
        let options = SocketOptions::default();
        let (mut listening, sockets) = Listening::open(&[address], 1, options, Vec::new()).unwrap();
        let listener = &sockets[0][0];
        listener.set_nonblocking(false).unwrap();
        let accepted = || {
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let client = listener.accept().unwrap().0;
            (client.nodelay().unwrap(), socket2::SockRef::from(&client).recv_buffer_size().unwrap())
        };
        let (nodelay, automatic) = accepted();
        assert!(nodelay);
        let fixed = SocketOptions { nodelay: false, recv_buffer_bytes: 20_000, send_buffer_bytes: 0 };
        assert_eq!(listening.set_options(fixed), Vec::<&str>::new());
        // The kernel doubles what it is asked for.
        assert_eq!(accepted(), (false, 40_000));
        assert_ne!(automatic, 40_000);
        assert_eq!(listening.set_options(options), ["performance.tcp_recv_buffer"]);
        assert_eq!(accepted(), (true, 40_000));
        assert_eq!(listening.set_options(options), ["performance.tcp_recv_buffer"], "it still needs a restart");
    }

    #[test]
    fn whoever_has_the_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let failure = open(&[address], 1, SocketOptions::default()).unwrap_err();
        assert_eq!(failure.code, exit::UNAVAILABLE);
        let process = format!("(process {}) listens there: stop it", std::process::id());
        assert!(failure.message.contains(&process), "{failure}");
    }

    #[test]
    fn every_inherited_socket_has_a_worker_and_every_worker_a_socket() {
        for (sockets, workers, count) in [(1, 1, 1), (2, 2, 1), (1, 3, 1), (2, 3, 1), (3, 2, 2), (5, 1, 5)] {
            let rows = rows(sockets, workers);
            assert_eq!(rows.len(), count, "{sockets} for {workers}");
            assert!(rows.iter().all(|row| row.len() == workers), "{rows:?}");
            let mut ports: Vec<_> = rows.into_iter().flatten().collect();
            ports.sort_unstable();
            ports.dedup();
            assert_eq!(ports.len(), sockets);
        }
    }
}
