//! A target for thousands: it sends back what streams and datagrams bring, on one thread.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

/// Sockets for datagrams: what one can hold is little.
const DATAGRAM_SOCKETS: usize = 16;
const LISTENER: usize = DATAGRAM_SOCKETS;
const FIRST_STREAM: usize = LISTENER + 1;

/// The most that waits to be sent back on a stream before it is read on.
const OWED_BYTES_MAX: usize = 16 << 10;
/// What the kernel keeps for a stream, each way.
const KERNEL_BYTES: usize = 8 << 10;
const CHUNK_BYTES: usize = 64 << 10;

/// The target; dropping it ends it.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) datagrams: Vec<SocketAddr>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Stream {
    socket: TcpStream,
    owed: VecDeque<u8>,
    ended: bool,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    datagrams: Vec<UdpSocket>,
    streams: Vec<Option<Stream>>,
    chunk: Vec<u8>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let mut server = Server::new();
        let address = server.listener.local_addr().unwrap();
        let datagrams = server.datagrams.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let is_over = Arc::<AtomicBool>::default();
        let of_thread = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !of_thread.load(Ordering::Relaxed) {
                server.turn();
            }
        });
        Self { address, datagrams, is_over, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Server {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        // Connections inherit these: what clients do not take is to wait in the server, both ways, and not here.
        listener.set_recv_buffer_size(KERNEL_BYTES).unwrap();
        listener.set_send_buffer_size(KERNEL_BYTES).unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(4096).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut listener = TcpListener::from_std(listener.into());
        poll.registry().register(&mut listener, Token(LISTENER), Interest::READABLE).unwrap();
        let datagrams = (0..DATAGRAM_SOCKETS).map(|number| {
            let mut socket = UdpSocket::bind(any).unwrap();
            SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
            poll.registry().register(&mut socket, Token(number), Interest::READABLE).unwrap();
            socket
        });
        let datagrams = datagrams.collect();
        Self { poll, listener, datagrams, streams: Vec::new(), chunk: vec![0; CHUNK_BYTES] }
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(1024);
        // A look at whether it is over, now and then.
        if self.poll.poll(&mut events, Some(Duration::from_millis(100))).is_err() {
            return;
        }
        for event in &events {
            match event.token().0 {
                LISTENER => self.accept(),
                number @ 0..LISTENER => self.answer_datagrams(number),
                token => self.answer_stream(token - FIRST_STREAM),
            }
        }
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((mut socket, _)) => {
                    let token = Token(FIRST_STREAM + self.streams.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut socket, token, both).unwrap();
                    self.streams.push(Some(Stream { socket, owed: VecDeque::new(), ended: false }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Of a connection that has gone already.
                Err(_) => {}
            }
        }
    }

    fn answer_datagrams(&mut self, number: usize) {
        let socket = &self.datagrams[number];
        while let Ok((count, from)) = socket.recv_from(&mut self.chunk) {
            let _ = socket.send_to(&self.chunk[..count], from);
        }
    }

    fn answer_stream(&mut self, index: usize) {
        let Some(stream) = &mut self.streams[index] else { return };
        if !stream.echo(&mut self.chunk) {
            self.streams[index] = None;
        }
    }
}

impl Stream {
    /// False: it is over.
    fn echo(&mut self, chunk: &mut [u8]) -> bool {
        loop {
            while !self.owed.is_empty() {
                match self.socket.write(self.owed.as_slices().0) {
                    Ok(count) => drop(self.owed.drain(..count)),
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
            if self.ended {
                let _ = self.socket.shutdown(Shutdown::Write);
                return false;
            }
            while self.owed.len() < OWED_BYTES_MAX {
                match self.socket.read(chunk) {
                    Ok(0) => {
                        self.ended = true;
                        break;
                    }
                    Ok(count) => self.owed.extend(&chunk[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock && self.owed.is_empty() => return true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return false,
                }
            }
        }
    }
}
