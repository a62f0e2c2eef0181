//! Targets: small blocking servers, a thread per connection, each with one way to behave.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{PATIENCE, bounded, pattern, reset_on_close, wait_until};

/// A target. Its connections end by themselves; dropping it stops the listening.
pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What connections have in common with whoever looks at them.
#[derive(Default)]
pub struct Shared {
    stopped: AtomicBool,
    /// Bytes that all connections together have sent and received.
    sent: AtomicU64,
    received: AtomicU64,
    /// Connections whose other side has ended (of a holder).
    ended: AtomicU64,
    outcomes: Mutex<Vec<io::Result<()>>>,
    more: Condvar,
}

impl Shared {
    fn send(&self, mut socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = socket.write(rest)?;
            self.sent.fetch_add(count as u64, Ordering::Relaxed);
            rest = &rest[count..];
        }
        Ok(())
    }

    fn recv(&self, mut socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        let count = socket.read(into)?;
        self.received.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    /// Receives the pattern to its end.
    fn drain(&self, socket: &TcpStream) -> io::Result<()> {
        let mut chunk = vec![0; 64 << 10];
        let mut offset = 0;
        loop {
            let count = self.recv(socket, &mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            pattern::check(offset, &chunk[..count]);
            offset += count as u64;
        }
    }

    /// Waits for the connection to break or the origin to be dropped.
    fn hold(&self, socket: &TcpStream) -> io::Result<()> {
        let mut broken = None;
        wait_until("a held connection is over", || {
            broken = socket.take_error().unwrap();
            broken.is_some() || self.stopped.load(Ordering::Relaxed)
        });
        broken.map_or(Ok(()), Err)
    }

    /// Sends `bytes_max` bytes of the pattern.
    fn pour(&self, socket: &TcpStream, bytes_max: u64) -> io::Result<()> {
        let mut chunk = vec![0; 64 << 10];
        let mut offset = 0;
        while offset < bytes_max {
            let length = (bytes_max - offset).min(chunk.len() as u64) as usize;
            pattern::fill(offset, &mut chunk[..length]);
            self.send(socket, &chunk[..length])?;
            offset += length as u64;
        }
        Ok(())
    }
}

impl Origin {
    /// Runs `behave` on every connection.
    pub fn start(ip: IpAddr, behave: impl Fn(&TcpStream, &Shared) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let behave = Arc::new(behave);
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for socket in listener.incoming() {
                if of_thread.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (behave, shared) = (Arc::clone(&behave), Arc::clone(&of_thread));
                let socket = bounded(socket.unwrap());
                thread::spawn(move || {
                    let outcome = behave(&socket, &shared);
                    drop(socket);
                    shared.outcomes.lock().unwrap().push(outcome);
                    shared.more.notify_all();
                });
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    fn local(behave: impl Fn(&TcpStream, &Shared) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), behave)
    }

    /// Sends back what it receives, and ends when the other side has.
    pub fn echo() -> Self {
        Self::echo_on(Ipv4Addr::LOCALHOST.into())
    }

    pub fn echo_on(ip: IpAddr) -> Self {
        Self::start(ip, |socket, shared| {
            let mut chunk = vec![0; 64 << 10];
            loop {
                match shared.recv(socket, &mut chunk)? {
                    0 => return socket.shutdown(Shutdown::Write),
                    count => shared.send(socket, &chunk[..count])?,
                }
            }
        })
    }

    /// Sends so many bytes of the pattern at once, ends its direction and then waits for the end of the other.
    pub fn source(bytes: u64) -> Self {
        Self::local(move |socket, shared| {
            shared.pour(socket, bytes)?;
            socket.shutdown(Shutdown::Write)?;
            shared.drain(socket)
        })
    }

    /// Answers so many bytes with these, one after the other, and says the last of the answers again and again.
    pub fn repeater(answers: Vec<(usize, Vec<u8>)>) -> Self {
        Self::local(move |mut socket, shared| {
            let mut last = &[][..];
            for (question_bytes, answer) in &answers {
                socket.read_exact(&mut vec![0; *question_bytes])?;
                shared.send(socket, answer)?;
                last = answer;
            }
            loop {
                shared.send(socket, last)?;
            }
        })
    }

    /// Checks the pattern to its end, and says nothing.
    pub fn sink() -> Self {
        Self::local(|socket, shared| shared.drain(socket))
    }

    /// Says `greeting` before anybody else does, then is an echo.
    pub fn greeter(greeting: &'static [u8]) -> Self {
        Self::local(move |socket, shared| {
            shared.send(socket, greeting)?;
            let mut chunk = [0; 4096];
            loop {
                match shared.recv(socket, &mut chunk)? {
                    0 => return Ok(()),
                    count => shared.send(socket, &chunk[..count])?,
                }
            }
        })
    }

    /// Reads the pattern to its end and only then answers, with so many bytes of it.
    pub fn answerer(bytes: u64) -> Self {
        Self::local(move |socket, shared| {
            shared.drain(socket)?;
            shared.pour(socket, bytes)
        })
    }

    /// Ends its direction at once, and reads the pattern to its end.
    pub fn finisher() -> Self {
        Self::local(|socket, shared| {
            socket.shutdown(Shutdown::Write)?;
            shared.drain(socket)
        })
    }

    /// Reads the pattern to its end, says nothing and keeps the connection until it breaks.
    pub fn holder() -> Self {
        Self::local(|socket, shared| {
            shared.drain(socket)?;
            shared.ended.fetch_add(1, Ordering::Relaxed);
            shared.hold(socket)
        })
    }

    /// Keeps the connection and never reads.
    pub fn deaf() -> Self {
        Self::local(|socket, shared| shared.hold(socket))
    }

    /// Sends a byte per `interval` and looks at nothing it receives.
    pub fn ticker(interval: Duration) -> Self {
        Self::local(move |socket, shared| {
            while !shared.stopped.load(Ordering::Relaxed) {
                shared.send(socket, b"x")?;
                // Not a wait for anything: this is what a slow target is.
                thread::sleep(interval);
            }
            Ok(())
        })
    }

    /// Ends its direction at once, waits for "go" behind "hello" and breaks the connection.
    pub fn finishes_and_breaks() -> Self {
        Self::local(|mut socket, _| {
            socket.shutdown(Shutdown::Write)?;
            socket.read_exact(&mut [0; 7])?;
            reset_on_close(socket);
            Ok(())
        })
    }

    /// Answers with so many bytes of the pattern and closes without having read a thing.
    pub fn refuser(bytes: u64) -> Self {
        Self::local(move |socket, shared| {
            shared.pour(socket, bytes)?;
            socket.shutdown(Shutdown::Write)
        })
    }

    /// Closes at once.
    pub fn closer() -> Self {
        Self::local(|_, _| Ok(()))
    }

    /// Breaks the connection after so many bytes.
    pub fn resetter(after_bytes: u64) -> Self {
        Self::local(move |socket, shared| {
            let mut chunk = [0; 4096];
            let mut received = 0;
            while received < after_bytes {
                match shared.recv(socket, &mut chunk)? {
                    0 => return Ok(()),
                    count => received += count as u64,
                }
            }
            reset_on_close(socket);
            Ok(())
        })
    }

    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    pub fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Waits for a connection to end and says how.
    #[track_caller]
    pub fn outcome(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut outcomes = self.shared.outcomes.lock().unwrap();
        while outcomes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no connection has ended");
            outcomes = self.shared.more.wait_timeout(outcomes, left).unwrap().0;
        }
        outcomes.remove(0)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        // A connection wakes the thread from accept. One that cannot be made, for want of a descriptor, is tried again.
        let deadline = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < deadline {
            let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}
