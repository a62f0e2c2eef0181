//! A bare splice(2) relay: the least a forwarding process can cost, as the yardstick for direct mode.
//!
//! Blocking, one thread per direction, pipes of 1 MiB, default socket buffers; it forwards to one fixed port and knows
//! no protocol. It runs as a process of its own so that its CPU time can be read like a server's.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

const PIPE_BYTES: usize = 1 << 20;

/// Forwards every connection on `port` to `target_port`, both on 127.0.0.1, until the process is killed.
pub(crate) fn run(port: u16, target_port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for client in listener.incoming() {
        let client = Arc::new(client?);
        let target = Arc::new(TcpStream::connect((Ipv4Addr::LOCALHOST, target_port))?);
        client.set_nodelay(true)?;
        target.set_nodelay(true)?;
        for (from, to) in [(&client, &target), (&target, &client)] {
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            thread::Builder::new().stack_size(64 * 1024).spawn(move || {
                // A reset ends this direction; the other one notices by itself.
                let _ = forward(&from, &to);
                let _ = to.shutdown(Shutdown::Write);
            })?;
        }
    }
    Ok(())
}

fn forward(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let pipe_bytes = fcntl_setpipe_size(&writer, PIPE_BYTES)?;
    loop {
        let mut held = splice(from, None, &writer, None, pipe_bytes, SpliceFlags::MOVE)?;
        if held == 0 {
            return Ok(());
        }
        while held > 0 {
            held -= splice(&reader, None, to, None, held, SpliceFlags::MOVE)?;
        }
    }
}
