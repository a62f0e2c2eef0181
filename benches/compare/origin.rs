//! The target of every proxied connection: one listener in the bench process, one small thread per connection.
//!
//! It speaks the inner protocol of [`crate::inner`]. It must be cheaper than the servers under test: sources send from
//! one shared buffer, sinks let the kernel drop what arrives and look only at samples.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::inner::{self, ACK_BAD, ACK_GOOD, Mode, Pattern, REQUEST_BYTES};
use crate::leg::discard;

/// One read in this many is compared with the pattern, at both ends.
pub(crate) const SAMPLE_EVERY: u64 = 32;
const SINK_READ_BYTES: usize = 1 << 20;
const STACK_BYTES: usize = 64 * 1024;

/// Starts the origin on a free port, for as long as the process lives.
pub(crate) fn start(pattern: Arc<Pattern>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let pattern = Arc::clone(&pattern);
            let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
                // A connection that breaks shows at the client, which counts; here is nobody to tell.
                let _ = serve(socket, &pattern);
            });
            if let Err(error) = spawned {
                eprintln!("compare: the origin has no thread for a connection: {error}");
            }
        }
    });
    Ok(port)
}

fn serve(mut socket: TcpStream, pattern: &Pattern) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut request = [0; REQUEST_BYTES];
    socket.read_exact(&mut request[..1])?;
    if request[0] == 0x16 {
        serve_handshake(&mut socket)?;
        socket.read_exact(&mut request[..1])?;
    }
    socket.read_exact(&mut request[1..])?;
    match inner::parse_request(&request)? {
        Mode::Echo => echo(&mut socket, &request),
        Mode::Source(count) => source(&mut socket, count, pattern),
        Mode::Sink(count) => sink(&mut socket, count, pattern),
        Mode::Trickle { piece_bytes, pause_us } => trickle(&mut socket, piece_bytes as usize, pause_us, pattern),
    }
}

/// The origin's half of the fake handshake, behind the first byte of the ClientHello.
fn serve_handshake(socket: &mut TcpStream) -> io::Result<()> {
    let mut hello = [0; inner::CLIENT_HELLO_BYTES - 1];
    socket.read_exact(&mut hello)?;
    if hello != inner::client_hello()[1..] {
        return Err(io::Error::other("damaged ClientHello"));
    }
    socket.write_all(&inner::server_flight())?;
    let wanted = inner::client_finish();
    let mut finish = vec![0; wanted.len()];
    socket.read_exact(&mut finish)?;
    if finish != wanted {
        return Err(io::Error::other("damaged Finished"));
    }
    socket.write_all(&inner::ticket())
}

fn echo(socket: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    socket.write_all(request)?;
    let mut buf = [0; 4096];
    loop {
        match socket.read(&mut buf)? {
            0 => return Ok(()),
            n => socket.write_all(&buf[..n])?,
        }
    }
}

fn source(socket: &mut TcpStream, count: u64, pattern: &Pattern) -> io::Result<()> {
    let mut sent = 0;
    while sent < count {
        let bytes = pattern.at(sent);
        let part = bytes.len().min((count - sent).min(bytes.len() as u64) as usize);
        socket.write_all(&bytes[..part])?;
        sent += part as u64;
    }
    await_end(socket)
}

/// Until the client has had enough, which shows when a piece cannot be sent.
fn trickle(socket: &mut TcpStream, piece_bytes: usize, pause_us: u32, pattern: &Pattern) -> io::Result<()> {
    let mut sent = 0;
    loop {
        let bytes = pattern.at(sent);
        let part = bytes.len().min(piece_bytes);
        socket.write_all(&bytes[..part])?;
        sent += part as u64;
        thread::sleep(Duration::from_micros(u64::from(pause_us)));
    }
}

fn sink(socket: &mut TcpStream, count: u64, pattern: &Pattern) -> io::Result<()> {
    let mut buf = vec![0; SINK_READ_BYTES];
    let (mut received, mut reads, mut is_good) = (0, 0_u64, true);
    while received < count {
        let limit = (count - received).min(buf.len() as u64) as usize;
        let part = if reads.is_multiple_of(SAMPLE_EVERY) {
            let part = socket.read(&mut buf[..limit])?;
            is_good &= pattern.matches(received, &buf[..part]);
            part
        } else {
            discard(socket, &mut buf[..limit])?
        };
        if part == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received += part as u64;
        reads += 1;
    }
    socket.write_all(if is_good { &ACK_GOOD } else { &ACK_BAD })?;
    await_end(socket)
}

/// Leaves closing to the client, so that both directions stay open as long as it wants.
fn await_end(socket: &mut TcpStream) -> io::Result<()> {
    let mut buf = [0; 64];
    while socket.read(&mut buf)? > 0 {}
    Ok(())
}
